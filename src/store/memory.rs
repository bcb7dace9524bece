//! In-Memory Store: the reference of what a store does, for tests with paused time and for measuring without a database.
//!
//! One lock over plain collections: no thread, no timer, no I/O, and nothing is awaited while it is held. Every method is short
//! enough to be read as the meaning of its counterpart in SQL. What it keeps is gone with it.

mod commit;
mod gauges;
mod operators;
mod outbox;
mod replays;
mod state;

use super::*;
use crate::fault;
use serde_json::Value;
use state::{Seat, State};
use std::sync::{Mutex, PoisonError};

/// Its schema has one version: there is nothing to migrate from.
const SCHEMA: u32 = 1;

/// What a test makes the store say instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// [`StoreError::Away`], and nothing was done.
    Away,
    /// [`StoreError::Away`], but it was done: the answer of a commit got lost.
    AnswerLost,
    /// [`StoreError::Busy`].
    Busy,
    /// [`StoreError::Refused`].
    Refused,
}

/// A store without a database. Clones of its `Arc` may be shared by several workers of one test.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    script: Mutex<Script>,
}

/// What a test has planned for the next calls.
#[derive(Debug, Default)]
struct Script {
    away: bool,
    failures: std::collections::VecDeque<Failure>,
    /// Every committed message with what was said of it, if somebody reads it.
    log: Option<Vec<(Finished, Verdict)>>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next `n` calls, whatever they ask, fail so. Plans queue up.
    pub fn fail_next(&self, n: usize, failure: Failure) {
        self.script().failures.extend(std::iter::repeat_n(failure, n));
    }

    /// While `true`, every call fails with [`StoreError::Away`] and does nothing; planned failures wait.
    pub fn away(&self, away: bool) {
        self.script().away = away;
    }

    /// Planned failures that no call has met yet: a test that ends with some has not tested what it meant to.
    pub fn failures_left(&self) -> usize {
        self.script().failures.len()
    }

    /// From now on [`recorded`](Self::recorded) knows what was committed.
    pub(crate) fn record(&self) {
        self.script().log.get_or_insert_default();
    }

    /// Every message that was committed since [`record`](Self::record), with the verdict on it.
    pub(crate) fn recorded(&self) -> Vec<(Finished, Verdict)> {
        self.script().log.clone().unwrap_or_default()
    }

    /// The author's own rows in `table`, ordered by their key.
    pub fn rows(&self, table: &str) -> Vec<Value> {
        self.read(|state| {
            let rows = state.tables.get(table).into_iter().flat_map(|rows| rows.values());
            rows.cloned().map(Value::Object).collect()
        })
    }

    /// All documents, by collection and ID.
    #[cfg(feature = "fault")]
    pub(crate) fn documents(&self) -> Vec<((String, String), StoredDocument)> {
        self.read(|state| state.documents.iter().map(|(key, document)| (key.clone(), document.clone())).collect())
    }

