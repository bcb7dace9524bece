//! Idempotent Receiver: what the database knows of a batch, and the verdict on each message.
//!
//! Read inside the write transaction, so nothing of it changes before the commit; what an earlier message of the batch is about to
//! write, a later one finds.

use super::bulk::{array, message_key};
use crate::store::{Batch, DocumentWrite, Expect, Fate, Finished, Seen, Verdict};
use serde_json::{Value, json};
use sqlx::{Row as _, Sqlite, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};
use std::collections::HashMap;

/// Collection and ID, or consumer and `idempotencykey`.
type Pair<'a> = (&'a str, &'a str);

/// What a batch meets.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    /// The versions of guarded documents; `None`: there is none.
    documents: HashMap<Pair<'a>, Option<i64>>,
    operations: HashMap<Pair<'a>, Operation>,
    /// By position.
    inbox: Vec<Option<Seen>>,
}

/// Who holds an idempotency key.
#[derive(Debug)]
struct Operation {
    hash: Vec<u8>,
    source: String,
    id: String,
    /// It will never be done, so another may take the key over.
    gave_up: bool,
}

impl<'a> Known<'a> {
    pub(super) async fn read(connection: &mut SqliteConnection, batch: &Batch<'a>) -> sqlx::Result<Self> {
        let documents = documents(connection, batch.messages).await?;
        let operations = operations(connection, batch.messages).await?;
        let fenced = || batch.messages.iter().enumerate().filter(|(_, m)| m.fenced);
        let found = seen(connection, fenced().map(|(_, m)| message_key(m))).await?;
        let mut inbox = vec![None; batch.messages.len()];
        for ((position, _), seen) in fenced().zip(found) {
            inbox[position] = seen;
        }
        Ok(Self { documents, operations, inbox })
    }

    /// The verdict on the message at `position`; call it in order, once each.
    pub(super) fn judge(&mut self, position: usize, message: &'a Finished) -> Verdict {
        let verdict = self.verdict(position, message);
        if verdict == Verdict::Stored {
            self.remember(message);
        }
        verdict
    }

    /// Whether the inbox has no better row than this message.
    pub(super) fn is_fresh(&self, position: usize, message: &Finished) -> bool {
        message.fenced && self.ask_inbox(position, message) == Verdict::Stored
    }

    fn verdict(&self, position: usize, message: &Finished) -> Verdict {
        if !message.effects.documents.iter().all(|write| self.finds(write)) {
            return Verdict::Conflict;
        }
        if !message.fenced {
            return Verdict::Stored;
        }
        match self.ask_operation(message) {
            Verdict::Stored => self.ask_inbox(position, message),
            known => known,
        }
    }

    fn finds(&self, write: &DocumentWrite) -> bool {
        let found = || self.documents.get(&(write.collection, &*write.id)).copied().flatten();
        match write.expect {
            Expect::Anything => true,
            Expect::Absent => found().is_none(),
            Expect::Version(version) => found() == Some(version),
        }
    }

    fn ask_operation(&self, message: &Finished) -> Verdict {
        let Some((key, hash)) = operation(message) else { return Verdict::Stored };
        let Some(known) = self.operations.get(&key) else { return Verdict::Stored };
        let is_own = known.source == message.envelope.source && known.id == message.envelope.id;
        match () {
            () if is_own || known.gave_up => Verdict::Stored, // its own retry: the inbox decides
            () if known.hash == hash => Verdict::Duplicate,
            () => Verdict::KeyConflict,
        }
    }

    /// The attempt fence.
    fn ask_inbox(&self, position: usize, message: &Finished) -> Verdict {
        match self.inbox.get(position).and_then(Option::as_ref) {
            Some(seen) if seen.payload_hash != message.payload_hash => Verdict::IdReused,
            Some(seen) if seen.covers(message.envelope.hop.attempt) => Verdict::Duplicate,
            Some(_) | None => Verdict::Stored,
        }
    }

    fn remember(&mut self, message: &'a Finished) {
        for write in &message.effects.documents {
            if let Some(version) = self.documents.get_mut(&(write.collection, &*write.id)) {
                *version = Some(version.map_or(1, |v| v + 1));
            }
        }
        if let Some((key, hash)) = operation(message).filter(|_| message.fenced) {
            let (source, id) = (message.envelope.source.clone(), message.envelope.id.clone());
            let gave_up = matches!(message.fate, Fate::Dead(_) | Fate::Expired);
            self.operations.insert(key, Operation { hash: hash.to_vec(), source, id, gave_up });
        }
    }
}

