//! What one life of a broker channel owes: which deliveries are held, which may be acked, and in how few frames.
//!
//! Acks go by contiguous completed prefix, one frame for all of it. A hole (a delivery that is still held) may keep what follows
//! it waiting for [`PATIENCE`] and no longer, so that one long job stalls nobody. That is counted from when something waits behind
//! it: at full speed every delivery is older than that before it is done, and each would have a frame of its own.

use crate::clock::Instant;
use std::{collections::VecDeque, time::Duration};

/// How long a hole keeps completed deliveries behind it waiting for a frame in common.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// A frame to send, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Acks everything outstanding up to this tag.
    AckUpTo(u64),
    /// Acks this one.
    Ack(u64),
    /// Gives this one back to its queue.
    Back(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Held,
    Done,
    Released,
    /// Its frame was sent; it waits for those before it to leave the ledger.
    Settled,
}

/// Deliveries of one channel by tag, from the oldest unsettled on.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The tag of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    /// Since when something that is done waits behind the first entry.
    blocked: Option<Instant>,
    held: usize,
    /// Entries that wait for their frame, so that nobody looks through a thousand of them for none.
    done: usize,
    released: usize,
    /// Settled in all: what the rate is measured by.
    settled: u64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self { first: 1, entries: VecDeque::new(), blocked: None, held: 0, done: 0, released: 0, settled: 0 }
    }

    /// Enters the next delivery; tags of a channel count up by one. Anything else is a mistake of the broker's or ours, and a
    /// settled tag that was never entered would be worse than a lost connection.
    pub(super) fn deliver(&mut self, tag: u64) -> bool {
        if tag != self.first + self.entries.len() as u64 {
            return false;
        }
        self.entries.push_back(Entry::Held);
        self.held += 1;
        true
    }

    pub(super) fn ack(&mut self, tag: u64) {
        self.done += usize::from(self.settle(tag, Entry::Done));
    }

    pub(super) fn release(&mut self, tag: u64) {
        self.released += usize::from(self.settle(tag, Entry::Released));
    }

    /// `false`: it is none that is held.
    fn settle(&mut self, tag: u64, how: Entry) -> bool {
        let Some(index) = tag.checked_sub(self.first) else { return false };
        let Some(entry) = usize::try_from(index).ok().and_then(|index| self.entries.get_mut(index)) else {
            return false;
        };
        let was_held = *entry == Entry::Held;
        if was_held {
            *entry = how;
            self.held -= 1;
            self.settled += 1;
        }
        was_held
    }

    /// Delivered and neither done nor released.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// What to send now, and when to look again if nothing else happens. `patience`: [`PATIENCE`], or none at the end.
    pub(super) fn due(&mut self, now: Instant, patience: Duration) -> (Vec<Order>, Option<Instant>) {
        let mut orders = Vec::new();
        // Given back first: afterwards nothing of it is outstanding that a frame for many could ack.
        if std::mem::take(&mut self.released) > 0 {
            self.order(Entry::Released, Order::Back, &mut orders);
        }
        let mut last_done = None;
        while let Some(entry) = self.entries.pop_front_if(|entry| *entry != Entry::Held) {
            if entry == Entry::Done {
                last_done = Some(self.first);
                self.done -= 1;
            }
            self.first += 1;
            self.blocked = None;
        }
        orders.extend(last_done.map(Order::AckUpTo));
        if self.done == 0 {
            return (orders, None);
        }
        let passed = *self.blocked.get_or_insert(now) + patience;
        if now < passed {
            return (orders, Some(passed));
        }
        self.done = 0;
        self.order(Entry::Done, Order::Ack, &mut orders);
        (orders, None)
    }

    /// A frame of its own for each entry that is so.
    fn order(&mut self, of: Entry, order: impl Fn(u64) -> Order, orders: &mut Vec<Order>) {
        for (tag, entry) in (self.first..).zip(&mut self.entries) {
            if *entry == of {
                orders.push(order(tag));
                *entry = Entry::Settled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_whole_prefix_is_one_frame() {
        let (mut ledger, now) = (Ledger::new(), crate::clock::instant());
        (1..=100).for_each(|tag| assert!(ledger.deliver(tag)));
        (1..=100).rev().for_each(|tag| ledger.ack(tag));
        assert_eq!(ledger.due(now, PATIENCE), (vec![Order::AckUpTo(100)], None));
    }

    #[test]
    fn a_young_hole_is_waited_for_and_an_old_one_is_passed() {
        let (mut ledger, now) = (Ledger::new(), crate::clock::instant());
        (1..=4).for_each(|tag| assert!(ledger.deliver(tag)));
        [1, 3, 4].into_iter().for_each(|tag| ledger.ack(tag));
        assert_eq!(ledger.due(now, PATIENCE), (vec![Order::AckUpTo(1)], Some(now + PATIENCE)));
        assert_eq!(ledger.due(now + PATIENCE, PATIENCE), (vec![Order::Ack(3), Order::Ack(4)], None));
        ledger.ack(2);
        assert_eq!(ledger.due(now + PATIENCE, PATIENCE), (vec![Order::AckUpTo(2)], None));
    }

    #[test]
    fn what_is_old_before_it_is_done_still_shares_a_frame() {
        let (mut ledger, now) = (Ledger::new(), crate::clock::instant());
        (1..=100).for_each(|tag| assert!(ledger.deliver(tag)));
        let late = now + 20 * PATIENCE; // all that time it waited for its handler
        (51..=100).for_each(|tag| ledger.ack(tag));
        assert_eq!(ledger.due(late, PATIENCE), (vec![], Some(late + PATIENCE)));
        (1..=50).for_each(|tag| ledger.ack(tag));
        assert_eq!(ledger.due(late, PATIENCE), (vec![Order::AckUpTo(100)], None));
    }

    #[test]
    fn a_hole_that_was_passed_stays_passed() {
        let (mut ledger, now) = (Ledger::new(), crate::clock::instant());
        (1..=4).for_each(|tag| assert!(ledger.deliver(tag)));
        ledger.ack(2);
        assert_eq!(ledger.due(now, PATIENCE), (vec![], Some(now + PATIENCE)));
        assert_eq!(ledger.due(now + PATIENCE, PATIENCE), (vec![Order::Ack(2)], None));
        ledger.ack(3);
        assert_eq!(ledger.due(now + PATIENCE, PATIENCE), (vec![Order::Ack(3)], None));
    }

    #[test]
    fn at_the_end_nothing_is_waited_for() {
        let (mut ledger, now) = (Ledger::new(), crate::clock::instant());
        (1..=2).for_each(|tag| assert!(ledger.deliver(tag)));
        ledger.ack(2);
        assert_eq!(ledger.due(now, Duration::ZERO), (vec![Order::Ack(2)], None));
    }

    #[test]
    fn a_tag_out_of_sequence_is_not_entered() {
        let mut ledger = Ledger::new();
        assert!(ledger.deliver(1) && !ledger.deliver(3) && !ledger.deliver(1));
    }

    proptest! {
        /// A broker that obeys the orders has each delivery acked or given back, as it was settled, and nothing that is held.
        #[test]
        fn each_delivery_is_settled_once_and_as_it_was_said(
            steps in prop::collection::vec((0u8..4, 1u64..60, 0u64..40), 1..300)
        ) {
            let (mut ledger, mut now) = (Ledger::new(), crate::clock::instant());
            let (mut tags, mut said, mut outstanding) = (0, BTreeMap::new(), BTreeSet::new());
            let (mut acked, mut back) = (BTreeSet::new(), BTreeSet::new());
            let finish = (1..=60).map(|tag| (1, tag, 100)).chain([(3, 1, 100)]);
            for (step, tag, millis) in steps.into_iter().chain(finish) {
                now += Duration::from_millis(millis);
                match step {
                    0 if tags < 60 => {
                        tags += 1;
                        prop_assert!(ledger.deliver(tags));
                        outstanding.insert(tags);
                    }
                    1 if tag <= tags => {
                        ledger.ack(tag);
                        said.entry(tag).or_insert(true);
                    }
                    2 if tag <= tags => {
                        ledger.release(tag);
                        said.entry(tag).or_insert(false);
                    }
                    _ => {
                        for order in ledger.due(now, PATIENCE).0 {
                            match order {
                                Order::AckUpTo(last) => {
                                    let rest = outstanding.split_off(&(last + 1));
                                    acked.extend(std::mem::replace(&mut outstanding, rest));
                                }
                                Order::Ack(tag) => {
                                    prop_assert!(outstanding.remove(&tag));
                                    acked.insert(tag);
                                }
                                Order::Back(tag) => {
                                    prop_assert!(outstanding.remove(&tag));
                                    back.insert(tag);
                                }
                            }
                        }
                    }
                }
                prop_assert!(acked.iter().all(|tag| said.get(tag) == Some(&true)));
                prop_assert!(back.iter().all(|tag| said.get(tag) == Some(&false)));
            }
            prop_assert_eq!(acked.len() + back.len(), usize::try_from(tags).unwrap());
            prop_assert_eq!(ledger.held(), 0);
        }
    }
}
