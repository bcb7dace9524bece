//! What an operator must look at: letters, and what was done with them.

use super::InboxKey;
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

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

impl LetterKey {
    /// The inbox key of its message.
    pub(crate) fn of_inbox(&self) -> InboxKey {
        InboxKey { consumer: self.consumer.as_str().into(), source: self.source.clone(), id: self.id.clone() }
    }
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
    /// All of them, in the order of a letter's life.
    pub const ALL: [Self; 4] = [Self::Dead, Self::Quarantined, Self::Replayed, Self::Discarded];

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
        Self::ALL.into_iter().find(|s| s.word() == word)
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
    /// [`Reason::word`](super::Reason::word), or `newer_version` for a quarantined one.
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

/// A letter without its payload, for whoever lists letters and sends none: a thousand of a megabyte each are nothing that a command
/// beside a worker may hold.
#[derive(Clone, Debug, PartialEq)]
pub struct LetterHead {
    /// Its key.
    pub key: LetterKey,
    /// Where it stands.
    pub state: LetterState,
    /// The channel it came from.
    pub channel: String,
    /// The queue or group it was delivered by.
    pub subscription: String,
    /// CloudEvents `type`, or empty.
    pub ty: String,
    /// `schemaversion`, or 0.
    pub version: u32,
    /// As [`DeadLetter::reason`].
    pub reason: String,
    /// The error chain.
    pub error: String,
    /// As [`DeadLetter::attributes`].
    pub attributes: String,
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

impl DeadLetter {
    /// All of it but the payload.
    pub fn head(&self) -> LetterHead {
        LetterHead {
            key: self.key.clone(),
            state: self.state,
            channel: self.channel.clone(),
            subscription: self.subscription.clone(),
            ty: self.ty.clone(),
            version: self.version,
            reason: self.reason.clone(),
            error: self.error.clone(),
            attributes: self.attributes.clone(),
            count: self.count,
            first_at: self.first_at,
            last_at: self.last_at,
            worker: self.worker,
            build: self.build.clone(),
        }
    }
}

impl LetterHead {
    /// The whole letter.
    pub(crate) fn with_payload(self, payload: Vec<u8>) -> DeadLetter {
        let Self {
            key,
            state,
            channel,
            subscription,
            ty,
            version,
            reason,
            error,
            attributes,
            count,
            first_at,
            last_at,
            worker,
            build,
        } = self;
        DeadLetter {
            key,
            state,
            channel,
            subscription,
            ty,
            version,
            reason,
            error,
            attributes,
            payload,
            count,
            first_at,
            last_at,
            worker,
            build,
        }
    }
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
    /// [`Reason::word`](super::Reason::word).
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

/// What an operator did, or what happened that one should know of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Who.
    pub actor: String,
    /// `replay`, `discard`, `edit`, `redrive`; `reread` of a channel; `declare` at a broker; `migrate` of a store; `lost` of a topic.
    pub action: String,
    /// The message's ID, or a channel, a topic, a broker or a store.
    pub target: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What was changed, if something was. It is in no document but that of the audit: a payload is not for everyone who may ask where a
    /// message is.
    #[serde(skip)]
    pub bodies: Option<Box<Bodies>>,
}

impl Audit {
    /// All of it, both payloads too: as JSON, or as text where they are none.
    pub(crate) fn whole(self) -> WholeAudit {
        let body = |bytes: &[u8]| {
            let text = || serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned());
            serde_json::from_slice(bytes).unwrap_or_else(|_| text())
        };
        let bodies = self.bodies.as_deref();
        let (before, after) = (bodies.map(|bodies| body(&bodies.before)), bodies.map(|bodies| body(&bodies.after)));
        WholeAudit { audit: self, before, after }
    }
}

/// An action with both payloads, if one was changed.
#[derive(Serialize)]
pub(crate) struct WholeAudit {
    #[serde(flatten)]
    audit: Audit,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<serde_json::Value>,
}

/// A payload that an operator changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bodies {
    /// As it died.
    pub before: Vec<u8>,
    /// As it was sent under another ID.
    pub after: Vec<u8>,
}

impl Bodies {
    /// Of two columns that are written together.
    pub(crate) fn of(before: Option<Vec<u8>>, after: Option<Vec<u8>>) -> Option<Box<Self>> {
        before.zip(after).map(|(before, after)| Box::new(Self { before, after }))
    }
}

/// What of the audit is wanted; `None` is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Done at or after.
    pub since: Option<DateTime<Utc>>,
    /// [`Audit::actor`], letter by letter.
    pub actor: Option<String>,
}
