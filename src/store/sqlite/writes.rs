//! The writes of a transaction, one function a table. Nothing to write, no statement.

use super::{
    bulk::{Insert, array, key_time, micros, millis, uuids},
    judge,
};
use crate::{
    message::wire,
    store::{DeadLetter, DocumentWrite, Fate, Finished, OutboxRow},
};
use serde_json::json;
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Who writes the inbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a> {
    pub(super) worker: Uuid,
    pub(super) build: &'a str,
}

/// A key that was taken over gets its new holder.
pub(super) async fn operations(connection: &mut SqliteConnection, stored: &[&Finished]) -> sqlx::Result<()> {
    let holders: Vec<&Finished> =
        stored.iter().copied().filter(|m| m.fenced && judge::operation(m).is_some()).collect();
    let insert = Insert {
        table: "operation",
        columns: &["consumer", "key", "hash", "key_time", "source", "id", "at"],
        tail: "on conflict (consumer, key) do update set
               (hash, key_time, source, id, at) = (excluded.hash, excluded.key_time, excluded.source, excluded.id, excluded.at)",
    };
    insert
        .run(connection, &holders, |statement, message| {
            let envelope = &message.envelope;
            statement
                .bind(&*message.consumer)
                .bind(envelope.idempotency_key.as_deref())
                .bind(message.operation.as_ref().map(<[u8; 32]>::as_slice))
                .bind(key_time(&envelope.id))
                .bind(&envelope.source)
                .bind(&envelope.id)
                .bind(micros(message.at))
        })
        .await
}

