//! Heartbeat and Registry: who lives, which consumers there are, and what was begun and never ended.

use super::{
    PostgresStore,
    errors::Sure,
    inbox::{has_nul, u32_of},
};
use crate::{
    clock,
    store::{Alive, Hindered, InboxKey, Told, WorkerRecord},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Row, postgres::PgRow};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};
use uuid::Uuid;

const CLAIM: &str = "insert into {s}.claim as c (consumer, source, id, count, worker, at)
 select u.*, $5, $6 from unnest($1::text[], $2::text[], $3::text[], $4::int8[]) u
 on conflict (consumer, source, id) do update set count = c.count + excluded.count, worker = excluded.worker, at = excluded.at";

const CLAIMS: &str =
    "select consumer, source, id, c.count from unnest($1::text[], $2::text[], $3::text[]) u (consumer, source, id)
 join {s}.claim c using (consumer, source, id)";

const UNCLAIM: &str = "update {s}.claim c set count = c.count - u.count
 from unnest($1::text[], $2::text[], $3::text[], $4::int8[]) u (consumer, source, id, count)
 where c.consumer = u.consumer and c.source = u.source and c.id = u.id";

/// How long ago that was by this host's clock. Workers miss each other by the database's clock and tell it only ages: hosts whose
/// clocks disagree must not take each other for lost.
pub(super) fn ago(time: DateTime<Utc>) -> TimeDelta {
    clock::now() - time
}

/// Keys in order, each once, with how often it was named.
#[derive(Default)]
struct Keys<'a> {
    consumer: Vec<&'a str>,
    source: Vec<&'a str>,
    id: Vec<&'a str>,
    count: Vec<i64>,
}

impl<'a> Keys<'a> {
    fn of(keys: &'a [InboxKey]) -> Self {
        let mut counted: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
        for key in keys.iter().filter(|key| !has_nul(key)) {
            *counted.entry((&key.consumer, &key.source, &key.id)).or_default() += 1;
        }
        let mut columns = Self::default();
        for ((consumer, source, id), count) in counted {
            columns.consumer.push(consumer);
            columns.source.push(source);
            columns.id.push(id);
            columns.count.push(count);
        }
        columns
    }
}

impl PostgresStore {
    pub(super) async fn count_claims(&self, keys: &[InboxKey], worker: Uuid, now: DateTime<Utc>) -> Sure<()> {
        let columns = Keys::of(keys);
        sqlx::query(self.sql.get(CLAIM))
            .bind(columns.consumer)
            .bind(columns.source)
            .bind(columns.id)
            .bind(columns.count)
            .bind(worker)
            .bind(now)
            .execute(&self.other.get())
            .await?;
        Ok(())
    }

    pub(super) async fn read_claims(&self, keys: &[InboxKey]) -> Sure<Vec<u32>> {
        let columns = Keys::of(keys);
        let claims = sqlx::query(self.sql.get(CLAIMS)).bind(columns.consumer).bind(columns.source).bind(columns.id);
        let rows = claims.fetch_all(&self.other.get()).await?;
        let mut counts: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
        for row in &rows {
            counts.insert((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), u32_of(row.try_get(3)?));
        }
        let count = |key: &InboxKey| counts.get(&(&*key.consumer, &*key.source, &*key.id)).copied().unwrap_or_default();
        Ok(keys.iter().map(count).collect())
    }

