//! Canonical Data Model: what the notification worker keeps.

use crate::recommendation::contract::Buyer;
use chrono::{DateTime, Utc};
use pitcrew::Document;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// One message to one user: a line of the file, and a document to read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The ID of the event that caused it, so that the same event is the same notification.
    pub id: String,
    /// When it was sent.
    pub at: DateTime<Utc>,
    /// Who is told.
    pub to: Buyer,
    /// What it is about.
    pub brief_id: String,
    /// What is said.
    pub text: String,
    /// Where it went.
    pub sent_to: String,
}
impl Document for Notification {
    const COLLECTION: &'static str = "notification";

    fn id(&self) -> impl Display {
        &self.id
    }
}
