//! Message Translator: a Kafka record and what the rest of pitcrew calls a message.

use crate::{
    Envelope,
    message::wire::{self, Prefix, Properties, Raw},
};
use bytes::Bytes;
use chrono::DateTime;
use rdkafka::{
    Timestamp,
    message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

const CONTENT_TYPE: &str = "content-type";

/// A record as it came: headers in their order, with duplicates, without values. A tombstone has an empty body.
pub(super) fn raw(record: &BorrowedMessage<'_>) -> Raw {
    let headers = headers(record);
    let content_type = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
    let content_type = content_type.and_then(|(_, value)| text(value.as_deref()?));
    let timestamp = match record.timestamp() {
        Timestamp::CreateTime(millis) => DateTime::from_timestamp_millis(millis),
        // The broker's own clock says when it came, not when it was made.
        Timestamp::LogAppendTime(_) | Timestamp::NotAvailable => None,
    };
    let properties = Properties { content_type, timestamp, key: record.key().and_then(text), ..Properties::default() };
    Raw { headers, properties, body: record.payload().map(Bytes::copy_from_slice).unwrap_or_default() }
}

fn headers(record: &BorrowedMessage<'_>) -> Vec<(String, Option<Bytes>)> {
    let Some(headers) = record.headers() else { return Vec::new() };
    let header = |place| {
        // The client panics over a name that is not UTF-8. No attribute has such a name: the header is foreign.
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(place))).ok().flatten()?;
        Some((header.key.to_owned(), header.value.map(Bytes::copy_from_slice)))
    };
    (0..headers.count()).filter_map(header).collect()
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The headers of `envelope`, built anew. `again`: it may have been published before.
pub(super) fn written(envelope: &Envelope, prefix: Prefix, again: bool) -> OwnedHeaders {
    let native = wire::properties(envelope);
    let headers = wire::headers(envelope, prefix);
    let content_type = native.content_type.iter().map(|value| (CONTENT_TYPE.to_owned(), value.clone()));
    let again = again.then(|| (wire::AGAIN.to_owned(), "true".to_owned()));
    let all: Vec<_> = headers.into_iter().chain(content_type).chain(again).collect();
    let into = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(into, |into, (key, value)| into.insert(Header { key, value: Some(value) }))
}

/// The record key: what decides the partition, so that the order of a key is the topic's.
pub(super) fn key(envelope: &Envelope) -> Option<String> {
    wire::properties(envelope).key
}
