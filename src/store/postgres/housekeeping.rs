//! Message Expiration, for what the store remembers: partitions ahead, old ones away, and the rest trimmed in small steps.

use super::{
    PostgresStore,
    days::{self, AHEAD, UNDATED},
    errors::{Sure, Trouble},
    partitions::span,
};
use crate::store::{Maintained, Retention, Sink};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;

type Time = DateTime<Utc>;

/// Between the oldest message that is admitted and the youngest partition that is dropped, so that the two never meet.
const MARGIN: TimeDelta = TimeDelta::days(2);

/// Small steps: each is a transaction of its own and holds its locks for milliseconds.
const STEP: u64 = 1_000;

/// Which retention a table follows.
#[derive(Clone, Copy)]
enum Kept {
    Inbox,
    Letters,
    Audit,
}

/// What goes to the sink, if there is one.
const TRIM_EXPORTED: &[(Kept, &str)] = &[
    (
        Kept::Inbox,
        "delete from {s}.inbox_undated
         where ctid = any(array(select ctid from {s}.inbox_undated where at < $1 limit 1000))",
    ),
    (Kept::Audit, "delete from {s}.audit where ctid = any(array(select ctid from {s}.audit where at < $1 limit 1000))"),
];

/// Tables without partitions. A letter that still waits for somebody stays however old it is.
const TRIM: &[(Kept, &str)] = &[
    (
        Kept::Inbox,
        "delete from {s}.operation where ctid = any(array(select ctid from {s}.operation where at < $1 limit 1000))",
    ),
    (Kept::Inbox, "delete from {s}.claim where ctid = any(array(select ctid from {s}.claim where at < $1 limit 1000))"),
    (
        Kept::Letters,
        "delete from {s}.attempt where ctid = any(array(select ctid from {s}.attempt where at < $1 limit 1000))",
    ),
    (
        Kept::Letters,
        "delete from {s}.dead_letter where ctid = any(array(
           select ctid from {s}.dead_letter where last_at < $1 and state in ('replayed', 'discarded') limit 1000))",
    ),
    (
        Kept::Letters,
        "delete from {s}.dead_replay_letter where ctid = any(array(
           select l.ctid from {s}.dead_replay_letter l join {s}.dead_replay r on r.id = l.replay where r.began < $1 limit 1000))",
    ),
    (
        Kept::Letters,
        "delete from {s}.dead_replay where ctid = any(array(select ctid from {s}.dead_replay where began < $1 limit 1000))",
    ),
];

