//! Message Expiration: what retention takes away, in steps short enough that a commit between them does not notice.

use super::{SqliteStore, handled, micros};
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

/// In micros.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// What goes to the sink, if there is one. What is late is kept as long as what came in time: by when its fate was decided.
const OLD_INBOX: [&str; 2] =
    [
        concat!(
        "delete from inbox where (key_time, consumer, source, id) in (select key_time, consumer, source, id from inbox
         where key_time > 0 and key_time < ?1 and at < ?1 limit ", step!(), ")"
    ),
        concat!(
        "delete from inbox where (key_time, consumer, source, id) in (select key_time, consumer, source, id from inbox
         where key_time = 0 and at < ?1 limit ", step!(), ")"
    ),
    ];
const OLD_AUDIT: &str =
    concat!("delete from audit where rowid in (select rowid from audit where at < ? limit ", step!(), ")");

const OLD_OPERATIONS: &str = concat!(
    "delete from operation where (consumer, key) in
     (select consumer, key from operation where at < ? limit ",
    step!(),
    ")"
);
const OLD_CLAIMS: &str = concat!(
    "delete from claim where (consumer, source, id) in
     (select consumer, source, id from claim where at < ? limit ",
    step!(),
    ")"
);
const OLD_ATTEMPTS: &str =
    concat!("delete from attempt where rowid in (select rowid from attempt where at < ? limit ", step!(), ")");
const OLD_LETTERS: &str = concat!(
    "delete from dead_letter where rowid in (select rowid from dead_letter
     where last_at < ? and state in ('replayed', 'discarded') limit ",
    step!(),
    ")"
);

const OLD_REPLAYED: &str = concat!(
    "delete from dead_replay_letter where (replay, place) in (select l.replay, l.place from dead_replay_letter l
     join dead_replay r on r.id = l.replay where r.began < ? limit ",
    step!(),
    ")"
);
const OLD_REPLAYS: &str = concat!(
    "delete from dead_replay where rowid in (select rowid from dead_replay where began < ? limit ",
    step!(),
    ")"
);

/// Nothing that still waits for somebody is trimmed: open letters stay however old they are.
pub(super) async fn maintain(
    store: &SqliteStore,
    retention: &Retention,
    now: DateTime<Utc>,
) -> sqlx::Result<Maintained> {
    let mut done = Maintained::default();
    let inbox = before(now, retention.inbox.saturating_add(MARGIN));
    let (letters, audit) = (before(now, retention.letters), before(now, retention.audit));
    match &retention.sink {
        Some(sink) => {
            // Whole days: who tries again within one writes the same files.
            let whole = |until: i64| until.saturating_sub(until.rem_euclid(DAY));
            let rows = handled::export(store, sink, whole(inbox), &mut done.exported).await?;
            let actions = handled::export_audit(store, sink, whole(audit), &mut done.exported).await?;
            for (what, (trimmed, refused)) in [("inbox", rows), ("operators", actions)] {
                done.trimmed += trimmed;
                done.kept.extend(refused.map(|error| format!("{what}: {error}")));
            }
        }
        None => {
            for (sql, until) in [(OLD_INBOX[0], inbox), (OLD_INBOX[1], inbox), (OLD_AUDIT, audit)] {
                done.trimmed += trim(store, sql, until).await?;
            }
        }
    }
    for (sql, until) in [
        (OLD_OPERATIONS, inbox),
        (OLD_CLAIMS, inbox),
        (OLD_ATTEMPTS, letters),
        (OLD_LETTERS, letters),
        (OLD_REPLAYED, letters),
        (OLD_REPLAYS, letters),
    ] {
        done.trimmed += trim(store, sql, until).await?;
    }
    Ok(done)
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
