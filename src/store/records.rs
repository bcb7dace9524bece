//! What the store keeps: plain data, the same for every adapter.

use crate::{Envelope, context::Effects, message::KeyTime};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::{fmt, sync::Arc, time::Duration};
use uuid::Uuid;

/// What became of a delivery. Every delivery ends in exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// Handled; final.
    Done,
    /// Handled before; nothing was written.
    Duplicate,
    /// Comes again at this time, as a copy with a higher attempt.
    Retry(DateTime<Utc>),
    /// Dead letter.
    Dead(Reason),
    /// Kept for a build that knows its version.
    Quarantined,
    /// Its `expirytime` had passed.
    Expired,
    /// An event that this subscription does not handle; nothing was written.
    Ignored,
}

impl Fate {
    /// The word in tables and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Duplicate => "duplicate",
            Self::Retry(_) => "retry",
            Self::Dead(_) => "dead",
            Self::Quarantined => "quarantined",
            Self::Expired => "expired",
            Self::Ignored => "ignored",
        }
    }
}

/// Why a message died. The word is stable: people filter by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The bytes are no message.
    Undecodable,
    /// The payload is not of its type.
    InvalidPayload,
    /// No build of this service handles the type.
    UnknownType,
    /// The handler said that trying again cannot help.
    Permanent,
    /// All attempts failed.
    Exhausted,
    /// Still not done after `give_up_after`.
    GaveUp,
    /// Older than the inbox remembers, so it may have been done before.
    TooOld,
    /// The time in its ID is more than a day ahead.
    FromTheFuture,
    /// The same ID came with another payload.
    IdReused,
    /// The same `idempotencykey` came with another payload.
    KeyConflict,
    /// It crashed its worker again and again.
    KillsWorker,
    /// Larger than the payload limit.
    TooLarge,
    /// The database can never store what the handler wrote.
    Unstorable,
    /// A message of ours that its destination refuses for good.
    Unpublishable,
}

impl Reason {
    /// The word in tables, JSON and filters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::InvalidPayload => "invalid_payload",
            Self::UnknownType => "unknown_type",
            Self::Permanent => "permanent",
            Self::Exhausted => "exhausted",
            Self::GaveUp => "gave_up",
            Self::TooOld => "too_old",
            Self::FromTheFuture => "from_the_future",
            Self::IdReused => "id_reused",
            Self::KeyConflict => "key_conflict",
            Self::KillsWorker => "kills_worker",
            Self::TooLarge => "too_large",
            Self::Unstorable => "unstorable",
            Self::Unpublishable => "unpublishable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How a try ended that did not end done. Each is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptKind {
    /// The handler returned an error.
    Failure,
    /// Not ended at its deadline.
    Timeout,
    /// It panicked.
    Panic,
    /// Its worker died with it.
    Crash,
    /// It asked to come later (`retry_after`): not a failure.
    Later,
    /// Guarded documents changed under it again and again: not a failure.
    Conflict,
    /// A shutdown dropped it: not a failure.
    Interrupted,
    /// Died before a handler saw it (bad bytes, unknown type, …).
    Rejected,
}

impl AttemptKind {
    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
            Self::Crash => "crash",
            Self::Later => "later",
            Self::Conflict => "conflict",
            Self::Interrupted => "interrupted",
            Self::Rejected => "rejected",
        }
    }
}

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
    /// The try, if it did not end done.
    pub attempt: Option<Attempt>,
    /// The letter, if the fate is dead or quarantined.
    pub letter: Option<DeadLetter>,
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

/// Where an outbox row goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// Everyone who subscribes to the channel: an exchange or topic.
    Channel(Arc<str>),
    /// One subscription: its queue or group. Retries and replays go here.
    Subscription(Arc<str>),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(name) => write!(f, "channel:{name}"),
            Self::Subscription(name) => write!(f, "subscription:{name}"),
        }
    }
}

