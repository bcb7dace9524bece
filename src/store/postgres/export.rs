//! Message Expiration with a sink: what leaves is a file first.

use super::{
    PostgresStore,
    days::{self, UNDATED},
    errors::{Sure, Trouble},
    handled::{ALONG_THE_KEY, FIRST, columns, read_handled},
    operators::read_audit,
    partitions::Found,
};
use crate::store::{Handled, Maintained, Sink};
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, postgres::PgRow};

type Time = DateTime<Utc>;

/// Rows that are in memory at once.
const PAGE: usize = 5_000;

const PARTITION: &str = concat!(
    columns!(),
    "from {s}.{t} where (key_time, id, consumer, source) > ($1, $2, $3, $4)
     order by key_time, id, consumer, source limit 5000"
);

const OLD_UNDATED: &str = "delete from {s}.inbox_undated
 where ctid = any(array(select ctid from {s}.inbox_undated where at < $1 order by id, consumer, source limit 5000))
 returning consumer, source, id, type, version, attempt, fate, actor, subject, correlation, causation, trace, at, duration_ms,
 worker, build, key_time, reason";

const OLD_AUDIT: &str = "delete from {s}.audit
 where ctid = any(array(select ctid from {s}.audit where at < $1 order by at, ctid limit 5000))
 returning actor, action, target, reason, at, body_before, body_after";

impl PostgresStore {
    /// Whether a detached partition may be dropped: everything of it is in a file. Nobody writes to it any more, so that its pages
    /// need no common snapshot, which would keep the outbox from being vacuumed.
    pub(super) async fn export_partition(
        &self,
        on: &mut PgConnection,
        sink: &Sink,
        found: &Found,
        done: &mut Maintained,
    ) -> Sure<bool> {
        match self.write_partition(on, sink, found).await {
            Ok(name) => {
                done.exported.extend(name);
                Ok(true)
            }
            // Whoever dropped it has written it.
            Err(NotWritten::Database(trouble)) if trouble.sqlstate().as_deref() == Some("42P01") => Ok(true),
            Err(NotWritten::Database(trouble)) => Err(trouble),
            Err(NotWritten::Sink(error)) => {
                done.kept.push(format!("{}: {error}", found.name));
                Ok(false)
            }
        }
    }

    async fn write_partition(
        &self,
        on: &mut PgConnection,
        sink: &Sink,
        found: &Found,
    ) -> Result<Option<String>, NotWritten> {
        let mut writing = sink.begin().await?;
        let (mut time, mut id, mut consumer, mut source) =
            (UNDATED, FIRST.0.to_owned(), FIRST.1.to_owned(), FIRST.2.to_owned());
        let mut is_empty = true;
        loop {
            let page =
                sqlx::query(self.sql.ddl(PARTITION, &found.name)).bind(time).bind(&id).bind(&consumer).bind(&source);
            let mut tx = on.begin().await?;
            sqlx::raw_sql(ALONG_THE_KEY).execute(&mut *tx).await?;
            let page = page.fetch_all(&mut *tx).await?;
            tx.rollback().await?;
            let page = page.iter().map(read_handled).collect::<Sure<Vec<Handled>>>()?;
            writing.add(&page).await?;
            is_empty &= page.is_empty();
            match page.into_iter().nth(PAGE - 1) {
                Some(Handled { sent, row, .. }) => {
                    (time, id, consumer, source) = (sent.unwrap_or(UNDATED), row.id, row.consumer, row.source);
                }
                None => break,
            }
        }
        if is_empty {
            return Ok(None);
        }
        Ok(Some(writing.finish(&format!("inbox-{}", found.day.format("%Y%m%d"))).await?))
    }

    /// Rows that are in no partition of their own, and what operators did. Whole days only: who tries again within one, because the
    /// outcome of a commit was not known, deletes the same rows and writes the same files.
    pub(super) async fn export_rows(
        &self,
        on: &mut PgConnection,
        sink: &Sink,
        (inbox, audit): (Time, Time),
        done: &mut Maintained,
    ) -> Sure<()> {
        let place = |handled: &Handled| {
            let row = &handled.row;
            (row.id.clone(), row.consumer.clone(), row.source.clone())
        };
        let sorted = |mut rows: Vec<Handled>| {
            rows.sort_by_cached_key(place);
            rows
        };
        self.export_step(on, sink, "inbox", (OLD_UNDATED, days::day_of(inbox)), read_handled, sorted, done).await?;
        let sorted = |mut rows: Vec<crate::store::Audit>| {
            rows.sort_by_cached_key(|audit| {
                (audit.at, audit.target.clone(), audit.action.clone(), audit.reason.clone())
            });
            rows.into_iter().map(crate::store::Audit::whole).collect()
        };
        self.export_step(on, sink, "operators", (OLD_AUDIT, days::day_of(audit)), read_audit, sorted, done).await
    }

    /// Deleted, written, and only then committed.
    #[expect(clippy::too_many_arguments, reason = "two callers, above")]
    async fn export_step<T, U: serde::Serialize>(
        &self,
        on: &mut PgConnection,
        sink: &Sink,
        name: &str,
        (text, before): (&'static str, Time),
        read: fn(&PgRow) -> Sure<T>,
        sorted: impl Fn(Vec<T>) -> Vec<U>,
        done: &mut Maintained,
    ) -> Sure<()> {
        loop {
            let mut tx = on.begin().await?;
            sqlx::raw_sql(ALONG_THE_KEY).execute(&mut *tx).await?;
            let gone = sqlx::query(self.sql.get(text)).bind(before).fetch_all(&mut *tx).await?;
            let gone = sorted(gone.iter().map(read).collect::<Sure<_>>()?);
            match sink.write(name, &gone).await {
                Ok(name) => done.exported.extend(name),
                Err(error) => {
                    tx.rollback().await?;
                    done.kept.push(format!("{name}: {error}"));
                    return Ok(());
                }
            }
            tx.commit().await?;
            done.trimmed += gone.len() as u64;
            if gone.len() < PAGE {
                return Ok(());
            }
        }
    }
}

enum NotWritten {
    Sink(std::io::Error),
    Database(Trouble),
}

impl From<std::io::Error> for NotWritten {
    fn from(error: std::io::Error) -> Self {
        Self::Sink(error)
    }
}

impl From<sqlx::Error> for NotWritten {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<Trouble> for NotWritten {
    fn from(trouble: Trouble) -> Self {
        Self::Database(trouble)
    }
}
