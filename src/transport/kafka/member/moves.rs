//! What comes to a member and what goes: assignments, revocations, and records that are gone.

use super::{
    super::{
        OnLost,
        group::Change,
        partition::{Name, Partition},
        start::{self, Gap, GapError},
    },
    Drain, Member,
    slot::Slot,
};
use crate::{clock, transport::TransportError};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::time::Duration;
use tracing::{debug, error, info, warn};

impl Member {
    pub(super) fn look_for_gaps(&mut self) -> Result<(), TransportError> {
        let next: Vec<_> = self.all().map(|slot| (slot.partition.name.clone(), slot.partition.next())).collect();
        let gaps = match start::gaps(&self.consumer, &next) {
            Ok(gaps) => gaps,
            Err(cut @ GapError::Cut(_)) => {
                self.another_log = true;
                return Err(TransportError::Away(cut.to_string()));
            }
            Err(GapError::Broker(error)) => return Err(TransportError::Away(error.to_string())),
        };
        for gap in gaps {
            self.report(&gap)?;
            self.go_on_at(&gap.name, gap.to)?;
        }
        Ok(())
    }

    /// The topic was deleted. One of the same name may come, and whoever joins then finds its beginning: with the topic the
    /// broker has forgotten what was committed.
    pub(super) fn gone(&mut self) -> TransportError {
        self.another_log = true;
        TransportError::Away("read on: the topic is gone; made again, it is read from its beginning".into())
    }

    /// What the client was told and has not committed it would commit as it ends.
    pub(super) fn forget(&self, slots: &[Slot]) {
        let mut list = TopicPartitionList::new();
        for Name { topic, number } in slots.iter().map(|slot| &slot.partition.name) {
            let _ = list.add_partition_offset(topic, *number, Offset::Invalid);
        }
        if let Err(error) = self.consumer.store_offsets(&list) {
            debug!(%error, "nothing to forget");
        }
    }

    /// A partition whose offset was refused takes no seek: it is given back to the client as if it came now.
    fn go_on_at(&mut self, name: &Name, offset: i64) -> Result<(), TransportError> {
        let failed = |error: KafkaError| TransportError::Away(format!("{name} could not go on: {error}"));
        let mut list = TopicPartitionList::new();
        list.add_partition(&name.topic, name.number).set_offset(Offset::Offset(offset)).map_err(failed)?;
        self.consumer.incremental_unassign(&list).map_err(failed)?;
        self.consumer.incremental_assign(&list).map_err(failed)?;
        if let Some(slot) = self.slots.get_mut(&name.topic).and_then(|topic| topic.get_mut(&name.number)) {
            slot.paused = false; // what is assigned anew runs
        }
        Ok(())
    }

    /// Loud, counted, and by the config's word the end.
    fn report(&self, gap: &Gap) -> Result<(), TransportError> {
        let Gap { name: Name { topic, number }, from, to } = gap;
        self.lost.note(gap);
        let text = gap.to_string();
        error!(topic = %topic, partition = number, from, to, "{text}: they were deleted before this group handled them");
        match self.options.on_lost {
            OnLost::Continue => Ok(()),
            OnLost::Stop => Err(TransportError::Unfit(format!(
                "{text} (topic {topic}): the transport's kafka.on_lost = \"stop\" keeps the worker from going on"
            ))),
        }
    }

    pub(super) fn rebalance(&mut self) -> Result<(), TransportError> {
        for change in self.consumer.context().take() {
            match change {
                Change::Assigned(names) => self.arriving = Some(names),
                Change::Revoked(names) => self.begin_drain(names),
                Change::Lost(names) => {
                    self.draining = None;
                    for slot in self.remove(&names) {
                        let mark = slot.partition.end(); // nobody is told: the offsets are another's to commit
                        info!(partition = %slot.partition.name, offset = mark.offset, "a partition was lost");
                    }
                }
            }
        }
        self.end_drain();
        self.arrive()
    }

