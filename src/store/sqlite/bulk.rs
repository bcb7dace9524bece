//! Many rows a statement: a trip to SQLite's thread costs more than a row.

use crate::store::{Finished, InboxKey};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};
use std::fmt::Write;
use uuid::Uuid;

pub(super) type Statement = Query<'static, Sqlite, SqliteArguments>;

/// Rows of one prepared statement. Few sizes, so that the statements stay cached.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// `insert into table (columns) values (…), (…) tail`.
pub(super) struct Insert {
    pub(super) table: &'static str,
    pub(super) columns: &'static [&'static str],
    pub(super) tail: &'static str,
}

impl Insert {
    /// `bind` binds one value a column.
    pub(super) async fn run<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Statement, &T) -> Statement + Send,
    ) -> sqlx::Result<()> {
        let mut left = items;
        for size in CHUNKS {
            while left.len() >= size {
                let (now, later) = left.split_at(size);
                let statement = sqlx::query(AssertSqlSafe(self.sql(size)));
                now.iter().fold(statement, &bind).execute(&mut *connection).await?;
                left = later;
            }
        }
        Ok(())
    }

    fn sql(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns.len()].join(","));
        let mut sql = format!("insert into {} ({}) values ", self.table, self.columns.join(","));
        sql.push_str(&vec![row.as_str(); rows].join(","));
        let _ = write!(sql, " {}", self.tail);
        sql
    }
}

/// A time as it is stored.
pub(super) fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// Milliseconds, for people.
pub(super) fn millis(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// 0 for an ID that holds no time.
pub(super) fn key_time(id: &str) -> i64 {
    match crate::message::KeyTime::of(id) {
        crate::message::KeyTime::At(time) => micros(time),
        crate::message::KeyTime::Undated => 0,
    }
}

/// `[key_time, consumer, source, id]`.
pub(super) fn inbox_key(key: &InboxKey) -> Value {
    json!([key_time(&key.id), &*key.consumer, key.source, key.id])
}

/// The same of a message.
pub(super) fn message_key(message: &Finished) -> Value {
    let envelope = &message.envelope;
    json!([key_time(&envelope.id), &*message.consumer, envelope.source, envelope.id])
}

/// A JSON array for `json_each`.
pub(super) fn array(values: impl Iterator<Item = Value>) -> String {
    Value::Array(values.collect()).to_string()
}

/// Uuids for `select unhex(value) from json_each(?)`.
pub(super) fn uuids<'a>(ids: impl IntoIterator<Item = &'a Uuid>) -> String {
    array(ids.into_iter().map(|id| Value::String(id.simple().to_string())))
}
