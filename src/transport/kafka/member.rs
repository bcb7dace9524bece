//! Polling Consumer: one member of one group, on a thread of its own.
//!
//! The thread polls, hands records out, commits, and answers to rebalances. Handlers run elsewhere: neither a slow one nor one
//! that blocks its runtime keeps the poll clock from being wound.

mod moves;
mod slot;

use super::{
    Options,
    group::Notes,
    inbound::{Inbound, Item, Stage, Wake},
    partition::Name,
    record,
    start::{self, Lost},
};
use crate::{
    clock::{self, Instant},
    transport::TransportError,
};
use rdkafka::{
    Message, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use slot::Slot;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tracing::{debug, warn};

/// The longest nap: a wake-up that the client lost is made good after it.
const NAP: Duration = Duration::from_millis(100);
/// A full hand-over is filled again when it is half empty, or after so long: a turn for each free place would cost what a message
/// costs.
const BREATH: Duration = Duration::from_millis(20);
/// So long a full hand-over stops the polling; a longer one pauses the partitions, which costs what the client has read ahead.
const FULL: Duration = Duration::from_millis(200);
/// Records that are handed over before the pipeline is woken for them, while more of them come.
const ANNOUNCED: usize = 32;
/// How often offsets are told to the client, which commits them every second.
const MARK_EVERY: Duration = Duration::from_millis(50);
/// The same trouble is told so often.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Whose records these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The channel's: they may be handled at once.
    Channel,
    /// Copies: each waits for its time.
    Retry,
}

/// A member and all that it owns.
pub(super) struct Member {
    consumer: BaseConsumer<Notes>,
    role: Role,
    inbound: Arc<Inbound>,
    wake: Arc<Wake>,
    options: Arc<Options>,
    lost: Arc<Lost>,
    slots: HashMap<Arc<str>, HashMap<i32, Slot>>,
    /// Assigned by the broker, not begun.
    arriving: Option<Vec<Name>>,
    next_try: Instant,
    draining: Option<Drain>,
    full_since: Option<Instant>,
    flow_stopped: bool,
    next_mark: Instant,
    told: HashMap<String, Instant>,
    /// What was read is not the log that is there: an offset of it must not be committed for the other one.
    another_log: bool,
}

/// Partitions that are about to go.
struct Drain {
    names: Vec<Name>,
    until: Instant,
}

impl Member {
    pub(super) fn new(
        consumer: BaseConsumer<Notes>,
        role: Role,
        inbound: Arc<Inbound>,
        wake: Arc<Wake>,
        options: Arc<Options>,
        lost: Arc<Lost>,
    ) -> Self {
        let now = clock::instant();
        Self {
            consumer,
            role,
            inbound,
            wake,
            options,
            lost,
            slots: HashMap::new(),
            arriving: None,
            next_try: now,
            draining: None,
            full_since: None,
            flow_stopped: false,
            next_mark: now,
            told: HashMap::new(),
            another_log: false,
        }
    }

    /// The life of the thread. It ends when nobody receives any more and nothing is open, or with an error that only a new
    /// member can cure.
    pub(super) fn run(mut self) {
        let end = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = end {
            self.inbound.end(error);
        }
        self.leave();
    }

    /// poll → rebalance → hand out what is due → pause and resume → mark. `false`: it is over.
    fn turn(&mut self) -> Result<bool, TransportError> {
        let stage = self.inbound.stage();
        let open: usize = self.all().map(|slot| slot.partition.open()).sum();
        if stage == Stage::Closing || (stage == Stage::Stopping && open == 0) {
            return Ok(false);
        }
        self.watch_room();
        let polled = if self.waits_for_room() { false } else { self.poll()? };
        self.rebalance()?;
        if self.role == Role::Channel && self.consumer.context().topic_is_gone() {
            return Err(self.gone());
        }
        let next_due = self.hand_out_due();
        self.pause_and_resume();
        self.mark();
        if !polled {
            if self.draining.is_some() || stage == Stage::Stopping {
                self.inbound.await_settling();
            }
            let mut nap = next_due.min(NAP);
            if self.full_since.is_some() {
                self.inbound.await_room();
                nap = if self.inbound.is_low() { Duration::ZERO } else { nap.min(BREATH) };
            }
            self.wake.sleep(nap);
        }
        Ok(true)
    }

    fn all(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().flat_map(HashMap::values)
    }

    fn watch_room(&mut self) {
        if self.inbound.has_room(1) {
            self.full_since = None;
        } else {
            self.full_since.get_or_insert_with(clock::instant);
        }
        let long_full = self.full_since.is_some_and(|since| since.elapsed() >= FULL);
        self.flow_stopped = long_full || (self.flow_stopped && !self.inbound.is_low());
    }

    fn waits_for_room(&self) -> bool {
        self.full_since.is_some() && !self.flow_stopped
    }

