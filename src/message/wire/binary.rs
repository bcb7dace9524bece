//! Envelope Wrapper, binary mode: attributes in headers, the payload is the body.

use super::{
    Prefix, Properties, Raw, WireError,
    attribute::{self, MAX_SHORT, MAX_TEXT},
    draft::Draft,
};
use crate::message::Envelope;
use bytes::Bytes;
use std::{borrow::Cow, convert::Infallible};

/// The set of attributes that counts: the first in [`Prefix::ALL`] that carries a `specversion`.
pub(super) fn chosen(headers: &[(String, Option<Bytes>)]) -> Option<Prefix> {
    const MARK: &[u8] = b"specversion";
    let rank = |(name, _): &(String, _)| {
        // Nearly every other header has another length: this pass costs next to nothing.
        let (head, tail) = name.as_bytes().split_at_checked(name.len().checked_sub(MARK.len())?)?;
        let is = |p: &Prefix| head.eq_ignore_ascii_case(p.as_str().as_bytes());
        tail.eq_ignore_ascii_case(MARK).then(|| Prefix::ALL.iter().position(is)).flatten()
    };
    headers.iter().filter_map(rank).min().map(|rank| Prefix::ALL[rank])
}

/// Attributes under `prefix`, trace context and hop data. Every other header is foreign: not looked at, never copied.
pub(super) fn read(
    headers: &[(String, Option<Bytes>)],
    prefix: Option<Prefix>,
    draft: &mut Draft,
) -> Result<(), WireError> {
    for (name, value) in headers {
        match name.as_bytes().first() {
            Some(b'c' | b'C') => {
                let attribute = prefix.and_then(|p| after(name, p.as_str()));
                // With another character in its name it is a foreign header that happens to begin alike.
                if let Some(attribute) = attribute.filter(|a| attribute::is_name(a)) {
                    let attribute = attribute::fold(attribute);
                    draft.read(&attribute, text(&attribute, value)?)?;
                }
            }
            Some(b'p' | b'P') if after(name, "pitcrew-").is_some() => {
                let name = attribute::fold(name);
                draft.hop(&name, text(&name, value))?;
            }
            // Of several the last, as OpenTelemetry reads Kafka; an unreadable one is as good as none.
            Some(b't' | b'T') if name.eq_ignore_ascii_case("traceparent") => {
                draft.trace.parent = text(name, value).ok().map(str::to_owned);
            }
            Some(b't' | b'T') if name.eq_ignore_ascii_case("tracestate") => {
                draft.trace.state = text(name, value).ok().map(str::to_owned);
            }
            _ => {}
        }
    }
    Ok(())
}

/// No CloudEvent at all: the broker's own properties must do.
pub(super) fn read_bare(raw: &Raw, draft: &mut Draft) -> Result<(), WireError> {
    let native = &raw.properties;
    for (name, property, value) in [("id", "message-id", &native.message_id), ("type", "type", &native.ty)] {
        match value {
            Some(value) => draft.set(name, value.into())?,
            None => return Err(no_event(raw, name, property)),
        }
    }
    draft.content_type_from(native);
    Ok(())
}

/// Says what the producer most likely forgot.
fn no_event(raw: &Raw, name: &str, property: &str) -> WireError {
    let marked = |p: &Prefix| raw.headers.iter().any(|(name, _)| after(name, p.as_str()).is_some());
    match Prefix::ALL.iter().find(|p| marked(p)) {
        Some(prefix) => {
            let prefix = prefix.as_str();
            WireError::new(
                "specversion",
                format!("is missing; `{prefix}` headers count only with `{prefix}specversion`"),
            )
        }
        None => WireError::new(
            name,
            format!(
                "is missing: no `specversion` header, no content type `{}` and no native property `{property}`",
                super::STRUCTURED
            ),
        ),
    }
}

/// What follows `prefix`, in either case.
fn after<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = name.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

fn text<'a>(name: &str, value: &'a Option<Bytes>) -> Result<&'a str, WireError> {
    let value = value.as_ref().ok_or_else(|| WireError::new(name, "has no value"))?;
    str::from_utf8(value).map_err(|_| WireError::new(name, "is not UTF-8"))
}

