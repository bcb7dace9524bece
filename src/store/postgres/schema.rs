//! Schema Migration: the tables of one service, brought to this build's version by whichever worker comes first.

use super::{
    PostgresStore,
    errors::{Sure, unfit},
};
use crate::store::{About, Connections, Migrated, StoreError, StoreResult};
use sqlx::{Connection, PgConnection, Row};

/// One step. Expand-only: `min` is the oldest version of a build that can work on what it leaves behind.
struct Step {
    version: i32,
    min: i32,
    text: &'static str,
}

const STEPS: &[Step] = &[
    Step { version: 1, min: 1, text: include_str!("../migrations/postgres/0001_core.sql") },
    Step { version: 2, min: 1, text: include_str!("../migrations/postgres/0002_hindered.sql") },
    Step { version: 3, min: 1, text: include_str!("../migrations/postgres/0003_triage.sql") },
];

/// What this build knows.
const VERSION: i32 = STEPS[STEPS.len() - 1].version;

/// One at a time in a schema, for as long as the transaction lasts: session locks do not survive a pooler.
pub(super) const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('pitcrew:' || $1, 0))";

const META: &str = "create table if not exists {s}.meta (
    one boolean primary key default true check (one),
    version int not null,
    min_schema int not null,
    inbox_floor timestamptz not null
)";

/// Only what every role may see of the others.
const SERVER: &str =
    "select split_part(current_setting('server_version'), ' ', 1), current_setting('max_connections')::int8,
    count(*), count(*) filter (where application_name = current_setting('application_name'))
 from pg_stat_activity where datid is not null";

impl PostgresStore {
    pub(super) async fn tell_about(&self) -> Sure<About> {
        let mut connection = self.other.get().acquire().await?;
        let row = sqlx::query(SERVER).fetch_one(&mut *connection).await?;
        let count = |n| Ok::<_, sqlx::Error>(u32::try_from(row.try_get::<i64, _>(n)?).unwrap_or(u32::MAX));
        let connections = Connections { most: count(1)?, all: count(2)?, ours: count(3)? };
        let server = format!("Postgres {}", row.try_get::<String, _>(0)?);
        let schema = match found(&mut connection, self).await? {
            Some((version, min)) if min > VERSION => return Err(too_old(self.sql.schema(), version, min).into()),
            found => found.map_or(0, |(version, _)| version.unsigned_abs()),
        };
        Ok(About { server, schema, wanted: VERSION.unsigned_abs(), connections: Some(connections) })
    }

    pub(super) async fn migrate_schema(&self) -> StoreResult<Migrated> {
        let schema = self.sql.schema();
        let migrated = self.step_up().await.map_err(|t| unfit(t, &format!("schema `{schema}` cannot be migrated")))?;
        // Apart from the migration: it is wanted at each start, and by other means each hour.
        self.make_partitions_for_today().await?;
        Ok(migrated)
    }

    async fn step_up(&self) -> Sure<Migrated> {
        let schema = self.sql.schema();
        let mut connection = self.other.get().acquire().await?;
        let mut tx = connection.begin().await?;
        sqlx::query(LOCK).bind(schema).execute(&mut *tx).await?;
        let from = found(&mut tx, self).await?;
        if let Some((version, min)) = from
            && version >= VERSION
        {
            return if min <= VERSION {
                Ok(migrated(version, version))
            } else {
                Err(too_old(schema, version, min).into())
            };
        }
        if from.is_none() {
            // Asked for only where it is missing: a role that may not make one can use one that was made for it.
            let known = "select exists (select from pg_namespace where nspname = $1)";
            if !sqlx::query_scalar::<_, bool>(known).bind(schema).fetch_one(&mut *tx).await? {
                sqlx::raw_sql(self.sql.ddl("create schema {s}", "meta")).execute(&mut *tx).await?;
            }
            sqlx::raw_sql(self.sql.get(META)).execute(&mut *tx).await?;
        }
        let before = from.map_or(0, |(version, _)| version);
        for step in STEPS.iter().filter(|step| step.version > before) {
            sqlx::raw_sql(self.sql.get(step.text)).execute(&mut *tx).await?;
            sqlx::query(self.sql.get(
                "insert into {s}.meta (version, min_schema, inbox_floor)
                 values ($1, $2, date_trunc('day', now(), 'UTC') - interval '16 days')
                 on conflict (one) do update set version = excluded.version, min_schema = excluded.min_schema",
            ))
            .bind(step.version)
            .bind(step.min)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(migrated(before, VERSION))
    }
}

/// Version and `min_schema` of the database, if there is something.
async fn found(tx: &mut PgConnection, store: &PostgresStore) -> Sure<Option<(i32, i32)>> {
    let known: bool = sqlx::query_scalar(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = $1 and c.relname = 'meta')",
    )
    .bind(store.sql.schema())
    .fetch_one(&mut *tx)
    .await?;
    if !known {
        return Ok(None);
    }
    let row = sqlx::query(store.sql.get("select version, min_schema from {s}.meta")).fetch_optional(tx).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

fn migrated(from: i32, to: i32) -> Migrated {
    let number = |version: i32| version.unsigned_abs();
    Migrated { from: number(from), to: number(to) }
}

fn too_old(schema: &str, version: i32, min: i32) -> StoreError {
    StoreError::Unfit(format!(
        "schema `{schema}` is at version {version} and needs a build that knows version {min} or later, this one knows \
         {VERSION}: run a newer build"
    ))
}
