//! Workers written by hand, the half that is the same on every broker: their tables, one transaction a message or a batch, and a
//! relay that polls its outbox.
//!
//! Written as a good engineer would in an afternoon: every promise of the happy path is kept (a message that comes twice has one
//! effect, an event leaves after its commit and until it is confirmed), and there are no retries, dead letters, deadlines or
//! ordering, which the next weeks would bring.

use crate::{
    database::Database,
    kafka, rabbitmq,
    site::{Kind, Site},
    work::{Work, Worked},
};
use anyhow::{Context as _, ensure};
use pitcrew::{
    clock,
    sqlx::{
        self, AssertSqlSafe, Connection as _, PgConnection, PgPool,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};
use serde::{Deserialize, Serialize};
use std::{str::FromStr, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Handlers, and transactions, at once: more gain nothing on two processors.
pub(crate) const AT_ONCE: usize = 16;
/// Messages in a batch of the worker that works in batches.
pub(crate) const BATCH: usize = 256;
/// Rows in one turn of the relay.
const RELAYED: i64 = 256;
/// How long a relay that found nothing waits.
const POLL: Duration = Duration::from_millis(50);

/// Which of them.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Hand {
    /// One transaction a message.
    Single,
    /// Batches of what has arrived.
    Batches,
}

impl Hand {
    /// One of them is the relay's.
    pub(crate) fn connections(self) -> usize {
        1 + if self == Self::Single { AT_ONCE } else { 1 }
    }

    /// Works until `stop`. `begun` is cancelled with the first message.
    pub(crate) async fn work(
        self,
        site: Site,
        tables: Tables,
        begun: CancellationToken,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        match (site.broker.kind, self) {
            (Kind::RabbitMq, Self::Single) => rabbitmq::worker(site, tables, begun, stop).await,
            (Kind::RabbitMq, Self::Batches) => rabbitmq::batches(site, tables, begun, stop).await,
            (Kind::Kafka, Self::Single) => kafka::worker(site, tables, begun, stop).await,
            (Kind::Kafka, Self::Batches) => kafka::batches(site, tables, begun, stop).await,
        }
    }
}

/// A command as it came.
pub(crate) struct Incoming {
    pub(crate) id: Uuid,
    pub(crate) work: Work,
}

impl Incoming {
    pub(crate) fn of(id: &str, body: &[u8]) -> anyhow::Result<Self> {
        Ok(Self { id: Uuid::parse_str(id).context("the message's id")?, work: serde_json::from_slice(body)? })
    }
}

/// An event in the outbox.
pub(crate) struct Outgoing {
    pub(crate) id: Uuid,
    pub(crate) causation: Uuid,
    pub(crate) subject: String,
    pub(crate) payload: Vec<u8>,
}

/// The way out to a broker.
pub(crate) trait Out: Send + 'static {
    /// Returns when the broker has confirmed all of them.
    fn publish(&self, rows: &[Outgoing]) -> impl Future<Output = anyhow::Result<()>> + Send;
}

struct Texts {
    inbox: Arc<str>,
    document: Arc<str>,
    outbox: Arc<str>,
    take: Arc<str>,
    delete: Arc<str>,
}

/// The tables of one arm.
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) schema: String,
    pool: PgPool,
    texts: Arc<Texts>,
}

impl Tables {
    /// New ones; their connections bear the schema's name.
    pub(crate) async fn make(database: &Database, connections: usize) -> anyhow::Result<Self> {
        let schema = format!("hand_{}", clock::uuid_v7().simple());
        let tables = format!(
            "create schema {schema};
             create table {schema}.inbox (message_id uuid primary key, at timestamptz not null default now());
             create table {schema}.document (id bigint primary key, body jsonb not null, version int not null default 1);
             create table {schema}.outbox (seq bigint generated always as identity primary key, id uuid not null,
               causation uuid not null, subject text not null, payload bytea not null)"
        );
        sqlx::raw_sql(AssertSqlSafe(tables)).execute(&database.admin).await.context("making tables by hand")?;
        Self::open(&database.url, &schema, connections).await
    }

