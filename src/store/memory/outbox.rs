//! Transactional Outbox: whose row is whose.

use super::state::{Seat, State};
use crate::{clock, store::*};
use std::ops::Bound;

impl State {
    /// Writes a row. One that waits for its time belongs to nobody until then. A row that is there already stays as it is: the
    /// writer repeats itself because an answer was lost.
    pub(super) fn post(&mut self, owner: Option<Uuid>, row: &OutboxRow) {
        let owner = owner.filter(|_| row.due.is_none());
        let new = || OutboxEntry { row: row.clone(), owner, tries: 0, problem: None };
        self.outbox.entry(row.seq).or_insert_with(new);
    }

    /// A lost worker leaves the table of the living, so that its next heartbeat tells it: its rows are not its own any more.
    pub(super) fn sweep(
        &mut self,
        worker: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
        limit: usize,
    ) -> Vec<Swept> {
        self.workers.retain(|id, seat| *id == worker || seat.beat >= lost_before);
        let workers = &self.workers;
        let is_free = |entry: &OutboxEntry| match entry.owner {
            None => entry.row.due.is_none_or(|due| due <= now),
            Some(owner) => owner != worker && !workers.contains_key(&owner),
        };
        let free = self.outbox.values_mut().filter(|entry| is_free(entry)).take(limit);
        free.map(|entry| {
            let begun = entry.owner.replace(worker).is_some();
            Swept { row: entry.row.clone(), begun, tries: entry.tries }
        })
        .collect()
    }

    pub(super) fn spilled(
        &self,
        worker: Uuid,
        destination: &Destination,
        after: Option<Uuid>,
        limit: usize,
    ) -> Vec<OutboxRow> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.outbox.range((start, Bound::Unbounded)).map(|(_, entry)| entry);
        let its = rows.filter(|entry| entry.owner == Some(worker) && entry.row.destination == *destination);
        its.map(|entry| entry.row.clone()).take(limit).collect()
    }

    pub(super) fn confirm(&mut self, rows: &[Uuid]) {
        for row in rows {
            self.outbox.remove(row);
        }
    }

    pub(super) fn note(&mut self, row: Uuid, tries: u32, problem: &str) {
        if let Some(entry) = self.outbox.get_mut(&row) {
            entry.tries = tries;
            entry.problem = Some(problem.to_owned());
        }
    }

    /// A row that is gone was published or buried before: there is nothing to bury.
    pub(super) fn bury(&mut self, row: Uuid, letter: &DeadLetter) {
        if self.outbox.remove(&row).is_some() {
            self.file(letter);
        }
    }

    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.outbox.values().filter(|entry| entry.owner.is_none()).filter_map(|entry| entry.row.due).min()
    }

    pub(super) fn hindered(&self, seen_since: DateTime<Utc>) -> Vec<Told> {
        let in_need = |seat: &&Seat| seat.beat >= seen_since && !seat.hindered.is_empty();
        let told = |Seat { record, beat, hindered, .. }: &Seat| Told {
            worker: record.id,
            place: record.place.clone(),
            at: *beat,
            hindered: hindered.clone(),
        };
        let mut all: Vec<Told> = self.workers.values().filter(in_need).map(told).collect();
        all.sort_by_key(|told| told.worker);
        all
    }

    pub(super) fn workers(&self, now: DateTime<Utc>) -> Vec<Alive> {
        let seats = self.workers.values().map(|seat| Alive {
            worker: seat.record.clone(),
            started: seat.started,
            silent: clock::between(seat.beat, now),
        });
        let mut all: Vec<Alive> = seats.collect();
        all.sort_by_key(|alive| (alive.started, alive.worker.id));
        all
    }

    pub(super) fn waiting(&self, now: DateTime<Utc>, limit: usize) -> Vec<OutboxEntry> {
        let could_leave = |entry: &&OutboxEntry| entry.row.due.is_none_or(|due| due <= now);
        let mut waiting: Vec<_> = self.outbox.values().filter(could_leave).cloned().collect();
        waiting.sort_by_key(|entry| (entry.problem.is_none(), entry.row.seq));
        waiting.truncate(limit);
        waiting
    }

    pub(super) fn end_worker(&mut self, worker: Uuid) {
        self.workers.remove(&worker);
        for entry in self.outbox.values_mut().filter(|entry| entry.owner == Some(worker)) {
            entry.owner = None;
        }
    }
}
