//! Message Store: the contract of a database under the committer.
//!
//! Three adapters, one conformance suite (`pitcrew::testing::conformance`): [`memory`], [`sqlite`], [`postgres`]. Adapters know
//! SQL and nothing else: policy (what is retried, what dies) is decided above them, and they never read a clock.

pub mod memory;
pub mod postgres;
mod records;
mod replays;
mod sink;
pub mod sqlite;

pub use crate::context::{DocumentWrite, Effects, Expect, RowSpec, RowWrite};
pub use records::*;
pub use replays::Replays;
pub use sink::Sink;

use crate::Envelope;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing is known of what was asked: hold everything, ask the inbox, try again.
    #[error("reach the store: {0}")]
    Away(#[source] anyhow::Error),
    /// Rolled back for sure (deadlock, serialisation failure, lock timeout): try again at once.
    #[error("use the store, it is busy: {0}")]
    Busy(#[source] anyhow::Error),
    /// The data of one message can never be stored as it is: split the batch until the guilty one stands alone.
    #[error("store it: {0}")]
    Refused(#[source] anyhow::Error),
    /// The set-up is wrong (schema too new, `fsync=off`, missing columns): an operator must act.
    #[error("{0}")]
    Unfit(String),
}

impl StoreError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Busy(_))
    }
}

/// Short for what every method gives.
pub type StoreResult<T> = Result<T, StoreError>;

