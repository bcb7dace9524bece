//! Message Store on SQLite: the embedded default, one file and one worker process beside any number of operators' commands.
//!
//! SQLite lets one connection write at a time, so the store has exactly one writer: every write is `begin immediate … commit` on it.
//! What such a transaction has read stays true until it commits; that is why the group commit here first reads, judges in
//! memory, and then only writes. Readers are connections of their own (WAL: they never wait for the writer).

mod accept;
mod bulk;
mod commit;
mod connect;
mod decode;
mod errors;
mod gauges;
mod handled;
mod housekeeping;
mod judge;
mod lock;
mod operators;
mod outbox;
mod own_rows;
mod replays;
mod schema;
mod workers;
mod writes;

pub use connect::Options;
pub use lock::WorkerLock;

use super::*;
use bulk::micros;
use connect::File;
use sqlx::{Sqlite, SqlitePool, Transaction, pool::PoolConnection};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// A database file of one service.
///
/// An own table `TABLE = "shop.brief"` is the table `brief` here: SQLite's only schema is the file itself, so what stands before the
/// dot is left out.
#[derive(Debug)]
pub struct SqliteStore {
    file: File,
    /// One connection: a second writer would only wait, and be refused after the busy timeout.
    writer: SqlitePool,
    readers: SqlitePool,
    /// The builds of workers started here, which the rows of their inbox name.
    builds: Mutex<HashMap<Uuid, String>>,
}

impl SqliteStore {
    /// Opens the file (`sqlite:PATH`, `sqlite://PATH` or a plain path) and creates it if there is none. Writes no table; that is
    /// [`Store::migrate`]'s.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] says what an operator must change: a missing or read-only directory, a file that is no database, a
    /// file system without shared memory.
    pub async fn open(path_or_url: &str, options: Options) -> StoreResult<Self> {
        let file = File::parse(path_or_url)?;
        let writer = connect::writer(&file, &options).await?;
        let readers = connect::readers(&file, &options);
        file.remember()?;
        Ok(Self { file, writer, readers, builds: Mutex::default() })
    }

    /// Opens a file that is there to look at it: nothing can be written.
    ///
    /// # Errors
    /// As [`open`](Self::open); and there is no such file.
    pub async fn look(path_or_url: &str) -> StoreResult<Self> {
        let file = File::parse(path_or_url)?;
        let onlookers = connect::onlookers(&file, &Options::default()).await?;
        file.remember()?;
        Ok(Self { file, writer: onlookers.clone(), readers: onlookers, builds: Mutex::default() })
    }

