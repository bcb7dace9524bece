//! One assignment of one partition, from the moment it is ours to the moment it is not: the settling side of its deliveries.
//!
//! The object is the epoch. The broker fences no offsets among the members of a group: a commit backwards, or for a partition
//! of somebody else, is answered with success. So an offset reaches a commit only through a partition that this process holds,
//! and only upwards.

use super::{
    inbound::{Inbound, Item},
    watermark::{Arrival, Watermark},
};
use crate::{message::wire::Raw, transport::Settle};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// In a commit's metadata while a worker is at work: what it has begun above the offset is not known.
const OPEN: &str = "pitcrew:begun-below=?";
const BEGUN_BELOW: &str = "pitcrew:begun-below=";

/// Which partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{} of {}", self.number, self.topic)
    }
}

/// An offset to commit, and what the next owner has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: i64,
    pub(super) metadata: String,
}

impl Mark {
    /// The owner is at work.
    pub(super) fn open(offset: i64) -> Self {
        Self { offset, metadata: OPEN.into() }
    }

    /// The owner has left, and began nothing from this offset on.
    fn left(offset: i64, begun_below: i64) -> Self {
        Self { offset, metadata: format!("{BEGUN_BELOW}{begun_below}") }
    }

    /// Below which offset somebody may have begun. A commit that is not ours, or of an owner that was killed, does not say it:
    /// then all that the log held (`end`) and that a window lets run ahead.
    pub(super) fn suspects_below(&self, end: i64) -> i64 {
        let said = self.metadata.strip_prefix(BEGUN_BELOW).and_then(|below| below.parse().ok());
        said.unwrap_or(end.min(self.offset.saturating_add(super::watermark::WINDOW)))
    }
}

/// See the module.
pub(super) struct Partition {
    pub(super) name: Name,
    me: Weak<Self>,
    inbound: Arc<Inbound>,
    /// What is released comes again.
    comes_again: bool,
    state: Mutex<State>,
}

struct State {
    life: Life,
    watermark: Watermark,
    /// Handed to the pipeline and not settled. Kept, so that what is released comes again from here.
    open: HashMap<i64, Arc<Raw>>,
    /// Nothing from this offset on was handed out.
    begun_below: i64,
    /// Below it an earlier owner may have begun.
    suspects_below: i64,
    /// The last mark that went to the client. Never goes down.
    marked: i64,
    /// So many that were handed out are finished.
    finished: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Ours.
    Held,
    /// Ours still, and about to go: what runs may end, nothing begins.
    Draining,
    /// Not ours: what ends now goes nowhere, its message comes to the next owner.
    Over,
}

impl Partition {
    /// Begins at `start`, which is committed.
    pub(super) fn new(name: Name, start: i64, suspects_below: i64, inbound: Arc<Inbound>) -> Arc<Self> {
        Self::make(name, start, suspects_below, inbound, true)
    }

    /// For old records, all of which may have been begun; only looked at, none comes again.
    pub(super) fn of_old(name: Name, start: i64, only_look: bool, inbound: Arc<Inbound>) -> Arc<Self> {
        Self::make(name, start, i64::MAX, inbound, !only_look)
    }