impl PostgresStore {
    pub(super) async fn keep_house(&self, retention: &Retention, now: Time) -> Sure<Maintained> {
        self.days.told(now);
        let mut done = Maintained {
            made: self.make_partitions(span(now, now + AHEAD + TimeDelta::days(1))).await?,
            ..Maintained::default()
        };
        let inbox = before(now, retention.inbox);
        let floor = days::day_of(inbox.checked_sub_signed(MARGIN).unwrap_or(UNDATED));
        // First the floor, then the partitions: whoever finds one missing learns that its messages are undated now.
        let floor: Time = sqlx::query_scalar(
            self.sql.get("update {s}.meta set inbox_floor = greatest(inbox_floor, $1) returning inbox_floor"),
        )
        .bind(floor)
        .fetch_one(&self.other.get())
        .await?;
        self.days.raise_floor(floor);

        let mut guard = self.other.get().begin().await?;
        let mine: bool =
            sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('pitcrew housekeeping:' || $1, 0))")
                .bind(self.sql.schema())
                .fetch_one(&mut *guard)
                .await?;
        if mine {
            // Detaching cannot run inside a transaction, so it has a connection of its own, whose settings end with it.
            let mut own = PgConnection::connect_with(&self.address.clone().options([("lock_timeout", "5s")])).await?;
            self.drop_partitions(&mut own, floor, retention.sink.as_ref(), &mut done).await?;
            let exported = match &retention.sink {
                Some(sink) => {
                    let old = (inbox, before(now, retention.audit));
                    self.export_rows(&mut own, sink, old, &mut done).await?;
                    &[]
                }
                None => TRIM_EXPORTED,
            };
            for (kept, text) in exported.iter().chain(TRIM) {
                let before = match kept {
                    Kept::Inbox => inbox,
                    Kept::Letters => before(now, retention.letters),
                    Kept::Audit => before(now, retention.audit),
                };
                done.trimmed += self.trim(&mut own, text, before).await?;
            }
            own.close().await?;
        }
        done.ready_until = self.ready_until(&mut guard, now).await?;
        guard.rollback().await?;
        Ok(done)
    }

    /// Detached without making anyone wait, exported if there is a sink, then dropped. What is in use now, or was not exported, is
    /// left for the next time.
    async fn drop_partitions(
        &self,
        on: &mut PgConnection,
        floor: Time,
        sink: Option<&Sink>,
        done: &mut Maintained,
    ) -> Sure<()> {
        let mut old: Vec<_> = self.found(on).await?.into_iter().filter(|found| found.day < floor).collect();
        old.sort_by_key(|found| !found.pending); // while one is half detached, no other can be
        for old in old {
            let detach = match (old.attached, old.pending) {
                (true, false) => Some("alter table {s}.inbox detach partition {s}.{t} concurrently"),
                (true, true) => Some("alter table {s}.inbox detach partition {s}.{t} finalize"), // was interrupted
                (false, _) => None,
            };
            if let Some(detach) = detach {
                // To finish waits for every older statement in this database, whosever it is, and nobody waits for it meanwhile: with
                // the short patience a report that takes longer would keep it from being done, and all other partitions with it.
                on.execute(if old.pending { "set lock_timeout = '60s'" } else { "set lock_timeout = '5s'" }).await?;
                let is_detached = self.changed(on, detach, &old.name).await?;
                on.execute("set lock_timeout = '5s'").await?;
                if !is_detached {
                    return Ok(());
                }
            }
            if let Some(sink) = sink
                && !self.export_partition(on, sink, &old, done).await?
            {
                continue;
            }
            if !self.changed(on, "drop table if exists {s}.{t}", &old.name).await? {
                return Ok(());
            }
            done.dropped.push(old.name);
        }
        Ok(())
    }

    /// `false`: the partition is in use.
    async fn changed(&self, on: &mut PgConnection, text: &str, partition: &str) -> Sure<bool> {
        match sqlx::raw_sql(self.sql.ddl(text, partition)).execute(on).await.map_err(Trouble::from) {
            Err(trouble) if matches!(trouble.sqlstate().as_deref(), Some("55P03" | "40P01" | "55000")) => {
                tracing::warn!(partition, "an old partition is in use; it is dropped the next time");
                Ok(false)
            }
            other => other.map(|_| true),
        }
    }

    async fn trim(&self, on: &mut PgConnection, text: &'static str, before: Time) -> Sure<u64> {
        let mut trimmed = 0;
        loop {
            let step = sqlx::query(self.sql.get(text)).bind(before).execute(&mut *on).await?;
            trimmed += step.rows_affected();
            if step.rows_affected() < STEP {
                return Ok(trimmed);
            }
        }
    }

    /// The end of the last day, from today on, before which none is missing.
    async fn ready_until(&self, on: &mut PgConnection, now: Time) -> Sure<Option<Time>> {
        let there = self.found(on).await?;
        let has = |day: Time| there.iter().any(|found| found.attached && !found.pending && found.day == day);
        let mut until = days::day_of(now);
        while has(until) {
            until += TimeDelta::days(1);
        }
        Ok((until > now).then_some(until))
    }
}

/// What is older than this is kept no longer. A retention longer than time itself means for ever.
fn before(now: Time, kept: Duration) -> Time {
    TimeDelta::from_std(kept).ok().and_then(|kept| now.checked_sub_signed(kept)).unwrap_or(UNDATED).max(UNDATED)
}
