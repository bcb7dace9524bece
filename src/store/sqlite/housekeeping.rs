//! Message Expiration: what retention takes away, in steps short enough that a commit between them does not notice.

use super::{SqliteStore, micros};
use crate::store::{Maintained, Retention};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// Rows a step.
macro_rules! step {
    () => {
        "1000"
    };
}
const STEP: u64 = 1_000;

/// A row is kept so much longer than messages are admitted, so that admission and removal never meet.
const MARGIN: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Nothing that still waits for somebody is trimmed: open letters stay however old they are.
pub(super) async fn maintain(
    store: &SqliteStore,
    retention: &Retention,
    now: DateTime<Utc>,
) -> sqlx::Result<Maintained> {
    let inbox = before(now, retention.inbox.saturating_add(MARGIN));
    let letters = before(now, retention.letters);
    let mut trimmed = 0;
    for (sql, until) in [
        (
            concat!(
                "delete from inbox where (key_time, consumer, source, id) in (select key_time, consumer, source, id from inbox
                 where key_time > 0 and key_time < ? limit ", step!(), ")"
            ),
            inbox,
        ),
        (
            concat!(
                "delete from inbox where (key_time, consumer, source, id) in (select key_time, consumer, source, id from inbox
                 where key_time = 0 and at < ? limit ", step!(), ")"
            ),
            inbox,
        ),
        (
            concat!(
                "delete from operation where (consumer, key) in
                 (select consumer, key from operation where at < ? limit ", step!(), ")"
            ),
            inbox,
        ),
        (
            concat!(
                "delete from claim where (consumer, source, id) in
                 (select consumer, source, id from claim where at < ? limit ", step!(), ")"
            ),
            inbox,
        ),
        (
            concat!("delete from attempt where rowid in (select rowid from attempt where at < ? limit ", step!(), ")"),
            letters,
        ),
        (
            concat!(
                "delete from dead_letter where rowid in (select rowid from dead_letter
                 where last_at < ? and state in ('replayed', 'discarded') limit ", step!(), ")"
            ),
            letters,
        ),
        (
            concat!(
                "delete from dead_replay_letter where (replay, place) in (select l.replay, l.place from dead_replay_letter l
                 join dead_replay r on r.id = l.replay where r.began < ? limit ", step!(), ")"
            ),
            letters,
        ),
        (
            concat!("delete from dead_replay where rowid in (select rowid from dead_replay where began < ? limit ", step!(), ")"),
            letters,
        ),
    ] {
        trimmed += trim(store, sql, until).await?;
    }
    Ok(Maintained { trimmed, ..Maintained::default() })
}

async fn trim(store: &SqliteStore, sql: &'static str, until: i64) -> sqlx::Result<u64> {
    let mut trimmed = 0;
    loop {
        let mut tx = store.begin_write().await?;
        let gone = sqlx::query(sql).bind(until).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        trimmed += gone;
        if gone < STEP {
            return Ok(trimmed);
        }
    }
}

/// A retention longer than time itself means for ever.
fn before(now: DateTime<Utc>, kept: Duration) -> i64 {
    let kept = TimeDelta::from_std(kept).unwrap_or(TimeDelta::MAX);
    now.checked_sub_signed(kept).map_or(i64::MIN, micros)
}
