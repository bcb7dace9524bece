//! conclude: from the end of a run to a fate, and all that follows from it as rows of one commit.

use super::{
    Pipeline, Work,
    decode::printable,
    handle::{End, Handled},
    report,
};
use crate::{
    clock,
    committer::Why,
    handler::Verdict,
    message::{DecodeError, Hop, wire},
    retry::{Next, Tried, counts},
    route,
    store::{
        Attempt, AttemptKind, DeadLetter, Destination, Fate, Finished, LetterKey, LetterState, OpenTx, OutboxRow,
        Purpose, Reason,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{sync::Arc, time::Duration};

impl Pipeline {
    pub(super) fn conclude(&self, work: &Work, handled: Handled) -> (Finished, Option<OpenTx>) {
        let Handled { end, effects, open, duration } = handled;
        let finished = match end {
            End::Returned(Ok(())) => {
                let done = Finished { effects, duration, ..self.finished(work, Fate::Done) };
                report(&done);
                return (done, open);
            }
            End::Returned(Err(error)) => {
                let text = format!("{:#}", error.error);
                match error.verdict {
                    Verdict::Permanent => self.dead(work, AttemptKind::Failure, Reason::Permanent, &text),
                    Verdict::Retry => self.again(work, AttemptKind::Failure, None, &text),
                    Verdict::RetryAfter(delay) => self.again(work, AttemptKind::Later, Some(delay), &text),
                    Verdict::Duplicate => {
                        Finished { fenced: false, operation: None, ..self.finished(work, Fate::Duplicate) }
                    }
                }
            }
            End::Panicked(message) if work.runner.in_doubt_is_dead() => {
                self.in_doubt(work, AttemptKind::Panic, &format!("panicked: {message}"))
            }
            End::TimedOut if work.runner.in_doubt_is_dead() => self.in_doubt(
                work,
                AttemptKind::Timeout,
                &format!("not ended at its deadline of {:?}", work.runner.deadline),
            ),
            End::Panicked(message) => self.again(work, AttemptKind::Panic, None, &format!("panicked: {message}")),
            End::TimedOut => {
                let text = format!("not ended at its deadline of {:?}", work.runner.deadline);
                self.again(work, AttemptKind::Timeout, None, &text)
            }
            End::Undecodable(error) => self.misfit(work, &error),
        };
        let mut finished = finished;
        finished.duration = duration;
        if let Some(attempt) = &mut finished.attempt {
            attempt.duration = duration;
        }
        report(&finished);
        (finished, None) // an open transaction is dropped here: rolled back
    }

    fn misfit(&self, work: &Work, error: &DecodeError) -> Finished {
        match error {
            DecodeError::TooNew { .. } => self.quarantined(self.finished(work, Fate::Quarantined), &error.to_string()),
            _ => self.dead(work, AttemptKind::Rejected, Reason::InvalidPayload, &error.to_string()),
        }
    }

    /// It was not done: a copy with a higher attempt, due later, or the end.
    pub(super) fn again(&self, work: &Work, kind: AttemptKind, asked: Option<Duration>, error: &str) -> Finished {
        let (hop, now) = (&work.envelope.hop, clock::now());
        let tried = Tried { kind, asked, now, random: fastrand::f64() };
        match self.policy.retry.next(hop, work.envelope.expires, tried) {
            Next::Dead(reason) => self.dead(work, kind, reason, error),
            Next::Expired => {
                let mut finished = self.finished(work, Fate::Expired);
                finished.attempt = Some(self.attempt(work, kind, error, finished.at).into());
                finished
            }
            Next::At(at) => {
                let mut finished = self.finished(work, Fate::Retry(at));
                let attempt = Attempt { next: Some(at), ..self.attempt(work, kind, error, finished.at) };
                finished.attempt = Some(attempt.into());
                // What the broker can keep it keeps; a longer wait is the outbox row's.
                let kept = self.is_kept_by_broker(at - now);
                let mut copy = (*work.envelope).clone();
                copy.hop = Hop {
                    attempt: hop.attempt + 1,
                    failures: hop.failures + u32::from(counts(kind)),
                    first_failure: hop.first_failure.or(Some(now)),
                    due: kept.then_some(at),
                    reason: Some(headline(kind, error)),
                    origin: hop.origin.clone().or_else(|| Some(self.subscription.channel.to_string())),
                    worker: Some(self.shared.worker.to_string()),
                    build: Some(self.shared.build.clone()),
                    replay: hop.replay.clone(),
                };
                let to = Destination::Subscription(self.subscription.name.clone());
                let due = (!kept).then_some(at);
                finished.effects.outbox.push(route::row(to, due, Purpose::Retry, Arc::new(copy)));
                finished
            }
        }
    }

    fn is_kept_by_broker(&self, delay: TimeDelta) -> bool {
        let delay = delay.to_std().unwrap_or_default();
        let longest = self.subscription.delays.last().copied().unwrap_or_default();
        delay <= longest.min(self.shared.transport.promises_of(&self.subscription.name).longest_delay)
    }

    /// It was begun, what it does outside the database may have been done, and it must not be done twice.
    pub(super) fn in_doubt(&self, work: &Work, kind: AttemptKind, error: &str) -> Finished {
        let system = work.runner.external.map_or("an external system", |external| external.system);
        self.dead(work, kind, Reason::InDoubt, &format!("{error}; what it asked of `{system}` may have been done"))
    }

    pub(super) fn dead(&self, work: &Work, kind: AttemptKind, reason: Reason, error: &str) -> Finished {
        let mut finished = self.rejected(self.finished(work, Fate::Dead(reason)), error);
        finished.attempt = Some(self.attempt(work, kind, error, finished.at).into());
        finished
    }

    /// The same ID with another payload: buried beside the first one, whose inbox row stands.
    pub(super) fn id_reused(&self, work: &Work) -> Finished {
        let error = "the same source and id came before with another payload";
        let finished = self.rejected(self.finished(work, Fate::Dead(Reason::IdReused)), error);
        Finished { fenced: false, operation: None, ..finished }
    }

    /// The fate of a message whose commit came back.
    pub(super) fn condemn(&self, work: &Work, why: Why) -> Finished {
        match why {
            Why::IdReused => self.id_reused(work),
            Why::KeyConflict => {
                let error = "the same idempotencykey came before with another payload";
                let finished = self.rejected(self.finished(work, Fate::Dead(Reason::KeyConflict)), error);
                Finished { operation: None, ..finished }
            }
            Why::Conflict if work.runner.in_doubt_is_dead() => self.in_doubt(
                work,
                AttemptKind::Conflict,
                "a guarded document changed meanwhile, so nothing of it was stored",
            ),
            Why::Conflict => {
                self.again(work, AttemptKind::Conflict, None, "guarded documents changed again and again meanwhile")
            }
            // A constraint may hold again later (a row of another message is missing); bytes that cannot be stored will not.
            Why::Refused(error) => self.again(work, AttemptKind::Failure, None, &error),
        }
    }

    /// A letter and nothing else, for a fate that the store refuses.
    pub(super) fn last_resort(&self, mut finished: Finished, why: &Why) -> Finished {
        if let Why::IdReused = why {
            finished.fate = Fate::Dead(Reason::IdReused);
        } else {
            finished.fate = Fate::Dead(Reason::Unstorable);
        }
        let error = format!("its fate could not be stored: {why:?}");
        let finished = self.rejected(finished, &error);
        Finished { fenced: false, operation: None, attempt: None, effects: Default::default(), ..finished }
    }

    /// Adds the letter to a dead fate.
    pub(super) fn rejected(&self, mut finished: Finished, error: &str) -> Finished {
        if let Fate::Dead(reason) = finished.fate {
            finished.letter = Some(self.letter(&finished, LetterState::Dead, reason.word(), error).into());
            if self.shared.transport.promises_of(&self.subscription.name).dead_letter_channel {
                finished.effects.outbox.push(self.dead_letter_copy(&finished, reason, error));
            }
        }
        finished
    }

    /// For whoever listens to the Dead Letter Channel: the message as it came, and why it died.
    fn dead_letter_copy(&self, finished: &Finished, reason: Reason, error: &str) -> OutboxRow {
        let mut copy = (*finished.envelope).clone();
        copy.hop.due = None;
        copy.hop.reason = Some(format!("{reason}: {}", on_one_line(error)));
        copy.hop.origin = copy.hop.origin.or_else(|| Some(self.subscription.channel.to_string()));
        copy.hop.worker = Some(self.shared.worker.to_string());
        copy.hop.build = Some(self.shared.build.clone());
        let to = Destination::Dead(self.subscription.name.clone());
        route::row(to, None, Purpose::Dead, Arc::new(copy))
    }

    /// Adds the letter that waits for a newer build.
    pub(super) fn quarantined(&self, mut finished: Finished, error: &str) -> Finished {
        finished.letter = Some(self.letter(&finished, LetterState::Quarantined, "newer_version", error).into());
        finished
    }

    pub(super) fn letter(&self, finished: &Finished, state: LetterState, reason: &str, error: &str) -> DeadLetter {
        let envelope = &finished.envelope;
        DeadLetter {
            key: LetterKey {
                consumer: finished.consumer.to_string(),
                source: envelope.source.clone(),
                id: envelope.id.clone(),
                attempt: envelope.hop.attempt,
                payload_hash: finished.payload_hash,
            },
            state,
            channel: self.subscription.channel.to_string(),
            subscription: self.subscription.name.to_string(),
            ty: envelope.ty.clone(),
            version: envelope.version,
            reason: reason.to_owned(),
            error: printable(error),
            attributes: wire::attributes_json(envelope),
            payload: envelope.data.to_vec(),
            count: 1,
            first_at: finished.at,
            last_at: finished.at,
            worker: self.shared.worker,
            build: self.shared.build.clone(),
        }
    }

    /// `at` is when its fate was decided: a try, its fate and its letter are one moment, or a timeline would mix them up.
    fn attempt(&self, work: &Work, kind: AttemptKind, error: &str, at: DateTime<Utc>) -> Attempt {
        Attempt {
            attempt: work.envelope.hop.attempt,
            kind,
            error: printable(error),
            at,
            duration: Duration::ZERO,
            worker: self.shared.worker,
            build: self.shared.build.clone(),
            next: None,
        }
    }
}

/// Short enough for a header.
fn headline(kind: AttemptKind, error: &str) -> String {
    format!("{}: {}", kind.word(), on_one_line(error))
}

fn on_one_line(error: &str) -> String {
    error.chars().filter(|c| !c.is_control()).take(200).collect()
}
