//! Control Bus: what waits in the tables and since when.

use super::{SqliteStore, micros};
use crate::store::{Coming, Gauges, LetterGauge, OutboxGauge};
use chrono::{DateTime, Utc};
use sqlx::{Row as _, sqlite::SqliteRow};

pub(super) async fn gauges(store: &SqliteStore, now: DateTime<Utc>) -> sqlx::Result<Gauges> {
    let time = |row: &SqliteRow, column| {
        Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.and_then(DateTime::from_timestamp_micros))
    };
    let count = |row: &SqliteRow, column| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
    // All keys are read, along the smallest index: who gathers this rests for longer than it took.
    let inbox = sqlx::query("select count(*), (select min(key_time) from inbox where key_time > 0) from inbox");
    let row = inbox.fetch_one(store.readers()?).await?;
    let mut gauges = Gauges { inbox: count(&row, 0)?, inbox_oldest: time(&row, 1)?, ..Gauges::default() };
    let outbox = sqlx::query(
        "select destination, purpose, count(*), coalesce(sum(due is null or due <= ?1), 0),
           min(case when due is null then created when due <= ?1 then due end)
         from outbox group by destination, purpose",
    );
    for row in outbox.bind(micros(now)).fetch_all(store.readers()?).await? {
        gauges.outbox.push(OutboxGauge {
            destination: row.try_get(0)?,
            purpose: row.try_get(1)?,
            rows: count(&row, 2)?,
            ready: count(&row, 3)?,
            oldest: time(&row, 4)?,
        });
    }
    let letters = sqlx::query(
        "select channel, type, state, count(*), min(first_at) from dead_letter
         where state in ('dead', 'quarantined') group by channel, type, state",
    );
    for row in letters.fetch_all(store.readers()?).await? {
        gauges.letters.push(LetterGauge {
            channel: row.try_get(0)?,
            ty: row.try_get(1)?,
            state: row.try_get(2)?,
            count: count(&row, 3)?,
            oldest: time(&row, 4)?,
        });
    }
    Ok(gauges)
}

pub(super) async fn retries(store: &SqliteStore, now: DateTime<Utc>, limit: usize) -> sqlx::Result<Vec<Coming>> {
    let coming =
        sqlx::query("select id, consumer, attempt, error, next from attempt where next > ? order by next limit ?");
    let coming = coming.bind(micros(now)).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let read = |row: &SqliteRow| {
        Ok(Coming {
            id: row.try_get(0)?,
            consumer: row.try_get(1)?,
            attempt: row.try_get(2)?,
            error: row.try_get(3)?,
            at: DateTime::from_timestamp_micros(row.try_get(4)?).unwrap_or(now),
        })
    };
    coming.fetch_all(store.readers()?).await?.iter().map(read).collect()
}
