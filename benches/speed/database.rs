//! A Postgres with a fresh schema for every arm, and the checker: what must stand in it when an arm has ended.

use crate::{
    broker::Tally,
    work::{Effect, OWN_SCHEMA},
};
use anyhow::{Context as _, ensure};
use pitcrew::{
    clock,
    sqlx::{self, AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgPoolOptions},
    store::{
        Retention, Store,
        postgres::{Options, PostgresStore},
    },
};
use std::{sync::Arc, time::Duration};

/// The server of `PITCREW_POSTGRES_URL`.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) admin: PgPool,
    /// Holds the lock that keeps a second bench out of the author's schema.
    _lock: PgConnection,
}

/// One arm's schema, migrated and with partitions.
pub(crate) struct Bed {
    pub(crate) schema: String,
    pub(crate) store: Arc<PostgresStore>,
    /// Connections of the worker, or of the bare loop.
    pub(crate) application_name: String,
}

impl Database {
    /// `None`: there is none to be measured.
    pub(crate) async fn connect() -> anyhow::Result<Option<Self>> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else { return Ok(None) };
        let admin = PgPoolOptions::new().max_connections(2).connect(&url).await.context("reaching Postgres")?;
        let mut lock = PgConnection::connect(&url).await?;
        let alone: bool =
            sqlx::query_scalar("select pg_try_advisory_lock(hashtext('pitcrew bench'))").fetch_one(&mut lock).await?;
        ensure!(alone, "another run of this bench is at work in this database; wait for its end");
        let own = format!(
            "drop schema if exists {OWN_SCHEMA} cascade; create schema {OWN_SCHEMA};
             create table {OWN_SCHEMA}.sheet (n bigint primary key, filler text not null, writes int not null default 1);
             create function {OWN_SCHEMA}.count() returns trigger language plpgsql as
               'begin new.writes := old.writes + 1; return new; end';
             create trigger count before update on {OWN_SCHEMA}.sheet for each row execute function {OWN_SCHEMA}.count()"
        );
        sqlx::raw_sql(AssertSqlSafe(own)).execute(&admin).await.context("making the author's table")?;
        Ok(Some(Self { url, admin, _lock: lock }))
    }

    /// What the figures depend on.
    pub(crate) async fn description(&self) -> anyhow::Result<String> {
        let settings =
            "select 'Postgres ' || current_setting('server_version') || ', fsync ' || current_setting('fsync')
            || ', synchronous_commit ' || current_setting('synchronous_commit')
            || ', shared_buffers ' || current_setting('shared_buffers')";
        Ok(sqlx::query_scalar(settings).fetch_one(&self.admin).await?)
    }

    /// A schema of its own for one arm; the author's table is empty.
    pub(crate) async fn bed(&self) -> anyhow::Result<Bed> {
        let schema = format!("bench_{}", clock::uuid_v7().simple());
        let bed = self.open(&schema).await?;
        let store = &bed.store;
        store.migrate().await?;
        let days = |days: u64| Duration::from_hours(days * 24);
        let retention = Retention { inbox: days(14), letters: days(90), audit: days(400), sink: None };
        store.maintain(&retention, clock::now()).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("truncate {OWN_SCHEMA}.sheet"))).execute(&self.admin).await?;
        Ok(bed)
    }

    /// The schema of `bed` once more: a worker that ends closes its store.
    pub(crate) async fn again(&self, bed: &Bed) -> anyhow::Result<Bed> {
        self.open(&bed.schema).await
    }

    async fn open(&self, schema: &str) -> anyhow::Result<Bed> {
        let options = Options { schema: schema.into(), application_name: schema.into(), ..Options::default() };
        let store = Arc::new(PostgresStore::connect(&self.url, options).await?);
        Ok(Bed { application_name: schema.into(), schema: schema.into(), store })
    }

    /// What is written from now on is written ahead as whole pages the first time.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        sqlx::raw_sql("checkpoint").execute(&self.admin).await.context("a checkpoint, which a superuser may make")?;
        Ok(())
    }

    /// Bytes that were ever written ahead.
    pub(crate) async fn wal(&self) -> anyhow::Result<i64> {
        let written = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";
        Ok(sqlx::query_scalar(written).fetch_one(&self.admin).await?)
    }

    /// Connections that are open under this name.
    pub(crate) async fn connections(&self, application_name: &str) -> anyhow::Result<i64> {
        let count = "select count(*) from pg_stat_activity where application_name = $1";
        Ok(sqlx::query_scalar(count).bind(application_name).fetch_one(&self.admin).await?)
    }

    /// Nothing lost, nothing double: `n` messages with this effect, each once.
    pub(crate) async fn check(&self, bed: &Bed, effect: Effect, n: usize) -> anyhow::Result<()> {
        self.check_filled(bed, effect, n, 0).await
    }

    /// As [`check`](Self::check), beside so many inbox rows that were there before.
    pub(crate) async fn check_filled(&self, bed: &Bed, effect: Effect, n: usize, before: i64) -> anyhow::Result<()> {
        let count = async |of: String| -> anyhow::Result<i64> {
            Ok(sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {of}"))).fetch_one(&self.admin).await?)
        };
        let (schema, n) = (&bed.schema, i64::try_from(n)?);
        ensure!(
            count(format!("{schema}.inbox where fate = 'done'")).await? == before + n,
            "{n} inbox rows were to be done"
        );
        ensure!(count(format!("{schema}.inbox where fate <> 'done'")).await? == 0, "no other inbox row was to be");
        ensure!(count(format!("{schema}.outbox")).await? == 0, "the outbox was to be empty");
        ensure!(count(format!("{schema}.dead_letter")).await? == 0, "nothing was to be dead");
        let once = match effect {
            Effect::Document => count(format!("{schema}.document where version = 1")).await?,
            Effect::Row => count(format!("{OWN_SCHEMA}.sheet where writes = 1")).await?,
            Effect::Wait => n,
        };
        ensure!(once == n, "{n} effects were to be there once each, {once} are");
        Ok(())
    }

    /// Takes the schema of an arm away.
    pub(crate) async fn clear(&self, bed: Bed) -> anyhow::Result<()> {
        bed.store.close().await;
        let drop = format!("drop schema {} cascade", bed.schema);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&self.admin).await?;
        Ok(())
    }

    /// Leaves nothing behind.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let drop = format!("drop schema {OWN_SCHEMA} cascade");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&self.admin).await?;
        self.admin.close().await;
        Ok(())
    }
}

/// What must have gone through the broker: everything acked once, every event published once.
pub(crate) fn check_broker(tally: Tally, effect: Effect, n: usize) -> anyhow::Result<()> {
    let expected = Tally { acked: n, released: 0, published: n * effect.events(), published_twice: 0 };
    ensure!(tally == expected, "the broker saw {tally:?}, expected {expected:?}");
    Ok(())
}
