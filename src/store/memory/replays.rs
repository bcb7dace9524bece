//! Process Manager for dead letters: jobs and their letters.

use super::{MemoryStore, state::State};
use crate::store::*;
use async_trait::async_trait;
use std::collections::BTreeMap;

/// A job with its letters by place.
#[derive(Debug)]
pub(super) struct Job {
    replay: Replay,
    runner: Option<(Uuid, DateTime<Utc>)>,
    letters: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    letter: ReplayLetter,
    outbox_row: Option<Uuid>,
}

#[async_trait]
impl Replays for MemoryStore {
    async fn plan_replay(&self, replay: &Replay, letters: &[LetterKey]) -> StoreResult<()> {
        self.run(|state| {
            let planned = |(place, key): (u32, &LetterKey)| {
                let (key, outcome) = (key.clone(), ReplayOutcome::Planned);
                let letter = ReplayLetter { place, key, outcome, reason: None, error: None, sent: None };
                Planned { letter, outbox_row: None }
            };
            let letters = (0..).zip(letters).map(planned).collect();
            state.replays.insert(replay.id, Job { replay: replay.clone(), runner: None, letters });
            Ok(())
        })
    }

    async fn hold_replay(
        &self,
        replay: Uuid,
        runner: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
    ) -> StoreResult<bool> {
        self.run(|state| {
            let Some(job) = state.replays.get_mut(&replay) else { return Ok(false) };
            let is_free = job.runner.is_none_or(|(other, seen)| other == runner || seen < lost_before);
            if is_free {
                job.runner = Some((runner, now));
            }
            Ok(is_free)
        })
    }

    async fn set_replay(
        &self,
        replay: Uuid,
        runner: Uuid,
        to: ReplayState,
        why: &str,
        judged: u32,
        now: DateTime<Utc>,
    ) -> StoreResult<bool> {
        self.run(|state| {
            let has_it = |job: &&mut Job| job.runner.is_some_and(|(holder, _)| holder == runner);
            let Some(job) = state.replays.get_mut(&replay).filter(has_it) else { return Ok(false) };
            (job.replay.state, job.replay.judged, job.replay.changed) = (to, judged, now);
            why.clone_into(&mut job.replay.why);
            job.runner = job.runner.filter(|_| to == ReplayState::Running);
            Ok(true)
        })
    }

    async fn send_letter(
        &self,
        replay: Uuid,
        place: u32,
        key: &LetterKey,
        row: &OutboxRow,
        audit: &Audit,
    ) -> StoreResult<bool> {
        self.run(|state| {
            if state.planned(replay, place).is_none()
                || !state.resolve_letter(key, LetterState::Replayed, std::slice::from_ref(row), audit)
            {
                return Ok(false);
            }
            if let Some(planned) = state.planned(replay, place) {
                (planned.letter.outcome, planned.letter.sent) = (ReplayOutcome::Waiting, Some(audit.at));
                planned.outbox_row = Some(row.seq);
            }
            Ok(true)
        })
    }

    async fn pass_letter(&self, replay: Uuid, place: u32, why: &str) -> StoreResult<()> {
        self.run(|state| {
            if let Some(planned) = state.planned(replay, place) {
                (planned.letter.outcome, planned.letter.error) = (ReplayOutcome::Passed, Some(why.to_owned()));
            }
            Ok(())
        })
    }

    async fn settle_replay(&self, replay: Uuid) -> StoreResult<()> {
        self.run(|state| {
            let Some(mut job) = state.replays.remove(&replay) else { return Ok(()) };
            for planned in job.letters.iter_mut().filter(|planned| planned.letter.outcome.is_open()) {
                let (outcome, reason, error) = state.outcome(planned);
                (planned.letter.outcome, planned.letter.reason, planned.letter.error) = (outcome, reason, error);
            }
            state.replays.insert(replay, job);
            Ok(())
        })
    }

    async fn replays(&self, limit: usize) -> StoreResult<Vec<Replay>> {
        self.run(|state| {
            let mut replays: Vec<_> = state.replays.values().map(|job| job.replay.clone()).collect();
            replays.sort_by_key(|replay| std::cmp::Reverse((replay.began, replay.id)));
            replays.truncate(limit);
            Ok(replays)
        })
    }

    async fn tally_replay(&self, replay: Uuid, from: u32, to: u32) -> StoreResult<ReplayTally> {
        self.run(|state| {
            let mut tally = ReplayTally::default();
            for Planned { letter, .. } in state.replays.get(&replay).into_iter().flat_map(|job| &job.letters) {
                if (from..to).contains(&letter.place) {
                    tally.add(letter.outcome, 1);
                }
            }
            Ok(tally)
        })
    }

    async fn replay_letters(&self, replay: Uuid, planned: bool, limit: usize) -> StoreResult<Vec<ReplayLetter>> {
        self.run(|state| {
            let letters = state.replays.get(&replay).into_iter().flat_map(|job| &job.letters).map(|p| &p.letter);
            let wanted = letters.filter(|letter| !planned || letter.outcome == ReplayOutcome::Planned);
            Ok(wanted.take(limit).cloned().collect())
        })
    }
}

impl State {
    /// The letter at this place, while it is planned.
    fn planned(&mut self, replay: Uuid, place: u32) -> Option<&mut Planned> {
        let planned = self.replays.get_mut(&replay)?.letters.get_mut(place as usize)?;
        (planned.letter.outcome == ReplayOutcome::Planned).then_some(planned)
    }

    fn outcome(&self, planned: &Planned) -> (ReplayOutcome, Option<String>, Option<String>) {
        let key = &planned.letter.key;
        let seen = self.inbox.get(&key.of_inbox()).map(super::state::Known::seen);
        let later = |letter: &&DeadLetter| {
            let LetterKey { consumer, source, id, attempt, payload_hash } = &letter.key;
            (consumer, source, id, payload_hash) == (&key.consumer, &key.source, &key.id, &key.payload_hash)
                && *attempt > key.attempt
        };
        let died = self.letters.values().filter(later).max_by_key(|letter| letter.key.attempt);
        let died = died.map(|letter| (letter.reason.clone(), letter.error.clone()));
        let in_outbox = planned.outbox_row.is_some_and(|row| self.outbox.contains_key(&row));
        Sent { key, seen: seen.as_ref(), died, in_outbox }.outcome()
    }

    /// What a message was part of.
    pub(super) fn replays_of(&self, id: &str) -> Vec<Replayed> {
        let of_job = |job: &Job| {
            let letters = job.letters.iter().map(|planned| &planned.letter).filter(|letter| letter.key.id == id);
            let replayed = |letter: &ReplayLetter| Replayed {
                replay: job.replay.id,
                consumer: letter.key.consumer.clone(),
                attempt: letter.key.attempt,
                outcome: letter.outcome,
                sent: letter.sent,
            };
            letters.map(replayed).collect::<Vec<_>>()
        };
        self.replays.values().flat_map(of_job).collect()
    }

    /// Takes away jobs that were decided before that; the answer is how many rows they were.
    pub(super) fn trim_replays(&mut self, before: DateTime<Utc>) -> usize {
        let rows = |replays: &BTreeMap<Uuid, Job>| replays.values().map(|job| 1 + job.letters.len()).sum::<usize>();
        let rows_before = rows(&self.replays);
        self.replays.retain(|_, job| job.replay.began >= before);
        rows_before - rows(&self.replays)
    }
}
