//! One destination: a bounded queue in memory, the outbox behind it, and a breaker of its own.

mod breaker;
mod outcome;
mod paging;

use super::{Relay, rows::Rows};
use crate::{
    clock,
    fault::{self, Point},
    store::Destination,
    telemetry::traces,
    transport::{PublishError, Published, Sending},
};
use breaker::{Breaker, backoff};
use outcome::{letter, measure};
use paging::page_in;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};
use tokio::sync::Notify;
use tracing::Instrument;
use uuid::Uuid;

/// A message that its destination refuses for good after so many tries is dead(unpublishable).
const PERMANENT_AFTER: u32 = 3;
/// Bytes of payload in one publish, and what a single large row has beyond.
const PUBLISHED: usize = 4 << 20;

pub(super) struct Lane {
    destination: Destination,
    bound: usize,
    state: Mutex<State>,
    arrived: Notify,
    emptied: Notify,
    /// Rows that paging has read.
    pub(super) read: AtomicUsize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Sending>,
    /// In the outbox and known here: queued, being published, or kept by the transport. Paging passes over them.
    known: Rows,
    /// Left the outbox since the paging began that is under way: a page that was read before may still hold them.
    left: Option<Rows>,
    /// Rows stand in the outbox that were not queued; none of them is before this one. Until they are paged in, no later row may
    /// overtake them.
    spilled: Option<Uuid>,
    /// Some of these may have been begun before. Which of them is not written there, so all are taken for begun: that costs a look
    /// into the inbox, and forgetting it would hide what kills its workers.
    spilled_begun: bool,
    /// Publishes that failed, by row.
    tries: HashMap<Uuid, Tries>,
    /// Types of which so many rows have no route that they would fill the memory: they stay in the outbox and take no room here.
    unheard: HashMap<String, Unheard>,
}

#[derive(Default)]
struct Unheard {
    tries: u32,
    /// Until then its rows are left where they are; `None` while it is tried whether somebody has come to hear them.
    again: Option<clock::Instant>,
    /// As [`State::spilled_begun`].
    begun: bool,
}

impl State {
    /// Leaves to the outbox what is not before `first`.
    fn spill(&mut self, first: Uuid) {
        self.spilled = Some(self.spilled.map_or(first, |already| already.min(first)));
    }

    /// Leaves it to the outbox if nobody hears its type.
    fn is_unheard(&mut self, sending: &Sending) -> bool {
        let Some(unheard) = self.unheard.get_mut(&sending.row.envelope.ty) else { return false };
        unheard.begun |= sending.begun;
        unheard.again.is_some()
    }
}

#[derive(Default)]
struct Tries {
    count: u32,
    /// The last one found no route.
    unrouted: bool,
    /// It is left alone until then: the destination takes others and not this one.
    again: Option<clock::Instant>,
}