    fn make(name: Name, start: i64, suspects_below: i64, inbound: Arc<Inbound>, comes_again: bool) -> Arc<Self> {
        let state = State {
            life: Life::Held,
            watermark: Watermark::new(start),
            open: HashMap::new(),
            begun_below: start,
            suspects_below,
            marked: start,
            finished: 0,
        };
        Arc::new_cyclic(|me| Self { name, me: me.clone(), inbound, comes_again, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was fetched.
    pub(super) fn arrive(&self, offset: i64) -> Arrival {
        self.lock().watermark.arrive(offset)
    }

    /// One that arrived is for nobody: it is finished.
    pub(super) fn pass_over(&self, offset: i64) {
        self.lock().watermark.finish(offset);
    }

    /// How many that were handed out are finished.
    pub(super) fn finished(&self) -> u64 {
        self.lock().finished
    }

    /// The next offset that is expected.
    pub(super) fn next(&self) -> i64 {
        self.lock().watermark.next()
    }

    /// The oldest offset that is not finished.
    pub(super) fn low(&self) -> i64 {
        self.lock().watermark.low()
    }

    /// Goes to the pipeline. `Some(suspect)`, or `None`: it is not ours to hand out any more.
    pub(super) fn hand_out(&self, Item { offset, raw, again, .. }: &Item) -> Option<bool> {
        let mut state = self.lock();
        if state.life != Life::Held {
            return None;
        }
        state.open.insert(*offset, raw.clone());
        state.begun_below = state.begun_below.max(offset + 1);
        Some(*again || *offset < state.suspects_below)
    }

    /// Handed out and not settled.
    pub(super) fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// The mark that a running owner may commit, if it has risen.
    pub(super) fn risen(&self) -> Option<Mark> {
        let mut state = self.lock();
        let low = state.watermark.low();
        if state.life == Life::Over || low <= state.marked {
            return None;
        }
        state.marked = low;
        Some(Mark::open(low))
    }

    /// Nothing begins any more.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        if state.life == Life::Held {
            state.life = Life::Draining;
        }
    }

    /// It goes. The mark says to the next owner what was begun here; nothing that ends later counts.
    pub(super) fn end(&self) -> Mark {
        let mut state = self.lock();
        state.life = Life::Over;
        state.open.clear();
        let low = state.watermark.low().max(state.marked);
        Mark::left(low, state.begun_below.max(low))
    }
}

impl Settle for Partition {
    fn ack(&self, tag: u64) {
        let offset = i64::try_from(tag).unwrap_or(i64::MAX);
        let mut state = self.lock();
        if state.life != Life::Over {
            state.finished += u64::from(state.open.remove(&offset).is_some());
            state.watermark.finish(offset);
        }
        drop(state);
        self.inbound.one_less();
    }

    /// Delivered again from memory, where its bytes are as long as it is open. A seek would fetch everything behind it a second
    /// time, and throw away what the client has read ahead, while the others of its partition run on.
    fn release(&self, tag: u64) {
        if !self.comes_again {
            return self.ack(tag);
        }
        let offset = i64::try_from(tag).unwrap_or(i64::MAX);
        let mut state = self.lock();
        let raw = state.open.remove(&offset).filter(|_| state.life == Life::Held);
        drop(state);
        self.inbound.one_less();
        if let (Some(raw), Some(partition)) = (raw, self.me.upgrade()) {
            self.inbound.push_front(Item { partition, offset, raw, again: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_the_next_owner_what_may_have_been_begun() {
        assert_eq!(Mark::left(10, 40).suspects_below(1_000), 40);
        assert_eq!(Mark::open(10).suspects_below(1_000), 1_000, "all that was there when we came");
        let foreign = Mark { offset: 10, metadata: "reset by hand".into() };
        assert_eq!(foreign.suspects_below(1 << 40), 10 + super::super::watermark::WINDOW);
    }

    #[test]
    fn after_its_end_nothing_moves_the_mark() {
        let partition = partition(5);
        assert_eq!((partition.arrive(5), partition.arrive(6)), (Arrival::Taken, Arrival::Taken));
        assert_eq!((hand_out(&partition, 5), hand_out(&partition, 6)), (Some(false), Some(false)));
        partition.ack(5);
        assert_eq!(partition.risen(), Some(Mark::open(6)));
        assert_eq!(partition.risen(), None, "once is enough");
        assert_eq!(partition.end(), Mark::left(6, 7));
        partition.ack(6);
        assert_eq!((partition.risen(), partition.low()), (None, 6));
        assert_eq!(hand_out(&partition, 7), None);
    }

    #[test]
    fn while_it_drains_what_ends_counts_and_nothing_begins() {
        let partition = partition(5);
        for offset in 5..8 {
            partition.arrive(offset);
        }
        assert_eq!((hand_out(&partition, 5), hand_out(&partition, 6)), (Some(false), Some(false)));
        partition.drain();
        assert_eq!(hand_out(&partition, 7), None);
        partition.ack(5);
        partition.release(6);
        assert_eq!(partition.open(), 0);
        assert_eq!(partition.end(), Mark::left(6, 7));
    }

    fn hand_out(partition: &Arc<Partition>, offset: i64) -> Option<bool> {
        partition.hand_out(&Item { partition: partition.clone(), offset, raw: Arc::default(), again: false })
    }

    fn partition(start: i64) -> Arc<Partition> {
        let name = Name { topic: "shop.commands".into(), number: 0 };
        Partition::new(name, start, start, Arc::new(Inbound::default()))
    }
}
