//! Channel Adapter: the contract of a broker.
//!
//! Retry, dead letters, dedup, ordering and delay policy are written once, above it. What differs from broker to broker is
//! declared in [`Promises`], never asked by name.

mod by_channel;
mod delivery;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
mod replay;
mod seen;

pub use by_channel::ByChannel;
pub use delivery::{Burial, Content, Delivery, Settle};
pub use replay::{Passage, Place, Progress, Stretch};
pub use seen::{Depth, Finding, Inspection, Lag, Standing};

use crate::{
    message::Intent,
    store::{Destination, OutboxRow},
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};

/// A broker that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Connection lost or refused: try again with backoff.
    #[error("reach the broker: {0}")]
    Away(String),
    /// The topology or the permissions are wrong: an operator must act.
    #[error("{0}")]
    Unfit(String),
    /// Closed by us.
    #[error("use a transport that is closed")]
    Closed,
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// An error or a timeout: it may have been published. The same row is published again with the same id.
    #[error("publish, outcome unknown: {0}")]
    Unknown(String),
    /// Nobody listens there.
    #[error("route it: {0}")]
    Unroutable(String),
    /// The destination takes nothing now (full, blocked): later.
    #[error("publish, the destination refuses for now: {0}")]
    Refused(String),
    /// The destination will never take this message.
    #[error("publish, the destination will never take it: {0}")]
    Permanent(String),
}

impl PublishError {
    /// The word in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown",
            Self::Unroutable(_) => "unroutable",
            Self::Refused(_) => "refused",
            Self::Permanent(_) => "permanent",
        }
    }
}

/// A row on its way into a broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending {
    /// The row.
    pub row: OutboxRow,
    /// It may have been published or begun before (taken over from a lost worker, or a publish of unknown outcome): its delivery
    /// must be [`suspect`](Delivery::suspect), in whatever process it comes.
    pub begun: bool,
}

/// What became of a published row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The broker has it, confirmed and routed: the outbox row may go.
    Confirmed,
    /// The outbox row *is* the message: it goes in the commit that handles its delivery.
    Kept,
}

/// What a transport promises. The conformance suite and the checks at start read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Deliveries of one ordering key come in publish order while nothing fails.
    pub order_per_key: bool,
    /// An event is published once for each subscription that this process knows (true), or once for the channel (false).
    pub row_per_subscription: bool,
    /// A channel keeps what nobody subscribes to, for whoever comes later (a log); elsewhere that is
    /// [`PublishError::Unroutable`].
    pub keeps_unheard: bool,
    /// The outbox row *is* the message ([`Published::Kept`]): a shutdown has nothing to flush.
    pub keeps_rows: bool,
    /// The longest delay that the transport itself keeps ([`Hop::due`](crate::message::Hop::due), of those in
    /// [`Subscription::delays`]); a longer one waits as an outbox row.
    pub longest_delay: Duration,
    /// It has a Dead Letter Channel for each channel, and wants a copy of every letter there ([`Destination::Dead`]).
    pub dead_letter_channel: bool,
    /// Largest message, in bytes.
    pub max_bytes: usize,
    /// How late a delayed message may come.
    pub delay_accuracy: Duration,
}

/// A queue (RabbitMQ), a group on a topic (Kafka), an in-process queue (embedded).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `<channel>`, `<channel>.<service>` or `<channel>.<handler name>`.
    pub name: Arc<str>,
    /// The channel it listens to.
    pub channel: Arc<str>,
    /// What the channel carries.
    pub intent: Intent,
    /// The types it wants.
    pub types: Vec<String>,
    /// The delays that a retry may ask for, ascending.
    pub delays: Vec<Duration>,
}

/// A Message Channel that is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: Arc<str>,
    /// What it carries.
    pub intent: Intent,
    /// The types that are sent to it.
    pub types: Vec<String>,
}

/// All that a worker needs of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// What it listens to.
    pub subscriptions: Vec<Subscription>,
    /// Where it sends to; those that it listens to may be among them.
    pub channels: Vec<Channel>,
}

impl Endpoints {
    /// What a channel or a subscription needs: the channel, and all that listens to it.
    pub(crate) fn around(&self, name: &str) -> Self {
        let of_subscription = self.subscriptions.iter().find(|known| *known.name == *name).map(|known| &*known.channel);
        let channel = self.channels.iter().find(|known| *known.name == *name).map_or(of_subscription, |_| Some(name));
        self.only(|known| Some(known) == channel)
    }