    /// Begins with what was assigned, once the broker has said where.
    fn arrive(&mut self) -> Result<(), TransportError> {
        let Some(names) = self.arriving.take_if(|_| self.next_try <= clock::instant()) else { return Ok(()) };
        let asked = start::starts(&self.consumer, &names);
        if self.options.on_lost == OnLost::Stop
            && let Ok(starts) = &asked
        {
            // Before anything is committed: a commit beyond the gap would be a decision.
            starts.iter().filter_map(|start| start.gap.as_ref()).try_for_each(|gap| self.report(gap))?;
        }
        let begun = asked.and_then(|starts| start::begin(&self.consumer, &starts).map(|()| starts));
        let starts = match begun {
            Ok(starts) => starts,
            Err(error) if is_no_member(&error) => return Err(self.shut_out(&names, &error)),
            Err(error) => {
                self.tell(&error);
                self.next_try = clock::instant() + Duration::from_millis(200);
                self.arriving = Some(names);
                return Ok(());
            }
        };
        let mut list = TopicPartitionList::new();
        for start in &starts {
            if let Some(gap) = &start.gap {
                self.report(gap)?;
            }
            let Name { topic, number } = &start.name;
            let _ = list.add_partition_offset(topic, *number, Offset::Offset(start.offset));
        }
        for start in starts {
            let name = start.name;
            debug!(partition = %name, offset = start.offset, suspects_below = start.suspects_below, "a partition is ours");
            let partition = Partition::new(name.clone(), start.offset, start.suspects_below, self.inbound.clone());
            self.slots.entry(name.topic).or_default().insert(name.number, Slot::new(partition));
        }
        let assigned = self.consumer.incremental_assign(&list);
        assigned.map_err(|error| TransportError::Away(format!("the assignment was not taken: {error}")))
    }

    /// The group went on without this member before it began. The client does not join anew, and does not end either, until it is
    /// told that its assignment was taken; so it is told, and another one is made.
    fn shut_out(&mut self, names: &[Name], error: &KafkaError) -> TransportError {
        let mut list = TopicPartitionList::new();
        for Name { topic, number } in names {
            list.add_partition(topic, *number);
        }
        if let Err(error) = self.consumer.incremental_assign(&list) {
            debug!(%error, "it knows that the assignment is not its own any more");
        }
        TransportError::Away(format!("the group went on without this worker ({error}); it joins anew"))
    }

    /// What runs may end, for a while; nothing of these begins any more.
    fn begin_drain(&mut self, names: Vec<Name>) {
        let limit = Duration::from_secs(5).min(self.options.max_poll_interval / 2);
        for slot in names.iter().filter_map(|name| self.slots.get(&name.topic)?.get(&name.number)) {
            slot.partition.drain();
            self.inbound.let_go(&slot.partition);
        }
        self.draining = Some(Drain { names, until: clock::instant() + limit });
    }

    /// Nothing of the whole member is fetched until this is over: the broker moves partitions only from hand to hand.
    fn end_drain(&mut self) {
        let Some(Drain { names, until }) = &self.draining else { return };
        let slots = names.iter().filter_map(|name| self.slots.get(&name.topic)?.get(&name.number));
        let open: usize = slots.map(|slot| slot.partition.open()).sum();
        let lost = self.consumer.assignment_lost();
        if open > 0 && !lost && clock::instant() < *until {
            return;
        }
        if open > 0 {
            info!(open, "partitions go while messages of theirs run; these come again, to the next owner");
        }
        let Some(Drain { names, .. }) = self.draining.take() else { return };
        let slots = self.remove(&names);
        self.give_up(&slots, !lost);
        let mut list = TopicPartitionList::new();
        for Name { topic, number } in &names {
            list.add_partition(topic, *number);
        }
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            warn!(%error, "a change of the assignment was not taken");
        }
    }

    fn remove(&mut self, names: &[Name]) -> Vec<Slot> {
        let removed = names.iter().filter_map(|name| self.slots.get_mut(&name.topic)?.remove(&name.number));
        let removed: Vec<Slot> = removed.collect();
        for slot in &removed {
            self.inbound.let_go(&slot.partition);
        }
        removed
    }

    /// The last commit of these, with the word to the next owner.
    pub(super) fn give_up(&self, slots: &[Slot], tell: bool) {
        let mut list = TopicPartitionList::new();
        for slot in slots {
            let mark = slot.partition.end();
            if let Err(error) = start::add(&mut list, &slot.partition.name, &mark) {
                debug!(%error, partition = %slot.partition.name, "no offset to commit");
            }
        }
        if !tell || list.count() == 0 {
            return;
        }
        // To the client first: as it lets a partition go it commits what it was told last, an older offset over this one.
        let told = self.consumer.store_offsets(&list);
        if let Err(error) = told.and_then(|()| self.consumer.commit(&list, CommitMode::Sync)) {
            warn!(%error, "the last offsets were not committed; the inbox knows what was done");
        }
    }
}

/// Whether the broker answers to somebody whom it has taken for dead.
fn is_no_member(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration))
}
