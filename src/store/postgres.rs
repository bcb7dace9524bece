//! Message Store on Postgres: the one for production.
//!
//! Two pools: the committer's own, so that no handler ever keeps a commit waiting for a connection, and one for everything else.
//! Session settings are given at start-up or with `set local`, and locks end with their transaction, so that poolers work.

mod accept;
mod check;
mod commit;
mod days;
mod documents;
mod errors;
mod export;
mod gauges;
mod handled;
mod housekeeping;
mod inbox;
mod letters;
mod lines;
mod open;
mod operation;
mod operators;
mod outbox;
mod partitions;
mod renewable;
mod replays;
mod rows;
mod schema;
mod sql;
mod workers;

use super::*;
use days::Days;
use errors::{Sure, Trouble};
use lines::Lines;
use renewable::Renewable;
use sql::Sql;
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    collections::HashMap,
    str::FromStr,
    sync::{RwLock, atomic::AtomicU64},
};

/// How often a commit makes missing partitions before it gives up: two workers may each find another day missing.
const PARTITION_TRIES: usize = 3;
const VANISHING: &str = "partitions of the inbox vanish as fast as they are made";
/// What is not answered by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to use a Postgres database. The address is given apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The schema of this service's tables: letters, digits and underscores.
    pub schema: String,
    /// Connections of the committer.
    pub commit_connections: u32,
    /// Connections for everything else: `load`, `transaction`, relay, operators.
    pub other_connections: u32,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// A server that has not answered by then is taken for away, and is asked anew on other connections.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schema: "pitcrew".into(),
            commit_connections: 4,
            other_connections: 8,
            application_name: "pitcrew".into(),
            patience: Duration::from_secs(30),
        }
    }
}

/// A Postgres database.
#[derive(Debug)]
pub struct PostgresStore {
    sql: Sql,
    commits: Lines,
    other: Renewable,
    /// How often connections were left behind.
    renewed: AtomicU64,
    patience: Duration,
    address: PgConnectOptions,
    days: Days,
    /// Builds of this process's workers.
    builds: RwLock<HashMap<Uuid, Arc<str>>>,
}

impl PostgresStore {
    /// Connects to `postgres://user:password@host:port/database`.
    ///
    /// # Errors
    /// [`StoreError::Away`] with host and port if nobody answers there, [`StoreError::Unfit`] if the address or the schema's
    /// name is none or the server refuses us. Neither ever shows the password.
    pub async fn connect(url: &str, options: Options) -> Result<Self, StoreError> {
        let unreadable = |error| StoreError::Unfit(format!("the store's address is no Postgres address: {error}"));
        let sql = Sql::new(&options.schema)?;
        let address = PgConnectOptions::from_str(url)
            .map_err(unreadable)?
            .application_name(&options.application_name)
            // A planner that expects rows where there are none would compile a statement of microseconds for half a second.
            .options([("default_transaction_isolation", "read committed"), ("jit", "off")]);
        reach(&address).await?;
        // The rest: a plan made while the tables are new and small must not scan them for as long as it is cached.
        let settings = [("lock_timeout", "250ms"), ("enable_seqscan", "off")];
        let commits = address.clone().options(settings);
        Ok(Self {
            sql,
            commits: Lines::new(commits, options.commit_connections),
            other: Renewable::new(
                PgPoolOptions::new().max_connections(options.other_connections).acquire_timeout(2 * CONNECT_TIMEOUT),
                address.clone(),
            ),
            renewed: AtomicU64::new(0),
            patience: options.patience,
            address,
            days: Days::new(),
            builds: RwLock::default(),
        })
    }

    /// The pool that is not the committer's.
    pub fn pool(&self) -> PgPool {
        self.other.get()
    }

    /// Drops the schema with everything in it.
    #[doc(hidden)]
    pub async fn drop_schema(&self) -> StoreResult<()> {
        let drop = async {
            sqlx::raw_sql(self.sql.ddl("drop schema if exists {s} cascade", "meta")).execute(&self.other.get()).await?;
            Sure::Ok(())
        };
        Ok(drop.await?)
    }
}

