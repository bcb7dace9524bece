//! What is sent: uniquely numbered commands with duplicates, out of order, and poison among them. Seeded.

use processes::{Work, seed::Dice};
use std::collections::{BTreeMap, BTreeSet};

/// One command as it goes out; sent twice it is the same.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
    /// It goes by the outbox, as what a service sends itself; all others by a bare client of the broker.
    pub(crate) by_outbox: bool,
}

/// What was sent, by which the checker judges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Number and ID of what must be done.
    pub(crate) good: BTreeMap<u32, String>,
    /// IDs of what can never be done.
    pub(crate) poison: BTreeSet<String>,
}

pub(crate) struct Generator {
    dice: Dice,
    next: u32,
    pub(crate) sent: Sent,
    /// Some of what went before: it comes again.
    old: Vec<Sending>,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::of(seed), next: 0, sent: Sent::default(), old: Vec::new() }
    }

    /// Of a printed seed always the same.
    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.dice.below(below)
    }

    /// So many new commands, with what comes twice, in any order.
    pub(crate) fn wave(&mut self, count: u32) -> Vec<Sending> {
        let mut wave = Vec::new();
        for n in self.next..self.next + count {
            let sending = self.one(n);
            if n % 5 == 2 {
                wave.push(sending.clone());
            }
            if n % 8 == 1 {
                self.old.push(sending.clone());
            }
            wave.push(sending);
        }
        self.next += count;
        for last in (1..wave.len()).rev() {
            let other = usize::try_from(self.random(last as u64 + 1)).expect("an index");
            wave.swap(last, other);
        }
        wave
    }

    /// What went long ago, once more.
    pub(crate) fn again(&mut self) -> Vec<Sending> {
        std::mem::take(&mut self.old)
    }

    fn one(&mut self, n: u32) -> Sending {
        let uuid = pitcrew::clock::uuid_v7().to_string();
        // Of three kinds: IDs with a time of their own, without, and poison that is no Work at all.
        let id = if n % 9 == 4 { format!("number {n} of {uuid}") } else { uuid };
        let (refused, garbage) = (n % 40 == 20, n % 40 == 30);
        let work = Work { n, takes: u64::from(n % 4), failing: u32::from(n % 11 == 3), refused, ..Work::default() };
        let body = if garbage { b"{no JSON".to_vec() } else { serde_json::to_vec(&work).expect("it is written") };
        if refused || garbage {
            self.sent.poison.insert(id.clone());
        } else {
            self.sent.good.insert(n, id.clone());
        }
        Sending { id, body, by_outbox: n % 10 == 7 }
    }
}
