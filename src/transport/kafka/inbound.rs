//! What has been fetched and not handed out: between the threads that poll and the pipeline that receives.
//!
//! Both bounds are small. What is beyond them stays in the client's own queue, and beyond that in the broker.

use super::partition::Partition;
use crate::{
    message::wire::Raw,
    transport::{Content, Delivery, Room, Settle, TransportError},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// Messages that wait here.
const COUNT: usize = 512;
/// Their bytes.
const BYTES: usize = 4 << 20;

/// A fetched record.
pub(super) struct Item {
    pub(super) partition: Arc<Partition>,
    pub(super) offset: i64,
    pub(super) raw: Arc<Raw>,
    /// It was handed out before, and released.
    pub(super) again: bool,
}

/// The hand-over of one subscription; its topic and its retry topics both come in here.
#[derive(Default)]
pub(super) struct Inbound {
    state: Mutex<State>,
    /// Something became ready, or it is over.
    arrived: Notify,
    /// The polling threads that are to be woken.
    wakes: Mutex<Vec<Arc<Wake>>>,
    /// Handed out and not settled.
    open: AtomicI64,
    /// Somebody waits for the last open delivery: settling is told to them.
    awaited: AtomicBool,
    /// Somebody waits for room.
    room_awaited: AtomicBool,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Item>,
    bytes: usize,
    stage: Stage,
    /// Why there will be no more.
    over: Option<TransportError>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It receives.
    #[default]
    Open,
    /// Nobody receives any more; what is open may still end.
    Stopping,
    /// Nobody waits for anything any more.
    Closing,
}

impl Inbound {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever pushes announces it, many at once.
    pub(super) fn push(&self, item: Item) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.bytes += item.raw.body.len();
            state.ready.push_back(item);
        }
    }

    /// Wakes the pipeline. For each message alone it would cost what a message costs.
    pub(super) fn announce(&self) {
        self.arrived.notify_one();
    }

    /// Before everything else: it has waited before.
    pub(super) fn push_front(&self, item: Item) {
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.bytes += item.raw.body.len();
            state.ready.push_front(item);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// No more than `times` of its bounds wait.
    pub(super) fn has_room(&self, times: usize) -> bool {
        let state = self.lock();
        state.ready.len() < COUNT * times && state.bytes < BYTES * times
    }

    /// Few enough wait for whoever found it full to go on.
    pub(super) fn is_low(&self) -> bool {
        let state = self.lock();
        state.ready.len() <= COUNT / 2 && state.bytes <= BYTES / 2
    }

    /// Forgets what waits of a partition: nobody began it.
    pub(super) fn let_go(&self, partition: &Arc<Partition>) {
        let mut state = self.lock();
        state.ready.retain(|item| !Arc::ptr_eq(&item.partition, partition));
        state.bytes = state.ready.iter().map(|item| item.raw.body.len()).sum();
    }

    /// There will be no more, for this reason; the first one counts.
    pub(super) fn end(&self, why: TransportError) {
        self.lock().over.get_or_insert(why);
        self.arrived.notify_one();
    }

    /// Never goes back.
    pub(super) fn enter(&self, stage: Stage) {
        let mut state = self.lock();
        if state.stage < stage {
            state.stage = stage;
        }
        let unbegun = std::mem::take(&mut state.ready);
        state.bytes = 0;
        drop(state);
        drop(unbegun);
        self.wake();
    }

    pub(super) fn stage(&self) -> Stage {
        self.lock().stage
    }

    /// At most `room`; waits for the first.
    pub(super) async fn receive(&self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let taken = self.take(room);
            if !taken.is_empty() {
                if self.is_low() && self.room_awaited.swap(false, Ordering::AcqRel) {
                    self.wake();
                }
                return Ok(taken);
            }
            if let Some(why) = self.over() {
                return Err(why);
            }
            arrived.await;
        }
    }

    fn over(&self) -> Option<TransportError> {
        let mut state = self.lock();
        if state.stage == Stage::Open { state.over.take() } else { Some(TransportError::Closed) }
    }

    fn take(&self, room: Room) -> Vec<Delivery> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < room.count {
            let mut state = self.lock();
            let Some(size) = state.ready.front().map(|item| item.raw.body.len()) else { break };
            if !taken.is_empty() && bytes + size > room.bytes {
                break;
            }
            let Some(item) = state.ready.pop_front() else { break };
            state.bytes -= size;
            drop(state); // a partition may call us: never both locks at once
            let Some(suspect) = item.partition.hand_out(&item) else { continue };
            let Item { partition, offset, raw, .. } = item;
            let suspect = suspect || raw.is_again();
            bytes += size;
            self.open.fetch_add(1, Ordering::Relaxed);
            let settle: Arc<dyn Settle> = partition;
            let tag = u64::try_from(offset).unwrap_or_default();
            taken.push(Delivery::new(Content::Raw(raw), suspect, None, settle, tag));
        }
        taken
    }

    /// One that was handed out is settled. Told only to who waits for it: at full speed a thread woken for each message costs what
    /// a message costs.
    pub(super) fn one_less(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if self.awaited.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// How many are handed out and not settled.
    pub(super) fn open(&self) -> u64 {
        u64::try_from(self.open.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// The next settlement wakes the polling threads.
    pub(super) fn await_settling(&self) {
        self.awaited.store(true, Ordering::Release);
    }

    /// The polling threads are woken when [few enough wait](Self::is_low), not for each free place.
    pub(super) fn await_room(&self) {
        self.room_awaited.store(true, Ordering::Release);
    }

    pub(super) fn add_wake(&self, wake: Arc<Wake>) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(wake);
    }

    fn wake(&self) {
        for wake in self.wakes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            wake.wake();
        }
    }
}

/// Wakes a polling thread.
#[derive(Debug, Default)]
pub(super) struct Wake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    pub(super) fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Until it is woken, or `limit` is over: a wake-up of the client may be lost, and is made good so.
    pub(super) fn sleep(&self, limit: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(woken, limit, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
