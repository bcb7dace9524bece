//! Dead Letter Channel: the one truth about what died, and what operators made of it.

use super::{PostgresStore, errors::Sure, inbox::u32_of, outbox::clamp};
use crate::{
    message::wire,
    store::{Audit, DeadFilter, DeadLetter, LetterHead, LetterKey, LetterState, OutboxRow, StoreError},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use std::{borrow::Cow, collections::BTreeMap};
use uuid::Uuid;

/// One that came before counts up, keeps its first time, and waits for an operator again.
const FILE: &str = "insert into {s}.dead_letter as l (id, consumer, source, attempt, payload_hash, state, channel, subscription, type,
    version, reason, error, attributes, payload, count, first_at, last_at, worker, build)
 select * from unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::int8[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::int8[], $16::timestamptz[], $17::timestamptz[],
    $18::uuid[], $19::text[])
 on conflict (id, consumer, source, attempt, payload_hash) do update set state = excluded.state, channel = excluded.channel,
    subscription = excluded.subscription, reason = excluded.reason, error = excluded.error, attributes = excluded.attributes,
    count = l.count + excluded.count, last_at = excluded.last_at, worker = excluded.worker, build = excluded.build";

macro_rules! list {
    ($columns:literal) => {
        concat!(
            "select ",
            $columns,
            " from {s}.dead_letter
 where (cardinality($1::text[]) = 0 or state = any($1)) and ($2::text is null or channel = $2) and ($3::text is null or type = $3)
   and ($4::text is null or reason = $4) and ($5::text is null or id = $5) and ($6::text is null or consumer = $6)
   and ($7::timestamptz is null or last_at <= $7) and ($8::timestamptz is null or last_at >= $8)
 order by last_at desc, id limit $9"
        )
    };
}
const HEADS: &str = list!(
    "id, consumer, source, attempt, payload_hash, state, channel, subscription, type, version, reason, error,
    attributes, count, first_at, last_at, worker, build"
);
const LIST: &str = list!(
    "id, consumer, source, attempt, payload_hash, state, channel, subscription, type, version, reason, error,
    attributes, count, first_at, last_at, worker, build, payload"
);

pub(super) const RESOLVE: &str = "update {s}.dead_letter set state = $6
 where id = $1 and consumer = $2 and source = $3 and attempt = $4 and payload_hash = $5 and state in ('dead', 'quarantined')
 returning attributes, payload";

#[derive(Default)]
struct Columns<'a> {
    id: Vec<Cow<'a, str>>,
    consumer: Vec<Cow<'a, str>>,
    source: Vec<Cow<'a, str>>,
    attempt: Vec<i64>,
    payload_hash: Vec<&'a [u8]>,
    state: Vec<&'a str>,
    channel: Vec<Cow<'a, str>>,
    subscription: Vec<Cow<'a, str>>,
    ty: Vec<Cow<'a, str>>,
    version: Vec<i64>,
    reason: Vec<Cow<'a, str>>,
    error: Vec<Cow<'a, str>>,
    attributes: Vec<Cow<'a, str>>,
    payload: Vec<&'a [u8]>,
    count: Vec<i64>,
    first_at: Vec<DateTime<Utc>>,
    last_at: Vec<DateTime<Utc>>,
    worker: Vec<Uuid>,
    build: Vec<Cow<'a, str>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, letter: &'a DeadLetter, count: u32, first_at: DateTime<Utc>) {
        self.id.push(clean(&letter.key.id));
        self.consumer.push(clean(&letter.key.consumer));
        self.source.push(clean(&letter.key.source));
        self.attempt.push(letter.key.attempt.into());
        self.payload_hash.push(&letter.key.payload_hash);
        self.state.push(letter.state.word());
        self.channel.push(clean(&letter.channel));
        self.subscription.push(clean(&letter.subscription));
        self.ty.push(clean(&letter.ty));
        self.version.push(letter.version.into());
        self.reason.push(clean(&letter.reason));
        self.error.push(clean(&letter.error));
        self.attributes.push(clean(&letter.attributes));
        self.payload.push(&letter.payload);
        self.count.push(count.into());
        self.first_at.push(first_at);
        self.last_at.push(letter.last_at);
        self.worker.push(letter.worker);
        self.build.push(clean(&letter.build));
    }
}

