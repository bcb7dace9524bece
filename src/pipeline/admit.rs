//! admit: has it been done before, may it run now, and beside whom?

use super::{
    Arrival, Pipeline, Runner, Shared, Work,
    gate::{Entry, Waiting},
};
use crate::{
    clock::{self, Instant},
    committer::Backoff,
    fault::{self, Point},
    message::KeyTime,
    store::{AttemptKind, Fate, Finished, InboxKey, Reason, Seen},
};
use std::time::Duration;
use tokio::sync::{OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLockReadGuard, SemaphorePermit};

/// Begun so often without an end, a message runs alone in its process.
const ALONE_AT: u32 = 3;

/// How long a message that is put off stays away for the first time; twice as long each time.
const PUT_OFF: Duration = Duration::from_secs(10);

/// What admission says.
pub(super) enum Admission<'a> {
    /// It may run; hold this while it does.
    Run(Pass<'a>),
    /// Its fate is known already.
    Settle(Box<Finished>),
}

/// The handler's slot, the cap of its kind, its place behind the gate, and whether it runs alone.
pub(super) struct Pass<'a> {
    _entry: Entry,
    _slot: Option<SemaphorePermit<'a>>,
    _cap: Option<OwnedSemaphorePermit>,
    _beside: Option<RwLockReadGuard<'a, ()>>,
    alone: Option<OwnedRwLockWriteGuard<()>>,
}

impl Pass<'_> {
    /// The handler has ended; what is left is the right to be alone, if it was.
    pub(super) fn end(self) -> Option<OwnedRwLockWriteGuard<()>> {
        self.alone
    }
}

impl Pipeline {
    /// Looks up what may have been begun before, in the inbox and among the claims: two queries for what came together. `false`:
    /// the worker stops.
    pub(super) async fn look_up(&self, arrivals: &mut [Arrival]) -> bool {
        let wanted = |work: &Work| work.suspect || work.runner.always_dedup;
        let keys: Vec<InboxKey> =
            arrivals.iter().filter_map(|a| a.work.as_ref().ok()).filter(|w| wanted(w)).map(Work::key).collect();
        if keys.is_empty() {
            return true;
        }
        let Some(mut seen) = self.seen(&keys).await.map(Vec::into_iter) else { return false };
        // A claim is a safety net; a store that is away will hold the message at its commit anyway.
        let counted = arrivals.iter().any(|a| a.work.as_ref().is_ok_and(Work::is_counted));
        let claims = if counted { self.shared.store.claims(&keys).await.unwrap_or_default() } else { Vec::new() };
        let mut claims = claims.into_iter();
        for arrival in arrivals {
            let Ok(work) = &mut arrival.work else { continue };
            if !wanted(work) {
                continue;
            }
            work.begun = claims.next().unwrap_or_default();
            if let Some(finished) = seen.next().flatten().and_then(|seen| self.judge(work, &seen)) {
                arrival.work = Err(Box::new(finished));
            }
        }
        true
    }

    /// `None`: the worker stops while the store is away.
    async fn seen(&self, keys: &[InboxKey]) -> Option<Vec<Option<Seen>>> {
        let mut backoff = Backoff::new(&self.shared.committer.absence);
        loop {
            match self.shared.store.seen(keys).await {
                Ok(seen) => {
                    backoff.is_over();
                    return Some(seen);
                }
                Err(error) => {
                    if !backoff.away(&error, &self.shared.stop).await {
                        return None;
                    }
                }
            }
        }
    }

    /// What an inbox row means for a delivery: the attempt fence.
    fn judge(&self, work: &Work, seen: &Seen) -> Option<Finished> {
        if seen.payload_hash != work.payload_hash {
            return Some(self.id_reused(work));
        }
        let known = seen.covers(work.envelope.hop.attempt);
        known.then(|| Finished { fenced: false, operation: None, ..self.finished(work, Fate::Duplicate) })
    }