/// The operation key of a message that has one, and the hash that it must not change.
pub(super) fn operation(message: &Finished) -> Option<(Pair<'_>, [u8; 32])> {
    let key = message.envelope.idempotency_key.as_deref()?;
    Some(((&*message.consumer, key), message.operation?))
}

/// The inbox rows of keys (`[key_time, consumer, source, id]`), by position.
pub(super) async fn seen(
    connection: impl SqliteExecutor<'_>,
    keys: impl Iterator<Item = Value> + Send,
) -> sqlx::Result<Vec<Option<Seen>>> {
    let keys: Vec<Value> = keys.collect();
    let mut found = vec![None; keys.len()];
    if keys.is_empty() {
        return Ok(found);
    }
    // `cross join` fixes the order: each key is looked up, never the other way round.
    let select = sqlx::query::<Sqlite>(
        "select k.key, i.attempt, i.fate, i.payload_hash from json_each(?) k cross join inbox i
         on i.key_time = k.value ->> 0 and i.consumer = k.value ->> 1 and i.source = k.value ->> 2 and i.id = k.value ->> 3",
    );
    for row in select.bind(array(keys.into_iter())).fetch_all(connection).await? {
        let seen = Seen { attempt: row.try_get(1)?, fate: row.try_get(2)?, payload_hash: row.try_get(3)? };
        if let Some(slot) = found.get_mut(row.try_get::<u32, _>(0)? as usize) {
            *slot = Some(seen);
        }
    }
    Ok(found)
}

async fn documents<'a>(
    connection: &mut SqliteConnection,
    messages: &'a [Finished],
) -> sqlx::Result<HashMap<Pair<'a>, Option<i64>>> {
    let writes = messages.iter().flat_map(|m| &m.effects.documents).filter(|d| d.expect != Expect::Anything);
    let mut pairs: Vec<Pair<'a>> = writes.map(|d| (d.collection, &*d.id)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let rows = pairs_of(
        connection,
        &pairs,
        "select k.key, d.version from json_each(?) k cross join document d
         on d.collection = k.value ->> 0 and d.id = k.value ->> 1",
    )
    .await?;
    let mut found: HashMap<_, _> = pairs.iter().map(|pair| (*pair, None)).collect();
    for row in rows {
        if let Some(pair) = pairs.get(row.try_get::<u32, _>(0)? as usize) {
            found.insert(*pair, Some(row.try_get(1)?));
        }
    }
    Ok(found)
}

async fn operations<'a>(
    connection: &mut SqliteConnection,
    messages: &'a [Finished],
) -> sqlx::Result<HashMap<Pair<'a>, Operation>> {
    let mut pairs: Vec<Pair<'a>> = messages.iter().filter_map(|m| Some(operation(m)?.0)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    // A holder that an operator discarded lost the key then (`operators::resolve_letter`).
    let rows = pairs_of(
        connection,
        &pairs,
        "select k.key, o.hash, o.source, o.id, coalesce(i.fate in ('dead', 'expired'), false)
         from json_each(?) k cross join operation o on o.consumer = k.value ->> 0 and o.key = k.value ->> 1
         left join inbox i on i.key_time = o.key_time and i.consumer = o.consumer and i.source = o.source and i.id = o.id",
    )
    .await?;
    let mut found = HashMap::new();
    for row in rows {
        let known =
            Operation { hash: row.try_get(1)?, source: row.try_get(2)?, id: row.try_get(3)?, gave_up: row.try_get(4)? };
        if let Some(pair) = pairs.get(row.try_get::<u32, _>(0)? as usize) {
            found.insert(*pair, known);
        }
    }
    Ok(found)
}

async fn pairs_of(
    connection: &mut SqliteConnection,
    pairs: &[Pair<'_>],
    select: &'static str,
) -> sqlx::Result<Vec<SqliteRow>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let keys = array(pairs.iter().map(|(first, second)| json!([first, second])));
    sqlx::query(select).bind(keys).fetch_all(connection).await
}
