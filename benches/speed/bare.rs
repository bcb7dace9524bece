//! The bare loops: what a person would write by hand against the same tables, without a runtime.
//!
//! They know one message and one handler, so that everything but the message itself is a constant in their statements.

use crate::{
    database::Bed,
    work::{Effect, OWN_SCHEMA, Sheet, Work, Worked},
};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use pitcrew::{
    clock,
    message::wire::Raw,
    sqlx::{
        self, AssertSqlSafe, Connection as _, PgConnection, PgPool,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{str::FromStr, sync::Arc};
use uuid::Uuid;

/// The statements of one effect, set-based; one message is an array of one.
pub(crate) struct Texts {
    inbox: Arc<str>,
    effect: Arc<str>,
    outbox: Arc<str>,
    delete: Arc<str>,
}

impl Texts {
    pub(crate) fn of(schema: &str, effect: Effect) -> Self {
        let inbox = format!(
            "insert into {schema}.inbox (key_time, id, source, payload_hash, at, subject, consumer, attempt, fate, type, version,
               duration_ms, worker, build)
             select u.*, 'bench.Work', 1, 'done', 'bench.Work', 1, 0.01, $7, '0.1.0' from unnest($1::timestamptz[], $2::text[],
               $3::text[], $4::bytea[], $5::timestamptz[], $6::text[]) u
             on conflict (key_time, id, consumer, source) do nothing"
        );
        let document = format!(
            "insert into {schema}.document as d (collection, id, schema, body)
             select 'sheet', n::text, 1, body::jsonb from unnest($1::int8[], $2::text[]) u (n, body)
             on conflict (collection, id) do update set body = excluded.body, version = d.version + 1"
        );
        let own = format!(
            "insert into {OWN_SCHEMA}.sheet (n, filler) select * from unnest($1::int8[], $2::text[])
             on conflict (n) do update set filler = excluded.filler"
        );
        let outbox = format!(
            "insert into {schema}.outbox (seq, id, causation, key, attributes, payload, owner, destination, purpose, source, type)
             select u.*, $7, 'channel:bench.events', 'message', '/bench', 'bench.Worked' from unnest($1::uuid[], $2::text[],
               $3::text[], $4::text[], $5::text[], $6::bytea[]) u"
        );
        Self {
            inbox: inbox.into(),
            effect: if effect == Effect::Row { own.into() } else { document.into() },
            outbox: outbox.into(),
            delete: format!("delete from {schema}.outbox where seq = any($1)").into(),
        }
    }
}

/// The rows of some messages, column by column.
#[derive(Default)]
pub(crate) struct Rows {
    key_time: Vec<DateTime<Utc>>,
    id: Vec<String>,
    source: Vec<String>,
    payload_hash: Vec<[u8; 32]>,
    at: Vec<DateTime<Utc>>,
    subject: Vec<String>,
    n: Vec<i64>,
    body: Vec<String>,
    seq: Vec<Uuid>,
    event_id: Vec<String>,
    attributes: Vec<String>,
    payload: Vec<Vec<u8>>,
}

impl Rows {
    /// Reads the messages and makes what a handler makes of them.
    pub(crate) fn of(messages: &[Arc<Raw>], effect: Effect) -> anyhow::Result<Self> {
        let mut rows = Self::default();
        for message in messages {
            rows.push(message, effect)?;
        }
        Ok(rows)
    }

    fn push(&mut self, message: &Raw, effect: Effect) -> anyhow::Result<()> {
        let header = |name: &str| -> anyhow::Result<String> {
            let value = message.headers.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.as_ref());
            Ok(std::str::from_utf8(value.with_context(|| format!("no header {name}"))?)?.to_owned())
        };
        let (id, source, subject) = (header("ce_id")?, header("ce_source")?, header("ce_subject")?);
        let (seconds, nanos) = Uuid::parse_str(&id)?.get_timestamp().context("not a UUIDv7")?.to_unix();
        let time = DateTime::from_timestamp(i64::try_from(seconds)?, nanos).context("a time")?;
        let work: Work = serde_json::from_slice(&message.body)?;
        let (n, at) = (work.n, clock::now());
        self.body.push(match effect {
            Effect::Row => work.filler.clone(),
            _ => serde_json::to_string(&Sheet { n, filler: work.filler.clone() })?,
        });
        self.payload.push(serde_json::to_vec(&Worked { n, filler: work.filler })?);
        let event = clock::uuid_v7().to_string();
        let attributes = json!({
            "ce_specversion": "1.0", "ce_id": event, "ce_source": "/bench", "ce_type": "bench.Worked", "ce_subject": subject,
            "ce_correlationid": id, "ce_causationid": id, "ce_schemaversion": "1", "ce_time": at, "content-type": "application/json",
        });
        self.attributes.push(attributes.to_string());
        self.seq.push(clock::uuid_v7());
        self.event_id.push(event);
        self.key_time.push(time);
        self.payload_hash.push(Sha256::digest(&message.body).into());
        self.at.push(at);
        self.n.push(i64::try_from(n)?);
        self.id.push(id);
        self.source.push(source);
        self.subject.push(subject);
        Ok(())
    }

    /// One transaction. `sent`: outbox rows of an earlier one, which a broker has confirmed.
    pub(crate) async fn commit(&self, on: &mut PgConnection, texts: &Texts, sent: &[Uuid]) -> anyhow::Result<()> {
        let mut tx = on.begin().await?;
        let hashes: Vec<&[u8]> = self.payload_hash.iter().map(<[u8; 32]>::as_slice).collect();
        let inbox = sqlx::query(AssertSqlSafe(texts.inbox.clone()))
            .bind(&self.key_time)
            .bind(&self.id)
            .bind(&self.source)
            .bind(hashes)
            .bind(&self.at)
            .bind(&self.subject)
            .bind(Uuid::nil())
            .execute(&mut *tx)
            .await?;
        anyhow::ensure!(inbox.rows_affected() == self.id.len() as u64, "a message came twice");
        let effect = sqlx::query(AssertSqlSafe(texts.effect.clone())).bind(&self.n).bind(&self.body);
        effect.execute(&mut *tx).await?;
        sqlx::query(AssertSqlSafe(texts.outbox.clone()))
            .bind(&self.seq)
            .bind(&self.event_id)
            .bind(&self.id)
            .bind(&self.subject)
            .bind(&self.attributes)
            .bind(&self.payload)
            .bind(Uuid::nil())
            .execute(&mut *tx)
            .await?;
        if !sent.is_empty() {
            delete(&mut tx, texts, sent).await?;
        }
        Ok(tx.commit().await?)
    }

    pub(crate) fn sent(&self) -> &[Uuid] {
        &self.seq
    }
}

