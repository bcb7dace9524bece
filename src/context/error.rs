//! Why an effect was refused, and what that means for the message.

use crate::{handler::Verdict, message::wire::WireError, store::StoreError};

/// An effect that a handler asked for and cannot have. Known here, at the call, so that the backtrace points at the author's line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EffectError {
    /// A map with keys that are no strings, for example.
    #[error("write `{what}` as JSON: {source}")]
    Unserialisable {
        /// Type or collection.
        what: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
    /// A document in the store that this build cannot read.
    #[error("read document `{collection}`: {why}")]
    Unreadable {
        /// The collection.
        collection: &'static str,
        /// What serde or the upcaster says.
        why: String,
    },
    /// Sent without having been declared.
    #[error("send `{0}`: it is not declared; add `.emits::<…>()` where the handlers are listed")]
    Undeclared(String),
    /// Written without having been declared.
    #[error("write to table `{0}`: it is not declared; add `.writes::<…>()` where the handlers are listed")]
    UndeclaredTable(&'static str),
    /// No channel takes this type.
    #[error("route `{ty}`: {why}")]
    NoRoute {
        /// The message's type.
        ty: String,
        /// What the routing table says.
        why: String,
    },
    /// `replyto` names a channel that the config does not allow.
    #[error("reply to `{0}`: the channel is not in `replyto_allowed`")]
    ReplyNotAllowed(String),
    /// A NUL character, which Postgres cannot keep in JSON.
    #[error("write `{0}`: it holds a NUL character, which the database cannot keep")]
    Nul(&'static str),
    /// An attribute that no receiver would read, `subject` for example.
    #[error("send `{what}`: {source}")]
    Malformed {
        /// Type.
        what: &'static str,
        /// Which attribute, and why.
        source: WireError,
    },
    /// Over the limit for one row or message, or for one run.
    #[error("write `{what}`: {size} bytes or rows are over the limit of {limit}; continue with a command")]
    TooLarge {
        /// Type, collection or table.
        what: &'static str,
        /// Bytes of one, or rows of all.
        size: usize,
        /// The limit it broke.
        limit: usize,
    },
    /// The row is no JSON object with the listed columns.
    #[error("write to table `{table}`: {why}")]
    BadRow {
        /// The table.
        table: &'static str,
        /// What is missing.
        why: String,
    },
    /// `transaction()` on a store that has none to hand out.
    #[error(
        "open a transaction: the {0} store has none to hand out; use `save`, `update` or `put`, or run on Postgres"
    )]
    NoTransaction(&'static str),
    /// Found by the escape hatch.
    #[error("claim the message: another delivery has done it")]
    Duplicate,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EffectError {
    /// What `?` on it means.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Duplicate => Verdict::Duplicate,
            Self::Store(StoreError::Refused(_)) => Verdict::Permanent,
            Self::Store(_) => Verdict::Retry,
            _ => Verdict::Permanent,
        }
    }
}
