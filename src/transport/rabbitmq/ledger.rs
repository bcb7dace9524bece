//! What one life of a broker channel owes: which deliveries are held, which may be acked, and in how few frames.
//!
//! Acks go by contiguous completed prefix, one frame for all of it. A hole (a delivery that is still held) may keep what follows
//! it waiting for [`PATIENCE`] and no longer, so that one long job stalls nobody.

use crate::clock::Instant;
use std::{collections::VecDeque, time::Duration};

/// How long the oldest hole keeps completed deliveries behind it waiting for a frame in common.
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
    entries: VecDeque<(Entry, Instant)>,
    held: usize,
    /// Settled in all: what the rate is measured by.
    settled: u64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self { first: 1, entries: VecDeque::new(), held: 0, settled: 0 }
    }

    /// Enters the next delivery; tags of a channel count up by one. Anything else is a mistake of the broker's or ours, and a
    /// settled tag that was never entered would be worse than a lost connection.
    pub(super) fn deliver(&mut self, tag: u64, now: Instant) -> bool {
        if tag != self.first + self.entries.len() as u64 {
            return false;
        }
        self.entries.push_back((Entry::Held, now));
        self.held += 1;
        true
    }

    pub(super) fn ack(&mut self, tag: u64) {
        self.settle(tag, Entry::Done);
    }

    pub(super) fn release(&mut self, tag: u64) {
        self.settle(tag, Entry::Released);
    }

    fn settle(&mut self, tag: u64, how: Entry) {
        let Some(index) = tag.checked_sub(self.first) else { return };
        let Some((entry, _)) = usize::try_from(index).ok().and_then(|index| self.entries.get_mut(index)) else {
            return;
        };
        if *entry == Entry::Held {
            *entry = how;
            self.held -= 1;
            self.settled += 1;
        }
    }

    /// Delivered and neither done nor released.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// What to send now, and when to look again if nothing else happens.
    pub(super) fn due(&mut self, now: Instant) -> (Vec<Order>, Option<Instant>) {
        let mut orders = Vec::new();
        // Given back first: afterwards nothing of it is outstanding that a frame for many could ack.
        for (tag, (entry, _)) in (self.first..).zip(&mut self.entries) {
            if *entry == Entry::Released {
                orders.push(Order::Back(tag));
                *entry = Entry::Settled;
            }
        }
        let mut last_done = None;
        let prefix = self.entries.iter().take_while(|(entry, _)| *entry != Entry::Held).count();
        for (entry, _) in self.entries.drain(..prefix) {
            if entry == Entry::Done {
                last_done = Some(self.first);
            }
            self.first += 1;
        }
        orders.extend(last_done.map(Order::AckUpTo));
        let Some((_, since)) = self.entries.front().copied() else { return (orders, None) };
        if now < since + PATIENCE {
            let waiting = self.entries.iter().any(|(entry, _)| *entry == Entry::Done);
            return (orders, waiting.then_some(since + PATIENCE));
        }
        for (tag, (entry, _)) in (self.first..).zip(&mut self.entries) {
            if *entry == Entry::Done {
                orders.push(Order::Ack(tag));
                *entry = Entry::Settled;
            }
        }
        (orders, None)
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
        (1..=100).for_each(|tag| assert!(ledger.deliver(tag, now)));
        (1..=100).rev().for_each(|tag| ledger.ack(tag));
        assert_eq!(ledger.due(now), (vec![Order::AckUpTo(100)], None));
    }

    #[test]
    fn a_young_hole_is_waited_for_and_an_old_one_is_passed() {
        let (mut ledger, now) = (Ledger::new(), crate::clock::instant());
        (1..=4).for_each(|tag| assert!(ledger.deliver(tag, now)));
        [1, 3, 4].into_iter().for_each(|tag| ledger.ack(tag));
        assert_eq!(ledger.due(now), (vec![Order::AckUpTo(1)], Some(now + PATIENCE)));
        assert_eq!(ledger.due(now + PATIENCE), (vec![Order::Ack(3), Order::Ack(4)], None));
        ledger.ack(2);
        assert_eq!(ledger.due(now + PATIENCE), (vec![Order::AckUpTo(2)], None));
    }

    #[test]
    fn a_tag_out_of_sequence_is_not_entered() {
        let (mut ledger, now) = (Ledger::new(), crate::clock::instant());
        assert!(ledger.deliver(1, now) && !ledger.deliver(3, now) && !ledger.deliver(1, now));
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
                        prop_assert!(ledger.deliver(tags, now));
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
                        for order in ledger.due(now).0 {
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
