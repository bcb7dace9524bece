//! Envelope Wrapper, the rules of a single attribute: names, lengths, characters, numbers, times, trace context.

use super::WireError;
use crate::message::Envelope;
use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use std::borrow::Cow;

/// Bytes of an ID.
const MAX_ID: usize = 200;
/// Bytes of what a broker keeps in a short string: routing keys, content types.
pub(super) const MAX_SHORT: usize = 255;
/// Bytes of any other attribute.
pub(super) const MAX_TEXT: usize = 4096;
/// Bytes of all attributes, names included.
const MAX_TOTAL: usize = 32 * 1024;
/// Bytes of an attribute's name. CloudEvents advises 20; Debezium's reach 31.
const MAX_NAME: usize = 64;

/// Whether [`parse`](super::parse) would read `envelope` as it is: who makes a message asks here first, so that nothing is
/// sent that every receiver must refuse.
///
/// # Errors
/// Names the first attribute that is wrong.
pub fn check(envelope: &Envelope) -> Result<(), WireError> {
    let Envelope { id, source, ty, .. } = envelope;
    for (name, value) in [("id", id), ("source", source), ("type", ty)] {
        if value.is_empty() {
            return Err(WireError::new(name, "is empty"));
        }
    }
    at_most("id", id, MAX_ID)?;
    if id.chars().any(char::is_control) {
        return Err(WireError::new("id", "has a control character"));
    }
    at_most("type", ty, MAX_SHORT)?;
    at_most("datacontenttype", envelope.content_type.as_deref().unwrap_or_default(), MAX_SHORT)?;
    if envelope.version == 0 {
        return Err(number("schemaversion", "0", 1));
    }
    if envelope.hop.attempt == 0 {
        return Err(number("pitcrew-attempt", "0", 1));
    }
    let times = [
        ("time", envelope.time),
        ("expirytime", envelope.expires),
        ("pitcrew-first-failure", envelope.hop.first_failure),
        ("pitcrew-due", envelope.hop.due),
    ];
    for (name, time) in times {
        if time.is_some_and(|t| !is_writable(t)) {
            return Err(WireError::new(name, "is outside the years 0 to 9999"));
        }
    }
    for (name, value) in [
        ("datacontenttype", &envelope.content_type),
        ("traceparent", &envelope.traceparent),
        ("tracestate", &envelope.tracestate),
    ] {
        text(name, value.as_deref().unwrap_or_default())?;
    }
    let (mut total, mut largest) = (0, ("id", 0));
    let extensions = envelope.extensions.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
    for (name, value) in extensions.clone().chain(texts(envelope)) {
        let Some(value) = value else { continue };
        text(name, value)?;
        total += name.len() + value.len();
        if value.len() > largest.1 {
            largest = (name, value.len());
        }
    }
    if let Some((name, _)) = extensions.into_iter().find(|(name, _)| !is_extension(name)) {
        return Err(WireError::new(
            name,
            "is no name for an extension: a–z and 0–9, and no attribute that has its own place",
        ));
    }
    if total > MAX_TOTAL {
        let (name, len) = largest;
        return Err(WireError::new(
            name,
            format!(
                "is the largest ({len} bytes) of attributes that take {total} bytes; at most {MAX_TOTAL} are allowed"
            ),
        ));
    }
    Ok(())
}

