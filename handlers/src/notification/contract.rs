//! Canonical Data Model: what travels to the notification worker, and what it keeps.

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use pitcrew::{Command, Document, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// "This is how this user wants to be told." It replaces what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetContact {
    /// The user: the ID of a buyer or a seller, or `listing/<id>` or `vin/<VIN>` for whoever follows one. The `subject`.
    pub user: String,
    /// How they are addressed.
    pub name: String,
    /// Mail goes there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// A POST goes there: `https://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Nothing is sent in these hours; it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// So many messages in an hour by each channel; more wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u16>,
}
impl Message for SetContact {
    type Kind = Command;
    const TYPE: &'static str = "car.SetContact";

    fn subject(&self) -> Option<String> {
        Some(self.user.clone())
    }
}

/// Hours of every day, e.g. from 22:00 to 07:00 in Europe/Berlin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quiet {
    /// The first minute of silence.
    #[schemars(with = "String")]
    #[serde(with = "minutes")]
    pub from: NaiveTime,
    /// The first minute after it.
    #[schemars(with = "String")]
    #[serde(with = "minutes")]
    pub to: NaiveTime,
    /// Whose clock: a name of the IANA database.
    #[schemars(with = "String")]
    pub zone: Tz,
}

/// `22:00`.
mod minutes {
    use chrono::NaiveTime;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &NaiveTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.format("%H:%M"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = NaiveTime::parse_from_str(&text, "%H:%M");
        time.map_err(|_| de::Error::custom(format!("`{text}` is no time of day; write e.g. `22:00`")))
    }
}

/// The address book: one entry a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Contact(pub SetContact);
impl Document for Contact {
    const COLLECTION: &'static str = "contact";

    fn id(&self) -> impl Display {
        &self.0.user
    }
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recipient {
    /// In the address book.
    pub id: String,
    /// How they are addressed.
    pub name: String,
}

/// What is said, whatever the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Letter {
    /// The ID of the event that caused it: the same event is the same letter, and receivers drop a second one by it.
    pub id: String,
    /// Who is told.
    pub to: Recipient,
    /// What it is about: a brief, a listing, a VIN, a review.
    pub about: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// "Send this by mail, to the address that the user has now."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SendMail {
    /// What is said.
    pub letter: Letter,
}
impl Message for SendMail {
    type Kind = Command;
    const TYPE: &'static str = "car.SendMail";

    /// The user: letters to one of them go one after another.
    fn subject(&self) -> Option<String> {
        Some(self.letter.to.id.clone())
    }
}

/// "Post this to the webhook that the user has now."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallWebhook {
    /// What is said.
    pub letter: Letter,
}
impl Message for CallWebhook {
    type Kind = Command;
    const TYPE: &'static str = "car.CallWebhook";

    /// As of [`SendMail`].
    fn subject(&self) -> Option<String> {
        Some(self.letter.to.id.clone())
    }
}

/// A way to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A line in a file: for users who are not in the address book, or have no address there.
    File,
    /// SMTP.
    Mail,
    /// HTTP.
    Webhook,
}
impl Channel {
    /// In IDs.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }
}

/// One letter that went out by one channel: a line of the file, and a document to read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// When it was sent.
    pub at: DateTime<Utc>,
    /// The way.
    pub channel: Channel,
    /// Where it went.
    pub sent_to: String,
    /// What was said, and to whom.
    #[serde(flatten)]
    pub letter: Letter,
}
impl Document for Notification {
    const COLLECTION: &'static str = "notification";

    fn id(&self) -> impl Display {
        match self.channel {
            Channel::File => self.letter.id.clone(),
            channel => format!("{}/{}", self.letter.id, channel.name()),
        }
    }
}

/// When one channel of one user was used in the last hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// `<user>/<channel>`.
    pub id: String,
    /// The oldest first.
    pub sent: Vec<DateTime<Utc>>,
}
impl Document for Pace {
    const COLLECTION: &'static str = "notification_pace";

    fn id(&self) -> impl Display {
        &self.id
    }
}