    /// The right to be the one worker process of this file. Held until it is dropped or the process ends, however it ends.
    /// The operators' commands need none.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] names who seems to hold it.
    pub fn lock(path_or_url: &str) -> StoreResult<WorkerLock> {
        WorkerLock::take(&File::parse(path_or_url)?)
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Waits for its turn to write. Dropped before its commit (error, cancelled caller), it rolls back.
    async fn begin_write(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        // Before, because a connection may be opened now; afterwards, because it may have taken its time.
        self.file.check_in_place()?;
        let transaction = self.writer.begin_with("begin immediate").await?;
        self.file.check_in_place()?;
        Ok(transaction)
    }

    /// To read from. Asked before, because a connection may be opened now.
    fn readers(&self) -> sqlx::Result<&SqlitePool> {
        self.file.check_in_place()?;
        Ok(&self.readers)
    }

    async fn reader(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        self.readers()?.acquire().await
    }

    fn answer<T>(&self, result: sqlx::Result<T>) -> StoreResult<T> {
        result.map_err(|e| self.file.failed(e))
    }

    fn builds(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, String>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn migrate(&self) -> StoreResult<Migrated> {
        schema::migrate(self).await
    }

    async fn check(&self, rows: &[RowSpec]) -> StoreResult<Vec<String>> {
        own_rows::check(self, rows).await
    }

    async fn commit(&self, batch: &Batch<'_>) -> StoreResult<Vec<Verdict>> {
        let build = self.builds().get(&batch.worker).cloned().unwrap_or_default();
        self.answer(commit::commit(self, batch, &build).await)
    }

    async fn seen(&self, keys: &[InboxKey]) -> StoreResult<Vec<Option<Seen>>> {
        let readers = self.answer(self.readers())?;
        self.answer(judge::seen(readers, keys.iter().map(bulk::inbox_key)).await)
    }

    async fn load(&self, collection: &str, id: &str) -> StoreResult<Option<StoredDocument>> {
        let readers = self.answer(self.readers())?;
        self.answer(decode::document(readers, collection, id).await)
    }

    async fn begin(&self, _: &Arc<str>, _: &Arc<Envelope>, _: &[u8; 32], _: Duration) -> StoreResult<Begun> {
        Ok(Begun::Unsupported("SQLite"))
    }

    async fn commit_open(&self, _: OpenTx, _: Uuid, _: &Finished) -> StoreResult<Verdict> {
        Err(StoreError::Unfit("SQLite has not begun this transaction; commit it on the store that did".into()))
    }

    async fn claim(&self, keys: &[InboxKey], worker: Uuid, now: DateTime<Utc>) -> StoreResult<()> {
        self.answer(workers::claim(self, keys, worker, now).await)
    }

    async fn claims(&self, keys: &[InboxKey]) -> StoreResult<Vec<u32>> {
        self.answer(workers::claims(self, keys).await)
    }

    async fn unclaim(&self, keys: &[InboxKey]) -> StoreResult<()> {
        self.answer(workers::unclaim(self, keys).await)
    }

    async fn enqueue(&self, owner: Option<Uuid>, rows: &[OutboxRow]) -> StoreResult<()> {
        self.answer(outbox::enqueue(self, owner, rows).await)
    }

    async fn accept(&self, owner: Option<Uuid>, asked: &[Asked<'_>], now: DateTime<Utc>) -> StoreResult<Vec<Accepted>> {
        self.answer(accept::accept(self, owner, asked, now).await)
    }

    async fn sweep(
        &self,
        worker: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
        limit: usize,
    ) -> StoreResult<Vec<Swept>> {
        self.answer(outbox::sweep(self, worker, now, lost_before, limit).await)
    }

    async fn spilled(
        &self,
        worker: Uuid,
        destination: &Destination,
        after: Option<Uuid>,
        limit: usize,
    ) -> StoreResult<Vec<OutboxRow>> {
        self.answer(outbox::spilled(self, worker, destination, after, limit).await)
    }

    async fn confirm(&self, rows: &[Uuid]) -> StoreResult<()> {
        self.answer(outbox::confirm(self, rows).await)
    }

    async fn note(&self, row: Uuid, tries: u32, problem: &str) -> StoreResult<()> {
        self.answer(outbox::note(self, row, tries, problem).await)
    }

    async fn bury(&self, row: Uuid, letter: &DeadLetter) -> StoreResult<()> {
        self.answer(outbox::bury(self, row, letter).await)
    }

    async fn next_due(&self) -> StoreResult<Option<DateTime<Utc>>> {
        self.answer(outbox::next_due(self).await)
    }

    /// One worker process a file: whoever holds the [`WorkerLock`] is alone, so every other entry is a dead worker's.
    async fn start_worker(&self, worker: &WorkerRecord, now: DateTime<Utc>) -> StoreResult<()> {
        self.answer(workers::start(self, worker, now).await)?;
        self.builds().insert(worker.id, worker.build.clone());
        Ok(())
    }

    async fn beat(&self, worker: Uuid, hindered: &[Hindered], now: DateTime<Utc>) -> StoreResult<bool> {
        self.answer(workers::beat(self, worker, hindered, now).await)
    }

    async fn hindered(&self, seen_since: DateTime<Utc>) -> StoreResult<Vec<Told>> {
        self.answer(workers::hindered(self, seen_since).await)
    }

    async fn workers(&self, now: DateTime<Utc>) -> StoreResult<Vec<Alive>> {
        self.answer(workers::all(self, now).await)
    }

    async fn about(&self) -> StoreResult<About> {
        schema::about(self).await
    }

    async fn end_worker(&self, worker: Uuid) -> StoreResult<()> {
        self.answer(workers::end(self, worker).await)
    }

    async fn register(&self, consumers: &[Arc<str>], now: DateTime<Utc>) -> StoreResult<Vec<DateTime<Utc>>> {
        self.answer(workers::register(self, consumers, now).await)
    }

    async fn dead_letters(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.answer(operators::dead_letters(self, filter, limit).await)
    }

    async fn letter_heads(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<LetterHead>> {
        self.answer(operators::letter_heads(self, filter, limit).await)
    }

    async fn resolve_letter(
        &self,
        key: &LetterKey,
        to: LetterState,
        rows: &[OutboxRow],
        audit: &Audit,
    ) -> StoreResult<bool> {
        self.answer(operators::resolve_letter(self, key, to, rows, audit).await)
    }

    async fn record(&self, audit: &Audit) -> StoreResult<()> {
        self.answer(operators::record(self, audit).await)
    }

    async fn record_action(&self, audit: &Audit) -> StoreResult<()> {
        self.answer(operators::record_action(self, audit).await)
    }

    async fn audit_trail(&self, filter: &AuditFilter, limit: usize) -> StoreResult<Vec<Audit>> {
        self.answer(operators::audit_trail(self, filter, limit).await)
    }

    async fn recorded(&self, action: &str, limit: usize) -> StoreResult<Vec<Audit>> {
        self.answer(operators::recorded(self, action, limit).await)
    }

    async fn handled(&self, span: &Span, after: Option<&Handled>, limit: usize) -> StoreResult<Vec<Handled>> {
        self.answer(handled::page(self, span, after, limit).await)
    }

    async fn history(&self, id: &str) -> StoreResult<History> {
        self.answer(operators::history(self, id).await)
    }

    async fn counts(&self) -> StoreResult<Counts> {
        self.answer(operators::counts(self).await)
    }

    async fn gauges(&self, now: DateTime<Utc>) -> StoreResult<Gauges> {
        self.answer(gauges::gauges(self, now).await)
    }

    async fn waiting(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<OutboxEntry>> {
        self.answer(outbox::waiting(self, now, limit).await)
    }

    async fn retries(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<Coming>> {
        self.answer(gauges::retries(self, now, limit).await)
    }

    async fn maintain(&self, retention: &Retention, now: DateTime<Utc>) -> StoreResult<Maintained> {
        self.answer(housekeeping::maintain(self, retention, now).await)
    }

    /// Folds the write-ahead log into the file; whoever closes it last removes the log, so that a copy of the file is complete.
    async fn close(&self) {
        self.readers.close().await;
        // Whoever only looks has no writer of its own.
        if self.writer.is_closed() {
            return;
        }
        if let Err(error) = sqlx::query("pragma wal_checkpoint(passive)").execute(&self.writer).await {
            tracing::warn!(file = %self.path().display(), %error, "the write-ahead log stays beside the file");
        }
        self.writer.close().await;
    }
}
