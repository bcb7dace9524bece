//! Consumer group: what the broker says about who owns what, written down for the polling thread.
//!
//! The callback only takes notes. An assignment needs questions to the broker first and a revocation waits for what runs; inside
//! the callback both would stop the clock by which the broker takes a member for dead.

use super::{inbound::Wake, partition::Name};
use rdkafka::{
    ClientContext, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tracing::{debug, warn};

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// These are ours as soon as we say so.
    Assigned(Vec<Name>),
    /// These are to be given up, as soon as we say so.
    Revoked(Vec<Name>),
    /// These are somebody else's already.
    Lost(Vec<Name>),
}

/// The notes of one member.
pub(super) struct Notes {
    changes: Mutex<Vec<Change>>,
    /// The client is being closed: nobody reads notes any more.
    leaving: AtomicBool,
    /// The topic of a commit is not there any more.
    topic_is_gone: AtomicBool,
    wake: Arc<Wake>,
}

impl Notes {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self { changes: Mutex::default(), leaving: AtomicBool::new(false), topic_is_gone: AtomicBool::new(false), wake }
    }

    pub(super) fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// The client itself tells of a deleted topic half a minute late; a commit is refused at once.
    pub(super) fn topic_is_gone(&self) -> bool {
        self.topic_is_gone.load(Ordering::Acquire)
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        self.wake.wake();
    }
}

impl ClientContext for Notes {
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "the client says");
    }
}

impl ConsumerContext for Notes {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let leaving = self.leaving.load(Ordering::Acquire);
        let done = match (assigned, leaving || consumer.assignment_lost()) {
            (true, _) if !leaving => return self.note(Change::Assigned(names(list))),
            (true, _) => consumer.incremental_assign(list),
            (false, false) => return self.note(Change::Revoked(names(list))),
            (false, true) => {
                self.note(Change::Lost(names(list)));
                consumer.incremental_unassign(list)
            }
        };
        if let Err(error) = done {
            warn!(%error, "a change of the assignment was not taken");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownTopicOrPartition)) = result {
            self.topic_is_gone.store(true, Ordering::Release);
            self.wake.wake();
        }
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            // The next commit brings it; until then the inbox knows what was done.
            Err(error) => warn!(%error, partitions = offsets.count(), "offsets were not committed"),
        }
    }
}

fn names(list: &TopicPartitionList) -> Vec<Name> {
    let elements = list.elements();
    elements.iter().map(|element| Name { topic: element.topic().into(), number: element.partition() }).collect()
}
