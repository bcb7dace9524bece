//! What only Postgres has: races between workers, partitions, error classes, the escape hatch.
//!
//! Wants `PITCREW_POSTGRES_URL`; without it every test says that it is skipped.

#[path = "postgres/commit.rs"]
mod commit;
#[path = "postgres/export.rs"]
mod export;
#[path = "postgres/operations.rs"]
mod operations;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/silence.rs"]
mod silence;

use chrono::{DateTime, TimeDelta, Utc};
use pitcrew::{
    Envelope, clock,
    store::{
        Batch, Destination, Effects, Fate, Finished, OutboxRow, Purpose, Store, StoreResult, Verdict, WorkerRecord,
        postgres::{Options, PostgresStore},
    },
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// A schema of its own, and what to do at the end.
struct Bed {
    url: String,
    schema: String,
    store: PostgresStore,
}

impl Bed {
    /// `None` where there is no Postgres.
    async fn make() -> Option<Self> {
        let bed = Self::bare().await?;
        bed.store.migrate().await.expect("migrates");
        Some(bed)
    }

    /// Without tables.
    async fn bare() -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let schema = format!("t_{}", Uuid::now_v7().simple());
        let store = connect(&url, &schema).await;
        Some(Self { url, schema, store })
    }

    async fn another(&self) -> PostgresStore {
        let store = connect(&self.url, &self.schema).await;
        store.migrate().await.expect("migrates");
        store
    }

    /// Runs SQL in which `{s}` is the schema.
    async fn run(&self, sql: &str) {
        let sql = sql.replace("{s}", &self.schema);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.store.pool()).await.expect("runs");
    }

    async fn count(&self, sql: &str) -> i64 {
        let sql = sql.replace("{s}", &self.schema);
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.store.pool()).await.expect("counts")
    }

    async fn end(self) {
        self.store.drop_schema().await.expect("drops");
        self.store.close().await;
    }
}

fn options(schema: &str) -> Options {
    Options {
        schema: schema.into(),
        application_name: schema.into(),
        commit_connections: 4,
        other_connections: 2,
        ..Options::default()
    }
}

async fn connect(url: &str, schema: &str) -> PostgresStore {
    PostgresStore::connect(url, options(schema)).await.expect("connects")
}

fn worker() -> WorkerRecord {
    WorkerRecord { id: Uuid::now_v7(), service: "test".into(), place: "here".into(), build: "b1".into() }
}

/// Done, without effects.
fn finished(id: impl Into<String>) -> Finished {
    let mut envelope = Envelope::new("demo.Do", "/test", r#"{"a":1}"#);
    envelope.id = id.into();
    Finished {
        consumer: "demo.Do".into(),
        subscription: "demo.commands".into(),
        payload_hash: envelope.payload_hash(),
        envelope: Arc::new(envelope),
        fate: Fate::Done,
        fenced: true,
        operation: None,
        effects: Effects::default(),
        attempt: None,
        letter: None,
        row: None,
        claimed: false,
        duration: Duration::from_millis(3),
        at: clock::now(),
    }
}

/// The ID of a message made at `at`.
fn id_at(at: DateTime<Utc>) -> String {
    clock::uuid_v7_at(at).to_string()
}

fn outgoing() -> OutboxRow {
    OutboxRow {
        seq: clock::uuid_v7(),
        destination: Destination::Channel("demo.events".into()),
        due: None,
        key: None,
        purpose: Purpose::Message,
        envelope: Arc::new(Envelope::new("demo.Done", "/test", "{}")),
    }
}

async fn commit(store: &PostgresStore, messages: &[Finished]) -> StoreResult<Vec<Verdict>> {
    store.commit(&Batch { worker: Uuid::nil(), messages, confirmed: &[] }).await
}

fn days_ago(days: i64) -> DateTime<Utc> {
    clock::now() - TimeDelta::days(days)
}

#[tokio::test]
async fn an_outbox_row_that_cannot_be_read_holds_up_no_other() {
    let Some(bed) = Bed::make().await else { return };
    let (me, now) = (Uuid::now_v7(), clock::now());
    let rows = [outgoing(), outgoing(), outgoing()];
    bed.store.enqueue(None, &rows).await.expect("enqueues");
    bed.run(&format!("update {{s}}.outbox set purpose = 'of a newer build' where seq = '{}'", rows[1].seq)).await;
    let readable = [rows[0].seq, rows[2].seq];
    let swept = bed.store.sweep(me, now, now, 10).await.expect("sweeps");
    assert_eq!(swept.iter().map(|swept| swept.row.seq).collect::<Vec<_>>(), readable);
    let paged = bed.store.spilled(me, &rows[0].destination, None, 10).await.expect("pages");
    assert_eq!(paged.iter().map(|row| row.seq).collect::<Vec<_>>(), readable);
    let told = bed.count("select count(*) from {s}.outbox where problem like '%of a newer build%'").await;
    assert_eq!(told, 1, "its row tells why it stays");
    bed.end().await;
}
