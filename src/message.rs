//! Message: what travels. CloudEvents 1.0 attributes beside a JSON payload.
//!
//! `message.rs` holds the contract of an author's message and the parsed [`Envelope`]; `message/wire.rs` is the one strict
//! parser and the one writer of headers, for every transport.

mod json;
pub mod wire;

pub(crate) use json::{to_json, to_json_text};

use crate::telemetry::traces::Carried;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Command Message: asks for work; exactly one handler answers it.
#[derive(Debug)]
pub enum Command {}

/// Event Message: states a fact; any number of handlers may hear it, each subscription under a name of its own.
#[derive(Debug)]
pub enum Event {}

/// [`Command`] or [`Event`]: decides what may be done with a message (`cx.send` against `cx.emit`) at compile time.
pub trait Kind: sealed::Sealed + 'static {
    /// The same fact for code that has lost the type.
    const INTENT: Intent;
}
impl Kind for Command {
    const INTENT: Intent = Intent::Command;
}
impl Kind for Event {
    const INTENT: Intent = Intent::Event;
}
mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Command {}
    impl Sealed for super::Event {}
}

/// What a message wants: work done, or a fact known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// See [`Command`].
    Command,
    /// See [`Event`].
    Event,
}

/// A message of the author's contract.
///
/// Reading is tolerant by law: an unknown field is no error (so no `deny_unknown_fields` here), and `VERSION` rises only when an
/// old reader could not understand a new message any more.
pub trait Message: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// [`Command`] or [`Event`].
    type Kind: Kind;
    /// The name on the wire (CloudEvents `type`), e.g. `car.GenerateRecommendationBrief`. Written down, never derived.
    const TYPE: &'static str;
    /// The version that this build writes (`schemaversion`).
    const VERSION: u32 = 1;

    /// The aggregate it speaks about: CloudEvents `subject`, and the ordering key unless the message carries another.
    fn subject(&self) -> Option<String> {
        None
    }

    /// One step of a Message Translator: the payload of version `from` as version `from + 1`. Called until `VERSION` is
    /// reached, wherever an old message comes from: a delivery, a retry, a replay.
    fn upcast(from: u32, old: Value) -> Result<Value, String> {
        let _ = old;
        Err(format!("{} has no upcaster from version {from}", Self::TYPE))
    }
}

/// One message as it travels: every attribute parsed, the payload untouched.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Command or event ID, unique per `source`, 1–200 bytes.
    pub id: String,
    /// Who made it, e.g. `/shop`.
    pub source: String,
    /// The message's `TYPE`.
    pub ty: String,
    /// `schemaversion`, ≥ 1.
    pub version: u32,
    /// The aggregate it speaks about.
    pub subject: Option<String>,
    /// When it was made. Unchanged by redelivery, retry and replay; absent if nobody knows.
    pub time: Option<DateTime<Utc>>,
    /// Who asked; inherited by everything that a handler sends.
    pub actor: Option<String>,
    /// Inherited by everything that a handler sends.
    pub correlation_id: Option<String>,
    /// The ID of the message whose handler sent this one.
    pub causation_id: Option<String>,
    /// The ordering key, if it is not the subject.
    pub partition_key: Option<String>,
    /// Business operation key, deduplicated beside `source` + `id`.
    pub idempotency_key: Option<String>,
    /// `expirytime`: past it the fate is expired.
    pub expires: Option<DateTime<Utc>>,
    /// Channel that gets the outcome message.
    pub reply_to: Option<String>,
    /// Claim Check; reserved.
    pub data_ref: Option<String>,
    /// `datacontenttype`.
    pub content_type: Option<String>,
    /// W3C trace context of the creator.
    pub traceparent: Option<String>,
    /// W3C trace state of the creator.
    pub tracestate: Option<String>,
    /// Foreign extension attributes: kept, and they travel on.
    pub extensions: BTreeMap<String, String>,
    /// What pitcrew itself wrote on the way.
    pub hop: Hop,
    /// The payload, byte for byte as received.
    pub data: Bytes,
}

/// Pitcrew's own headers (`pitcrew-*`): the journey of this copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The fence: 1 for what a producer sent, + 1 on every copy that pitcrew issues (retry, re-drive, replay).
    pub attempt: u32,
    /// What the retry policy counts: unchanged by `retry_after`, interruption and re-drive, 0 after a replay.
    pub failures: u32,
    /// When the first attempt since the last replay did not end done.
    pub first_failure: Option<DateTime<Utc>>,
    /// Not to be delivered before this time: the broker keeps this copy until then.
    pub due: Option<DateTime<Utc>>,
    /// Why this copy was made.
    pub reason: Option<String>,
    /// The channel it first came from.
    pub origin: Option<String>,
    /// The worker that made this copy.
    pub worker: Option<String>,
    /// That worker's build.
    pub build: Option<String>,
    /// The replay of many dead letters that this copy is part of, until another replay.
    pub replay: Option<String>,
}

impl Default for Hop {
    fn default() -> Self {
        Self {
            attempt: 1,
            failures: 0,
            first_failure: None,
            due: None,
            reason: None,
            origin: None,
            worker: None,
            build: None,
            replay: None,
        }
    }
}

