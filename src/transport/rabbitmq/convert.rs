//! Channel Adapter: between an AMQP message and what the wire contract reads and writes.

use crate::{
    Envelope,
    message::wire::{self, Prefix, Properties, Raw},
    transport::Burial,
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

/// Persistent: a queue on disk with messages that are not would lose them all the same.
const PERSISTENT: u8 = 2;

/// All headers of one message travel in one frame, which the broker bounds (128 KiB unless told otherwise).
const MOST_HEADER_BYTES: usize = 64 << 10;

/// Properties and headers of an outgoing message: an allow-list, built anew. What a broker put on the message before (`x-death`,
/// `CC`, `expiration`, …) does real harm when copied. `again`: it may have been published before. `None`: no frame would hold them.
pub(super) fn properties(envelope: &Envelope, prefix: Prefix, again: bool) -> Option<BasicProperties> {
    let mut headers = FieldTable::default();
    let mut bytes = 0;
    for (name, value) in wire::headers(envelope, prefix) {
        bytes += name.len() + value.len();
        headers.insert(ShortString::try_new(name).ok()?, AMQPValue::LongString(value.into()));
    }
    if bytes > MOST_HEADER_BYTES {
        return None;
    }
    if again {
        headers.insert(wire::AGAIN.into(), AMQPValue::LongString("true".into()));
    }
    let native = wire::properties(envelope);
    let short = |text: Option<String>| text.and_then(|text| ShortString::try_new(text).ok());
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    if let Some(id) = short(native.message_id) {
        properties = properties.with_message_id(id);
    }
    if let Some(ty) = short(native.ty) {
        properties = properties.with_type(ty);
    }
    if let Some(correlation) = short(native.correlation_id) {
        properties = properties.with_correlation_id(correlation);
    }
    if let Some(content) = short(native.content_type) {
        properties = properties.with_content_type(content);
    }
    if let Some(reply_to) = short(native.reply_to) {
        properties = properties.with_reply_to(reply_to);
    }
    if let Some(seconds) = native.timestamp.and_then(|time| u64::try_from(time.timestamp()).ok()) {
        properties = properties.with_timestamp(seconds);
    }
    Some(properties)
}

/// A message as it was received. Nothing is judged here.
pub(super) fn raw(properties: &BasicProperties, body: Vec<u8>) -> Raw {
    let text = |property: &Option<ShortString>| property.as_ref().map(|text| text.as_str().to_owned());
    let headers = properties.headers().as_ref().into_iter().flatten();
    Raw {
        headers: headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), header(value)?))).collect(),
        properties: Properties {
            message_id: text(properties.message_id()),
            ty: text(properties.kind()),
            correlation_id: text(properties.correlation_id()),
            content_type: text(properties.content_type()),
            reply_to: text(properties.reply_to()),
            app_id: text(properties.app_id()),
            timestamp: properties.timestamp().and_then(time),
            key: None,
        },
        body: body.into(),
    }
}

/// The broker's own note of the last time that it buried this message.
pub(super) fn burial(properties: &BasicProperties) -> Option<Burial> {
    let AMQPValue::FieldArray(deaths) = properties.headers().as_ref()?.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
    let text = |key| match last.inner().get(key) {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        _ => String::new(),
    };
    let count = match last.inner().get("count") {
        Some(AMQPValue::LongLongInt(count)) => count.unsigned_abs(),
        _ => 1,
    };
    Some(Burial { reason: text("reason"), queue: text("queue"), count })
}

/// A typed value as its text; the inner `None` is a header without a value. Arrays and tables are no attribute's: only brokers
/// write them.
fn header(value: &AMQPValue) -> Option<Option<Bytes>> {
    let text = match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::DecimalValue(value) => decimal(value.value, value.scale),
        AMQPValue::ShortString(value) => value.as_str().to_owned(),
        AMQPValue::LongString(value) => return Some(Some(Bytes::copy_from_slice(value.as_bytes()))),
        AMQPValue::ByteArray(value) => return Some(Some(Bytes::copy_from_slice(value.as_slice()))),
        AMQPValue::Timestamp(value) => match time(*value) {
            Some(time) => time.to_rfc3339_opts(SecondsFormat::Secs, true),
            None => value.to_string(),
        },
        AMQPValue::Void => return Some(None),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => return None,
    };
    Some(Some(text.into()))
}

fn time(seconds: u64) -> Option<DateTime<Utc>> {
    i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0))
}

/// `314` with scale 2 is `3.14`.
fn decimal(value: u32, scale: u8) -> String {
    let digits = format!("{value:0>width$}", width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(value: AMQPValue) -> Option<Option<String>> {
        header(&value).map(|value| value.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
    }

    #[test]
    fn typed_values_come_as_their_text() {
        let decimal = |value, scale| AMQPValue::DecimalValue(lapin::types::DecimalValue { scale, value });
        for (value, text) in [
            (AMQPValue::LongLongInt(-3), "-3"),
            (AMQPValue::Boolean(true), "true"),
            (AMQPValue::Timestamp(1_700_000_000), "2023-11-14T22:13:20Z"),
            (AMQPValue::LongString("a".into()), "a"),
            (AMQPValue::ByteArray(b"b"[..].into()), "b"),
            (decimal(314, 2), "3.14"),
            (decimal(5, 3), "0.005"),
            (decimal(7, 0), "7"),
        ] {
            assert_eq!(received(value), Some(Some(text.to_owned())));
        }
        assert_eq!(received(AMQPValue::Void), Some(None));
        assert_eq!(received(AMQPValue::FieldTable(FieldTable::default())), None);
    }

    #[test]
    fn what_is_written_is_read_as_the_same_message() {
        let mut envelope = Envelope::new("demo.Greet", "/shop", r#"{"name":"Ada"}"#);
        envelope.subject = Some("ada".into());
        envelope.correlation_id = Some("c".into());
        envelope.hop.attempt = 3;
        let raw = raw(&properties(&envelope, Prefix::CloudEvents, false).unwrap(), envelope.data.to_vec());
        assert_eq!(wire::parse(&raw, "demo.commands").unwrap(), envelope);
    }

    #[test]
    fn headers_that_no_frame_holds_are_refused_here() {
        let mut envelope = Envelope::new("demo.Greet", "/shop", "{}");
        envelope.extensions = (0..100).map(|n| (format!("x{n}"), "v".repeat(1_000))).collect();
        assert_eq!(properties(&envelope, Prefix::CloudEvents, false), None);
    }
}