    /// `ask`: its fate may have been decided since it was received, by another delivery of the same ID in its lane or otherwise.
    pub(super) async fn admit(&self, work: &mut Work, ask: bool) -> Admission<'_> {
        if let Some(finished) = self.too_old(work) {
            return Admission::Settle(Box::new(finished));
        }
        if ask && let Some(finished) = self.seen_now(work).await {
            return Admission::Settle(Box::new(finished));
        }
        if work.begun > 0 && work.runner.in_doubt_is_dead() {
            return Admission::Settle(Box::new(self.in_doubt(
                work,
                AttemptKind::Crash,
                "it was begun before, and its worker did not say how it ended",
            )));
        }
        // The first time was not counted, but for what acts outside the database.
        let died = work.begun + u32::from(work.redelivered && work.runner.external.is_none());
        if died > ALONE_AT {
            let error = format!("its worker died {died} times with it, the last time while it ran alone");
            let finished = self.dead(work, AttemptKind::Crash, Reason::KillsWorker, &error);
            return Admission::Settle(Box::new(finished));
        }
        let mut patience = None;
        let (entry, cap, slot) = loop {
            let entry = match work.runner.gate.enter() {
                Ok(entry) => entry,
                Err(_) => match Box::pin(self.wait_outside(work, &mut patience)).await {
                    Ok(entry) => entry,
                    Err(finished) => return Admission::Settle(finished),
                },
            };
            // The cap first: who waits for it keeps no slot from the other handlers of the channel.
            let cap = match &work.runner.cap {
                Some(cap) => cap.clone().acquire_owned().await.ok(),
                None => None,
            };
            let slot = self.slots.acquire().await.ok();
            // The gate may have closed meanwhile.
            if work.runner.gate.still_lets(&entry) {
                break (entry, cap, slot);
            }
        };
        let (beside, alone) = if died == ALONE_AT {
            (None, Some(self.shared.solo.clone().write_owned().await))
        } else {
            (Some(self.shared.solo.read().await), None)
        };
        // Not before: who waits while another runs alone has not begun, and is innocent if that one kills the worker.
        if work.is_counted() {
            self.claim(work).await;
        }
        Admission::Run(Pass { _entry: entry, _slot: slot, _cap: cap, _beside: beside, alone })
    }

    /// Waits without a slot until the handler's gate opens. The room that it holds meanwhile is what stops the consumption of the
    /// channel; but if another handler of the channel can work, half of the room is left to it, and who comes beyond that is put
    /// off, uncounted. So is who would otherwise be held for longer than the broker waits for an ack.
    async fn wait_outside(&self, work: &Work, patience: &mut Option<Instant>) -> Result<Entry, Box<Finished>> {
        let gate = &work.runner.gate;
        let waiting = Waiting::begin(&self.outside);
        // What the client of the broker holds before us has waited as long, and waits as long again.
        let patience = *patience.get_or_insert_with(|| clock::instant() + self.shared.ack_timeout / 4);
        let crowded = waiting.count() > self.room.count() / 2 && self.runners.values().any(|r| r.gate.is_open());
        let entry = if crowded { None } else { tokio::time::timeout_at(patience, gate.opens()).await.ok() };
        if work.envelope.expires.is_some_and(|expires| expires < clock::now()) {
            return Err(Box::new(self.finished(work, Fate::Expired)));
        }
        entry.ok_or_else(|| {
            let delay = PUT_OFF.saturating_mul(1 << work.envelope.hop.attempt.min(16)) / 2;
            let delay = delay.min(self.policy.retry.max).mul_f64(0.5 + fastrand::f64() / 2.0);
            Box::new(self.again(work, AttemptKind::Later, Some(delay), &format!("put off: {}", gate.why())))
        })
    }

    async fn seen_now(&self, work: &Work) -> Option<Finished> {
        let seen = self.seen(&[work.key()]).await?;
        seen.into_iter().next().flatten().and_then(|seen| self.judge(work, &seen))
    }

    /// Older than the inbox remembers is dangerous only if this consumer existed then. A replay was decided by a person.
    fn too_old(&self, work: &Work) -> Option<Finished> {
        let Runner { first_seen, .. } = *work.runner;
        let KeyTime::At(made) = work.key_time else { return None };
        let age = clock::between(made, clock::now());
        let dangerous = age > self.shared.inbox_retention && first_seen < made;
        if !dangerous || !self.policy.too_old_is_dead || work.envelope.hop.attempt > 1 {
            return None;
        }
        let days = self.shared.inbox_retention.as_secs() / 86_400;
        let error = format!("made {made}, and the inbox remembers {days} days: it may have been done before");
        Some(self.dead(work, AttemptKind::Rejected, Reason::TooOld, &error))
    }

    /// Crash counting by a mark of our own, written only for what may have been begun: the broker's delivery count rises for
    /// every prefetched neighbour, too.
    async fn claim(&self, work: &mut Work) {
        if work.claimed {
            return; // a re-run of the same delivery
        }
        work.claimed = true; // before the await: dropped there, nobody knows whether the mark was written
        let Shared { store, worker, .. } = &*self.shared;
        if !self.shared.claims.write(&**store, *worker, work.key()).await {
            self.claim_alone(work).await;
        }
        fault::at(Point::AfterClaim).await;
    }

    async fn claim_alone(&self, work: &Work) {
        let key = [work.key()];
        let mut backoff = Backoff::new(&self.shared.committer.absence);
        while let Err(error) = self.shared.store.claim(&key, self.shared.worker, clock::now()).await {
            // Elsewhere the mark is a safety net; here nothing may begin without it. Whoever waits for `stop` beside this ends it.
            if work.runner.external.is_none() || !backoff.away(&error, &self.shared.stop).await {
                break;
            }
        }
    }
}
