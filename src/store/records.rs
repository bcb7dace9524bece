//! What the store keeps: plain data, the same for every adapter.

mod fate;
mod gauges;
mod handled;
mod housekeeping;
mod letter;
mod outbox;
mod replay;

pub use fate::*;
pub use gauges::*;
pub use handled::*;
pub use housekeeping::*;
pub use letter::*;
pub use outbox::*;
pub use replay::*;

use crate::{Envelope, context::Effects, message::KeyTime};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// The inbox key: no broker or queue name is in it, so that no rename lets a duplicate through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InboxKey {
    /// The handler's name.
    pub consumer: Arc<str>,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `id`.
    pub id: String,
}

impl InboxKey {
    /// The partition that holds it.
    pub fn key_time(&self) -> KeyTime {
        KeyTime::of(&self.id)
    }
}

/// What the inbox knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The latest attempt.
    pub attempt: u32,
    /// Its fate, as [`Fate::word`].
    pub fate: String,
    /// SHA-256 of its payload.
    pub payload_hash: Vec<u8>,
}

impl Seen {
    /// Whether a delivery with this attempt has been dealt with: done is final, and a lower or equal attempt is a copy.
    pub fn covers(&self, attempt: u32) -> bool {
        self.fate == "done" || self.attempt >= attempt
    }
}

/// One message whose fate is known: what must become true in one transaction.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The handler's name.
    pub consumer: Arc<str>,
    /// The queue or group it was delivered by.
    pub subscription: Arc<str>,
    /// The message.
    pub envelope: Arc<Envelope>,
    /// SHA-256 of the payload.
    pub payload_hash: [u8; 32],
    /// Its fate.
    pub fate: Fate,
    /// Whether the inbox is asked and written. Not for bytes without a key of their own, nor for what is known to be a duplicate.
    pub fenced: bool,
    /// SHA-256 over canonical payload, type and version, if the message carries an `idempotencykey`.
    pub operation: Option<[u8; 32]>,
    /// Documents, own rows and outgoing messages; for a retry its copy.
    pub effects: Effects,
    /// The try, if it did not end done; boxed, as the letter: most messages have neither, and there are thousands of them.
    pub attempt: Option<Box<Attempt>>,
    /// The letter, if the fate is dead or quarantined.
    pub letter: Option<Box<DeadLetter>>,
    /// The outbox row that was this delivery; it leaves with this commit (transports that keep their messages in the outbox).
    pub row: Option<Uuid>,
    /// A claim row of this message exists and goes with this commit.
    pub claimed: bool,
    /// How long the handler ran.
    pub duration: Duration,
    /// When the fate was decided.
    pub at: DateTime<Utc>,
}

impl Finished {
    /// Its key in the inbox.
    pub fn key(&self) -> InboxKey {
        InboxKey { consumer: self.consumer.clone(), source: self.envelope.source.clone(), id: self.envelope.id.clone() }
    }

    /// Nothing to store: it may be acked without a transaction.
    pub(crate) fn is_empty(&self) -> bool {
        !self.fenced
            && self.letter.is_none()
            && self.attempt.is_none()
            && self.row.is_none()
            && !self.claimed
            && self.effects.len() == 0
    }
}

/// A message that wants to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its outbox rows: one, or one for each who hears it.
    pub rows: &'a [OutboxRow],
    /// Its business key, if it has one.
    pub operation: Option<AskedKey<'a>>,
}

/// The business key of a message that wants to be sent.
#[derive(Clone, Copy, Debug)]
pub struct AskedKey<'a> {
    /// The name of the handler that will have it.
    pub consumer: &'a str,
    /// `idempotencykey`.
    pub key: &'a str,
    /// SHA-256 over canonical payload, type and version.
    pub hash: &'a [u8; 32],
    /// CloudEvents `source`.
    pub source: &'a str,
    /// CloudEvents `id`.
    pub id: &'a str,
}

/// What became of a message that wanted to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Its rows are written.
    New,
    /// The same was sent before, under this ID.
    Known(String),
    /// The key was used for another payload, by the message of this ID.
    Conflict(String),
}

/// The fate in the table of business keys while a message is on its way.
pub(crate) const ON_ITS_WAY: &str = "accepted";

/// What one group commit takes.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The worker whose relay publishes the outbox rows.
    pub worker: Uuid,
    /// Distinct inbox keys.
    pub messages: &'a [Finished],
    /// Outbox rows that the broker has confirmed meanwhile: deleted on the way.
    pub confirmed: &'a [Uuid],
}

/// What the store says of one message of a batch that committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Written: fate, effects and all.
    Stored,
    /// The inbox (or the operation key) knows it; only its own outbox row was removed.
    Duplicate,
    /// A guarded document had changed: nothing of this message was written. Handle it again.
    Conflict,
    /// The inbox knows the ID with another payload: nothing of this message was written.
    IdReused,
    /// The operation key is known with another payload: nothing of this message was written.
    KeyConflict,
}

