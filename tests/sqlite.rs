//! SQLite alone: what the conformance suite cannot ask of every store, because it is about one file.

#[path = "sqlite/file.rs"]
mod file;
#[path = "sqlite/own_rows.rs"]
mod own_rows;
#[path = "sqlite/trouble.rs"]
mod trouble;

use pitcrew::{
    Envelope,
    sqlx::{self, Connection, Executor, SqliteConnection},
    store::{
        Batch, Destination, DocumentWrite, Effects, Expect, Fate, Finished, OutboxRow, Purpose, Retention, Store,
        StoreResult, Verdict, WorkerRecord,
        sqlite::{Options, SqliteStore},
    },
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use uuid::Uuid;

/// A database of its own, migrated, with a worker in it.
struct Subject {
    store: Arc<SqliteStore>,
    worker: Uuid,
    directory: TempDir,
}

impl Subject {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&path(&directory), options).await.unwrap();
        store.migrate().await.unwrap();
        let worker = WorkerRecord {
            id: pitcrew::clock::uuid_v7(),
            service: "shop".into(),
            place: "host:1".into(),
            build: "1.2.3".into(),
        };
        store.start_worker(&worker, pitcrew::clock::now()).await.unwrap();
        Self { store: Arc::new(store), worker: worker.id, directory }
    }

    /// As another process on the same file does.
    async fn other(&self, options: Options) -> SqliteStore {
        SqliteStore::open(&path(&self.directory), options).await.unwrap()
    }

    /// A connection that is none of the store's.
    async fn raw(&self) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite://{}", path(&self.directory))).await.unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        self.raw().await.execute(sql).await.unwrap();
    }

    async fn commit(&self, messages: &[Finished]) -> StoreResult<Vec<Verdict>> {
        self.store.commit(&Batch { worker: self.worker, messages, confirmed: &[] }).await
    }

    /// All of the message is there, or nothing of it.
    async fn is_stored(&self, message: &Finished) -> bool {
        let seen = self.store.seen(&[message.key()]).await.unwrap()[0].is_some();
        let mut parts = Vec::new();
        for write in &message.effects.documents {
            parts.push(self.store.load(write.collection, &write.id).await.unwrap().is_some());
        }
        for row in &message.effects.outbox {
            parts.push(!self.store.history(&row.envelope.id).await.unwrap().outbox.is_empty());
        }
        assert!(parts.iter().all(|part| *part == seen), "half of a message is stored: inbox {seen}, effects {parts:?}");
        seen
    }
}

fn path(directory: &TempDir) -> String {
    PathBuf::from(directory.path()).join("shop.db").to_string_lossy().into_owned()
}

fn row() -> OutboxRow {
    OutboxRow {
        seq: pitcrew::clock::uuid_v7(),
        destination: Destination::Channel("shop.events".into()),
        due: None,
        key: None,
        purpose: Purpose::Message,
        envelope: Arc::new(Envelope::new("shop.Sold", "/shop", "{}")),
    }
}

/// A message that was handled, wrote a document of `size` bytes and sent an event.
fn sized(size: usize) -> Finished {
    let envelope = Envelope::new("shop.Sell", "/shop", "{}");
    let mut effects = Effects::default();
    effects.outbox.push(row());
    effects.documents.push(DocumentWrite {
        collection: "sale",
        id: envelope.id.clone(),
        schema: 1,
        body: format!("\"{}\"", "x".repeat(size)),
        expect: Expect::Anything,
    });
    Finished {
        consumer: "shop.Sell".into(),
        subscription: "shop.commands".into(),
        payload_hash: envelope.payload_hash(),
        envelope: Arc::new(envelope),
        fate: Fate::Done,
        fenced: true,
        operation: None,
        effects,
        attempt: None,
        letter: None,
        row: None,
        claimed: false,
        duration: Duration::ZERO,
        at: pitcrew::clock::now(),
    }
}

fn sale() -> Finished {
    sized(10)
}

