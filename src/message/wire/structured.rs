//! Envelope Wrapper, structured mode: one JSON object holds the attributes and the payload.

use super::{WireError, attribute, binary, draft, draft::Draft};
use crate::message::Envelope;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashSet, fmt, marker::PhantomData};

/// The content type of structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// Whether this content type announces a CloudEvent as the body.
///
/// # Errors
/// It does, in a form that is not read here.
pub(super) fn is_announced(content_type: &str) -> Result<bool, WireError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case(STRUCTURED) {
        return Ok(true);
    }
    let Some((family, form)) = media.split_at_checked("application/cloudevents".len()) else { return Ok(false) };
    if !family.eq_ignore_ascii_case("application/cloudevents") {
        return Ok(false);
    }
    let hint = match form.get(..6) {
        Some(form) if form.eq_ignore_ascii_case("-batch") => "a batch is not read, send one event a message as",
        _ => "the only structured form that is read is",
    };
    Err(WireError::new("content-type", format!("is `{}`; {hint} `{STRUCTURED}`", attribute::shown(media))))
}

/// Reads the object into `draft` and gives the payload.
pub(super) fn read(body: &Bytes, draft: &mut Draft) -> Result<Bytes, WireError> {
    // A raw value is skipped without recursion: depth cannot hurt here.
    let Members(members) = serde_json::from_slice::<Members<'_, &RawValue>>(body)
        .map_err(|e| WireError::new("body", format!("is not a JSON object: {e}")))?;
    let mut seen = HashSet::with_capacity(members.len());
    let (mut plain, mut encoded) = (None, None);
    for (name, value) in &members {
        let name = attribute::fold(name);
        let value = value.get();
        match &*name {
            "data" => plain = Some(body.slice_ref(value.as_bytes())),
            "data_base64" if value == "null" => {}
            "data_base64" => encoded = Some(decoded(value)?),
            _ if !attribute::is_name(&name) => {
                let shown = attribute::shown(&name);
                return Err(WireError::new(shown, "is no name of an attribute: 1 to 64 of a–z and 0–9"));
            }
            _ => {
                if let Some(text) = text(&name, value)? {
                    draft.read(&name, &text)?;
                }
            }
        }
        if let Some(name) = seen.replace(name) {
            return Err(draft::twice(&name));
        }
    }
    draft.require_specversion()?;
    match (plain, encoded) {
        (Some(_), Some(_)) => Err(WireError::new("data_base64", "is there beside `data`; one of them is the payload")),
        (plain, encoded) => Ok(plain.or(encoded).unwrap_or_default()),
    }
}

fn decoded(value: &str) -> Result<Bytes, WireError> {
    let wrong = || WireError::new("data_base64", "is not a string in base64");
    let text: Cow<'_, str> = serde_json::from_str::<Name<'_>>(value).map_err(|_| wrong())?.0;
    BASE64_STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(|_| wrong())
}

/// The text of an attribute's JSON value; `null` is an absent one.
fn text<'a>(name: &str, value: &'a str) -> Result<Option<Cow<'a, str>>, WireError> {
    let what = match value.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<Name<'_>>(value) {
            Ok(Name(text)) => return Ok(Some(text)),
            Err(_) => "a string that is no Unicode",
        },
        Some(b't' | b'f') => return Ok(Some(value.into())),
        Some(b'n') => return Ok(None),
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        _ => match value.parse::<i64>() {
            Ok(number) => return Ok(Some(number.to_string().into())),
            Err(_) => "a number with a fraction or beyond 64 bits",
        },
    };
    Err(WireError::new(name, format!("is {what}; a string, an integer or a boolean is needed")))
}

/// `envelope` as one JSON object. A JSON payload stands in it as it is, any other in base64.
pub fn structured(envelope: &Envelope) -> Bytes {
    let json = serde_json::to_vec(&Document(envelope));
    json.expect("strings and numbers are written to memory, which cannot fail").into()
}

struct Document<'a>(&'a Envelope);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let envelope = self.0;
        let mut map = serializer.serialize_map(None)?;
        binary::each_attribute(envelope, |name, value| match name {
            _ if value.is_empty() => Ok(()),
            "schemaversion" => map.serialize_entry(name, &envelope.version),
            _ => map.serialize_entry(name, &value),
        })?;
        if let Some(ty) = envelope.content_type.as_deref().filter(|ty| !ty.is_empty()) {
            map.serialize_entry("datacontenttype", ty)?;
        }
        if let Some((parent, state)) = binary::trace(envelope) {
            map.serialize_entry("traceparent", parent)?;
            if let Some(state) = state {
                map.serialize_entry("tracestate", state)?;
            }
        }
        match inline(envelope) {
            Some(json) => map.serialize_entry("data", json)?,
            None if envelope.data.is_empty() => {}
            None => map.serialize_entry("data_base64", &BASE64_STANDARD.encode(&envelope.data))?,
        }
        map.end()
    }
}

/// The payload, if it may stand in the object and be read back byte for byte (a reader drops white space around a value).
fn inline(envelope: &Envelope) -> Option<&RawValue> {
    let media = envelope.content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !(media.is_empty() || media.eq_ignore_ascii_case("application/json") || media.ends_with("+json")) {
        return None;
    }
    let json = serde_json::from_slice::<&RawValue>(&envelope.data).ok()?;
    (json.get().len() == envelope.data.len()).then_some(json)
}

/// A JSON object as it stands: in order, with what is there twice.
pub(super) struct Members<'a, V>(pub(super) Vec<(Cow<'a, str>, V)>);

#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<'de, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Walk<V> {
            type Value = Members<'de, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Walk(PhantomData))
    }
}
