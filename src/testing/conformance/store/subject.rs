//! Subject Under Test: a store, and what a case asks of it again and again.

use super::samples::build_id;
use crate::{BoxFuture, clock, store::*};
use futures::future::join_all;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// What differs between stores by design. Everything else must not differ.
#[derive(Clone, Default)]
pub struct Features {
    /// One process a database: [`Store::start_worker`] takes all others for lost at once.
    pub single_process: bool,
    /// A second store on the same database, as another process has one: cases with many tasks use both.
    pub twin: Option<Arc<dyn Store>>,
    /// A table of the author's own. Cases about such rows pass without it.
    pub own_table: Option<OwnTable>,
}

/// A table as [`Row`](crate::Row) wants one: `id text primary key, n bigint not null, note text`, empty.
#[derive(Clone)]
pub struct OwnTable {
    /// Its name, schema-qualified where there are schemas.
    pub name: &'static str,
    /// Whether the database holds its columns to their declared types (SQLite: `strict`). The memory store has no declarations.
    pub is_declared: bool,
    /// Reads its rows as JSON objects, ordered by `id`.
    pub read: Arc<dyn Fn() -> BoxFuture<'static, Vec<Value>> + Send + Sync>,
}

/// A store that is ready, and a worker in it.
#[derive(Clone)]
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What it is like.
    pub features: Features,
    /// A living worker.
    pub worker: Uuid,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("store", &self.store.kind()).finish_non_exhaustive()
    }
}

impl Subject {
    /// Migrates an empty store, by both at once if it has a twin, and starts a worker in it.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn new(store: Arc<dyn Store>, features: Features) -> Self {
        let both = [Some(&store), features.twin.as_ref()];
        for migrated in join_all(both.into_iter().flatten().map(|store| store.migrate())).await {
            migrated.expect("an empty store can be migrated");
        }
        let subject = Self { store, features, worker: clock::uuid_v7() };
        subject.start(subject.worker).await;
        subject
    }

    /// Ends its worker and its connections, after a case.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn end(&self) {
        self.store.end_worker(self.worker).await.expect("a worker can end");
        self.store.close().await;
        if let Some(twin) = &self.features.twin {
            twin.close().await;
        }
    }

    /// What the n-th of many tasks works with: every second one another worker in another process, where there can be one.
    pub(super) async fn of_task(&self, n: usize) -> Self {
        let Some(twin) = self.features.twin.clone().filter(|_| n % 2 == 1) else { return self.clone() };
        let other = Self { store: twin, worker: clock::uuid_v7(), ..self.clone() };
        other.start(other.worker).await;
        other
    }

    pub(super) async fn start(&self, worker: Uuid) {
        self.start_at(worker, clock::now()).await;
    }

    pub(super) async fn start_at(&self, worker: Uuid, at: chrono::DateTime<chrono::Utc>) {
        let record = WorkerRecord {
            id: worker,
            service: "conformance".into(),
            place: "host:1".into(),
            build: build_id().into(),
        };
        self.store.start_worker(&record, at).await.expect("a worker can start");
    }

    /// Commits, again while the store is busy.
    pub(super) async fn try_commit(&self, messages: &[Finished], confirmed: &[Uuid]) -> StoreResult<Vec<Verdict>> {
        let batch = Batch { worker: self.worker, messages, confirmed };
        for _ in 0..100 {
            match self.store.commit(&batch).await {
                Err(StoreError::Busy(_)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
        panic!("the store was busy a hundred times")
    }

    pub(super) async fn commit(&self, messages: &[Finished]) -> Vec<Verdict> {
        let verdicts = self.try_commit(messages, &[]).await.expect("the batch commits");
        assert_eq!(verdicts.len(), messages.len(), "one verdict a message");
        verdicts
    }

    pub(super) async fn commit_one(&self, message: &Finished) -> Verdict {
        self.commit(std::slice::from_ref(message)).await[0]
    }

    /// Commits what must be stored.
    pub(super) async fn store(&self, message: &Finished) {
        assert_eq!(self.commit_one(message).await, Verdict::Stored);
    }

    pub(super) async fn enqueue(&self, owner: Option<Uuid>, rows: &[OutboxRow]) {
        self.store.enqueue(owner, rows).await.expect("rows can be enqueued");
    }

    pub(super) async fn seen(&self, message: &Finished) -> Option<Seen> {
        let mut seen = self.store.seen(&[message.key()]).await.expect("the inbox answers");
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }

    /// The attempt and fate that the inbox holds.
    pub(super) async fn fate(&self, message: &Finished) -> Option<(u32, String)> {
        self.seen(message).await.map(|seen| (seen.attempt, seen.fate))
    }

    pub(super) async fn history(&self, id: &str) -> History {
        self.store.history(id).await.expect("history can be read")
    }

    /// The outbox rows that carry this message.
    pub(super) async fn outbox(&self, row: &OutboxRow) -> Vec<OutboxEntry> {
        self.history(&row.envelope.id).await.outbox
    }

    pub(super) async fn is_in_outbox(&self, row: &OutboxRow) -> bool {
        self.outbox(row).await.iter().any(|entry| entry.row.seq == row.seq)
    }

    pub(super) async fn document(&self, write: &DocumentWrite) -> Option<StoredDocument> {
        self.store.load(write.collection, &write.id).await.expect("documents can be loaded")
    }

    pub(super) async fn counts(&self) -> Counts {
        self.store.counts().await.expect("rows can be counted")
    }

    /// Whichever they are, without their payloads they are the same.
    pub(super) async fn letters(&self, filter: &DeadFilter) -> Vec<DeadLetter> {
        let letters = self.store.dead_letters(filter, 1_000).await.expect("letters can be read");
        let heads = self.store.letter_heads(filter, 1_000).await.expect("letters can be listed");
        assert_eq!(heads, letters.iter().map(DeadLetter::head).collect::<Vec<_>>());
        letters
    }
}
