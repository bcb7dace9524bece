//! Envelope Wrapper, at rest: the form in which outbox and dead-letter rows keep everything of a message but its payload.

use super::{WireError, binary, draft::Draft, structured::Members};
use crate::message::Envelope;
use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::borrow::Cow;

/// One compact JSON object: the headers of binary mode under `ce_`, `content-type`, trace context and hop data.
///
/// [`from_attributes_json`] gives the same envelope again, for every envelope that [`check`](super::check) accepts (the texts
/// of the hop data are cut at 4 KB).
pub fn attributes_json(envelope: &Envelope) -> String {
    serde_json::to_string(&Row(envelope)).expect("strings are written to memory, which cannot fail")
}

struct Row<'a>(&'a Envelope);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        binary::each_attribute(self.0, |name, value| map.serialize_entry(&format_args!("ce_{name}"), &value))?;
        for (name, value) in [
            ("content-type", &self.0.content_type),
            ("traceparent", &self.0.traceparent),
            ("tracestate", &self.0.tracestate),
        ] {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        binary::each_hop(self.0, |name, value| map.serialize_entry(name, &value))?;
        map.end()
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
        let value = value.into_owned();
        match (name.strip_prefix("ce_"), &*name) {
            (Some(attribute), _) => draft.set(attribute, value)?,
            (_, "content-type") => draft.set("datacontenttype", value)?,
            (_, "traceparent") => draft.trace.parent = Some(value),
            (_, "tracestate") => draft.trace.state = Some(value),
            _ => draft.hop(&name, &value)?,
        }
    }
    draft.envelope(data)
}
