//! The living: workers, their claims, and the consumers that they run.

use super::{SqliteStore, bulk::array, decode, micros};
use crate::{
    clock,
    store::{Alive, Hindered, InboxKey, Told, WorkerRecord},
};
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Row as _, sqlite::SqliteRow, types::Json};
use std::sync::Arc;
use uuid::Uuid;

pub(super) async fn start(store: &SqliteStore, worker: &WorkerRecord, now: DateTime<Utc>) -> sqlx::Result<()> {
    let mut tx = store.begin_write().await?;
    sqlx::query("delete from worker").execute(&mut *tx).await?;
    let insert =
        sqlx::query("insert into worker (id, service, place, build, started, beat) values (?1, ?2, ?3, ?4, ?5, ?5)");
    let insert = insert.bind(worker.id).bind(&worker.service).bind(&worker.place).bind(&worker.build).bind(micros(now));
    insert.execute(&mut *tx).await?;
    tx.commit().await
}

pub(super) async fn beat(
    store: &SqliteStore,
    worker: Uuid,
    hindered: &[Hindered],
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let mut tx = store.begin_write().await?;
    let update = sqlx::query("update worker set beat = ?, hindered = ? where id = ?");
    let update = update.bind(micros(now)).bind(Json(hindered)).bind(worker);
    let alive = update.execute(&mut *tx).await?.rows_affected() > 0;
    tx.commit().await?;
    Ok(alive)
}

pub(super) async fn hindered(store: &SqliteStore, seen_since: DateTime<Utc>) -> sqlx::Result<Vec<Told>> {
    let select = "select id, place, beat, hindered from worker where beat >= ? and hindered <> '[]' order by id";
    let rows = sqlx::query(select).bind(micros(seen_since)).fetch_all(store.readers()?).await?;
    let told = |row: &SqliteRow| {
        let Json(hindered) = row.try_get("hindered")?;
        let at = decode::time(row, "beat")?;
        Ok(Told { worker: row.try_get("id")?, place: row.try_get("place")?, at, hindered })
    };
    rows.iter().map(told).collect()
}

pub(super) async fn all(store: &SqliteStore, now: DateTime<Utc>) -> sqlx::Result<Vec<Alive>> {
    let select = "select id, service, place, build, started, beat from worker order by started, id";
    let rows = sqlx::query(select).fetch_all(store.readers()?).await?;
    let alive = |row: &SqliteRow| {
        let worker = WorkerRecord {
            id: row.try_get("id")?,
            service: row.try_get("service")?,
            place: row.try_get("place")?,
            build: row.try_get("build")?,
        };
        let silent = clock::between(decode::time(row, "beat")?, now);
        Ok(Alive { worker, started: decode::time(row, "started")?, silent })
    };
    rows.iter().map(alive).collect()
}

pub(super) async fn end(store: &SqliteStore, worker: Uuid) -> sqlx::Result<()> {
    let mut tx = store.begin_write().await?;
    sqlx::query("delete from worker where id = ?").bind(worker).execute(&mut *tx).await?;
    sqlx::query("update outbox set owner = null where owner = ?").bind(worker).execute(&mut *tx).await?;
    tx.commit().await
}

pub(super) async fn register(
    store: &SqliteStore,
    consumers: &[Arc<str>],
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<DateTime<Utc>>> {
    let mut tx = store.begin_write().await?;
    let mut seen = Vec::with_capacity(consumers.len());
    for consumer in consumers {
        // A `do update` that changes nothing, because only a row that is written is returned.
        let insert = sqlx::query(
            "insert into consumer (name, first_seen) values (?, ?)
             on conflict (name) do update set first_seen = first_seen returning first_seen",
        );
        let row = insert.bind(&**consumer).bind(micros(now)).fetch_one(&mut *tx).await?;
        seen.push(decode::time(&row, "first_seen")?);
    }
    tx.commit().await?;
    Ok(seen)
}

pub(super) async fn claim(
    store: &SqliteStore,
    keys: &[InboxKey],
    worker: Uuid,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let mut tx = store.begin_write().await?;
    for key in keys {
        let insert = sqlx::query(
            "insert into claim (consumer, source, id, count, worker, at) values (?, ?, ?, 1, ?, ?)
             on conflict (consumer, source, id) do update set (count, worker, at) = (count + 1, excluded.worker, excluded.at)",
        );
        let insert = insert.bind(&*key.consumer).bind(&key.source).bind(&key.id).bind(worker).bind(micros(now));
        insert.execute(&mut *tx).await?;
    }
    tx.commit().await
}

pub(super) async fn claims(store: &SqliteStore, keys: &[InboxKey]) -> sqlx::Result<Vec<u32>> {
    let select = sqlx::query(
        "select k.key, c.count from json_each(?) k cross join claim c
         on c.consumer = k.value ->> 0 and c.source = k.value ->> 1 and c.id = k.value ->> 2",
    );
    let keys_json = array(keys.iter().map(|key| json!([&*key.consumer, key.source, key.id])));
    let mut counts = vec![0; keys.len()];
    for row in select.bind(keys_json).fetch_all(store.readers()?).await? {
        if let Some(count) = counts.get_mut(row.try_get::<u32, _>(0)? as usize) {
            *count = row.try_get(1)?;
        }
    }
    Ok(counts)
}

pub(super) async fn unclaim(store: &SqliteStore, keys: &[InboxKey]) -> sqlx::Result<()> {
    let keys = array(keys.iter().map(|key| json!([&*key.consumer, key.source, key.id])));
    let its = "(select value ->> 0, value ->> 1, value ->> 2 from json_each(?))";
    let mut tx = store.begin_write().await?;
    for sql in ["update claim set count = count - 1 where", "delete from claim where count = 0 and"] {
        let sql = sqlx::AssertSqlSafe(format!("{sql} (consumer, source, id) in {its}"));
        sqlx::query(sql).bind(&keys).execute(&mut *tx).await?;
    }
    tx.commit().await
}