impl PostgresStore {
    /// Files letters, each key once, sorted.
    pub(super) async fn file<'a>(
        &self,
        tx: &mut PgConnection,
        letters: impl Iterator<Item = &'a DeadLetter>,
    ) -> Sure<()> {
        let mut last: BTreeMap<_, (&DeadLetter, u32, DateTime<Utc>)> = BTreeMap::new();
        for letter in letters {
            let LetterKey { consumer, source, id, attempt, payload_hash } = &letter.key;
            let key = (id, consumer, source, attempt, payload_hash);
            let (count, first_at) = last.get(&key).map_or((0, letter.first_at), |(_, count, first)| (*count, *first));
            last.insert(key, (letter, letter.count.saturating_add(count), first_at));
        }
        if last.is_empty() {
            return Ok(());
        }
        let mut columns = Columns::default();
        for (letter, count, first_at) in last.into_values() {
            columns.push(letter, count, first_at);
        }
        sqlx::query(self.sql.get(FILE))
            .bind(columns.id)
            .bind(columns.consumer)
            .bind(columns.source)
            .bind(columns.attempt)
            .bind(columns.payload_hash)
            .bind(columns.state)
            .bind(columns.channel)
            .bind(columns.subscription)
            .bind(columns.ty)
            .bind(columns.version)
            .bind(columns.reason)
            .bind(columns.error)
            .bind(columns.attributes)
            .bind(columns.payload)
            .bind(columns.count)
            .bind(columns.first_at)
            .bind(columns.last_at)
            .bind(columns.worker)
            .bind(columns.build)
            .execute(tx)
            .await?;
        Ok(())
    }

    pub(super) async fn list_letters(&self, filter: &DeadFilter, limit: usize) -> Sure<Vec<DeadLetter>> {
        self.list(LIST, filter, limit).await?.iter().map(read).collect()
    }

    pub(super) async fn list_heads(&self, filter: &DeadFilter, limit: usize) -> Sure<Vec<LetterHead>> {
        self.list(HEADS, filter, limit).await?.iter().map(read_head).collect()
    }

    async fn list(&self, what: &'static str, filter: &DeadFilter, limit: usize) -> Sure<Vec<PgRow>> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.word()).collect();
        let rows = sqlx::query(self.sql.get(what))
            .bind(states)
            .bind(&filter.channel)
            .bind(&filter.ty)
            .bind(&filter.reason)
            .bind(&filter.id)
            .bind(&filter.consumer)
            .bind(filter.until)
            .bind(filter.since)
            .bind(clamp(limit));
        Ok(rows.fetch_all(&self.other.get()).await?)
    }

    pub(super) async fn resolve(
        &self,
        key: &LetterKey,
        state: LetterState,
        rows: &[OutboxRow],
        audit: &Audit,
    ) -> Sure<bool> {
        let mut tx = self.other.get().begin().await?;
        let letter = sqlx::query(self.sql.get(RESOLVE))
            .bind(&key.id)
            .bind(&key.consumer)
            .bind(&key.source)
            .bind(i64::from(key.attempt))
            .bind(&key.payload_hash[..])
            .bind(state.word())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(letter) = letter else { return Ok(false) };
        self.write_outbox(&mut tx, None, rows.iter()).await?;
        if state == LetterState::Discarded {
            self.release_operation(&mut tx, key, &letter).await?;
        }
        self.insert_audit(&mut tx, audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The business operation that a discarded message held may be asked for again.
    async fn release_operation(&self, tx: &mut PgConnection, key: &LetterKey, letter: &PgRow) -> Sure<()> {
        let envelope = wire::from_attributes_json(letter.try_get(0)?, Bytes::new());
        // A letter of bytes that are no message has no envelope, and held nothing.
        let Some(operation) = envelope.ok().and_then(|envelope| envelope.idempotency_key) else { return Ok(()) };
        sqlx::query(self.sql.get(
            "update {s}.operation set fate = 'discarded'
             where consumer = $1 and key = $2 and source = $3 and id = $4 and fate <> 'done'",
        ))
        .bind(&key.consumer)
        .bind(operation)
        .bind(&key.source)
        .bind(&key.id)
        .execute(tx)
        .await?;
        Ok(())
    }

    pub(super) async fn letters_of(&self, on: &mut PgConnection, id: &str) -> Sure<Vec<DeadLetter>> {
        let rows = sqlx::query(self.sql.get(
            "select id, consumer, source, attempt, payload_hash, state, channel, subscription, type, version, reason, error,
                attributes, count, first_at, last_at, worker, build, payload
             from {s}.dead_letter where id = $1 order by first_at, attempt",
        ))
        .bind(id)
        .fetch_all(on)
        .await?;
        rows.iter().map(read).collect()
    }
}

/// Text that the database can hold: the last resort of what is kept must not be refused for a NUL in an error or a header.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

fn read(row: &PgRow) -> Sure<DeadLetter> {
    Ok(read_head(row)?.with_payload(row.try_get(18)?))
}

fn read_head(row: &PgRow) -> Sure<LetterHead> {
    let odd = |what: &str| StoreError::Unfit(format!("a dead letter cannot be read by this build: its {what}"));
    let hash: &[u8] = row.try_get(4)?;
    Ok(LetterHead {
        key: LetterKey {
            id: row.try_get(0)?,
            consumer: row.try_get(1)?,
            source: row.try_get(2)?,
            attempt: u32_of(row.try_get(3)?),
            payload_hash: hash.try_into().map_err(|_| odd("payload hash"))?,
        },
        state: LetterState::of_word(row.try_get(5)?).ok_or_else(|| odd("state"))?,
        channel: row.try_get(6)?,
        subscription: row.try_get(7)?,
        ty: row.try_get(8)?,
        version: u32_of(row.try_get(9)?),
        reason: row.try_get(10)?,
        error: row.try_get(11)?,
        attributes: row.try_get(12)?,
        count: u32_of(row.try_get(13)?),
        first_at: row.try_get(14)?,
        last_at: row.try_get(15)?,
        worker: row.try_get(16)?,
        build: row.try_get(17)?,
    })
}
