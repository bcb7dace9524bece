//! What can become of a message, and the words for it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use std::fmt;

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
    /// It was begun and did not end, and its handler calls something outside the database: nobody knows whether that was done.
    InDoubt,
    /// Larger than the payload limit.
    TooLarge,
    /// The database can never store what the handler wrote.
    Unstorable,
    /// A message of ours that its destination refuses for good.
    Unpublishable,
    /// The broker buried it: returned too often, expired, rejected, or a queue that was full.
    Buried,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Undecodable,
        Self::InvalidPayload,
        Self::UnknownType,
        Self::Permanent,
        Self::Exhausted,
        Self::GaveUp,
        Self::TooOld,
        Self::FromTheFuture,
        Self::IdReused,
        Self::KeyConflict,
        Self::KillsWorker,
        Self::InDoubt,
        Self::TooLarge,
        Self::Unstorable,
        Self::Unpublishable,
        Self::Buried,
    ];

    /// Whether the handler may have begun: what it does outside the database may have been done.
    pub fn may_have_begun(self) -> bool {
        match self {
            Self::Permanent | Self::Exhausted | Self::GaveUp | Self::KeyConflict => true,
            Self::KillsWorker | Self::InDoubt | Self::Unstorable => true,
            Self::Undecodable | Self::InvalidPayload | Self::UnknownType | Self::TooOld | Self::FromTheFuture => false,
            Self::IdReused | Self::TooLarge | Self::Unpublishable | Self::Buried => false,
        }
    }

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
            Self::InDoubt => "in_doubt",
            Self::TooLarge => "too_large",
            Self::Unstorable => "unstorable",
            Self::Unpublishable => "unpublishable",
            Self::Buried => "buried",
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
