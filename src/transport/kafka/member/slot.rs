//! One partition of a member: its records from the fetch to the hand-over.

use super::{
    super::{
        inbound::{Inbound, Item},
        partition::Partition,
        waiting::Waiting,
        watermark::Arrival,
    },
    Role,
};
use crate::message::wire::Raw;
use std::{collections::VecDeque, sync::Arc};
use tracing::warn;

/// What a member holds of one partition.
pub(super) struct Slot {
    pub(super) partition: Arc<Partition>,
    pub(super) waiting: Waiting,
    /// Too far ahead of an unfinished offset.
    pub(super) ahead: VecDeque<(i64, Arc<Raw>)>,
    pub(super) paused: bool,
}

impl Slot {
    pub(super) fn new(partition: Arc<Partition>) -> Self {
        Self { partition, waiting: Waiting::default(), ahead: VecDeque::new(), paused: false }
    }

    pub(super) fn accept(&mut self, role: Role, inbound: &Inbound, offset: i64, raw: Arc<Raw>) {
        if !self.ahead.is_empty() {
            self.ahead.push_back((offset, raw));
            return;
        }
        match self.partition.arrive(offset) {
            Arrival::Known => {}
            Arrival::Taken => self.take(role, inbound, offset, raw),
            Arrival::TooFarAhead => {
                let (partition, waits_for) = (&self.partition.name, self.partition.low());
                warn!(%partition, offset = waits_for, "a partition stands still: the message at this offset does not end, \
                       and the others have run ahead as far as is remembered");
                self.ahead.push_back((offset, raw));
            }
        }
    }

    fn take(&mut self, role: Role, inbound: &Inbound, offset: i64, raw: Arc<Raw>) {
        match role {
            Role::Channel => inbound.push(Item { partition: self.partition.clone(), offset, raw, again: false }),
            Role::Retry => self.waiting.push(offset, raw),
        }
    }

    /// What was too far ahead may have come into reach.
    pub(super) fn catch_up(&mut self, role: Role, inbound: &Inbound) {
        while let Some((offset, raw)) = self.ahead.pop_front() {
            match self.partition.arrive(offset) {
                Arrival::Known => {}
                Arrival::Taken => {
                    self.take(role, inbound, offset, raw);
                    inbound.announce();
                }
                Arrival::TooFarAhead => {
                    self.ahead.push_front((offset, raw));
                    return;
                }
            }
        }
    }
}