    /// Fetches until the hand-over is full or nothing is left. `false`: nothing came.
    fn poll(&mut self) -> Result<bool, TransportError> {
        let (mut came, mut empty, mut unannounced) = (false, 0, 0);
        while empty < 2 {
            match self.consumer.poll(Duration::ZERO) {
                // An event of the client is answered with nothing, too: only the second one means that there is no more.
                None => empty += 1,
                Some(Ok(record)) => {
                    came = true;
                    let slot = self.slots.get_mut(record.topic()).and_then(|topic| topic.get_mut(&record.partition()));
                    let Some(slot) = slot else { continue };
                    let (offset, raw) = (record.offset(), Arc::new(record::raw(&record)));
                    slot.accept(self.role, &self.inbound, offset, raw);
                    unannounced += 1;
                    if unannounced == ANNOUNCED {
                        self.inbound.announce();
                        unannounced = 0;
                    }
                    if !self.inbound.has_room(1) {
                        break;
                    }
                }
                Some(Err(error)) => {
                    came = true;
                    self.trouble(&error)?;
                }
            }
        }
        if unannounced > 0 {
            self.inbound.announce();
        }
        Ok(came)
    }

    fn trouble(&mut self, error: &KafkaError) -> Result<(), TransportError> {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            return Err(TransportError::Away(format!("the client gave up ({code}); another one is made")));
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset) => return self.look_for_gaps(),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) if self.role == Role::Channel => return Err(self.gone()),
            Some(RDKafkaErrorCode::PollExceeded) => {
                warn!("the worker was held up for so long that its partitions were given away; it comes again");
            }
            _ => self.tell(error),
        }
        Ok(())
    }

    /// The client says ten times a second that a broker is away.
    fn tell(&mut self, error: &KafkaError) {
        let now = clock::instant();
        let text = error.to_string();
        let again = self.told.get(&text).is_none_or(|last| now - *last >= TELL_EVERY);
        if again {
            warn!(error = text, "trouble with the broker; the client goes on");
            self.told.insert(text, now);
        }
    }

    /// Copies whose time has come go to the pipeline. The answer: how long until the next.
    fn hand_out_due(&mut self) -> Duration {
        if self.role == Role::Channel {
            return Duration::MAX;
        }
        let now = clock::now();
        let mut next = Duration::MAX;
        for slot in self.slots.values_mut().flat_map(HashMap::values_mut) {
            // Twice the room of the channel's records: what failed is not to wait behind a backlog.
            while self.inbound.has_room(2)
                && let Some((offset, raw)) = slot.waiting.pop(now)
            {
                self.inbound.push(Item { partition: slot.partition.clone(), offset, raw, again: false });
                self.inbound.announce();
            }
            if let Some(due) = slot.waiting.next_due() {
                next = next.min(clock::between(now, due).max(Duration::from_millis(1)));
            }
        }
        next
    }

    fn pause_and_resume(&mut self) {
        let now = clock::now();
        let stop_all = self.inbound.stage() != Stage::Open || (self.flow_stopped && self.role == Role::Channel);
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        for slot in self.slots.values_mut().flat_map(HashMap::values_mut) {
            slot.catch_up(self.role, &self.inbound);
            let wanted = stop_all || !slot.ahead.is_empty() || slot.waiting.is_enough(now, slot.paused);
            if wanted != slot.paused {
                let Name { topic, number } = &slot.partition.name;
                if wanted { &mut pause } else { &mut resume }.add_partition(topic, *number);
                slot.paused = wanted;
            }
        }
        if pause.count() > 0
            && let Err(error) = self.consumer.pause(&pause)
        {
            warn!(%error, "partitions could not be paused");
        }
        if resume.count() > 0
            && let Err(error) = self.consumer.resume(&resume)
        {
            warn!(%error, "partitions could not be resumed");
        }
    }

    /// Tells the client what is finished; it commits that by and by, and before it lets a partition go.
    fn mark(&mut self) {
        let now = clock::instant();
        if now < self.next_mark {
            return;
        }
        self.next_mark = now + MARK_EVERY;
        let mut list = TopicPartitionList::new();
        for partition in self.all().map(|slot| &slot.partition) {
            if let Some(mark) = partition.risen()
                && let Err(error) = start::add(&mut list, &partition.name, &mark)
            {
                debug!(%error, partition = %partition.name, "no offset to store");
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.store_offsets(&list)
        {
            debug!(%error, "offsets were not taken: the partition is not ours any more");
        }
    }

    /// Gives everything up and leaves the group, so that the others need not wait for our session to end.
    fn leave(mut self) {
        let slots: Vec<Slot> = self.slots.drain().flat_map(|(_, topic)| topic.into_values()).collect();
        for slot in &slots {
            slot.partition.drain();
            self.inbound.let_go(&slot.partition);
        }
        if self.another_log {
            self.forget(&slots);
        }
        self.give_up(&slots, !self.another_log);
        self.consumer.context().leave();
    }
}
