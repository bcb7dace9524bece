//! Control Bus: what waits in the tables and since when.

use super::{PostgresStore, days, errors::Sure};
use crate::{
    message::KeyTime,
    store::{Coming, Gauges, LetterGauge, OutboxGauge},
};
use chrono::{DateTime, Utc};
use sqlx::Row;

/// The inbox is never counted: the server's own statistics of its partitions, whichever of the two is further.
const INBOX: &str = "select coalesce(sum(greatest(s.n_live_tup, c.reltuples::bigint, 0)), 0)::bigint
 from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_stat_all_tables s on s.relid = c.oid
 where n.nspname = $1 and c.relkind = 'r' and c.relname like 'inbox\\_%'";

const OLDEST: &str = "select key_time from {s}.inbox where key_time >= $1 order by key_time limit 1";

const OUTBOX: &str = "select destination, purpose, count(*), count(*) filter (where due is null or due <= $1),
   min(seq::text) filter (where due is null), min(due) filter (where due <= $1)
 from {s}.outbox group by destination, purpose";

const LETTERS: &str = "select channel, type, state, count(*), min(first_at) from {s}.dead_letter
 where state in ('dead', 'quarantined') group by channel, type, state";

const COMING: &str = "select id, consumer, attempt, error, next from {s}.attempt
 where next > $1 and at > $1 - interval '2 days' order by next limit $2";

impl PostgresStore {
    pub(super) async fn what_waits(&self, now: DateTime<Utc>) -> Sure<Gauges> {
        let pool = self.other.get();
        let inbox: i64 = sqlx::query(INBOX).bind(self.sql.schema()).fetch_one(&pool).await?.try_get(0)?;
        let oldest = sqlx::query(self.sql.get(OLDEST)).bind(days::after_undated()).fetch_optional(&pool).await?;
        let mut gauges = Gauges {
            inbox: inbox.unsigned_abs(),
            inbox_oldest: oldest.map(|row| row.try_get(0)).transpose()?,
            ..Gauges::default()
        };
        for row in sqlx::query(self.sql.get(OUTBOX)).bind(now).fetch_all(&pool).await? {
            let first: Option<String> = row.try_get(4)?;
            let written = first.and_then(|seq| match KeyTime::of(&seq) {
                KeyTime::At(time) => Some(time),
                KeyTime::Undated => None,
            });
            let due: Option<DateTime<Utc>> = row.try_get(5)?;
            gauges.outbox.push(OutboxGauge {
                destination: row.try_get(0)?,
                purpose: row.try_get(1)?,
                rows: row.try_get::<i64, _>(2)?.unsigned_abs(),
                ready: row.try_get::<i64, _>(3)?.unsigned_abs(),
                oldest: written.into_iter().chain(due).min(),
            });
        }
        for row in sqlx::query(self.sql.get(LETTERS)).fetch_all(&pool).await? {
            gauges.letters.push(LetterGauge {
                channel: row.try_get(0)?,
                ty: row.try_get(1)?,
                state: row.try_get(2)?,
                count: row.try_get::<i64, _>(3)?.unsigned_abs(),
                oldest: row.try_get(4)?,
            });
        }
        Ok(gauges)
    }

    pub(super) async fn what_comes(&self, now: DateTime<Utc>, limit: usize) -> Sure<Vec<Coming>> {
        let query = sqlx::query(self.sql.get(COMING)).bind(now).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(Coming {
                id: row.try_get(0)?,
                consumer: row.try_get(1)?,
                attempt: super::inbox::u32_of(row.try_get(2)?),
                error: row.try_get(3)?,
                at: row.try_get(4)?,
            })
        };
        query.fetch_all(&self.other.get()).await?.iter().map(read).collect()
    }
}