    /// All rows of the author's own tables, by table and key.
    #[cfg(feature = "fault")]
    pub(crate) fn own_rows(&self) -> Vec<((&'static str, String), Value)> {
        self.read(|state| {
            let of_table = |(table, rows): (&&'static str, &std::collections::BTreeMap<_, _>)| {
                let table = *table;
                let row = |(key, row): (&String, &serde_json::Map<_, _>)| ((table, key.clone()), row.clone().into());
                rows.iter().map(row).collect::<Vec<_>>()
            };
            state.tables.iter().flat_map(of_table).collect()
        })
    }

    /// Every worker counts as lost: the next sweep takes what was theirs.
    #[cfg(feature = "fault")]
    pub(crate) fn bury_workers(&self) {
        self.read(|state| state.workers.clear());
    }

    /// All outbox rows, in sequence.
    pub fn outbox(&self) -> Vec<OutboxRow> {
        self.read(|state| state.outbox.values().map(|entry| entry.row.clone()).collect())
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // A panic in the middle of a commit is a bug of this store; the test that caused it has failed already.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One transaction, unless a test wants it to fail.
    fn run<T>(&self, work: impl FnOnce(&mut State) -> StoreResult<T>) -> StoreResult<T> {
        #[cfg(feature = "fault")]
        fault::stop_if_dead();
        let planned = {
            let mut script = self.script();
            if script.away { Some(Failure::Away) } else { script.failures.pop_front() }
        };
        let why = || anyhow::anyhow!("a test wants it so");
        match planned {
            None => self.read(work),
            Some(Failure::Away) => Err(StoreError::Away(why())),
            Some(Failure::Busy) => Err(StoreError::Busy(why())),
            Some(Failure::Refused) => Err(StoreError::Refused(why())),
            Some(Failure::AnswerLost) => self.read(work).and(Err(StoreError::Away(why()))),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn migrate(&self) -> StoreResult<Migrated> {
        self.run(|state| Ok(Migrated { from: std::mem::replace(&mut state.schema, SCHEMA), to: SCHEMA }))
    }

    async fn check(&self, rows: &[RowSpec]) -> StoreResult<Vec<String>> {
        self.run(|_| {
            for spec in rows {
                if let Some(missing) = spec.key.iter().find(|column| !spec.columns.contains(column)) {
                    let table = spec.table;
                    let fix = "list every column of KEY in COLUMNS too";
                    return Err(StoreError::Unfit(format!("{table}: key column `{missing}` is not written; {fix}")));
                }
            }
            Ok(Vec::new())
        })
    }

    async fn commit(&self, batch: &Batch<'_>) -> StoreResult<Vec<Verdict>> {
        fault::at(fault::Point::InsideCommit).await;
        self.run(|state| {
            let verdicts = state.commit(batch)?;
            if let Some(log) = &mut self.script().log {
                log.extend(batch.messages.iter().cloned().zip(verdicts.iter().copied()));
            }
            Ok(verdicts)
        })
    }

    async fn seen(&self, keys: &[InboxKey]) -> StoreResult<Vec<Option<Seen>>> {
        self.run(|state| Ok(keys.iter().map(|key| state.inbox.get(key).map(state::Known::seen)).collect()))
    }

    async fn load(&self, collection: &str, id: &str) -> StoreResult<Option<StoredDocument>> {
        self.run(|state| Ok(state.documents.get(&(collection.to_owned(), id.to_owned())).cloned()))
    }

    async fn begin(&self, _: &Arc<str>, _: &Arc<Envelope>, _: &[u8; 32], _: Duration) -> StoreResult<Begun> {
        Ok(Begun::Unsupported(self.kind()))
    }

    async fn commit_open(&self, _: OpenTx, _: Uuid, _: &Finished) -> StoreResult<Verdict> {
        Err(StoreError::Unfit("the memory store has not begun this transaction; commit it where it was begun".into()))
    }

    async fn claim(&self, keys: &[InboxKey], _: Uuid, now: DateTime<Utc>) -> StoreResult<()> {
        self.run(|state| {
            keys.iter().for_each(|key| state.claim(key, now));
            Ok(())
        })
    }

    async fn claims(&self, keys: &[InboxKey]) -> StoreResult<Vec<u32>> {
        self.run(|state| Ok(keys.iter().map(|key| state.claims.get(key).map_or(0, |claim| claim.count)).collect()))
    }

    async fn unclaim(&self, keys: &[InboxKey]) -> StoreResult<()> {
        self.run(|state| {
            keys.iter().for_each(|key| state.unclaim(key));
            Ok(())
        })
    }

    async fn enqueue(&self, owner: Option<Uuid>, rows: &[OutboxRow]) -> StoreResult<()> {
        self.run(|state| {
            rows.iter().for_each(|row| state.post(owner, row));
            Ok(())
        })
    }

    async fn accept(&self, owner: Option<Uuid>, asked: &[Asked<'_>], now: DateTime<Utc>) -> StoreResult<Vec<Accepted>> {
        self.run(|state| Ok(asked.iter().map(|asked| state.accept(owner, asked, now)).collect()))
    }

    async fn sweep(
        &self,
        worker: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
        limit: usize,
    ) -> StoreResult<Vec<Swept>> {
        self.run(|state| Ok(state.sweep(worker, now, lost_before, limit)))
    }

    async fn spilled(
        &self,
        worker: Uuid,
        destination: &Destination,
        after: Option<Uuid>,
        limit: usize,
    ) -> StoreResult<Vec<OutboxRow>> {
        self.run(|state| Ok(state.spilled(worker, destination, after, limit)))
    }

    async fn confirm(&self, rows: &[Uuid]) -> StoreResult<()> {
        self.run(|state| {
            state.confirm(rows);
            Ok(())
        })
    }

    async fn note(&self, row: Uuid, tries: u32, problem: &str) -> StoreResult<()> {
        self.run(|state| {
            state.note(row, tries, problem);
            Ok(())
        })
    }

    async fn bury(&self, row: Uuid, letter: &DeadLetter) -> StoreResult<()> {
        self.run(|state| {
            state.bury(row, letter);
            Ok(())
        })
    }

    async fn next_due(&self) -> StoreResult<Option<DateTime<Utc>>> {
        self.run(|state| Ok(state.next_due()))
    }

    /// Several workers may share a `MemoryStore`: others are lost by their heartbeat, as on Postgres.
    async fn start_worker(&self, worker: &WorkerRecord, now: DateTime<Utc>) -> StoreResult<()> {
        self.run(|state| {
            state.builds.insert(worker.id, worker.build.clone());
            state
                .workers
                .insert(worker.id, Seat { record: worker.clone(), started: now, beat: now, hindered: Vec::new() });
            Ok(())
        })
    }

    async fn beat(&self, worker: Uuid, hindered: &[Hindered], now: DateTime<Utc>) -> StoreResult<bool> {
        self.run(|state| {
            let seat = state.workers.get_mut(&worker);
            Ok(seat.map(|seat| (seat.beat, seat.hindered) = (now, hindered.to_vec())).is_some())
        })
    }

    async fn hindered(&self, seen_since: DateTime<Utc>) -> StoreResult<Vec<Told>> {
        self.run(|state| Ok(state.hindered(seen_since)))
    }

    async fn workers(&self, now: DateTime<Utc>) -> StoreResult<Vec<Alive>> {
        self.run(|state| Ok(state.workers(now)))
    }

    async fn about(&self) -> StoreResult<About> {
        let server = "memory of this process".to_owned();
        self.run(|state| Ok(About { server, schema: state.schema, wanted: SCHEMA, connections: None }))
    }

    async fn end_worker(&self, worker: Uuid) -> StoreResult<()> {
        self.run(|state| {
            state.end_worker(worker);
            Ok(())
        })
    }

    async fn register(&self, consumers: &[Arc<str>], now: DateTime<Utc>) -> StoreResult<Vec<DateTime<Utc>>> {
        self.run(|state| Ok(consumers.iter().map(|c| *state.consumers.entry(c.clone()).or_insert(now)).collect()))
    }

    async fn dead_letters(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        self.run(|state| Ok(state.letters(filter, limit).into_iter().cloned().collect()))
    }

    async fn letter_heads(&self, filter: &DeadFilter, limit: usize) -> StoreResult<Vec<LetterHead>> {
        self.run(|state| Ok(state.letters(filter, limit).into_iter().map(DeadLetter::head).collect()))
    }

    async fn resolve_letter(
        &self,
        key: &LetterKey,
        to: LetterState,
        rows: &[OutboxRow],
        audit: &Audit,
    ) -> StoreResult<bool> {
        self.run(|state| Ok(state.resolve_letter(key, to, rows, audit)))
    }

    async fn record(&self, audit: &Audit) -> StoreResult<()> {
        self.run(|state| {
            state.record(audit);
            Ok(())
        })
    }

    async fn record_action(&self, audit: &Audit) -> StoreResult<()> {
        self.run(|state| {
            state.audit.push(audit.clone());
            Ok(())
        })
    }

    async fn audit_trail(&self, filter: &AuditFilter, limit: usize) -> StoreResult<Vec<Audit>> {
        self.run(|state| Ok(state.audit_trail(filter, limit)))
    }

    async fn recorded(&self, action: &str, limit: usize) -> StoreResult<Vec<Audit>> {
        self.run(|state| Ok(state.recorded(action, limit)))
    }

    async fn handled(&self, span: &Span, after: Option<&Handled>, limit: usize) -> StoreResult<Vec<Handled>> {
        self.run(|state| Ok(state.handled(span, after, limit)))
    }

    async fn history(&self, id: &str) -> StoreResult<History> {
        self.run(|state| Ok(state.history(id)))
    }

    async fn counts(&self) -> StoreResult<Counts> {
        self.run(|state| Ok(state.counts()))
    }

    async fn gauges(&self, now: DateTime<Utc>) -> StoreResult<Gauges> {
        self.run(|state| Ok(state.gauges(now)))
    }

    async fn waiting(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<OutboxEntry>> {
        self.run(|state| Ok(state.waiting(now, limit)))
    }

    async fn retries(&self, now: DateTime<Utc>, limit: usize) -> StoreResult<Vec<Coming>> {
        self.run(|state| Ok(state.retries(now, limit)))
    }

    async fn maintain(&self, retention: &Retention, now: DateTime<Utc>) -> StoreResult<Maintained> {
        let (mut exported, mut kept) = (Vec::new(), Vec::new());
        if let Some(sink) = &retention.sink {
            // Nothing old enough can come between here and there.
            let (rows, done) = self.run(|state| Ok(state.expired(retention, now)))?;
            let done: Vec<_> = done.into_iter().map(Audit::whole).collect();
            for written in [sink.write("inbox", &rows).await, sink.write("operators", &done).await] {
                match written {
                    Ok(name) => exported.extend(name),
                    Err(error) => kept.push(error.to_string()),
                }
            }
            if !kept.is_empty() {
                return Ok(Maintained { exported, kept, ..Maintained::default() });
            }
        }
        self.run(|state| Ok(Maintained { exported, ..state.maintain(retention, now) }))
    }

    /// There is no connection to end: a test that restarts its worker finds everything where it was.
    async fn close(&self) {}
}