/// Only messages that the fence has passed come here, so that whatever stands there is overwritten.
pub(super) async fn inbox(
    connection: &mut SqliteConnection,
    rows: &[(&Finished, &'static str)],
    by: By<'_>,
) -> sqlx::Result<()> {
    let insert = Insert {
        table: "inbox",
        columns: &[
            "key_time", "consumer", "source", "id", "attempt", "fate", "payload_hash", "reason", "type", "version", "actor",
            "subject", "correlation", "causation", "trace", "at", "duration_ms", "worker", "build",
        ],
        tail: "on conflict (key_time, consumer, source, id) do update set
               (attempt, fate, reason, type, version, actor, subject, correlation, causation, trace, at, duration_ms, worker, build)
               = (excluded.attempt, excluded.fate, excluded.reason, excluded.type, excluded.version, excluded.actor,
                  excluded.subject, excluded.correlation, excluded.causation, excluded.trace, excluded.at,
                  excluded.duration_ms, excluded.worker, excluded.build)",
    };
    insert
        .run(connection, rows, |statement, (message, fate)| {
            let envelope = &message.envelope;
            let reason = match message.fate {
                Fate::Dead(reason) => Some(reason.word()),
                _ => None,
            };
            statement
                .bind(key_time(&envelope.id))
                .bind(&*message.consumer)
                .bind(&envelope.source)
                .bind(&envelope.id)
                .bind(envelope.hop.attempt)
                .bind(*fate)
                .bind(message.payload_hash.as_slice())
                .bind(reason)
                .bind(&envelope.ty)
                .bind(envelope.version)
                .bind(&envelope.actor)
                .bind(&envelope.subject)
                .bind(&envelope.correlation_id)
                .bind(&envelope.causation_id)
                .bind(&envelope.traceparent)
                .bind(micros(message.at))
                .bind(millis(message.duration))
                .bind(by.worker)
                .bind(by.build)
        })
        .await
}

pub(super) async fn attempts(connection: &mut SqliteConnection, stored: &[&Finished]) -> sqlx::Result<()> {
    let tried: Vec<_> = stored.iter().filter_map(|message| Some((*message, message.attempt.as_deref()?))).collect();
    let insert = Insert {
        table: "attempt",
        columns: &[
            "consumer",
            "source",
            "id",
            "attempt",
            "kind",
            "error",
            "at",
            "duration_ms",
            "worker",
            "build",
            "next",
        ],
        tail: "",
    };
    insert
        .run(connection, &tried, |statement, (message, attempt)| {
            statement
                .bind(&*message.consumer)
                .bind(&message.envelope.source)
                .bind(&message.envelope.id)
                .bind(attempt.attempt)
                .bind(attempt.kind.word())
                .bind(&attempt.error)
                .bind(micros(attempt.at))
                .bind(millis(attempt.duration))
                .bind(attempt.worker)
                .bind(&attempt.build)
                .bind(attempt.next.map(micros))
        })
        .await
}

/// The last write of a document wins; its version rises by every one of them.
pub(super) async fn documents(connection: &mut SqliteConnection, stored: &[&Finished]) -> sqlx::Result<()> {
    let mut latest: BTreeMap<(&str, &str), (i64, &DocumentWrite)> = BTreeMap::new();
    for write in stored.iter().flat_map(|message| &message.effects.documents) {
        let slot = latest.entry((write.collection, &write.id)).or_insert((0, write));
        *slot = (slot.0 + 1, write);
    }
    let latest: Vec<_> = latest.into_values().collect();
    let insert = Insert {
        table: "document",
        columns: &["collection", "id", "version", "schema", "body"],
        tail: "on conflict (collection, id) do update set
               (version, schema, body) = (document.version + excluded.version, excluded.schema, excluded.body)",
    };
    insert
        .run(connection, &latest, |statement, (writes, last)| {
            statement.bind(last.collection).bind(&last.id).bind(writes).bind(last.schema).bind(&last.body)
        })
        .await
}

/// A row that waits for its time is nobody's until then. One that is there already stays: the writer repeats itself because an
/// answer was lost.
pub(super) async fn outbox(
    connection: &mut SqliteConnection,
    owner: Option<Uuid>,
    rows: &[&OutboxRow],
) -> sqlx::Result<()> {
    let insert = Insert {
        table: "outbox",
        columns: &[
            "seq",
            "owner",
            "due",
            "key",
            "destination",
            "purpose",
            "id",
            "source",
            "type",
            "causation",
            "attributes",
            "payload",
            "created",
        ],
        tail: "on conflict (seq) do nothing",
    };
    insert
        .run(connection, rows, |statement, row| {
            let envelope = &row.envelope;
            let created = row.seq.get_timestamp().map_or((0, 0), |time| time.to_unix());
            statement
                .bind(row.seq)
                .bind(owner.filter(|_| row.due.is_none()))
                .bind(row.due.map(micros))
                .bind(&row.key)
                .bind(row.destination.to_string())
                .bind(row.purpose.word())
                .bind(&envelope.id)
                .bind(&envelope.source)
                .bind(&envelope.ty)
                .bind(&envelope.causation_id)
                .bind(wire::attributes_json(envelope))
                .bind(&envelope.data[..])
                .bind(i64::try_from(created.0).unwrap_or_default() * 1_000_000 + i64::from(created.1 / 1_000))
        })
        .await
}

/// A letter that came before counts up, keeps its first time, and waits for an operator again.
pub(super) async fn letters(connection: &mut SqliteConnection, letters: &[&DeadLetter]) -> sqlx::Result<()> {
    let insert = Insert {
        table: "dead_letter",
        columns: &[
            "consumer", "source", "id", "attempt", "payload_hash", "state", "channel", "subscription", "type", "version",
            "reason", "error", "attributes", "payload", "count", "first_at", "last_at", "worker", "build",
        ],
        tail: "on conflict (consumer, source, id, attempt, payload_hash) do update set
               (state, channel, subscription, type, version, reason, error, attributes, payload, count, last_at, worker, build)
               = (excluded.state, excluded.channel, excluded.subscription, excluded.type, excluded.version, excluded.reason,
                  excluded.error, excluded.attributes, excluded.payload, dead_letter.count + excluded.count, excluded.last_at,
                  excluded.worker, excluded.build)",
    };
    insert
        .run(connection, letters, |statement, letter| {
            statement
                .bind(&letter.key.consumer)
                .bind(&letter.key.source)
                .bind(&letter.key.id)
                .bind(letter.key.attempt)
                .bind(letter.key.payload_hash.as_slice())
                .bind(letter.state.word())
                .bind(&letter.channel)
                .bind(&letter.subscription)
                .bind(&letter.ty)
                .bind(letter.version)
                .bind(&letter.reason)
                .bind(&letter.error)
                .bind(&letter.attributes)
                .bind(&letter.payload)
                .bind(letter.count)
                .bind(micros(letter.first_at))
                .bind(micros(letter.last_at))
                .bind(letter.worker)
                .bind(&letter.build)
        })
        .await
}

pub(super) async fn remove_rows(connection: &mut SqliteConnection, rows: &[Uuid]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let delete = sqlx::query("delete from outbox where seq in (select unhex(value) from json_each(?))");
    delete.bind(uuids(rows)).execute(connection).await.map(drop)
}

pub(super) async fn remove_claims(connection: &mut SqliteConnection, claimed: &[&Finished]) -> sqlx::Result<()> {
    if claimed.is_empty() {
        return Ok(());
    }
    let keys = array(claimed.iter().map(|m| json!([&*m.consumer, m.envelope.source, m.envelope.id])));
    let delete = sqlx::query(
        "delete from claim where (consumer, source, id) in
         (select value ->> 0, value ->> 1, value ->> 2 from json_each(?))",
    );
    delete.bind(keys).execute(connection).await.map(drop)
}
