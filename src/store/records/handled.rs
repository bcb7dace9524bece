//! Message History: a row of the inbox as the audit trail tells it.

use super::InboxRow;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// What became of one message at one handler. A command has one; an event one for each who listens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Handled {
    /// When it was sent: the time in its ID, if it has one (UUIDv7).
    pub sent: Option<DateTime<Utc>>,
    /// All else that the inbox knows of it.
    #[serde(flatten)]
    pub row: InboxRow,
    /// Why it is dead, as [`Reason::word`](super::Reason::word).
    pub reason: Option<String>,
}

/// Which of them: those sent in this time. What has no time in its ID counts by when its fate was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Then or later.
    pub since: DateTime<Utc>,
    /// Before.
    pub until: DateTime<Utc>,
}
