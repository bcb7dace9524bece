//! Idempotent Receiver and Unit of Work: the verdict on each message of a batch, and the writes of those that pass.

use super::state::{Known, Operation, State};
use crate::store::*;
use serde_json::{Map, Value};
use std::collections::HashSet;

impl State {
    /// Message by message: what an earlier one of the batch has written, a later one finds. Nothing can fail once the first row
    /// is written, so the whole is all or nothing.
    pub(super) fn commit(&mut self, batch: &Batch<'_>) -> StoreResult<Vec<Verdict>> {
        debug_assert!(has_distinct_keys(batch), "two messages of a batch have the same inbox key: defer one of them");
        check_rows(batch)?;
        let verdicts = batch.messages.iter().map(|message| self.settle(batch.worker, message)).collect();
        self.confirm(batch.confirmed);
        Ok(verdicts)
    }

    fn settle(&mut self, worker: Uuid, message: &Finished) -> Verdict {
        let verdict = self.judge(message);
        match verdict {
            Verdict::Stored => self.write(worker, message),
            // Known by its operation key under another ID: this ID is remembered too. Known by its own: nothing changes.
            Verdict::Duplicate if self.is_fresh(message) => self.remember(worker, message, Fate::Duplicate.word()),
            Verdict::Duplicate => {}
            Verdict::Conflict | Verdict::IdReused | Verdict::KeyConflict => return verdict,
        }
        if let Some(row) = message.row {
            self.outbox.remove(&row);
        }
        if message.claimed {
            self.claims.remove(&message.key());
        }
        verdict
    }

    /// The rules, in the order in which every store asks them.
    fn judge(&self, message: &Finished) -> Verdict {
        if !message.effects.documents.iter().all(|write| self.finds(write)) {
            return Verdict::Conflict;
        }
        if !message.fenced {
            return Verdict::Stored;
        }
        match self.judge_operation(message) {
            Verdict::Stored => self.judge_inbox(message),
            known => known,
        }
    }