/// A document as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// Raised by every write; what `update` is guarded by.
    pub version: i64,
    /// The author's [`Document::VERSION`](crate::Document::VERSION) of the JSON.
    pub schema: u32,
    /// JSON.
    pub body: String,
}

/// The answer of [`Store::begin`](super::Store::begin).
#[derive(Debug)]
pub enum Begun {
    /// The inbox row is claimed in this transaction.
    Open(OpenTx),
    /// Another delivery has done it.
    Duplicate,
    /// This store (its name) has no transaction to hand out.
    Unsupported(&'static str),
}

/// The escape hatch's transaction. Dropped, it rolls back.
#[derive(Debug)]
pub struct OpenTx {
    pub(crate) tx: sqlx::Transaction<'static, sqlx::Postgres>,
    /// Postgres' own number of the transaction: a raw `COMMIT` by the author changes it, and sqlx does not see that.
    pub(crate) xid: String,
}

impl OpenTx {
    pub(crate) fn connection(&mut self) -> &mut sqlx::PgConnection {
        &mut self.tx
    }
}

/// One try that did not end done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// The fence number of the delivery.
    pub attempt: u32,
    /// How it ended.
    pub kind: AttemptKind,
    /// The error chain, outermost first.
    pub error: String,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How long the handler ran.
    #[serde(rename = "duration_ms", serialize_with = "as_millis")]
    pub duration: Duration,
    /// The worker.
    pub worker: Uuid,
    /// Its build.
    pub build: String,
    /// When the next one is due, if there is one.
    pub next: Option<DateTime<Utc>>,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64() * 1e3)
}

/// A worker in the table of the living.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRecord {
    /// New at each start.
    pub id: Uuid,
    /// The service.
    pub service: String,
    /// Host and process ID.
    pub place: String,
    /// Its build.
    pub build: String,
}

/// A handler that runs less than it could, as its worker tells with its heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hindered {
    /// The type of its messages.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its name.
    pub consumer: String,
    /// Where its messages come from.
    pub subscription: String,
    /// So many run at once, because more than half of its last 100 attempts failed. `None`: as many as may.
    pub at_once: Option<usize>,
    /// What it calls and is left alone.
    pub left_alone: Vec<LeftAlone>,
    /// Messages that this worker holds in front of it.
    pub waiting: usize,
}

/// An open breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// Its name.
    pub breaker: String,
    /// Then one probe is sent.
    pub until: DateTime<Utc>,
}

/// What a living worker told last of its handlers, if something hinders any.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// Which one.
    pub worker: Uuid,
    /// Host and process ID.
    pub place: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Never empty.
    pub hindered: Vec<Hindered>,
}

/// A row of the inbox, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InboxRow {
    /// The handler's name.
    pub consumer: String,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `id`.
    pub id: String,
    /// CloudEvents `type`.
    #[serde(rename = "type")]
    pub ty: String,
    /// `schemaversion`.
    pub version: u32,
    /// The latest attempt.
    pub attempt: u32,
    /// Its fate, as [`Fate::word`].
    pub fate: String,
    /// Who asked.
    pub actor: Option<String>,
    /// The aggregate.
    pub subject: Option<String>,
    /// Correlation ID.
    pub correlation: Option<String>,
    /// The message that caused it.
    pub causation: Option<String>,
    /// W3C trace context.
    pub trace: Option<String>,
    /// When the fate was decided.
    pub at: DateTime<Utc>,
    /// How long the handler ran, in ms.
    pub duration_ms: f64,
    /// The worker.
    pub worker: Uuid,
    /// Its build.
    pub build: String,
}

/// Everything known of an ID.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Its inbox rows.
    pub inbox: Vec<InboxRow>,
    /// Its tries that did not end done, with the consumer, oldest first.
    pub attempts: Vec<(String, Attempt)>,
    /// Outbox rows that carry it.
    pub outbox: Vec<OutboxEntry>,
    /// Its letters.
    pub letters: Vec<DeadLetter>,
    /// What operators did with it.
    pub audit: Vec<Audit>,
    /// The replays of many that it was part of.
    pub replays: Vec<Replayed>,
    /// Inbox rows of messages that its handler sent.
    pub caused: Vec<InboxRow>,
    /// Outbox rows of messages that its handler sent.
    pub caused_outbox: Vec<OutboxEntry>,
}

impl History {
    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.inbox.is_empty() && self.attempts.is_empty() && self.outbox.is_empty() && self.letters.is_empty()
    }
}

/// Rows by table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Final: done.
    pub done: u64,
    /// Waiting for another attempt.
    pub retrying: u64,
    /// Letters in state dead.
    pub dead: u64,
    /// Letters in state quarantined.
    pub quarantined: u64,
    /// Outbox rows in all.
    pub outbox: u64,
}
