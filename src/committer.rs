//! Group commit: whatever is ready when a commit ends is the next batch. No timers.
//!
//! A finished message comes here with its [`Delivery`] and with what its walk left to be done (`Then`): nobody waits beside it.
//! Only this room makes a [`Committed`], hence only this room acks: but for the conformance suite of the
//! transports, which has no store.

mod batch;

pub(crate) use batch::{Absence, Backoff};

use crate::{
    pipeline::Weight,
    relay::Relay,
    store::{Fate, Finished, OpenTx, Store},
    telemetry::metrics::{Beats, Cause, Ended, Metrics},
    transport::Delivery,
};
use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Proof that the fate of a message is durable. [`Delivery::ack`] wants one, and only the committer can make one.
#[derive(Debug)]
pub struct Committed {
    _minted_here: (),
}

impl Committed {
    /// Proof of nothing: a test of a bare transport remembers in memory what it has settled.
    pub(crate) fn in_memory_of_a_test() -> Self {
        Self { _minted_here: () }
    }
}

/// How large batches and how many commits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Commits in flight.
    pub(crate) commits: usize,
    /// Messages in a batch.
    pub(crate) messages: usize,
    /// A second commit starts only when so many wait: batches stay large without a timer, and a lone message never waits.
    pub(crate) worth: usize,
    /// Rows in a batch.
    pub(crate) rows: usize,
    /// Bytes in a batch; one larger message commits alone.
    pub(crate) bytes: usize,
    /// Finished but uncommitted messages; beyond it handlers wait with their result and receiving stops by itself.
    pub(crate) finished: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commits: 4, messages: 256, worth: 128, rows: 4_096, bytes: 8 << 20, finished: 1_024 }
    }
}

/// What became of a finished message.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Durable and acked.
    Stored,
    /// Known before; acked.
    Duplicate,
    /// Not stored, and the walk must go on with what it gets back. Boxed: it is rare, and a batch holds an answer for each message.
    Back(Box<(Why, Delivery, Weight)>),
    /// The worker is ending and the store is away: the delivery was released.
    Dropped,
}

impl Settled {
    fn back(why: Why, delivery: Delivery, weight: Weight) -> Self {
        Self::Back(Box::new((why, delivery, weight)))
    }
}

/// Why a finished message came back.
#[derive(Debug)]
pub(crate) enum Why {
    /// A guarded document changed meanwhile.
    Conflict,
    /// The ID is known with another payload.
    IdReused,
    /// The operation key is known with another payload.
    KeyConflict,
    /// The database can never store it.
    Refused(String),
}

/// What follows when the fate of a message is settled. Called once, in commit order, after its rows are in the relay; it must not
/// block, or the batch does. Dropped uncalled only where the committer itself ends before its time.
pub(crate) type Then = Box<dyn FnOnce(Settled) + Send>;

/// A finished message with all that it holds.
pub(crate) struct Ticket {
    /// Boxed: it is handed from task to task and moved into its batch.
    finished: Box<Finished>,
    delivery: Delivery,
    weight: Weight,
    open: Option<OpenTx>,
    then: Then,
    /// What a batch is made by, so that making one does not walk through the memory of all its messages.
    size: Size,
}

/// A message as the limits of a batch see it.
#[derive(Clone, Copy)]
struct Size {
    /// Hash of its inbox key. Two keys of one hash would only come in two batches.
    key: u64,
    rows: usize,
    bytes: usize,
}

/// Counted for the tests of the cost per message.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) splits: AtomicU64,
    /// What became of them, by the word of the fate.
    fates: Mutex<BTreeMap<&'static str, u64>>,
    /// The most commits that were under way at once.
    pub(crate) at_once: AtomicUsize,
}

impl Counters {
    /// What became of the messages so far, by the word of their fate.
    pub(crate) fn fates(&self) -> BTreeMap<&'static str, u64> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, fates: impl IntoIterator<Item = (&'static str, u64)>) {
        let mut counted = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        for (fate, count) in fates {
            *counted.entry(fate).or_default() += count;
        }
    }
}

/// The way in.
#[derive(Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Ticket>,
    hashes: RandomState,
    metrics: Arc<Metrics>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) absence: Arc<Absence>,
}

