//! What leaves: outbox rows and where they go.

use crate::Envelope;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::{borrow::Cow, fmt, sync::Arc};
use uuid::Uuid;

/// Where an outbox row goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// Everyone who subscribes to the channel: an exchange or topic.
    Channel(Arc<str>),
    /// One subscription: its queue or group. Retries and replays go here.
    Subscription(Arc<str>),
    /// The Dead Letter Channel of a subscription: copies for whoever listens there; the letter itself is a row of the store.
    Dead(Arc<str>),
}

impl Destination {
    /// The channel's or the subscription's name.
    pub fn name(&self) -> &str {
        self.parts()[1]
    }

    /// What it is called on the broker, for metrics and spans: `messaging.destination.name`.
    pub(crate) fn on_broker(&self) -> Cow<'_, str> {
        match self {
            Self::Channel(name) | Self::Subscription(name) => Cow::Borrowed(name),
            Self::Dead(name) => Cow::Owned(format!("{name}.dead")),
        }
    }

    /// As text, in two parts.
    pub(crate) fn parts(&self) -> [&str; 2] {
        match self {
            Self::Channel(name) => ["channel:", name],
            Self::Subscription(name) => ["subscription:", name],
            Self::Dead(name) => ["dead:", name],
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().iter().try_for_each(|part| f.write_str(part))
    }
}

impl std::str::FromStr for Destination {
    type Err = StoreErrorText;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("channel", name)) => Ok(Self::Channel(name.into())),
            Some(("subscription", name)) => Ok(Self::Subscription(name.into())),
            Some(("dead", name)) => Ok(Self::Dead(name.into())),
            _ => Err(StoreErrorText(format!("`{text}` is no destination"))),
        }
    }
}

/// A stored text that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreErrorText(pub String);

/// Why an outbox row was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Sent by a handler or a client.
    Message,
    /// The next attempt of a message.
    Retry,
    /// An operator or a newer build runs it again.
    Replay,
    /// The answer to `replyto`.
    Reply,
    /// The copy of a dead letter.
    Dead,
}

impl Purpose {
    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Retry => "retry",
            Self::Replay => "replay",
            Self::Reply => "reply",
            Self::Dead => "dead",
        }
    }

    /// The purpose with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Message, Self::Retry, Self::Replay, Self::Reply, Self::Dead].into_iter().find(|p| p.word() == word)
    }
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// A UUIDv7 of the writer: identity and order. Made before the commit, so that a commit whose answer was lost can be
    /// repeated with the same rows.
    pub seq: Uuid,
    /// Where to.
    pub destination: Destination,
    /// Not before this time; such a row has no owner until then.
    pub due: Option<DateTime<Utc>>,
    /// Rows of one key and destination leave in order.
    pub key: Option<String>,
    /// Why.
    pub purpose: Purpose,
    /// The message, as it will be published.
    pub envelope: Arc<Envelope>,
}

/// A row that a sweep took.
#[derive(Clone, Debug, PartialEq)]
pub struct Swept {
    /// The row.
    pub row: OutboxRow,
    /// It belonged to a lost worker: it may have been published or begun before.
    pub begun: bool,
    /// How often publishing it was tried.
    pub tries: u32,
}

/// A row of the outbox, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxEntry {
    /// The row.
    pub row: OutboxRow,
    /// Its owner.
    pub owner: Option<Uuid>,
    /// How often publishing it was tried.
    pub tries: u32,
    /// Why it could not be published.
    pub problem: Option<String>,
}