    /// The part on these channels.
    pub(crate) fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        Self {
            subscriptions: self.subscriptions.iter().filter(|known| is_wanted(&known.channel)).cloned().collect(),
            channels: self.channels.iter().filter(|known| is_wanted(&known.name)).cloned().collect(),
        }
    }
}

/// How much a receiver may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Messages, ≥ 1.
    pub count: usize,
    /// Bytes; the first message may be larger.
    pub bytes: usize,
}

/// Records that are gone and never were handled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// The log (a topic: of the channel itself, or of retries).
    pub topic: String,
    /// What is gone, for people: `records 10–30 of p3 are gone: …`.
    pub what: String,
}

/// A broker.
///
/// Called by the worker (`subscribe`), the relay (`publish`) and operators. `publish` is called for one destination by one task
/// at a time; different destinations at once.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// `embedded`, `rabbitmq`, `kafka`: `messaging.system` of the traces.
    fn kind(&self) -> &'static str;

    /// The same of the broker that carries this channel or subscription.
    fn kind_of(&self, name: &str) -> &'static str {
        let _ = name;
        self.kind()
    }

    /// What will be asked of it, told before the first question: names alone do not always tell who carries what. No connection is
    /// made.
    fn know(&self, endpoints: &Endpoints) {
        let _ = endpoints;
    }

    /// Which of several brokers carries this channel or subscription, by its name in the config.
    fn carrier_of(&self, name: &str) -> &str {
        let _ = name;
        "default"
    }

    /// See [`Promises`].
    fn promises(&self) -> Promises;

    /// The same of the broker that carries this channel or subscription.
    fn promises_of(&self, name: &str) -> Promises {
        let _ = name;
        self.promises()
    }

    /// What answers there, in some words for people: `RabbitMQ 3.10.8, user app, vhost /`. Tried once: what does not answer within
    /// some seconds is [`TransportError::Away`], with the last reason. Changes nothing.
    async fn about(&self) -> Result<String, TransportError> {
        Ok(self.kind().to_owned())
    }

    /// Makes or verifies what these endpoints need. Before anything else; may be called again.
    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError>;

    /// How the broker stands to these endpoints. Changes nothing.
    async fn inspect(&self, endpoints: &Endpoints) -> Result<Inspection, TransportError> {
        let _ = endpoints;
        Ok(Inspection::default())
    }

    /// Starts to listen. Dropping the consumer hands back what nobody began.
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError>;

    /// A row whose envelope is due later is kept by the broker until then: its delay is the shortest of
    /// [`Subscription::delays`] that covers what is left.
    ///
    /// Resolves when each row is confirmed AND routed, or failed; the answer is by position. Dropping the future leaves the
    /// outcome unknown.
    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>>;

    /// How many wait.
    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError>;

    /// Listens to the Dead Letter Channel of a subscription: what the broker itself buried there ([`Delivery::buried`]), beside
    /// the copies that were published to it. `None`: this broker buries nothing.
    async fn buried(&self, subscription: &Subscription) -> Result<Option<Box<dyn Consumer>>, TransportError> {
        let _ = subscription;
        Ok(None)
    }

    /// Reads a stretch of the log under a subscription again, beside the group that works on it: no offset of that group moves,
    /// and no member of it comes or goes. All of it is [`suspect`](Delivery::suspect). The consumer ends with
    /// [`TransportError::Closed`] when everything was handed out; `progress` follows what is settled.
    async fn reread(
        &self,
        subscription: &Subscription,
        stretch: &Stretch,
        progress: &Arc<Progress>,
    ) -> Result<Box<dyn Consumer>, TransportError> {
        let _ = (subscription, stretch, progress);
        Err(TransportError::Unfit(format!(
            "{} is no log: a message that was handled is gone from it, and there is nothing to read again (a dead one: \
             `dead replay`)",
            self.kind()
        )))
    }

    /// Records that were gone before they were handled, each told once: whoever takes them writes them down.
    fn take_losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// Flushes acks and ends connections. Nothing is delivered afterwards.
    async fn close(&self);
}

/// One life of one subscription.
#[async_trait]
pub trait Consumer: Send {
    /// At most `room`; waits for the first, never for a full batch. Cancel safe. [`TransportError::Closed`] ends it.
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError>;

    /// Ends this life and gives back all of it, also what is still held: an ack that comes later goes nowhere. For a worker that
    /// cannot settle anything for longer than the broker waits for.
    async fn hand_back(self: Box<Self>) {}
}