/// The database under one service.
///
/// Called by the committer, the relay, [`Context`](crate::Context) and the operator's commands, from many tasks at once.
/// Every method is one transaction: after `Ok` its writes are durable, after [`StoreError::Away`] the outcome is unknown, after
/// any other error nothing was written. Dropping a future leaves the outcome unknown, exactly as a lost connection does.
/// Times come from the caller.
#[async_trait]
pub trait Store: Replays + Send + Sync + 'static {
    /// `postgres`, `sqlite` or `memory`.
    fn kind(&self) -> &'static str;

    /// The pool for reads of handler authors, where the store is a Postgres.
    fn postgres_pool(&self) -> Option<sqlx::PgPool> {
        None
    }

    /// Brings the schema up to this build's version; safe to race with other workers. Must precede everything else but
    /// [`about`](Self::about).
    async fn migrate(&self) -> StoreResult<Migrated>;

    /// Refuses or warns about a set-up that cannot keep the promises (`fsync=off` is refused, `synchronous_commit=off` and a
    /// read-only server warned about), and checks the author's tables.
    async fn check(&self, rows: &[RowSpec]) -> StoreResult<Vec<String>>;

    // ---- the hot path

    /// The group commit: all or nothing, one verdict per message by position. In one fixed table order: guarded documents are
    /// locked and compared, operation keys, inbox with the attempt fence, attempts, documents, own rows, outbox, dead letters,
    /// deletion of outbox rows.
    ///
    /// Fence: a message is fresh if there is no inbox row, or the row is not final and its attempt is lower. No two messages of a
    /// batch have the same inbox key (the committer sees to that).
    async fn commit(&self, batch: &Batch<'_>) -> StoreResult<Vec<Verdict>>;

    /// What the inbox knows of these keys, by position.
    async fn seen(&self, keys: &[InboxKey]) -> StoreResult<Vec<Option<Seen>>>;

    /// The current version of a document.
    async fn load(&self, collection: &str, id: &str) -> StoreResult<Option<StoredDocument>>;

    /// The escape hatch: opens a transaction and claims the inbox row in it first, so that a duplicate waits or is refused
    /// before it writes. `left` bounds its statements.
    async fn begin(
        &self,
        consumer: &Arc<str>,
        envelope: &Arc<Envelope>,
        payload_hash: &[u8; 32],
        left: Duration,
    ) -> StoreResult<Begun>;

    /// Ends the escape hatch: the other effects, then `COMMIT`. The inbox row stands already.
    async fn commit_open(&self, open: OpenTx, worker: Uuid, message: &Finished) -> StoreResult<Verdict>;

    /// Counts one more begun delivery of each key in table `claim`.
    async fn claim(&self, keys: &[InboxKey], worker: Uuid, now: DateTime<Utc>) -> StoreResult<()>;

    /// What table `claim` counts for each key, by position: how often it was begun and never ended.
    async fn claims(&self, keys: &[InboxKey]) -> StoreResult<Vec<u32>>;

    /// Takes one claim back: the delivery was interrupted by a shutdown, not by a crash.
    async fn unclaim(&self, keys: &[InboxKey]) -> StoreResult<()>;

    // ---- the outbox

    /// Writes outbox rows outside a handler (`Client`, `send`). `owner` publishes them; without one a sweep takes them.
    async fn enqueue(&self, owner: Option<Uuid>, rows: &[OutboxRow]) -> StoreResult<()>;

    /// As [`enqueue`](Self::enqueue), and in the same transaction takes the business keys of these messages for them: who comes
    /// later with a key finds who holds it. By position; only rows of what is [`Accepted::New`] are written. A key whose
    /// holder will never be done is taken over, as in [`commit`](Self::commit).
    async fn accept(&self, owner: Option<Uuid>, asked: &[Asked<'_>], now: DateTime<Utc>) -> StoreResult<Vec<Accepted>>;

    /// As [`enqueue`](Self::enqueue) without an owner, in a transaction of the caller's: Postgres only.
    async fn enqueue_in(&self, connection: &mut sqlx::PgConnection, rows: &[OutboxRow]) -> StoreResult<()> {
        let _ = (connection, rows);
        Err(StoreError::Unfit(format!("the {} store cannot send in a transaction of Postgres", self.kind())))
    }

    /// Takes rows that nobody else will publish, in sequence: ownerless, owned by a worker not seen since `lost_before`, and due
    /// at `now`. They belong to `worker` afterwards.
    async fn sweep(
        &self,
        worker: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
        limit: usize,
    ) -> StoreResult<Vec<Swept>>;

    /// Rows of `worker` for one destination after `after`, in sequence: those that did not fit into memory.
    async fn spilled(
        &self,
        worker: Uuid,
        destination: &Destination,
        after: Option<Uuid>,
        limit: usize,
    ) -> StoreResult<Vec<OutboxRow>>;

    /// Deletes rows that the broker confirmed. Rows that are gone already are fine.
    async fn confirm(&self, rows: &[Uuid]) -> StoreResult<()>;

    /// Notes why a row could not be published, and how often that was tried. It stays.
    async fn note(&self, row: Uuid, tries: u32, problem: &str) -> StoreResult<()>;

    /// Gives a row up: a dead letter in its place, in one transaction.
    async fn bury(&self, row: Uuid, letter: &DeadLetter) -> StoreResult<()>;

    /// When the next row that waits for its time comes due.
    async fn next_due(&self) -> StoreResult<Option<DateTime<Utc>>>;

    // ---- workers and consumers

    /// Enters a worker in the table of the living. On a store with one process a file, all others are lost at once.
    async fn start_worker(&self, worker: &WorkerRecord, now: DateTime<Utc>) -> StoreResult<()>;

    /// The heartbeat. `false`: the entry is gone, another worker has taken this one for lost and may own its rows.
    /// `hindered` takes the place of what it told before.
    async fn beat(&self, worker: Uuid, hindered: &[Hindered], now: DateTime<Utc>) -> StoreResult<bool>;

    /// What hinders handlers, by the workers that were seen since then.
    async fn hindered(&self, seen_since: DateTime<Utc>) -> StoreResult<Vec<Told>>;

    /// A clean end: its outbox rows become ownerless and its entry goes.
    async fn end_worker(&self, worker: Uuid) -> StoreResult<()>;

    /// Enters consumers that are new and gives for each when it was first seen, by position.
    async fn register(&self, consumers: &[Arc<str>], now: DateTime<Utc>) -> StoreResult<Vec<DateTime<Utc>>>;

    /// Workers that have not signed off, the living and the lost, in the order of their start.
    async fn workers(&self, now: DateTime<Utc>) -> StoreResult<Vec<Alive>>;

    // ---- operators

    /// What the database is, before and without a migration; changes nothing. A schema that is too new for this build is
    /// [`StoreError::Unfit`].
    async fn about(&self) -> StoreResult<About>;

    /// Dead letters and quarantined messages, newest first.
    async fn dead_letters(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<DeadLetter>>;

    /// The same letters without their payloads, which are not even read.
    async fn letter_heads(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<LetterHead>>;

    /// Moves a letter from state `dead` or `quarantined` to `state`, writes `rows` to the outbox and records who did it and why.
    /// `false`: it is in another state already (or gone) and nothing was done.
    async fn resolve_letter(
        &self,
        key: &LetterKey,
        state: LetterState,
        rows: &[OutboxRow],
        audit: &Audit,
    ) -> StoreResult<bool>;

    /// Writes down what happened and concerns no message that is here. What says the same of the same target is written once.
    async fn record(&self, audit: &Audit) -> StoreResult<()>;

    /// Writes down what an operator did, each time that it is done.
    async fn record_action(&self, audit: &Audit) -> StoreResult<()>;

    /// What was done and what happened, newest first.
    async fn audit_trail(&self, filter: &AuditFilter, limit: usize) -> StoreResult<Vec<Audit>>;

    /// What was written down under this action, newest first.
    async fn recorded(&self, action: &str, limit: usize) -> StoreResult<Vec<Audit>>;

    /// A page of what became of messages: first those without a time in their ID, then the others by that time. `after` is the last
    /// of the page before; fewer than `limit` are the last page. What commits meanwhile may be in it or not.
    async fn handled(&self, span: &Span, after: Option<&Handled>, limit: usize) -> StoreResult<Vec<Handled>>;

    /// Everything known of messages with this ID, whatever their source.
    async fn history(&self, id: &str) -> StoreResult<History>;

    /// Rows by table, for health and for people.
    async fn counts(&self) -> StoreResult<Counts>;

    /// What waits in the tables and since when, for metrics. Who asks rests for longer
    /// than the answer took.
    async fn gauges(&self, now: DateTime<Utc>) -> StoreResult<Gauges>;

    /// Outbox rows that could leave at `now`: those with a problem first, then the oldest.
    async fn waiting(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<OutboxEntry>>;

    /// What comes again and when, the next first, from both the outbox and what brokers keep.
    async fn retries(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<Coming>>;

    // ---- housekeeping

    /// Makes partitions ahead, drops those that retention has passed, trims what is not partitioned, in small steps. With a sink
    /// inbox rows and what operators did leave only once it has them: a file that may come again after a crash has the same name.
    async fn maintain(&self, retention: &Retention, now: DateTime<Utc>) -> StoreResult<Maintained>;

    /// Ends connections.
    async fn close(&self);
}
