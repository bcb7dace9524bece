//! Tables: what the memory store keeps, one collection for each table of the SQL stores.

use super::replays::Job;
use crate::{message::KeyTime, store::*};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// Everything. Only ever seen under the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) schema: u32,
    pub(super) inbox: HashMap<InboxKey, Known>,
    /// In the order of their commits, which for one message is the order of its attempts.
    pub(super) attempts: Vec<(InboxKey, Attempt)>,
    pub(super) operations: HashMap<OperationKey, Operation>,
    /// By collection and ID.
    pub(super) documents: HashMap<(String, String), StoredDocument>,
    /// The author's own rows: by table, then by the key as JSON.
    pub(super) tables: HashMap<&'static str, BTreeMap<String, Map<String, Value>>>,
    /// By sequence.
    pub(super) outbox: BTreeMap<Uuid, OutboxEntry>,
    pub(super) letters: HashMap<LetterKey, DeadLetter>,
    pub(super) claims: HashMap<InboxKey, Claim>,
    pub(super) workers: HashMap<Uuid, Seat>,
    /// Outlives the entry in `workers`: an inbox row says which build wrote it.
    pub(super) builds: HashMap<Uuid, String>,
    pub(super) consumers: HashMap<Arc<str>, DateTime<Utc>>,
    pub(super) audit: Vec<Audit>,
    pub(super) replays: BTreeMap<Uuid, Job>,
}

/// A row of the inbox.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) row: InboxRow,
    pub(super) payload_hash: [u8; 32],
    /// Why it is dead.
    pub(super) reason: Option<String>,
}

impl Known {
    pub(super) fn told(&self) -> Handled {
        let sent = match KeyTime::of(&self.row.id) {
            KeyTime::At(time) => Some(time),
            KeyTime::Undated => None,
        };
        Handled { sent, row: self.row.clone(), reason: self.reason.clone() }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen { attempt: self.row.attempt, fate: self.row.fate.clone(), payload_hash: self.payload_hash.to_vec() }
    }
}

/// Consumer and `idempotencykey`.
pub(super) type OperationKey = (Arc<str>, String);

/// Who holds a business operation key.
#[derive(Debug)]
pub(super) struct Operation {
    /// Over canonical payload, type and version.
    pub(super) hash: [u8; 32],
    /// The message that brought it first, or took it over.
    pub(super) holder: InboxKey,
    pub(super) at: DateTime<Utc>,
}

/// Deliveries of a message that were begun and never ended.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) count: u32,
    pub(super) at: DateTime<Utc>,
}

/// A living worker.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) record: WorkerRecord,
    pub(super) started: DateTime<Utc>,
    pub(super) beat: DateTime<Utc>,
    pub(super) hindered: Vec<Hindered>,
}

impl State {
    pub(super) fn claim(&mut self, key: &InboxKey, now: DateTime<Utc>) {
        let claim = self.claims.entry(key.clone()).or_insert(Claim { count: 0, at: now });
        claim.count += 1;
        claim.at = now;
    }

    pub(super) fn unclaim(&mut self, key: &InboxKey) {
        if let Some(claim) = self.claims.get_mut(key) {
            claim.count -= 1;
            if claim.count == 0 {
                self.claims.remove(key);
            }
        }
    }

    /// Files a letter. One that came before counts up, keeps its first time, and waits for an operator again.
    pub(super) fn file(&mut self, letter: &DeadLetter) {
        match self.letters.get_mut(&letter.key) {
            Some(known) => {
                let (count, first_at) = (known.count.saturating_add(letter.count), known.first_at);
                *known = DeadLetter { count, first_at, ..letter.clone() };
            }
            None => drop(self.letters.insert(letter.key.clone(), letter.clone())),
        }
    }
}
