//! The bytes of `config check --rate`, measured on a real Postgres. What it measures is printed:
//! `cargo test -p car-workers --test volume -- --nocapture`.

use pitcrew::{
    Envelope, clock,
    sqlx::{self, AssertSqlSafe},
    store::{
        Attempt, AttemptKind, Batch, Destination, Effects, Fate, Finished, OutboxRow, Purpose, Span, Store,
        postgres::{Options, PostgresStore},
    },
};
use serde_json::Value;
use std::{process::Command, sync::Arc, time::Duration};
use uuid::Uuid;

const COMMANDS: usize = 20_000;
const BATCH: usize = 200;
const BUILD: &str = "0.1.0";

fn command() -> Envelope {
    let mut envelope = Envelope::new("car.GenerateRecommendationBrief", "/shop", r#"{"brief_id":"b-1"}"#);
    envelope.actor = Some("ada@example.org".into());
    envelope.subject = Some(format!("brief-{}", end_of(&envelope.id)));
    envelope.correlation_id = Some(envelope.id.clone());
    envelope.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    envelope
}

/// The end of an ID: no two are alike.
fn end_of(id: &str) -> &str {
    &id[id.len() - 8..]
}

fn event(of: &Envelope) -> OutboxRow {
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(500 - 11));
    let mut envelope = Envelope::new("car.RecommendationBriefGenerated", "/car-worker", payload);
    envelope.actor.clone_from(&of.actor);
    envelope.subject.clone_from(&of.subject);
    envelope.correlation_id.clone_from(&of.correlation_id);
    envelope.causation_id = Some(of.id.clone());
    envelope.traceparent.clone_from(&of.traceparent);
    OutboxRow {
        seq: clock::uuid_v7(),
        destination: Destination::Channel("car.events".into()),
        due: None,
        key: envelope.subject.clone(),
        purpose: Purpose::Message,
        envelope: Arc::new(envelope),
    }
}

fn finished(envelope: Envelope) -> Finished {
    Finished {
        consumer: envelope.ty.as_str().into(),
        subscription: "car-worker.car.commands".into(),
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

fn failed(worker: Uuid) -> Finished {
    let mut message = finished(command());
    message.fate = Fate::Retry(message.at);
    message.attempt = Some(Box::new(Attempt {
        attempt: 1,
        kind: AttemptKind::Failure,
        error: "asking the provider: connection refused by 127.0.0.1:7070, x".into(),
        at: message.at,
        duration: message.duration,
        worker,
        build: BUILD.into(),
        next: Some(message.at),
    }));
    message
}

struct Measured {
    store: PostgresStore,
    schema: String,
    worker: Uuid,
}

impl Measured {
    async fn size(&self, table: &str) -> f64 {
        let size = format!("select pg_total_relation_size('{}.{table}')", self.schema);
        let bytes: i64 = sqlx::query_scalar(AssertSqlSafe(size)).fetch_one(&self.store.pool()).await.unwrap();
        bytes as f64
    }

    async fn log(&self) -> f64 {
        let at = "select (pg_current_wal_insert_lsn() - '0/0')::float8";
        sqlx::query_scalar(at).fetch_one(&self.store.pool()).await.unwrap()
    }

    async fn commit(&self, messages: &[Finished], confirmed: &[Uuid]) {
        self.store.commit(&Batch { worker: self.worker, messages, confirmed }).await.unwrap();
    }
}

#[tokio::test]
async fn the_bytes_of_config_check_are_those_of_a_real_postgres() {
    let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return;
    };
    let schema = format!("t_{}", clock::uuid_v7().simple());
    let options = Options { schema: schema.clone(), ..Options::default() };
    let store = PostgresStore::connect(&url, options).await.unwrap();
    store.migrate().await.unwrap();
    let worker = clock::uuid_v7();
    let record = pitcrew::store::WorkerRecord {
        id: worker,
        service: "car-worker".into(),
        place: "here".into(),
        build: BUILD.into(),
    };
    store.start_worker(&record, clock::now()).await.unwrap();
    let on = Measured { store, schema, worker };

    // As a worker does: each commit deletes what the broker has confirmed of the one before. Others write to the same log.
    let (mut confirmed, mut logs) = (Vec::new(), Vec::new());
    for _ in 0..COMMANDS / BATCH / 5 {
        let before = on.log().await;
        for _ in 0..5 {
            let messages: Vec<_> = (0..BATCH)
                .map(|_| {
                    let mut message = finished(command());
                    message.effects.outbox.push(event(&message.envelope));
                    message
                })
                .collect();
            on.commit(&messages, &confirmed).await;
            confirmed = messages.iter().map(|message| message.effects.outbox[0].seq).collect();
        }
        logs.push((on.log().await - before) / (5 * BATCH) as f64);
    }
    logs.sort_by(f64::total_cmp);
    let inbox = on.size(&clock::now().format("inbox_%Y%m%d").to_string()).await / COMMANDS as f64;
    let span =
        Span { since: clock::now() - Duration::from_secs(86_400), until: clock::now() + Duration::from_secs(60) };
    let page = on.store.handled(&span, None, 1_000).await.unwrap();
    let line = page.iter().map(|handled| serde_json::to_vec(handled).unwrap().len() + 1).sum::<usize>() as f64;

    on.store.confirm(&confirmed).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("truncate {}.outbox", on.schema))).execute(&on.store.pool()).await.unwrap();
    let rows: Vec<_> = (0..COMMANDS).map(|_| event(&command())).collect();
    for rows in rows.chunks(BATCH) {
        on.store.enqueue(Some(worker), rows).await.unwrap();
    }
    let outbox = on.size("outbox").await / COMMANDS as f64;
    for _ in 0..COMMANDS / BATCH {
        let messages: Vec<_> = (0..BATCH).map(|_| failed(worker)).collect();
        on.commit(&messages, &[]).await;
    }
    let attempts = on.size("attempt").await / COMMANDS as f64;
    on.store.drop_schema().await.unwrap();
    on.store.close().await;

    let told =
        Command::new(env!("CARGO_BIN_EXE_car-worker")).args(["config", "check", "--rate", "1", "--json"]).output();
    let told: Value = serde_json::from_slice(&told.unwrap().stdout).unwrap();
    let each = |part: &str| told["volume"]["parts"][part]["bytes_each"].as_f64().unwrap();
    let measured = [("inbox", inbox), ("outbox", outbox), ("attempts", attempts), ("audit.sink", line / 1_000.0)];
    println!("{measured:?}, WAL {:.0} to {:.0}", logs[0], logs[logs.len() - 1]);
    for (part, bytes) in measured {
        let told = each(part);
        assert!((bytes - told).abs() < 0.15 * told, "{part}: {bytes:.0} B measured, {told} told");
    }
    // What others wrote meanwhile, and whole pages after a checkpoint, are in it, too.
    assert!(logs[0] > 0.7 * each("WAL"), "WAL: {:.0} B measured, {} told", logs[0], each("WAL"));
}
