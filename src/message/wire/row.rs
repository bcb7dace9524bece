//! Envelope Wrapper, at rest: the form in which outbox and dead-letter rows keep everything of a message but its payload.

use super::{WireError, binary, draft::Draft, structured::Members};
use crate::message::Envelope;
use bytes::Bytes;
use std::{borrow::Cow, convert::Infallible};

/// One compact JSON object: the headers of binary mode under `ce_`, `content-type`, trace context and hop data.
///
/// [`from_attributes_json`] gives the same envelope again, for every envelope that [`check`](super::check) accepts (the texts
/// of the hop data are cut at 4 KB).
pub fn attributes_json(envelope: &Envelope) -> String {
    let mut json = Object(String::with_capacity(512));
    let Ok(()) = binary::each_attribute(envelope, |name, value| json.member("ce_", name, &value));
    for (name, value) in [
        ("content-type", &envelope.content_type),
        ("traceparent", &envelope.traceparent),
        ("tracestate", &envelope.tracestate),
    ] {
        if let Some(value) = value {
            let Ok(()) = json.member("", name, value);
        }
    }
    let Ok(()) = binary::each_hop(envelope, |name, value| json.member("", name, &value));
    json.end()
}

/// A JSON object of strings as it is written. It is on the path of every message, and most of its texts need no escape.
struct Object(String);

impl Object {
    fn member(&mut self, prefix: &str, name: &str, value: &str) -> Result<(), Infallible> {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push('"');
        self.0.push_str(prefix); // neither it nor a name of an attribute holds what must be escaped
        self.0.push_str(name);
        self.0.push_str("\":");
        // Looks at all of them, wherever the first one is: many at a time.
        let escapes = value.bytes().fold(false, |found, b| found | (b < b' ') | (b == b'"') | (b == b'\\'));
        if escapes {
            self.0.push_str(&serde_json::Value::from(value).to_string());
        } else {
            self.0.push('"');
            self.0.push_str(value);
            self.0.push('"');
        }
        Ok(())
    }

    fn end(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

/// The envelope of a row. Nothing is derived that the row does not say: an absent time stays absent.
///
/// # Errors
/// The row was not written by [`attributes_json`].
pub fn from_attributes_json(json: &str, data: Bytes) -> Result<Envelope, WireError> {
    let Members(members) = serde_json::from_str::<Members<'_, Cow<'_, str>>>(json)
        .map_err(|e| WireError::new("row", format!("is not a JSON object of strings: {e}")))?;
    let mut draft = Draft::default();
    for (name, value) in members {
        match (name.strip_prefix("ce_"), &*name) {
            (Some(attribute), _) => draft.set(attribute, value)?,
            (_, "content-type") => draft.set("datacontenttype", value)?,
            (_, "traceparent") => draft.trace.parent = Some(value.into_owned()),
            (_, "tracestate") => draft.trace.state = Some(value.into_owned()),
            _ => draft.hop(&name, Ok(&value))?,
        }
    }
    draft.envelope(data)
}
