//! Event Message on its way in: a message, and the right to settle it once its fate is durable.

use crate::{Envelope, committer::Committed, message::wire::Raw};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use uuid::Uuid;

/// The settling side of a delivery: one object per life of a broker channel (AMQP) or of an assigned partition (Kafka).
///
/// A tag of an earlier life goes nowhere: this object is the fence. Never blocks: it writes down the tag, and the transport
/// settles by contiguous prefix behind it.
pub trait Settle: Send + Sync {
    /// The fate of the delivery is durable.
    fn ack(&self, tag: u64);
    /// The delivery was dropped unsettled: give it back (AMQP), or hold the watermark and reopen the partition (Kafka).
    fn release(&self, tag: u64);
}

/// The message of a delivery, parsed or not.
#[derive(Clone, Debug)]
pub enum Content {
    /// As the broker gave it.
    Raw(Arc<Raw>),
    /// A message of this process, which was never turned into bytes.
    Parsed(Arc<Envelope>),
}

/// Why a broker itself buried a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burial {
    /// In the broker's word: `delivery_limit`, `expired`, `rejected`, `maxlen`.
    pub reason: String,
    /// The queue that it lay in.
    pub queue: String,
    /// How often.
    pub count: u64,
}

/// A message and the right to settle it: once, and only with proof that its fate is durable. Dropped, it is released.
#[must_use = "a dropped delivery comes again"]
pub struct Delivery {
    /// The message.
    pub content: Content,
    /// It may have been begun before: redelivered, first after a connect, or taken over from a lost worker.
    pub suspect: bool,
    /// The outbox row that is this message, where the outbox row is the message.
    pub row: Option<Uuid>,
    /// When it was received, by the broker's or this process' clock.
    pub received: DateTime<Utc>,
    /// It comes from a Dead Letter Channel, and the broker put it there.
    pub buried: Option<Burial>,
    settle: Option<(Arc<dyn Settle>, u64)>,
}

impl Delivery {
    /// For transports.
    pub fn new(content: Content, suspect: bool, row: Option<Uuid>, settle: Arc<dyn Settle>, tag: u64) -> Self {
        Self { content, suspect, row, received: crate::clock::now(), buried: None, settle: Some((settle, tag)) }
    }

    /// Bytes it holds while it is in flight.
    pub fn weight(&self) -> usize {
        match &self.content {
            Content::Raw(raw) => raw.body.len() + 512,
            Content::Parsed(envelope) => envelope.weight(),
        }
    }

    /// Settles it. Synchronous: after the commit nothing can come between.
    pub fn ack(mut self, _proof: Committed) {
        if let Some((settle, tag)) = self.settle.take() {
            settle.ack(tag);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some((settle, tag)) = self.settle.take() {
            settle.release(tag);
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("content", &self.content)
            .field("suspect", &self.suspect)
            .finish_non_exhaustive()
    }
}