    pub(super) async fn take_back_claims(&self, keys: &[InboxKey]) -> Sure<()> {
        let columns = Keys::of(keys);
        let mut tx = self.other.get().begin().await?;
        sqlx::query(self.sql.get(UNCLAIM))
            .bind(&columns.consumer)
            .bind(&columns.source)
            .bind(&columns.id)
            .bind(&columns.count)
            .execute(&mut *tx)
            .await?;
        sqlx::query(self.sql.get(
            "delete from {s}.claim c using unnest($1::text[], $2::text[], $3::text[]) u (consumer, source, id)
             where c.consumer = u.consumer and c.source = u.source and c.id = u.id and c.count <= 0",
        ))
        .bind(&columns.consumer)
        .bind(&columns.source)
        .bind(&columns.id)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn enter_worker(&self, worker: &WorkerRecord, now: DateTime<Utc>) -> Sure<()> {
        self.days.told(now);
        sqlx::query(self.sql.get(
            "insert into {s}.worker (id, service, place, build, started, seen) values ($1, $2, $3, $4, $5, statement_timestamp() - $6)
             on conflict (id) do update set seen = excluded.seen",
        ))
        .bind(worker.id)
        .bind(&worker.service)
        .bind(&worker.place)
        .bind(&worker.build)
        .bind(now)
        .bind(ago(now))
        .execute(&self.other.get())
        .await?;
        let mut builds = self.builds.write().unwrap_or_else(PoisonError::into_inner);
        builds.insert(worker.id, worker.build.as_str().into());
        Ok(())
    }

    pub(super) async fn seen_alive(&self, worker: Uuid, hindered: &[Hindered], now: DateTime<Utc>) -> Sure<bool> {
        self.days.told(now);
        let beat = "update {s}.worker set seen = statement_timestamp() - $2, hindered = $3 where id = $1";
        let done = sqlx::query(self.sql.get(beat))
            .bind(worker)
            .bind(ago(now))
            .bind(sqlx::types::Json(hindered))
            .execute(&self.other.get())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn what_hinders(&self, seen_since: DateTime<Utc>) -> Sure<Vec<Told>> {
        let rows = sqlx::query(self.sql.get(
            "select id, place, seen, hindered from {s}.worker
             where seen >= statement_timestamp() - $1 and hindered <> '[]' order by id",
        ))
        .bind(ago(seen_since))
        .fetch_all(&self.other.get())
        .await?;
        let told = |row: &PgRow| {
            let sqlx::types::Json(hindered) = row.try_get("hindered")?;
            Ok(Told { worker: row.try_get("id")?, place: row.try_get("place")?, at: row.try_get("seen")?, hindered })
        };
        Ok(rows.iter().map(told).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn who_lives(&self, now: DateTime<Utc>) -> Sure<Vec<Alive>> {
        let rows = sqlx::query(self.sql.get(
            "select id, service, place, build, started,
               extract(epoch from statement_timestamp() - $1 - seen)::float8 as silent
             from {s}.worker order by started, id",
        ))
        .bind(ago(now))
        .fetch_all(&self.other.get())
        .await?;
        let alive = |row: &PgRow| {
            let worker = WorkerRecord {
                id: row.try_get("id")?,
                service: row.try_get("service")?,
                place: row.try_get("place")?,
                build: row.try_get("build")?,
            };
            let silent = Duration::try_from_secs_f64(row.try_get("silent")?).unwrap_or_default();
            Ok(Alive { worker, started: row.try_get("started")?, silent })
        };
        Ok(rows.iter().map(alive).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn leave(&self, worker: Uuid) -> Sure<()> {
        let mut tx = self.other.get().begin().await?;
        for text in ["update {s}.outbox set owner = null where owner = $1", "delete from {s}.worker where id = $1"] {
            sqlx::query(self.sql.get(text)).bind(worker).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The build of a worker of this process: an inbox row says which one wrote it.
    pub(super) fn build_of(&self, worker: Uuid) -> Arc<str> {
        let builds = self.builds.read().unwrap_or_else(PoisonError::into_inner);
        builds.get(&worker).cloned().unwrap_or_default()
    }

    pub(super) async fn first_seen(&self, consumers: &[Arc<str>], now: DateTime<Utc>) -> Sure<Vec<DateTime<Utc>>> {
        let mut names: Vec<&str> = consumers.iter().map(|name| &**name).collect();
        names.sort_unstable();
        names.dedup();
        // Two statements: the second sees what another worker entered while the first waited for it.
        sqlx::query(self.sql.get(
            "insert into {s}.consumer (name, first_seen) select name, $2 from unnest($1::text[]) u (name)
             on conflict (name) do nothing",
        ))
        .bind(&names)
        .bind(now)
        .execute(&self.other.get())
        .await?;
        let text = self.sql.get("select name, first_seen from {s}.consumer where name = any($1)");
        let rows = sqlx::query(text).bind(&names).fetch_all(&self.other.get()).await?;
        let mut found = BTreeMap::new();
        for row in &rows {
            found.insert(row.try_get::<&str, _>(0)?, row.try_get(1)?);
        }
        Ok(consumers.iter().map(|name| found.get(&**name).copied().unwrap_or(now)).collect())
    }
}