    /// Whether a document write finds what it expects.
    fn finds(&self, write: &DocumentWrite) -> bool {
        let found = self.documents.get(&(write.collection.to_owned(), write.id.clone()));
        match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Version(version) => found.is_some_and(|document| document.version == version),
        }
    }

    fn judge_operation(&self, message: &Finished) -> Verdict {
        let Some((hash, key)) = operation(message) else { return Verdict::Stored };
        let Some(known) = self.operations.get(&(message.consumer.clone(), key.to_owned())) else {
            return Verdict::Stored;
        };
        match () {
            () if known.holder == message.key() => Verdict::Stored, // its own retry: the inbox decides
            () if self.gave_up(&known.holder) => Verdict::Stored,
            () if known.hash == hash => Verdict::Duplicate,
            () => Verdict::KeyConflict,
        }
    }

    pub(super) fn accept(&mut self, owner: Option<Uuid>, asked: &Asked<'_>, now: DateTime<Utc>) -> Accepted {
        if let Some(AskedKey { consumer, key, hash, source, id }) = asked.operation {
            let at: (Arc<str>, String) = (consumer.into(), key.to_owned());
            if let Some(known) = self.operations.get(&at).filter(|known| {
                // What asks again, because the answer was lost, is let in again.
                !self.gave_up(&known.holder) && (known.holder.id.as_str(), known.holder.source.as_str()) != (id, source)
            }) {
                let id = known.holder.id.clone();
                return if known.hash == *hash { Accepted::Known(id) } else { Accepted::Conflict(id) };
            }
            let holder = InboxKey { consumer: consumer.into(), source: source.to_owned(), id: id.to_owned() };
            self.operations.insert(at, Operation { hash: *hash, holder, at: now });
        }
        asked.rows.iter().for_each(|row| self.post(owner, row));
        Accepted::New
    }

    /// Whether the message that holds an operation key will never be done, so that another may take the key over.
    fn gave_up(&self, holder: &InboxKey) -> bool {
        let Some(known) = self.inbox.get(holder) else { return false };
        let discarded = || {
            let is_its = |key: &LetterKey| {
                key.consumer == *holder.consumer && key.source == holder.source && key.id == holder.id
            };
            let latest = self.letters.values().filter(|l| is_its(&l.key)).max_by_key(|l| l.key.attempt);
            latest.is_some_and(|letter| letter.state == LetterState::Discarded)
        };
        match known.row.fate.as_str() {
            "dead" | "expired" => true,
            "quarantined" => discarded(),
            _ => false,
        }
    }

    /// The attempt fence.
    fn judge_inbox(&self, message: &Finished) -> Verdict {
        match self.inbox.get(&message.key()) {
            Some(known) if known.payload_hash != message.payload_hash => Verdict::IdReused,
            Some(known) if known.seen().covers(message.envelope.hop.attempt) => Verdict::Duplicate,
            Some(_) | None => Verdict::Stored,
        }
    }

    fn is_fresh(&self, message: &Finished) -> bool {
        message.fenced && self.judge_inbox(message) == Verdict::Stored
    }

    fn write(&mut self, worker: Uuid, message: &Finished) {
        if message.fenced {
            self.remember(worker, message, message.fate.word());
            if let Some((hash, key)) = operation(message) {
                let operation = Operation { hash, holder: message.key(), at: message.at };
                self.operations.insert((message.consumer.clone(), key.to_owned()), operation);
            }
        }
        if let Some(attempt) = &message.attempt {
            self.attempts.push((message.key(), (**attempt).clone()));
        }
        for write in &message.effects.documents {
            self.save(write);
        }
        for write in &message.effects.rows {
            self.put(write);
        }
        for row in &message.effects.outbox {
            self.post(Some(worker), row);
        }
        if let Some(letter) = &message.letter {
            self.file(letter);
        }
    }

    /// Writes the inbox row.
    fn remember(&mut self, worker: Uuid, message: &Finished, fate: &str) {
        let envelope = &message.envelope;
        let row = InboxRow {
            consumer: message.consumer.to_string(),
            source: envelope.source.clone(),
            id: envelope.id.clone(),
            ty: envelope.ty.clone(),
            version: envelope.version,
            attempt: envelope.hop.attempt,
            fate: fate.to_owned(),
            actor: envelope.actor.clone(),
            subject: envelope.subject.clone(),
            correlation: envelope.correlation_id.clone(),
            causation: envelope.causation_id.clone(),
            trace: envelope.traceparent.clone(),
            at: message.at,
            duration_ms: message.duration.as_secs_f64() * 1e3,
            worker,
            build: self.builds.get(&worker).cloned().unwrap_or_default(),
        };
        let reason = match message.fate {
            Fate::Dead(reason) => Some(reason.word().to_owned()),
            _ => None,
        };
        self.inbox.insert(message.key(), Known { row, payload_hash: message.payload_hash, reason });
    }

    fn save(&mut self, write: &DocumentWrite) {
        let key = (write.collection.to_owned(), write.id.clone());
        let version = self.documents.get(&key).map_or(1, |old| old.version + 1);
        let document = StoredDocument { version, schema: write.schema, body: write.body.clone() };
        self.documents.insert(key, document);
    }

    fn put(&mut self, write: &RowWrite) {
        let table = self.tables.entry(write.spec.table).or_default();
        let Some(mut new) = write.body.as_deref().and_then(object) else {
            table.remove(&write.key);
            return;
        };
        let row = table.entry(write.key.clone()).or_default();
        for column in write.spec.columns {
            row.insert((*column).to_owned(), new.remove(*column).unwrap_or_default());
        }
    }
}

/// The operation key of a message that has one, and the hash that it must not change.
fn operation(message: &Finished) -> Option<([u8; 32], &str)> {
    message.operation.zip(message.envelope.idempotency_key.as_deref())
}

fn object(body: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(body).ok()
}

/// Refuses what no table could take, before anything is written.
fn check_rows(batch: &Batch<'_>) -> StoreResult<()> {
    for write in batch.messages.iter().flat_map(|message| &message.effects.rows) {
        if write.body.as_deref().is_some_and(|body| object(body).is_none()) {
            let table = write.spec.table;
            return Err(StoreError::Refused(anyhow::anyhow!("a row of {table} is no JSON object")));
        }
    }
    Ok(())
}

fn has_distinct_keys(batch: &Batch<'_>) -> bool {
    let mut keys = HashSet::new();
    batch.messages.iter().filter(|message| message.fenced).all(|message| keys.insert(message.key()))
}