/// The headers of `envelope` in binary mode: an allow-list, built anew each time. What a broker or another library put on the
/// message before is never among them.
pub fn headers(envelope: &Envelope, prefix: Prefix) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(20 + envelope.extensions.len());
    let Ok(()) = each_attribute(envelope, |name, value| {
        if !value.is_empty() {
            headers.push(([prefix.as_str(), name].concat(), value.into_owned()));
        }
        Ok::<_, Infallible>(())
    });
    if let Some((parent, state)) = trace(envelope) {
        headers.push(("traceparent".to_owned(), parent.to_owned()));
        headers.extend(state.map(|state| ("tracestate".to_owned(), state.to_owned())));
    }
    let Ok(()) = each_hop(envelope, |name, value| {
        headers.push((name.to_owned(), value.into_owned()));
        Ok::<_, Infallible>(())
    });
    headers
}

/// The native properties of `envelope`: what means the same as an attribute, and the record key.
pub fn properties(envelope: &Envelope) -> Properties {
    // AMQP keeps them in short strings; what is longer stands in its attribute alone.
    let short = |text: &str| (1..=MAX_SHORT).contains(&text.len()).then(|| text.to_owned());
    Properties {
        message_id: short(&envelope.id),
        ty: short(&envelope.ty),
        correlation_id: envelope.correlation_id.as_deref().and_then(short),
        content_type: envelope.content_type.as_deref().and_then(short),
        reply_to: envelope.reply_to.as_deref().and_then(short),
        app_id: None,
        timestamp: envelope.time,
        key: envelope.ordering_key().filter(|key| !key.is_empty()).map(str::to_owned),
    }
}

/// `envelope` in binary mode, as a transport would receive it.
pub fn to_raw(envelope: &Envelope, prefix: Prefix) -> Raw {
    let headers = headers(envelope, prefix).into_iter().map(|(name, value)| (name, Some(Bytes::from(value))));
    Raw { headers: headers.collect(), properties: properties(envelope), body: envelope.data.clone() }
}

/// Calls `put` with each attribute that stands in headers, and its value.
pub(super) fn each_attribute<E>(
    envelope: &Envelope,
    mut put: impl FnMut(&str, Cow<'_, str>) -> Result<(), E>,
) -> Result<(), E> {
    put("specversion", "1.0".into())?;
    for (name, value) in attribute::texts(envelope) {
        if let Some(value) = value {
            put(name, value.into())?;
        }
    }
    put("schemaversion", envelope.version.to_string().into())?;
    for (name, time) in [("time", envelope.time), ("expirytime", envelope.expires)] {
        if let Some(time) = time {
            put(name, attribute::rfc3339(time).into())?;
        }
    }
    for (name, value) in envelope.extensions.iter().filter(|(name, _)| attribute::is_extension(name)) {
        put(name, value.into())?;
    }
    Ok(())
}

/// Calls `put` with each hop header that says more than its absence.
pub(super) fn each_hop<E>(
    envelope: &Envelope,
    mut put: impl FnMut(&str, Cow<'_, str>) -> Result<(), E>,
) -> Result<(), E> {
    let hop = &envelope.hop;
    for (name, value, default) in [("pitcrew-attempt", hop.attempt, 1), ("pitcrew-failures", hop.failures, 0)] {
        if value != default {
            put(name, value.to_string().into())?;
        }
    }
    for (name, time) in [("pitcrew-first-failure", hop.first_failure), ("pitcrew-due", hop.due)] {
        if let Some(time) = time {
            put(name, attribute::rfc3339(time).into())?;
        }
    }
    let texts = [
        ("reason", &hop.reason),
        ("origin", &hop.origin),
        ("worker", &hop.worker),
        ("build", &hop.build),
        ("replay", &hop.replay),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            put(&["pitcrew-", name].concat(), harmless(value))?;
        }
    }
    Ok(())
}

/// The trace context, if a reader would take it.
pub(super) fn trace(envelope: &Envelope) -> Option<(&str, Option<&str>)> {
    let parent = envelope.traceparent.as_deref().filter(|p| attribute::is_traceparent(p))?;
    Some((parent, envelope.tracestate.as_deref().filter(|s| attribute::is_tracestate(s))))
}

/// A reason is an error's text, of any length and content. It must never make our own copy unreadable.
fn harmless(value: &str) -> Cow<'_, str> {
    let value = &value[..value.floor_char_boundary(MAX_TEXT)];
    if value.contains('\0') { Cow::Owned(value.replace('\0', " ")) } else { Cow::Borrowed(value) }
}