#[tokio::test]
async fn the_command_line_beside_a_worker_reads_and_enqueues() {
    let on = Subject::new().await;
    let _worker = SqliteStore::lock(&path(&on.directory)).unwrap();
    let sold = sale();
    on.commit(std::slice::from_ref(&sold)).await.unwrap();
    let beside = on.other(Options::default()).await;
    assert_eq!(beside.migrate().await.unwrap().from, 3, "it may migrate too");
    assert_eq!(beside.history(&sold.envelope.id).await.unwrap().inbox[0].build, "1.2.3");
    assert_eq!(beside.counts().await.unwrap().done, 1);
    let sent = row();
    beside.enqueue(None, std::slice::from_ref(&sent)).await.unwrap();
    beside.close().await;
    let now = pitcrew::clock::now();
    let swept = on.store.sweep(on.worker, now, now, 10).await.unwrap();
    assert_eq!(swept.iter().map(|s| &s.row).collect::<Vec<_>>(), [&sent], "the worker's own row is in memory already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_and_two_commands_write_at_once_without_an_error() {
    let on = Subject::new().await;
    let enqueue = async |store: SqliteStore| {
        for _ in 0..50 {
            store.enqueue(None, &[row(), row()]).await.unwrap();
        }
    };
    let commit = async {
        for _ in 0..50 {
            assert_eq!(on.commit(&[sale(), sale()]).await.unwrap(), [Verdict::Stored; 2]);
        }
    };
    let (one, two) = (on.other(Options::default()).await, on.other(Options::default()).await);
    tokio::join!(enqueue(one), enqueue(two), commit);
    let counts = on.store.counts().await.unwrap();
    assert_eq!((counts.done, counts.outbox), (100, 300));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_hold_up_the_others() {
    let on = Subject::new().await;
    let rows = [row(), row(), row()];
    on.store.enqueue(None, &rows).await.unwrap();
    let spoil = sqlx::query("update outbox set attributes = 'spoilt' where seq = ?").bind(rows[0].seq);
    spoil.execute(&mut on.raw().await).await.unwrap();
    let now = pitcrew::clock::now();
    let swept = on.store.sweep(on.worker, now, now, 2).await.unwrap();
    assert_eq!(swept.iter().map(|s| s.row.seq).collect::<Vec<_>>(), [rows[1].seq]);
    let swept = on.store.sweep(on.worker, now, now, 2).await.unwrap();
    assert_eq!(swept.iter().map(|s| s.row.seq).collect::<Vec<_>>(), [rows[2].seq]);
    let select = "select problem from outbox where problem is not null";
    let problem: String = sqlx::query_scalar(select).fetch_one(&mut on.raw().await).await.unwrap();
    assert!(problem.contains("attributes"), "{problem}");
}

#[tokio::test]
async fn a_trim_larger_than_one_step_takes_everything_that_is_old() {
    let on = Subject::new().await;
    let day = Duration::from_secs(24 * 60 * 60);
    let now = pitcrew::clock::now();
    let old = |n: usize| {
        let mut message = sale();
        message.effects = Effects::default();
        let mut envelope = (*message.envelope).clone();
        // Half of them dated, half of them not.
        envelope.id = if n.is_multiple_of(2) {
            format!("order-{n}")
        } else {
            pitcrew::clock::uuid_v7_at(now - 20 * day).to_string()
        };
        message.envelope = Arc::new(envelope);
        message.at = now - 20 * day;
        message
    };
    let messages: Vec<_> = (0..5_000).map(old).collect();
    for batch in messages.chunks(250) {
        on.commit(batch).await.unwrap();
    }
    let young = sale();
    on.commit(std::slice::from_ref(&young)).await.unwrap();
    let keep = |days: u32| Retention { inbox: days * day, letters: 90 * day, audit: 400 * day, sink: None };
    let within = on.store.maintain(&keep(19), now).await.unwrap();
    assert_eq!(within.trimmed, 0, "a row is kept two days longer than messages are admitted");
    assert_eq!(on.store.maintain(&keep(14), now).await.unwrap().trimmed, 5_000);
    assert_eq!(on.store.counts().await.unwrap().done, 1);
    assert!(on.is_stored(&young).await);
}
