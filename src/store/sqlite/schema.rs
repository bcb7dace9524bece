//! Migrations: the tables of this build, in one transaction, safe to race.

use super::SqliteStore;
use crate::store::{About, Migrated, StoreError, StoreResult};
use sqlx::{Executor, SqliteConnection};

/// Expand-only: a migration may be undone by nobody, and the release before must still work on it.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/sqlite/0001_tables.sql"), //
    include_str!("../migrations/sqlite/0002_hindered.sql"),
    include_str!("../migrations/sqlite/0003_triage.sql"),
];

/// The version of this build.
const VERSION: u32 = MIGRATIONS.len() as u32;

/// The oldest build's version that may still work on a database that this build has migrated.
const MIN_SCHEMA: u32 = 1;

/// Every table that is pitcrew's.
pub(super) const TABLES: [&str; 13] = [
    "meta",
    "inbox",
    "attempt",
    "operation",
    "document",
    "outbox",
    "dead_letter",
    "claim",
    "worker",
    "consumer",
    "audit",
    "dead_replay",
    "dead_replay_letter",
];

pub(super) async fn migrate(store: &SqliteStore) -> StoreResult<Migrated> {
    let mut tx = store.answer(store.begin_write().await)?;
    let schema = known(store, &mut tx).await?;
    let todo = MIGRATIONS.iter().skip(schema as usize);
    if todo.len() == 0 {
        return Ok(Migrated { from: schema, to: schema });
    }
    if schema == 0 {
        refuse_foreign(store, &mut tx).await?;
        store.answer(
            tx.execute("create table meta (key text not null primary key, value integer not null) strict").await,
        )?;
    }
    for migration in todo {
        store.answer(sqlx::raw_sql(*migration).execute(&mut *tx).await)?;
    }
    for (key, value) in [("schema", VERSION), ("min_schema", MIN_SCHEMA)] {
        let put = sqlx::query(
            "insert into meta values (?, ?) on conflict (key) do update set value = max(value, excluded.value)",
        );
        store.answer(put.bind(key).bind(value).execute(&mut *tx).await)?;
    }
    store.answer(tx.commit().await)?;
    Ok(Migrated { from: schema, to: VERSION })
}

pub(super) async fn about(store: &SqliteStore) -> StoreResult<About> {
    let mut connection = store.answer(store.reader().await)?;
    let schema = known(store, &mut connection).await?;
    let version = sqlx::query_scalar("select sqlite_version()").fetch_one(&mut *connection).await;
    let server = format!("SQLite {}", store.answer::<String>(version)?);
    Ok(About { server, schema, wanted: VERSION, connections: None })
}

/// The database's schema, 0 where there is none yet. Refuses one that this build is too old for.
async fn known(store: &SqliteStore, connection: &mut SqliteConnection) -> StoreResult<u32> {
    match store.answer(version(connection).await)? {
        Some((schema, min_schema)) if min_schema > VERSION => {
            let file = store.path().display();
            Err(StoreError::Unfit(format!(
                "the database {file} has schema {schema} and needs a build that knows at least {min_schema}; this one knows \
                 {VERSION}: use the newer build"
            )))
        }
        found => Ok(found.map_or(0, |(schema, _)| schema)),
    }
}

/// The database's schema and `min_schema`; `None` where there is none yet.
async fn version(connection: &mut SqliteConnection) -> sqlx::Result<Option<(u32, u32)>> {
    if !has_table(connection, "meta").await? {
        return Ok(None);
    }
    let value =
        "select (select value from meta where key = 'schema'), (select value from meta where key = 'min_schema')";
    sqlx::query_as(value).fetch_optional(connection).await
}

async fn has_table(connection: &mut SqliteConnection, table: &str) -> sqlx::Result<bool> {
    let exists = "select exists (select 1 from sqlite_schema where name = ? collate nocase)";
    sqlx::query_scalar(exists).bind(table).fetch_one(connection).await
}

/// An author's own table may have the name of one of ours.
async fn refuse_foreign(store: &SqliteStore, connection: &mut SqliteConnection) -> StoreResult<()> {
    for table in TABLES {
        if store.answer(has_table(connection, table).await)? {
            let file = store.path().display();
            return Err(StoreError::Unfit(format!(
                "the database {file} has a table `{table}` that is not pitcrew's; rename it or give pitcrew a file of its own"
            )));
        }
    }
    Ok(())
}