impl Envelope {
    /// A new message of this build: a UUIDv7, now, no journey yet.
    ///
    /// # Errors
    /// If `message` cannot be written as JSON (a map with keys that are no strings, for example).
    pub fn of<M: Message>(message: &M, source: &str) -> serde_json::Result<Self> {
        let mut envelope = Self::new(M::TYPE, source, to_json(message)?);
        envelope.version = M::VERSION;
        envelope.subject = message.subject();
        Ok(envelope)
    }

    /// A new message whose payload is JSON already.
    pub fn new(ty: impl Into<String>, source: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self {
            id: crate::clock::uuid_v7().to_string(),
            source: source.into(),
            ty: ty.into(),
            version: 1,
            subject: None,
            time: Some(crate::clock::now()),
            actor: None,
            correlation_id: None,
            causation_id: None,
            partition_key: None,
            idempotency_key: None,
            expires: None,
            reply_to: None,
            data_ref: None,
            content_type: Some("application/json".into()),
            traceparent: None,
            tracestate: None,
            extensions: BTreeMap::new(),
            hop: Hop::default(),
            data: data.into(),
        }
    }

    /// The context of its creation.
    pub(crate) fn carried(&self) -> Carried<'_> {
        Carried { traceparent: self.traceparent.as_deref(), tracestate: self.tracestate.as_deref() }
    }

    /// `partitionkey`, else `subject`: messages of one key run one after another.
    pub fn ordering_key(&self) -> Option<&str> {
        self.partition_key.as_deref().or(self.subject.as_deref())
    }

    /// The partition of the inbox that this ID belongs to: a function of the ID alone, so that it never moves.
    pub fn key_time(&self) -> KeyTime {
        KeyTime::of(&self.id)
    }

    /// SHA-256 of the payload bytes: tells a copy from another message under the same ID.
    pub fn payload_hash(&self) -> [u8; 32] {
        Sha256::digest(&self.data).into()
    }

    /// Bytes that this message holds while it is in flight: payload and a flat share for its attributes.
    pub fn weight(&self) -> usize {
        self.data.len() + 512
    }
}

/// Where the inbox looks for an ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyTime {
    /// The time inside a UUIDv7: a daily partition, so that the index stays hot.
    At(DateTime<Utc>),
    /// Any other ID: one partition, deduplicated by key alone.
    Undated,
}

impl KeyTime {
    /// The key time of `id`.
    pub fn of(id: &str) -> Self {
        let dated = uuid::Uuid::try_parse(id).ok().filter(|u| u.get_version_num() == 7 && id.len() == 36);
        let millis = dated.and_then(|u| u.get_timestamp()).map(|t| t.to_unix());
        match millis.and_then(|(s, n)| DateTime::from_timestamp(i64::try_from(s).ok()?, n)) {
            Some(time) => Self::At(time),
            None => Self::Undated,
        }
    }

    /// More than a day ahead of `now`: it would change its place tomorrow, so it is refused.
    pub fn is_from_the_future(self, now: DateTime<Utc>) -> bool {
        matches!(self, Self::At(time) if time - now > TimeDelta::days(1))
    }
}

/// Why a payload did not become a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A rollout may be under way: this one is kept, not buried.
    #[error("version {found} is newer than {known}, the newest this build knows")]
    TooNew {
        /// On the wire.
        found: u32,
        /// This build's.
        known: u32,
    },
    /// Where and what.
    #[error("invalid payload at {path}: {error}")]
    Payload {
        /// JSON path of the first mistake, `.` for the whole.
        path: String,
        /// What serde says.
        error: String,
    },
    /// The author's upcaster gave up.
    #[error("cannot upcast from version {from}: {error}")]
    Upcast {
        /// The version it was called with.
        from: u32,
        /// What it said.
        error: String,
    },
}

/// The payload as the author's type, upcast if it is older than this build.
pub(crate) fn decode<M: Message>(envelope: &Envelope) -> Result<M, DecodeError> {
    if envelope.version > M::VERSION {
        return Err(DecodeError::TooNew { found: envelope.version, known: M::VERSION });
    }
    if envelope.version == M::VERSION {
        // To know at every moment where it is costs as much again: only who fails is asked once more.
        return serde_json::from_slice(&envelope.data).or_else(|_| decode_by_path(&envelope.data));
    }
    let mut value: Value = serde_json::from_slice(&envelope.data)
        .map_err(|e| DecodeError::Payload { path: ".".into(), error: e.to_string() })?;
    for from in envelope.version..M::VERSION {
        value = M::upcast(from, value).map_err(|error| DecodeError::Upcast { from, error })?;
    }
    serde_path_to_error::deserialize(value).map_err(at_path)
}

fn decode_by_path<M: Message>(data: &[u8]) -> Result<M, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(data);
    let message = serde_path_to_error::deserialize(&mut reader).map_err(at_path)?;
    reader.end().map_err(|e| DecodeError::Payload { path: ".".into(), error: e.to_string() })?;
    Ok(message)
}

fn at_path(error: serde_path_to_error::Error<serde_json::Error>) -> DecodeError {
    DecodeError::Payload { path: error.path().to_string(), error: error.into_inner().to_string() }
}
