//! Rows as records.

use crate::{
    message::wire,
    store::{
        Attempt, AttemptKind, Audit, Bodies, DeadLetter, Handled, InboxRow, LetterHead, LetterKey, LetterState,
        OutboxEntry, OutboxRow, Purpose, StoredDocument,
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};
use std::{sync::Arc, time::Duration};

/// What does not parse names its column.
pub(super) fn bad(column: &str, why: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.into(), source: why.to_string().into() }
}

pub(super) fn word<T>(row: &SqliteRow, column: &str, of_word: impl Fn(&str) -> Option<T>) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    of_word(text).ok_or_else(|| bad(column, format_args!("`{text}` is no word of this build")))
}

pub(super) fn time(row: &SqliteRow, column: &str) -> sqlx::Result<DateTime<Utc>> {
    maybe_time(row, column)?.ok_or_else(|| bad(column, "is no time"))
}

pub(super) fn maybe_time(row: &SqliteRow, column: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.and_then(DateTime::from_timestamp_micros))
}

pub(super) async fn document(
    connection: impl SqliteExecutor<'_>,
    collection: &str,
    id: &str,
) -> sqlx::Result<Option<StoredDocument>> {
    let select = sqlx::query("select version, schema, body from document where collection = ? and id = ?");
    let Some(row) = select.bind(collection).bind(id).fetch_optional(connection).await? else { return Ok(None) };
    Ok(Some(StoredDocument { version: row.try_get(0)?, schema: row.try_get(1)?, body: row.try_get(2)? }))
}

/// Its columns: `seq, due, key, destination, purpose, attributes, payload`.
pub(super) fn outbox_row(row: &SqliteRow) -> sqlx::Result<OutboxRow> {
    let destination: &str = row.try_get("destination")?;
    let payload: Vec<u8> = row.try_get("payload")?;
    let envelope = wire::from_attributes_json(row.try_get("attributes")?, Bytes::from(payload));
    Ok(OutboxRow {
        seq: row.try_get("seq")?,
        destination: destination.parse().map_err(|e| bad("destination", e))?,
        due: maybe_time(row, "due")?,
        key: row.try_get("key")?,
        purpose: word(row, "purpose", Purpose::of_word)?,
        envelope: Arc::new(envelope.map_err(|e| bad("attributes", e))?),
    })
}

pub(super) fn outbox_entry(row: &SqliteRow) -> sqlx::Result<OutboxEntry> {
    Ok(OutboxEntry {
        row: outbox_row(row)?,
        owner: row.try_get("owner")?,
        tries: row.try_get("tries")?,
        problem: row.try_get("problem")?,
    })
}

pub(super) fn inbox_row(row: &SqliteRow) -> sqlx::Result<InboxRow> {
    Ok(InboxRow {
        consumer: row.try_get("consumer")?,
        source: row.try_get("source")?,
        id: row.try_get("id")?,
        ty: row.try_get("type")?,
        version: row.try_get("version")?,
        attempt: row.try_get("attempt")?,
        fate: row.try_get("fate")?,
        actor: row.try_get("actor")?,
        subject: row.try_get("subject")?,
        correlation: row.try_get("correlation")?,
        causation: row.try_get("causation")?,
        trace: row.try_get("trace")?,
        at: time(row, "at")?,
        duration_ms: row.try_get("duration_ms")?,
        worker: row.try_get("worker")?,
        build: row.try_get("build")?,
    })
}

pub(super) fn handled(row: &SqliteRow) -> sqlx::Result<Handled> {
    let sent = maybe_time(row, "key_time")?.filter(|sent| *sent != DateTime::UNIX_EPOCH);
    Ok(Handled { sent, row: inbox_row(row)?, reason: row.try_get("reason")? })
}

pub(super) fn attempt(row: &SqliteRow) -> sqlx::Result<(String, Attempt)> {
    use AttemptKind::{Conflict, Crash, Failure, Interrupted, Later, Panic, Rejected, Timeout};
    let kinds = [Failure, Timeout, Panic, Crash, Later, Conflict, Interrupted, Rejected];
    let attempt = Attempt {
        attempt: row.try_get("attempt")?,
        kind: word(row, "kind", |text| kinds.into_iter().find(|kind| kind.word() == text))?,
        error: row.try_get("error")?,
        at: time(row, "at")?,
        duration: Duration::try_from_secs_f64(row.try_get::<f64, _>("duration_ms")? / 1e3).unwrap_or_default(),
        worker: row.try_get("worker")?,
        build: row.try_get("build")?,
        next: maybe_time(row, "next")?,
    };
    Ok((row.try_get("consumer")?, attempt))
}

pub(super) fn letter(row: &SqliteRow) -> sqlx::Result<DeadLetter> {
    Ok(letter_head(row)?.with_payload(row.try_get("payload")?))
}

pub(super) fn letter_head(row: &SqliteRow) -> sqlx::Result<LetterHead> {
    let hash: &[u8] = row.try_get("payload_hash")?;
    Ok(LetterHead {
        key: LetterKey {
            consumer: row.try_get("consumer")?,
            source: row.try_get("source")?,
            id: row.try_get("id")?,
            attempt: row.try_get("attempt")?,
            payload_hash: hash.try_into().map_err(|_| bad("payload_hash", "is no SHA-256"))?,
        },
        state: word(row, "state", LetterState::of_word)?,
        channel: row.try_get("channel")?,
        subscription: row.try_get("subscription")?,
        ty: row.try_get("type")?,
        version: row.try_get("version")?,
        reason: row.try_get("reason")?,
        error: row.try_get("error")?,
        attributes: row.try_get("attributes")?,
        count: row.try_get("count")?,
        first_at: time(row, "first_at")?,
        last_at: time(row, "last_at")?,
        worker: row.try_get("worker")?,
        build: row.try_get("build")?,
    })
}

pub(super) fn audit(row: &SqliteRow) -> sqlx::Result<Audit> {
    Ok(Audit {
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        reason: row.try_get("reason")?,
        at: time(row, "at")?,
        bodies: Bodies::of(row.try_get("body_before")?, row.try_get("body_after")?),
    })
}