    /// Those that were made by another process.
    pub(crate) async fn open(url: &str, schema: &str, connections: usize) -> anyhow::Result<Self> {
        let address = PgConnectOptions::from_str(url)?.application_name(schema).options([("jit", "off")]);
        let connections = u32::try_from(connections)?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .min_connections(connections)
            .test_before_acquire(false) // a round trip a message, for nothing
            .connect_with(address)
            .await?;
        let mut all = Vec::new();
        for _ in 0..connections {
            all.push(pool.acquire().await?);
        }
        drop(all);
        let texts = Texts {
            inbox: format!("insert into {schema}.inbox (message_id) select unnest($1::uuid[]) on conflict do nothing returning message_id").into(),
            document: format!(
                "insert into {schema}.document as d (id, body) select id, body::jsonb from unnest($1::int8[], $2::text[]) u (id, body)
                 on conflict (id) do update set body = excluded.body, version = d.version + 1"
            )
            .into(),
            outbox: format!(
                "insert into {schema}.outbox (id, causation, subject, payload)
                 select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[])"
            )
            .into(),
            take: format!("select * from {schema}.outbox order by seq limit $1 for update skip locked").into(),
            delete: format!("delete from {schema}.outbox where seq = any($1)").into(),
        };
        Ok(Self { schema: schema.to_owned(), pool, texts: Arc::new(texts) })
    }

    /// All of them in one transaction; what came before has no effect. A batch of one is a message of its own. The answer: the
    /// events that stand in the outbox now.
    pub(crate) async fn handle(&self, messages: &[Incoming]) -> anyhow::Result<Vec<Outgoing>> {
        let mut tx = self.pool.begin().await?;
        let ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
        let texts = &self.texts;
        let fresh: Vec<Uuid> =
            sqlx::query_scalar(AssertSqlSafe(texts.inbox.clone())).bind(&ids).fetch_all(&mut *tx).await?;
        let fresh: std::collections::HashSet<Uuid> = fresh.into_iter().collect();
        let (mut numbers, mut bodies, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for Incoming { id, work } in messages.iter().filter(|message| fresh.contains(&message.id)) {
            numbers.push(i64::try_from(work.n)?);
            bodies.push(serde_json::to_string(work)?);
            let payload = serde_json::to_vec(&Worked { n: work.n, filler: work.filler.clone() })?;
            let (id, causation, subject) = (clock::uuid_v7(), *id, format!("s{}", work.n));
            events.push(Outgoing { id, causation, subject, payload });
        }
        sqlx::query(AssertSqlSafe(texts.document.clone())).bind(&numbers).bind(&bodies).execute(&mut *tx).await?;
        sqlx::query(AssertSqlSafe(texts.outbox.clone()))
            .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
            .bind(events.iter().map(|event| event.causation).collect::<Vec<_>>())
            .bind(events.iter().map(|event| &*event.subject).collect::<Vec<_>>())
            .bind(events.iter().map(|event| &*event.payload).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(events)
    }

    /// The next events, published and deleted. `false`: there were none.
    async fn relay_once(&self, on: &mut PgConnection, out: &impl Out) -> anyhow::Result<bool> {
        let mut tx = on.begin().await?;
        let take = sqlx::query_as(AssertSqlSafe(self.texts.take.clone())).bind(RELAYED);
        let rows: Vec<(i64, Uuid, Uuid, String, Vec<u8>)> = take.fetch_all(&mut *tx).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let sent: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let event = |(_, id, causation, subject, payload)| Outgoing { id, causation, subject, payload };
        out.publish(&rows.into_iter().map(event).collect::<Vec<_>>()).await?;
        sqlx::query(AssertSqlSafe(self.texts.delete.clone())).bind(&sent).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Publishes what is in the outbox until `stop`.
    pub(crate) async fn relay(self, out: impl Out, stop: CancellationToken) -> anyhow::Result<()> {
        let mut connection = self.pool.acquire().await?;
        loop {
            if self.relay_once(&mut connection, &out).await? {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Whoever published these at once needs no relay to.
    pub(crate) async fn delete(&self, sent: &[Outgoing]) -> anyhow::Result<()> {
        let ids: Vec<Uuid> = sent.iter().map(|event| event.id).collect();
        let delete = format!("delete from {}.outbox where id = any($1)", self.schema);
        sqlx::query(AssertSqlSafe(delete)).bind(ids).execute(&self.pool).await?;
        Ok(())
    }

    /// Nothing lost, nothing double.
    pub(crate) async fn check(&self, database: &Database, n: usize) -> anyhow::Result<()> {
        let schema = &self.schema;
        let count = format!(
            "select (select count(*) from {schema}.inbox), (select count(*) from {schema}.document where version = 1),
               (select count(*) from {schema}.document), (select count(*) from {schema}.outbox)"
        );
        let counts: (i64, i64, i64, i64) = sqlx::query_as(AssertSqlSafe(count)).fetch_one(&database.admin).await?;
        let n = i64::try_from(n)?;
        ensure!(counts == (n, n, n, 0), "by hand: inbox, effects done once, effects, outbox are {counts:?}, not {n}");
        Ok(())
    }

    pub(crate) async fn clear(self, database: &Database) -> anyhow::Result<()> {
        self.pool.close().await;
        let drop = format!("drop schema {} cascade", self.schema);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&database.admin).await?;
        Ok(())
    }
}
