//! Envelope Wrapper: the wire contract, CloudEvents 1.0 in binary and structured mode.
//!
//! [`parse`] is the only reader and [`headers`], [`properties`] and [`structured`] are the only writers, for every transport.
//! [`check`] is the law between them: what it accepts is written, and what is written is read as the same envelope.
//! For people of other languages the same contract is told in `docs/wire.md`.

mod attribute;
mod binary;
mod draft;
mod row;
mod structured;

pub use attribute::check;
pub use binary::{headers, properties, to_raw};
pub use row::{attributes_json, from_attributes_json};
pub use structured::{STRUCTURED, structured};

use crate::message::Envelope;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use draft::Draft;

/// A message as a transport received it: nothing interpreted yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raw {
    /// Headers in their order. `None` is a header without a value (Kafka has those); typed AMQP values come as their text,
    /// a timestamp as RFC 3339.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// What the broker itself knows of the message.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
}

/// The header of what may have been published before under the same ID: whoever keeps an inbox asks it before the work begins.
/// It says something of one publish, so it is no part of an envelope: a transport writes it where
/// [`Sending::begun`](crate::transport::Sending::begun) says so.
pub const AGAIN: &str = "pitcrew-again";

impl Raw {
    /// Whether it carries [`AGAIN`]: its delivery is suspect.
    pub fn is_again(&self) -> bool {
        self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(AGAIN))
    }
}

/// Native properties that mean the same as an attribute. Any of them may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// AMQP `message-id`.
    pub message_id: Option<String>,
    /// AMQP `type`.
    pub ty: Option<String>,
    /// AMQP `correlation-id`.
    pub correlation_id: Option<String>,
    /// AMQP `content-type`, Kafka header `content-type`.
    pub content_type: Option<String>,
    /// AMQP `reply-to`.
    pub reply_to: Option<String>,
    /// AMQP `app-id`: the source, if there is no other.
    pub app_id: Option<String>,
    /// AMQP `timestamp`, or a Kafka record timestamp of kind CreateTime.
    pub timestamp: Option<DateTime<Utc>>,
    /// Kafka record key.
    pub key: Option<String>,
}

/// How the names of attributes are written in headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefix {
    /// `ce_id`: Kafka.
    #[default]
    Ce,
    /// `cloudEvents_id`: AMQP.
    CloudEvents,
    /// `cloudEvents:id`: old Go, Java and Spring readers.
    CloudEventsColon,
    /// `ce-id`: Knative on RabbitMQ.
    CeDash,
}

impl Prefix {
    /// In the order in which a reader prefers them, if one message carries several sets.
    pub const ALL: [Self; 4] = [Self::CloudEvents, Self::CloudEventsColon, Self::CeDash, Self::Ce];

    /// As it stands before the attribute's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ce => "ce_",
            Self::CloudEvents => "cloudEvents_",
            Self::CloudEventsColon => "cloudEvents:",
            Self::CeDash => "ce-",
        }
    }
}

/// Why bytes are no message. Each variant names the attribute.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("attribute `{attribute}` {problem}")]
pub struct WireError {
    /// The CloudEvents or `pitcrew-*` name.
    pub attribute: String,
    /// What is wrong with it.
    pub problem: String,
}

impl WireError {
    fn new(attribute: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { attribute: attribute.into(), problem: problem.into() }
    }
}

/// Where a message keeps its attributes.
enum Mode {
    /// In headers with this prefix; the body is the payload.
    Binary(Prefix),
    /// In the body, a JSON object that holds the payload too.
    Structured,
    /// In the broker's own properties; the body is the payload.
    Bare,
}

impl Mode {
    fn of(raw: &Raw) -> Result<Self, WireError> {
        if let Some(prefix) = binary::chosen(&raw.headers) {
            return Ok(Self::Binary(prefix));
        }
        match &raw.properties.content_type {
            Some(ty) if structured::is_announced(ty)? => Ok(Self::Structured),
            _ => Ok(Self::Bare),
        }
    }
}

/// Reads a message that came from `channel` (its name is the source, if neither the message nor its producer has one).
///
/// Strict about what pitcrew relies on and tolerant of everything foreign. The payload is not looked into: it is the body, or
/// in structured mode the slice of it that `data` stands in, byte for byte.
///
/// # Errors
/// Names the first attribute that is wrong. The same bytes fail again for ever: no retry helps.
pub fn parse(raw: &Raw, channel: &str) -> Result<Envelope, WireError> {
    let mut draft = Draft::default();
    let data = match Mode::of(raw)? {
        Mode::Binary(prefix) => {
            binary::read(&raw.headers, Some(prefix), &mut draft)?;
            draft.content_type_from(&raw.properties);
            raw.body.clone()
        }
        Mode::Structured => {
            binary::read(&raw.headers, None, &mut draft)?;
            structured::read(&raw.body, &mut draft)?
        }
        Mode::Bare => {
            binary::read(&raw.headers, None, &mut draft)?;
            binary::read_bare(raw, &mut draft)?;
            raw.body.clone()
        }
    };
    draft.complete(&raw.properties, channel);
    let envelope = draft.envelope(data)?;
    check(&envelope)?;
    Ok(envelope)
}