/// The attributes that are text without further form, in the order in which they are written.
pub(super) fn texts(envelope: &Envelope) -> [(&'static str, Option<&str>); 11] {
    [
        ("id", Some(&envelope.id)),
        ("source", Some(&envelope.source)),
        ("type", Some(&envelope.ty)),
        ("subject", envelope.subject.as_deref()),
        ("actor", envelope.actor.as_deref()),
        ("correlationid", envelope.correlation_id.as_deref()),
        ("causationid", envelope.causation_id.as_deref()),
        ("partitionkey", envelope.partition_key.as_deref()),
        ("idempotencykey", envelope.idempotency_key.as_deref()),
        ("replyto", envelope.reply_to.as_deref()),
        ("dataref", envelope.data_ref.as_deref()),
    ]
}

/// Text as every store and broker can keep it.
pub(super) fn text(name: &str, value: &str) -> Result<(), WireError> {
    at_most(name, value, MAX_TEXT)?;
    if value.as_bytes().contains(&0) {
        return Err(WireError::new(name, "has a NUL character"));
    }
    Ok(())
}

fn at_most(name: &str, value: &str, max: usize) -> Result<(), WireError> {
    match value.len() {
        len if len > max => Err(WireError::new(name, format!("is {len} bytes long; at most {max} are allowed"))),
        _ => Ok(()),
    }
}

/// A whole number in digits, `least` or more.
pub(super) fn whole(name: &str, value: &str, least: u32) -> Result<u32, WireError> {
    // `parse` alone would take `+1`.
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    match value.parse() {
        Ok(n) if digits && n >= least => Ok(n),
        _ => Err(number(name, value, least)),
    }
}

fn number(name: &str, value: &str, least: u32) -> WireError {
    WireError::new(name, format!("is `{}`; a whole number from {least} to {} is needed", shown(value), u32::MAX))
}

/// RFC 3339, cut to microseconds.
pub(super) fn time(name: &str, value: &str) -> Result<DateTime<Utc>, WireError> {
    let time = DateTime::parse_from_rfc3339(value).map_err(|_| {
        let problem = format!("is `{}`; a time of RFC 3339 is needed, such as 2026-03-01T12:00:00Z", shown(value));
        WireError::new(name, problem)
    })?;
    Ok(crate::clock::to_micros(time.to_utc()))
}

/// RFC 3339 has four digits for the year; an offset, a leap second or a UUIDv7 can lead beyond them.
pub(super) fn is_writable(time: DateTime<Utc>) -> bool {
    (0..=9999).contains(&time.year())
}

/// The time as it is written.
pub(super) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Lower case; no copy if it is that already.
pub(super) fn fold(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

/// What CloudEvents lets be a name, in either case.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A name that `Envelope::extensions` may hold. Anything else there would write an attribute twice.
pub(super) fn is_extension(name: &str) -> bool {
    let core = matches!(
        name,
        "specversion"
            | "id"
            | "source"
            | "type"
            | "schemaversion"
            | "subject"
            | "time"
            | "actor"
            | "correlationid"
            | "causationid"
            | "partitionkey"
            | "idempotencykey"
            | "expirytime"
            | "replyto"
            | "dataref"
            | "data"
            | "datacontenttype"
            | "traceparent"
            | "tracestate"
    );
    !core && is_name(name) && !name.bytes().any(|b| b.is_ascii_uppercase())
}

/// W3C Trace Context, `version-traceid-parentid-flags`. A later version may be longer.
pub(super) fn is_traceparent(value: &str) -> bool {
    let bytes = value.as_bytes();
    let hex =
        |range: std::ops::Range<usize>| bytes[range].iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|b| *b == b'0');
    let length = match bytes.get(..2) {
        Some(b"00") => bytes.len() == 55,
        _ => bytes.len() == 55 || (bytes.len() > 55 && bytes.len() <= MAX_SHORT && bytes[55] == b'-'),
    };
    length
        && [2, 35, 52].iter().all(|at| bytes[*at] == b'-')
        && [0..2, 3..35, 36..52, 53..55].into_iter().all(hex)
        && &bytes[..2] != b"ff"
        && !zero(3..35)
        && !zero(36..52)
        && bytes.iter().all(u8::is_ascii_graphic)
}

/// A `tracestate` that is safe to hand on; its grammar is its reader's business.
pub(super) fn is_tracestate(value: &str) -> bool {
    (1..=MAX_TEXT).contains(&value.len()) && value.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// A value in an error: short, and on one line.
pub(super) fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(60).flat_map(char::escape_debug).collect();
    if value.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}
