//! Envelope Wrapper: the wire contract, CloudEvents 1.0 in binary and structured mode.

use crate::message::Envelope;
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// A message as a transport received it: nothing interpreted yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raw {
    /// Headers in their order. `None` is a header without a value (Kafka has those); typed AMQP values come as their text.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// What the broker itself knows of the message.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
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

/// Why bytes are no message. Each variant names the attribute.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("attribute `{attribute}` {problem}")]
pub struct WireError {
    /// The CloudEvents or `pitcrew-*` name.
    pub attribute: String,
    /// What is wrong with it.
    pub problem: String,
}