impl Committer {
    /// `give_up`: from then on a store that is away is not awaited any more. The task ends when the last `Committer` is dropped
    /// and everything it took is answered.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        relay: Relay,
        worker: Uuid,
        limits: Limits,
        give_up: CancellationToken,
        (metrics, beats): (Arc<Metrics>, &Arc<Beats>),
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, tickets) = mpsc::channel(limits.finished);
        let (counters, absence) = (Arc::<Counters>::default(), Arc::<Absence>::default());
        let shared = batch::Shared {
            store,
            relay,
            worker,
            counters: counters.clone(),
            metrics: metrics.clone(),
            beat: beats.begin("commit".into()),
            give_up,
            absence: absence.clone(),
        };
        let run = Run { shared: Arc::new(shared), limits, tickets, waiting: Vec::new() };
        (Self { queue, hashes: RandomState::new(), metrics, counters, absence }, tokio::spawn(run.run()))
    }

    /// Hands everything over, and waits only for a place in the queue.
    pub(crate) async fn hand_over(
        &self,
        finished: Box<Finished>,
        delivery: Delivery,
        weight: Weight,
        open: Option<OpenTx>,
        then: Then,
    ) {
        if finished.is_empty() && open.is_none() {
            delivery.ack(Committed { _minted_here: () }); // nothing to make durable
            self.counters.count([(finished.fate.word(), 1)]);
            measure(&self.metrics, &finished, None);
            return then(Settled::Duplicate);
        }
        let (envelope, effects) = (&finished.envelope, &finished.effects);
        let key = self.hashes.hash_one((&finished.consumer, &envelope.source, &envelope.id));
        let size = Size { key, rows: effects.len(), bytes: effects.bytes() };
        match self.queue.reserve().await {
            Ok(place) => place.send(Ticket { finished, delivery, weight, open, then, size }),
            Err(_) => then(Settled::Dropped),
        }
    }

    /// Hands everything over and waits for what became of it.
    pub(crate) async fn commit(&self, finished: Box<Finished>, delivery: Delivery, weight: Weight) -> Settled {
        let (answer, settled) = oneshot::channel();
        let then = Box::new(|settled| drop(answer.send(settled))); // who asked may be gone; the fate stands
        self.hand_over(finished, delivery, weight, None, then).await;
        settled.await.unwrap_or(Settled::Dropped)
    }
}

/// Counts the fate of a message. `cause`: the store knew it, so it is a duplicate whatever it was before.
fn measure(metrics: &Metrics, finished: &Finished, cause: Option<Cause>) {
    let (subscription, ty) = (&*finished.subscription, &*finished.envelope.ty);
    let fate = if cause.is_some() { Fate::Duplicate.word() } else { finished.fate.word() };
    let cause = cause.or_else(|| {
        let known = finished.fate == Fate::Duplicate;
        known.then_some(if finished.duration.is_zero() { Cause::Inbox } else { Cause::Handler })
    });
    let attempt = finished.attempt.as_ref().filter(|_| fate != Fate::Duplicate.word());
    let reason = match finished.fate {
        Fate::Dead(reason) if cause.is_none() => Some(reason.word()),
        _ => None,
    };
    metrics.ended(Ended { subscription, ty, fate, reason, attempt: attempt.map(|attempt| attempt.kind.word()) });
    if let Some(cause) = cause {
        metrics.duplicate(subscription, ty, cause);
    }
}

struct Run {
    shared: Arc<batch::Shared>,
    limits: Limits,
    tickets: mpsc::Receiver<Ticket>,
    waiting: Vec<Ticket>,
}

impl Run {
    async fn run(mut self) {
        let slots = Arc::new(Semaphore::new(self.limits.commits));
        let mut commits = tokio::task::JoinSet::new();
        loop {
            if self.waiting.is_empty() && self.tickets.recv_many(&mut self.waiting, self.limits.messages).await == 0 {
                break;
            }
            let Ok(slot) = slots.clone().acquire_owned().await else { break };
            // While the slot was awaited more came; and while another commit is under way a small batch is not worth a slot.
            loop {
                self.take_ready();
                while commits.try_join_next().is_some() {}
                if commits.is_empty() || self.waiting.len() >= self.limits.worth {
                    break;
                }
                tokio::select! {
                    n = self.tickets.recv_many(&mut self.waiting, self.limits.messages) => if n == 0 { break },
                    _ = commits.join_next() => {}
                }
            }
            let (batch, shared) = (self.next_batch(), self.shared.clone());
            shared.counters.messages.fetch_add(batch.len() as u64, Relaxed);
            shared.counters.at_once.fetch_max(self.limits.commits - slots.available_permits(), Relaxed);
            commits.spawn(async move {
                shared.commit(batch).await;
                drop(slot);
            });
        }
        while commits.join_next().await.is_some() {}
    }

    fn take_ready(&mut self) {
        while self.waiting.len() < self.limits.messages {
            match self.tickets.try_recv() {
                Ok(ticket) => self.waiting.push(ticket),
                Err(_) => break,
            }
        }
    }

    /// As many as the limits allow, each inbox key once: a second one of the same key waits for the next batch.
    fn next_batch(&mut self) -> Vec<Ticket> {
        let (mut batch, mut later) = (Vec::with_capacity(self.waiting.len()), Vec::new());
        let (mut rows, mut bytes) = (0, 0);
        let mut keys = HashSet::with_capacity(self.waiting.len());
        let mut full = false;
        for ticket in self.waiting.drain(..) {
            let size = ticket.size;
            full |= batch.len() >= self.limits.messages
                || (!batch.is_empty()
                    && (rows + size.rows > self.limits.rows || bytes + size.bytes > self.limits.bytes));
            if full || !keys.insert(size.key) {
                later.push(ticket);
                continue;
            }
            rows += size.rows;
            bytes += size.bytes;
            batch.push(ticket);
        }
        self.waiting = later;
        batch
    }
}