impl Lane {
    pub(super) fn new(destination: Destination, bound: usize) -> Self {
        let (arrived, emptied) = (Notify::new(), Notify::new());
        Self { destination, bound, state: Mutex::default(), arrived, emptied, read: AtomicUsize::new(0) }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    pub(super) fn push(&self, sendings: impl IntoIterator<Item = Sending>) {
        let mut state = self.lock();
        for sending in sendings {
            if state.is_unheard(&sending) {
                continue; // it is paged in when its type is tried again
            }
            if state.spilled.is_some() || state.queue.len() >= self.bound {
                state.spill(sending.row.seq);
                state.spilled_begun |= sending.begun;
            } else if state.known.insert(sending.row.seq) {
                state.queue.push_back(sending);
            }
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Some row may stand in the outbox that was not handed over.
    pub(super) fn spill(&self) {
        self.lock().spill(Uuid::nil());
        self.arrived.notify_one();
    }

    /// As [`spill`](Self::spill), and it may have been published before.
    pub(super) fn spill_again(&self) {
        self.lock().spilled_begun = true;
        self.spill();
    }

    pub(super) fn forget(&self, row: Uuid) -> bool {
        let mut state = self.lock();
        let was_known = state.known.remove(&row);
        if was_known && let Some(left) = &mut state.left {
            left.insert(row);
        }
        was_known
    }

    /// Returns when nothing in memory can be published now.
    pub(super) async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.head(1).is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the queue; it stays there until it is confirmed, so that order survives a failure. Rows of one key go one at a
    /// time: a later one must not be confirmed while an earlier one is in doubt. Other keys pass it, and whatever waits for its
    /// next try.
    fn head(&self, most: usize) -> Vec<Sending> {
        let (state, now) = (self.lock(), clock::instant());
        let waits = |s: &Sending| state.tries.get(&s.row.seq).and_then(|t| t.again).is_some_and(|again| again > now);
        // What has no route holds up its key for its own type alone: nobody hears both that one and the others.
        let unrouted = |s: &Sending| state.tries.get(&s.row.seq).is_some_and(|t| t.unrouted);
        let (mut keys, mut keys_of_type) = (HashSet::new(), HashSet::new());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for sending in &state.queue {
            let is_first = match sending.row.key.as_deref().map(|key| (key, sending.row.envelope.ty.as_str())) {
                None => true,
                Some(of) if keys.contains(of.0) || keys_of_type.contains(&of) => false,
                Some(of) if unrouted(sending) => keys_of_type.insert(of),
                Some(of) => keys.insert(of.0),
            };
            if is_first && !waits(sending) {
                batch.push(sending.clone());
                bytes += sending.row.envelope.data.len();
                if batch.len() == most || bytes >= PUBLISHED {
                    break;
                }
            }
        }
        batch
    }

    /// It may have been published: the next time says so.
    fn doubt(&self, row: Uuid) {
        if let Some(sending) = self.lock().queue.iter_mut().find(|sending| sending.row.seq == row) {
            sending.begun = true;
        }
    }

    /// These were refused for what they are, not for where they go: the others pass them.
    fn set_aside(&self, rows: &[Uuid]) {
        let mut state = self.lock();
        for row in rows {
            let tries = state.tries.entry(*row).or_default();
            tries.again = Some(clock::instant() + backoff(tries.count));
        }
    }

    /// When the next of what waits is tried again: a row that was set aside, or a type that nobody hears.
    fn next_try(&self) -> Option<clock::Instant> {
        let state = self.lock();
        let rows = state.tries.values().filter_map(|tries| tries.again);
        rows.chain(state.unheard.values().filter_map(|unheard| unheard.again)).min()
    }

    /// If what has no route fills half the memory, all rows of its types leave it.
    fn leave_unheard(&self) {
        let mut state = self.lock();
        if 2 * state.tries.values().filter(|tries| tries.unrouted).count() <= self.bound {
            return;
        }
        let State { queue, known, tries, unheard, .. } = &mut *state;
        let unrouted = queue.iter().filter(|s| tries.get(&s.row.seq).is_some_and(|tries| tries.unrouted));
        let types: HashSet<String> = unrouted.map(|s| s.row.envelope.ty.clone()).collect();
        for ty in &types {
            let unheard = unheard.entry(ty.clone()).or_default();
            unheard.tries = unheard.tries.saturating_add(1);
            unheard.again = Some(clock::instant() + backoff(unheard.tries));
        }
        queue.retain(|sending| {
            let row = &sending.row;
            let Some(unheard) = unheard.get_mut(&row.envelope.ty).filter(|_| types.contains(&row.envelope.ty)) else {
                return true;
            };
            unheard.begun |= sending.begun;
            known.remove(&row.seq);
            tries.remove(&row.seq);
            false
        });
    }

    /// Somebody hears these types.
    fn hear(&self, published: &Rows, batch: &[Sending]) {
        let mut state = self.lock();
        if state.unheard.is_empty() {
            return;
        }
        for sending in batch.iter().filter(|sending| published.contains(&sending.row.seq)) {
            let ty = &sending.row.envelope.ty;
            if state.unheard.get(ty).is_some_and(|unheard| unheard.again.is_none()) {
                state.unheard.remove(ty);
            }
        }
    }

    /// Types whose time has come are paged in again, to be tried.
    fn try_unheard(&self) {
        let (mut state, now) = (self.lock(), clock::instant());
        let mut begun = None;
        for unheard in state.unheard.values_mut().filter(|unheard| unheard.again.is_some_and(|again| again <= now)) {
            unheard.again = None;
            *begun.get_or_insert(false) |= unheard.begun;
        }
        if let Some(begun) = begun {
            state.spill(Uuid::nil());
            state.spilled_begun |= begun;
        }
    }

    /// Removes what was published from the head; keeps the rest in order.
    fn settle(&self, done: &Rows, kept_by_transport: bool) {
        if done.is_empty() {
            return;
        }
        let mut state = self.lock();
        let State { queue, known, tries, .. } = &mut *state;
        queue.retain(|s| !done.contains(&s.row.seq));
        for row in done {
            tries.remove(row);
            if !kept_by_transport {
                known.remove(row);
            }
        }
    }
}

/// The life of one destination.
pub(super) async fn run(relay: Relay, lane: std::sync::Arc<Lane>) {
    let mut breaker = Breaker::default();
    let beat = relay.0.settings.beats.begin(format!("publish:{}", lane.destination));
    loop {
        lane.try_unheard();
        let has_more = {
            let state = lane.lock();
            state.spilled.is_some() && state.queue.len() < lane.bound
        };
        let stopped = relay.0.stop.cancelled();
        let batch = lane.head(relay.0.settings.batch);
        if batch.is_empty() {
            lane.emptied.notify_waiters();
        }
        if batch.is_empty() && has_more {
            tokio::select! { biased; () = stopped => return, () = page_in(&relay, &lane) => {} }
        } else if batch.is_empty() {
            let next_try = lane.next_try();
            let again = async {
                match next_try {
                    Some(again) => tokio::time::sleep_until(again).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopped => return,
                () = lane.arrived.notified() => {}
                () = again => {}
            }
        } else {
            let publish = publish(&relay, &lane, &batch, &mut breaker);
            let pause = {
                let _busy = beat.busy();
                tokio::select! { biased; () = stopped => return, pause = publish => pause }
            };
            if !pause.is_zero() {
                tokio::select! { biased; () = relay.0.stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
            }
        }
    }
}

/// Publishes the head of the queue. The answer: how long to leave this destination alone.
async fn publish(relay: &Relay, lane: &Lane, batch: &[Sending], breaker: &mut Breaker) -> Duration {
    fault::at(Point::BeforePublish).await;
    let began = clock::instant();
    let carried = batch.iter().map(|sending| sending.row.envelope.carried());
    let system = relay.0.transport.kind_of(lane.destination.name());
    let span = traces::send(system, &lane.destination.on_broker(), carried);
    let answers = relay.0.transport.publish(&lane.destination, batch).instrument(span.clone()).await;
    traces::sent(&span, answers.iter().find_map(|answer| answer.as_ref().err()).map(PublishError::word));
    measure(relay, &lane.destination, &answers, began.elapsed());
    fault::at(Point::AfterPublish).await;
    let (mut confirmed, mut kept) = (Rows::default(), Rows::default());
    let (mut aside, mut failed) = (Vec::new(), Vec::new());
    for (sending, answer) in batch.iter().zip(answers) {
        match answer {
            Ok(Published::Confirmed) => drop(confirmed.insert(sending.row.seq)),
            Ok(Published::Kept) => drop(kept.insert(sending.row.seq)),
            Err(error) => {
                if let PublishError::Unknown(_) = error {
                    lane.doubt(sending.row.seq);
                }
                let buried = refused(relay, lane, sending, &error).await;
                match error {
                    _ if buried => drop(confirmed.insert(sending.row.seq)),
                    PublishError::Unroutable(_) | PublishError::Permanent(_) => aside.push(sending.row.seq),
                    error => failed.push((sending.row.seq, error)),
                }
            }
        }
    }
    // What takes some is not dead: one full queue behind a channel must not hold up the others.
    if !confirmed.is_empty() || !kept.is_empty() {
        aside.extend(failed.drain(..).map(|(row, _)| row));
    }
    lane.hear(&confirmed, batch);
    lane.hear(&kept, batch);
    lane.set_aside(&aside);
    lane.settle(&kept, true);
    lane.settle(&confirmed, false);
    relay.confirm(confirmed);
    lane.leave_unheard();
    breaker.judge(failed.first().map(|(_, error)| error), &lane.destination)
}

/// Notes the refusal on the row, or buries it if the destination will never take it. `true`: it is buried.
async fn refused(relay: &Relay, lane: &Lane, sending: &Sending, error: &PublishError) -> bool {
    let row = &sending.row;
    let tries = {
        let mut state = lane.lock();
        let tries = state.tries.entry(row.seq).or_default();
        tries.count += 1;
        tries.again = None;
        tries.unrouted = matches!(error, PublishError::Unroutable(_));
        tries.count
    };
    let text = error.to_string();
    if matches!(error, PublishError::Permanent(_)) && tries >= PERMANENT_AFTER {
        return relay.0.store.bury(row.seq, &letter(relay, sending, &text)).await.is_ok();
    }
    // Once, and then rarely: a note is for people and must not cost what a publish costs.
    if tries.is_power_of_two() {
        let _ = relay.0.store.note(row.seq, tries, &text).await;
    }
    false
}
