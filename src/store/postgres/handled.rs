//! Message History in pages: the inbox as an audit trail, along its key, so that a page costs the same wherever it is.

use super::{
    PostgresStore,
    days::{self, UNDATED},
    errors::Sure,
    inbox::u32_of,
};
use crate::store::{Handled, InboxRow, Span};
use chrono::{DateTime, Utc};
use sqlx::{Row, postgres::PgRow};

/// No ID is empty: before the first of them.
pub(super) const FIRST: (&str, &str, &str) = ("", "", "");

macro_rules! columns {
    () => {
        "select consumer, source, id, type, version, attempt, fate, actor, subject, correlation, causation, trace, at, duration_ms,
         worker, build, key_time, reason "
    };
}
pub(super) use columns;

const WITHOUT_TIME: &str = concat!(
    columns!(),
    "from {s}.inbox where key_time = '1970-01-01 00:00:00+00' and at >= $1 and at < $2 and (id, consumer, source) > ($3, $4, $5)
     order by id, consumer, source limit $6"
);

/// The lower bound is told twice: for the partitions, and for the place in the first of them.
const WITH_TIME: &str = concat!(
    columns!(),
    "from {s}.inbox where key_time >= $1 and key_time < $2 and (key_time, id, consumer, source) > ($1, $3, $4, $5)
     order by key_time, id, consumer, source limit $6"
);

/// For the transaction of a page. A day that was never analysed looks small: it would be sorted as a whole, for each page anew.
pub(super) const ALONG_THE_KEY: &str =
    "set local enable_sort = off; set local enable_seqscan = off; set local enable_bitmapscan = off";

impl PostgresStore {
    pub(super) async fn page(&self, span: &Span, after: Option<&Handled>, limit: usize) -> Sure<Vec<Handled>> {
        let mut page = Vec::new();
        let place =
            |handled: &Handled| (handled.row.id.clone(), handled.row.consumer.clone(), handled.row.source.clone());
        let first = || (FIRST.0.to_owned(), FIRST.1.to_owned(), FIRST.2.to_owned());
        if after.is_none_or(|after| after.sent.is_none()) {
            let place = after.map_or_else(first, place);
            self.read_page(WITHOUT_TIME, (span.since, span.until), place, limit, &mut page).await?;
        }
        if page.len() < limit {
            let after = after.and_then(|after| Some((after.sent?, place(after))));
            let (from, place) = after.unwrap_or_else(|| (span.since.max(days::after_undated()), first()));
            let left = limit - page.len();
            self.read_page(WITH_TIME, (from, span.until), place, left, &mut page).await?;
        }
        Ok(page)
    }

    async fn read_page(
        &self,
        text: &'static str,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
        (id, consumer, source): (String, String, String),
        limit: usize,
        page: &mut Vec<Handled>,
    ) -> Sure<()> {
        let select = sqlx::query(self.sql.get(text)).bind(from).bind(until).bind(id).bind(consumer).bind(source);
        let mut tx = self.other.get().begin().await?;
        sqlx::raw_sql(ALONG_THE_KEY).execute(&mut *tx).await?;
        let rows = select.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        for row in &rows {
            page.push(read_handled(row)?);
        }
        Ok(())
    }
}

/// Of what [`columns`] selects.
pub(super) fn read_handled(row: &PgRow) -> Sure<Handled> {
    let key_time: DateTime<Utc> = row.try_get(16)?;
    Ok(Handled { sent: (key_time != UNDATED).then_some(key_time), row: read_inbox(row)?, reason: row.try_get(17)? })
}

pub(super) fn read_inbox(row: &PgRow) -> Sure<InboxRow> {
    Ok(InboxRow {
        consumer: row.try_get(0)?,
        source: row.try_get(1)?,
        id: row.try_get(2)?,
        ty: row.try_get(3)?,
        version: u32_of(row.try_get(4)?),
        attempt: u32_of(row.try_get(5)?),
        fate: row.try_get(6)?,
        actor: row.try_get(7)?,
        subject: row.try_get(8)?,
        correlation: row.try_get(9)?,
        causation: row.try_get(10)?,
        trace: row.try_get(11)?,
        at: row.try_get(12)?,
        duration_ms: row.try_get(13)?,
        worker: row.try_get(14)?,
        build: row.try_get(15)?,
    })
}