pub(crate) async fn delete(on: &mut PgConnection, texts: &Texts, sent: &[Uuid]) -> anyhow::Result<()> {
    sqlx::query(AssertSqlSafe(texts.delete.clone())).bind(sent).execute(on).await?;
    Ok(())
}

/// Connections as the store makes them, all of them open.
pub(crate) async fn pool(url: &str, bed: &Bed, connections: u32) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(url)?.application_name(&bed.application_name).options([("jit", "off")]);
    let pool =
        PgPoolOptions::new().max_connections(connections).min_connections(connections).connect_with(options).await?;
    let mut all = Vec::new();
    for _ in 0..connections {
        all.push(pool.acquire().await?);
    }
    drop(all);
    Ok(pool)
}

/// What a lane of a bare loop is given: messages still to be read, or rows that were made beforehand.
pub(crate) enum Batch {
    Messages(Vec<Arc<Raw>>),
    Rows(Box<Rows>),
}

/// As many lanes as connections; each commits its batches one after another, and deletes what the one before it has sent.
pub(crate) async fn batches(
    pool: &PgPool,
    texts: Arc<Texts>,
    effect: Effect,
    lanes: Vec<Vec<Batch>>,
) -> anyhow::Result<()> {
    let lane = |batches: Vec<Batch>| {
        let (pool, texts) = (pool.clone(), texts.clone());
        tokio::spawn(async move {
            let mut connection = pool.acquire().await?;
            let mut sent = Vec::new();
            for batch in batches {
                let rows = match batch {
                    Batch::Messages(messages) => Rows::of(&messages, effect)?,
                    Batch::Rows(rows) => *rows,
                };
                rows.commit(&mut connection, &texts, &sent).await?;
                sent = rows.sent().to_vec();
            }
            delete(&mut connection, &texts, &sent).await
        })
    };
    for lane in lanes.into_iter().map(lane).collect::<Vec<_>>() {
        lane.await??;
    }
    Ok(())
}

/// One transaction a message. Its events are taken out of the outbox at the end, all at once: this arm pays nothing for a relay.
pub(crate) async fn singles(
    pool: &PgPool,
    texts: Arc<Texts>,
    effect: Effect,
    lanes: Vec<Vec<Arc<Raw>>>,
) -> anyhow::Result<Vec<Uuid>> {
    let lane = |messages: Vec<Arc<Raw>>| {
        let (pool, texts) = (pool.clone(), texts.clone());
        tokio::spawn(async move {
            let mut connection = pool.acquire().await?;
            let mut sent = Vec::new();
            for message in messages {
                let rows = Rows::of(&[message], effect)?;
                rows.commit(&mut connection, &texts, &[]).await?;
                sent.extend_from_slice(rows.sent());
            }
            anyhow::Ok(sent)
        })
    };
    let mut sent = Vec::new();
    for lane in lanes.into_iter().map(lane).collect::<Vec<_>>() {
        sent.extend(lane.await??);
    }
    Ok(sent)
}

/// `items` dealt to `lanes` in turn.
pub(crate) fn deal<T>(items: impl IntoIterator<Item = T>, lanes: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..lanes).map(|_| Vec::new()).collect();
    for (n, item) in items.into_iter().enumerate() {
        dealt[n % lanes].push(item);
    }
    dealt
}