impl std::str::FromStr for Destination {
    type Err = StoreErrorText;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("channel", name)) => Ok(Self::Channel(name.into())),
            Some(("subscription", name)) => Ok(Self::Subscription(name.into())),
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
}

impl Purpose {
    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Retry => "retry",
            Self::Replay => "replay",
            Self::Reply => "reply",
        }
    }

    /// The purpose with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Message, Self::Retry, Self::Replay, Self::Reply].into_iter().find(|p| p.word() == word)
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
    #[serde(serialize_with = "as_millis")]
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

/// The key of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LetterKey {
    /// The handler's name; the subscription's for bytes that are no message.
    pub consumer: String,
    /// CloudEvents `source`; the channel for bytes that are no message.
    pub source: String,
    /// CloudEvents `id`; `sha256:…` for bytes that are no message.
    pub id: String,
    /// The fence number.
    pub attempt: u32,
    /// SHA-256 of the payload.
    pub payload_hash: [u8; 32],
}

/// Where a letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// Waits for an operator.
    Dead,
    /// Waits for a build that knows its version.
    Quarantined,
    /// Sent again.
    Replayed,
    /// Given up by an operator.
    Discarded,
}

impl LetterState {
    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Quarantined => "quarantined",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    /// The state with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Dead, Self::Quarantined, Self::Replayed, Self::Discarded].into_iter().find(|s| s.word() == word)
    }
}

/// A message that an operator (or a newer build) must look at.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its key.
    pub key: LetterKey,
    /// Where it stands.
    pub state: LetterState,
    /// The channel it came from.
    pub channel: String,
    /// The queue or group it was delivered by: a replay goes there.
    pub subscription: String,
    /// CloudEvents `type`, or empty.
    pub ty: String,
    /// `schemaversion`, or 0.
    pub version: u32,
    /// [`Reason::word`], or `newer_version` for a quarantined one.
    pub reason: String,
    /// The error chain.
    pub error: String,
    /// All attributes as `wire::attributes_json` writes them; for bytes that are no message their headers.
    pub attributes: String,
    /// The payload, byte for byte.
    pub payload: Vec<u8>,
    /// How often it came.
    pub count: u32,
    /// First time.
    pub first_at: DateTime<Utc>,
    /// Last time.
    pub last_at: DateTime<Utc>,
    /// The worker that decided it.
    pub worker: Uuid,
    /// Its build.
    pub build: String,
}

/// Which letters; everything given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadFilter {
    /// States; empty means any.
    pub states: Vec<LetterState>,
    /// Channel.
    pub channel: Option<String>,
    /// CloudEvents `type`.
    pub ty: Option<String>,
    /// [`Reason::word`].
    pub reason: Option<String>,
    /// CloudEvents `id`.
    pub id: Option<String>,
    /// Handler's name.
    pub consumer: Option<String>,
    /// Died at or before.
    pub until: Option<DateTime<Utc>>,
    /// Died at or after.
    pub since: Option<DateTime<Utc>>,
}

/// What an operator did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Who.
    pub actor: String,
    /// `replay`, `discard`, `redrive`.
    pub action: String,
    /// The message's ID.
    pub target: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
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
    /// Inbox rows of messages that its handler sent.
    pub caused: Vec<InboxRow>,
    /// Outbox rows of messages that its handler sent.
    pub caused_outbox: Vec<OutboxEntry>,
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

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Inbox rows, by key time.
    pub inbox: Duration,
    /// Letters that are replayed or discarded, and attempts.
    pub letters: Duration,
}

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Before.
    pub from: u32,
    /// Now.
    pub to: u32,
}

/// What housekeeping did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Partitions made.
    pub made: Vec<String>,
    /// Partitions dropped.
    pub dropped: Vec<String>,
    /// Rows trimmed elsewhere.
    pub trimmed: u64,
    /// The inbox is ready until this time; `None` where there are no partitions.
    pub ready_until: Option<DateTime<Utc>>,
}