/// Fails fast, and says where it knocked.
async fn reach(address: &PgConnectOptions) -> StoreResult<()> {
    let place = format!("Postgres at {}:{}", address.get_host(), address.get_port());
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(address)).await {
        Ok(Ok(connection)) => {
            let _ = connection.close().await; // it has answered, which is all it was for
            Ok(())
        }
        Ok(Err(error)) => Err(match errors::unfit(error.into(), &place) {
            StoreError::Away(error) => StoreError::Away(anyhow::anyhow!("{place} does not answer: {error}")),
            other => other,
        }),
        Err(_) => {
            let seconds = CONNECT_TIMEOUT.as_secs();
            Err(StoreError::Away(anyhow::anyhow!("{place} does not answer within {seconds} s")))
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn postgres_pool(&self) -> Option<PgPool> {
        Some(self.pool())
    }

    async fn migrate(&self) -> StoreResult<Migrated> {
        self.migrate_schema().await
    }

    async fn check(&self, rows: &[RowSpec]) -> StoreResult<Vec<String>> {
        self.check_all(rows).await.map_err(|trouble| errors::unfit(trouble, "the database cannot be checked"))
    }

    async fn commit(&self, batch: &Batch<'_>) -> StoreResult<Vec<Verdict>> {
        let commit = async {
            for _ in 0..PARTITION_TRIES {
                match self.try_commit(batch).await {
                    Err(trouble) if trouble.is_missing_partition(self.sql.schema()) => {
                        self.make_partitions_for(batch.messages).await?;
                    }
                    other => return other,
                }
            }
            Err(Trouble::busy(VANISHING))
        };
        self.answered(commit).await
    }

    async fn seen(&self, keys: &[InboxKey]) -> StoreResult<Vec<Option<Seen>>> {
        self.answered(self.look_up(keys)).await
    }

    async fn load(&self, collection: &str, id: &str) -> StoreResult<Option<StoredDocument>> {
        self.answered(self.load_document(collection, id)).await
    }

    async fn begin(
        &self,
        consumer: &Arc<str>,
        envelope: &Arc<Envelope>,
        payload_hash: &[u8; 32],
        left: Duration,
    ) -> StoreResult<Begun> {
        let begin = async {
            for _ in 0..PARTITION_TRIES {
                match self.try_begin(consumer, envelope, payload_hash, left).await {
                    Err(trouble) if trouble.is_missing_partition(self.sql.schema()) => {
                        self.make_partition_for(envelope).await?;
                    }
                    other => return other,
                }
            }
            Err(Trouble::busy(VANISHING))
        };
        self.answered(begin).await
    }

    async fn commit_open(&self, open: OpenTx, worker: Uuid, message: &Finished) -> StoreResult<Verdict> {
        self.answered(self.finish_open(open, worker, message)).await
    }

    async fn claim(&self, keys: &[InboxKey], worker: Uuid, now: DateTime<Utc>) -> StoreResult<()> {
        self.answered(self.count_claims(keys, worker, now)).await
    }

    async fn claims(&self, keys: &[InboxKey]) -> StoreResult<Vec<u32>> {
        self.answered(self.read_claims(keys)).await
    }

    async fn unclaim(&self, keys: &[InboxKey]) -> StoreResult<()> {
        self.answered(self.take_back_claims(keys)).await
    }

    async fn enqueue(&self, owner: Option<Uuid>, rows: &[OutboxRow]) -> StoreResult<()> {
        self.answered(self.post(owner, rows)).await
    }

    async fn accept(&self, owner: Option<Uuid>, asked: &[Asked<'_>], now: DateTime<Utc>) -> StoreResult<Vec<Accepted>> {
        self.answered(self.let_in(owner, asked, now)).await
    }

    async fn enqueue_in(&self, connection: &mut PgConnection, rows: &[OutboxRow]) -> StoreResult<()> {
        Ok(self.write_outbox(connection, None, rows.iter()).await?)
    }

    async fn sweep(
        &self,
        worker: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
        limit: usize,
    ) -> StoreResult<Vec<Swept>> {
        self.answered(self.take(worker, now, lost_before, limit)).await
    }

    async fn spilled(
        &self,
        worker: Uuid,
        destination: &Destination,
        after: Option<Uuid>,
        limit: usize,
    ) -> StoreResult<Vec<OutboxRow>> {
        self.answered(self.read_spilled(worker, destination, after, limit)).await
    }

    async fn confirm(&self, rows: &[Uuid]) -> StoreResult<()> {
        self.answered(self.delete_confirmed(rows)).await
    }

    async fn note(&self, row: Uuid, tries: u32, problem: &str) -> StoreResult<()> {
        self.answered(self.note_problem(row, tries, problem)).await
    }

    async fn bury(&self, row: Uuid, letter: &DeadLetter) -> StoreResult<()> {
        self.answered(self.give_up(row, letter)).await
    }

    async fn next_due(&self) -> StoreResult<Option<DateTime<Utc>>> {
        self.answered(self.first_due()).await
    }

    async fn start_worker(&self, worker: &WorkerRecord, now: DateTime<Utc>) -> StoreResult<()> {
        self.answered(self.enter_worker(worker, now)).await
    }

    async fn beat(&self, worker: Uuid, hindered: &[Hindered], now: DateTime<Utc>) -> StoreResult<bool> {
        self.answered(self.seen_alive(worker, hindered, now)).await
    }

    async fn hindered(&self, seen_since: DateTime<Utc>) -> StoreResult<Vec<Told>> {
        self.answered(self.what_hinders(seen_since)).await
    }

    async fn workers(&self, now: DateTime<Utc>) -> StoreResult<Vec<Alive>> {
        self.answered(self.who_lives(now)).await
    }

    async fn about(&self) -> StoreResult<About> {
        let schema = self.sql.schema();
        self.tell_about().await.map_err(|t| errors::unfit(t, &format!("schema `{schema}` cannot be looked at")))
    }

    async fn end_worker(&self, worker: Uuid) -> StoreResult<()> {
        self.answered(self.leave(worker)).await
    }

    async fn register(&self, consumers: &[Arc<str>], now: DateTime<Utc>) -> StoreResult<Vec<DateTime<Utc>>> {
        self.answered(self.first_seen(consumers, now)).await
    }

    async fn dead_letters(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        Ok(self.list_letters(filter, limit).await?)
    }

    async fn letter_heads(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<LetterHead>> {
        Ok(self.list_heads(filter, limit).await?)
    }

    async fn resolve_letter(
        &self,
        key: &LetterKey,
        state: LetterState,
        rows: &[OutboxRow],
        audit: &Audit,
    ) -> StoreResult<bool> {
        Ok(self.resolve(key, state, rows, audit).await?)
    }

    async fn record(&self, audit: &Audit) -> StoreResult<()> {
        Ok(self.write_down(audit).await?)
    }

    async fn record_action(&self, audit: &Audit) -> StoreResult<()> {
        Ok(self.write_action(audit).await?)
    }

    async fn audit_trail(&self, filter: &AuditFilter, limit: usize) -> StoreResult<Vec<Audit>> {
        Ok(self.trail(filter, limit).await?)
    }

    async fn recorded(&self, action: &str, limit: usize) -> StoreResult<Vec<Audit>> {
        Ok(self.written_down(action, limit).await?)
    }

    async fn handled(&self, span: &Span, after: Option<&Handled>, limit: usize) -> StoreResult<Vec<Handled>> {
        Ok(self.page(span, after, limit).await?)
    }

    async fn history(&self, id: &str) -> StoreResult<History> {
        Ok(self.tell(id).await?)
    }

    async fn counts(&self) -> StoreResult<Counts> {
        Ok(self.count().await?)
    }

    async fn gauges(&self, now: DateTime<Utc>) -> StoreResult<Gauges> {
        self.answered(self.what_waits(now)).await
    }

    async fn waiting(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<OutboxEntry>> {
        self.answered(self.read_waiting(now, limit)).await
    }

    async fn retries(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<Coming>> {
        self.answered(self.what_comes(now, limit)).await
    }

    async fn maintain(&self, retention: &Retention, now: DateTime<Utc>) -> StoreResult<Maintained> {
        Ok(self.keep_house(retention, now).await?)
    }

    async fn close(&self) {
        let other = self.other.get();
        tokio::join!(self.commits.close(), other.close());
    }
}
