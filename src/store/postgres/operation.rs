//! Idempotent Receiver, by business key: the same operation under another ID.

use super::{PostgresStore, errors::Sure};
use crate::store::{Finished, StoreError, Verdict};
use sqlx::{PgConnection, Row, postgres::PgRow};
use std::collections::BTreeMap;

/// Enters keys that are new and locks those that are known, in key order; answers what stands there now.
const HOLD: &str = "insert into {s}.operation as o (consumer, key, hash, source, id, fate, at)
 select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
 on conflict (consumer, key) do update set at = o.at
 returning consumer, key, hash, source, id, fate";

const UPDATE: &str = "update {s}.operation o set hash = u.hash, source = u.source, id = u.id, fate = u.fate, at = u.at
 from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
   u (consumer, key, hash, source, id, fate, at)
 where o.consumer = u.consumer and o.key = u.key";

/// What was entered for a message that then was not stored.
const FORGET: &str = "delete from {s}.operation o
 using unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
   u (consumer, key, hash, source, id, fate, at)
 where o.consumer = u.consumer and o.key = u.key and o.hash = u.hash and o.source = u.source and o.id = u.id and o.at = u.at";

/// Consumer and `idempotencykey`.
type Key<'a> = (&'a str, &'a str);

/// Who holds a key, as far as this transaction knows.
#[derive(Clone, PartialEq)]
struct Holder {
    hash: Vec<u8>,
    source: String,
    id: String,
    fate: String,
}

impl Holder {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self { hash: row.try_get(2)?, source: row.try_get(3)?, id: row.try_get(4)?, fate: row.try_get(5)? })
    }

    fn by(message: &Finished, hash: &[u8; 32]) -> Self {
        let envelope = &message.envelope;
        Self {
            hash: hash.to_vec(),
            source: envelope.source.clone(),
            id: envelope.id.clone(),
            fate: message.fate.word().to_owned(),
        }
    }

    fn judge(&self, message: &Finished, hash: &[u8; 32]) -> Verdict {
        match () {
            // Its own retry: the inbox decides.
            () if self.source == message.envelope.source && self.id == message.envelope.id => Verdict::Stored,
            // Will never be done: taken over.
            () if matches!(self.fate.as_str(), "dead" | "expired" | "discarded") => Verdict::Stored,
            () if self.hash == hash => Verdict::Duplicate,
            () => Verdict::KeyConflict,
        }
    }
}

#[derive(Default)]
struct Columns<'a> {
    consumer: Vec<&'a str>,
    key: Vec<&'a str>,
    hash: Vec<&'a [u8]>,
    source: Vec<&'a str>,
    id: Vec<&'a str>,
    fate: Vec<&'a str>,
    at: Vec<chrono::DateTime<chrono::Utc>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, (consumer, key): Key<'a>, hash: &'a [u8; 32], message: &'a Finished) {
        self.consumer.push(consumer);
        self.key.push(key);
        self.hash.push(hash);
        self.source.push(&message.envelope.source);
        self.id.push(&message.envelope.id);
        self.fate.push(message.fate.word());
        self.at.push(message.at);
    }
}

/// The operation key of a message that has one, and the hash that it must not change.
pub(super) fn of(message: &Finished) -> Option<(Key<'_>, &[u8; 32])> {
    let key = message.envelope.idempotency_key.as_deref().filter(|_| message.fenced)?;
    Some(((&message.consumer, key), message.operation.as_ref()?))
}

/// What [`PostgresStore::judge_operations`] found out, for [`PostgresStore::settle_operations`].
#[derive(Default)]
pub(super) struct Held<'a> {
    keys: BTreeMap<Key<'a>, Known>,
    /// The verdicts before the fence.
    judged: Vec<Verdict>,
}

/// A key as it stands in the table.
struct Known {
    holder: Holder,
    /// The message of this batch that stands there exactly as it would be written.
    as_written: Option<usize>,
}

impl PostgresStore {
    pub(super) async fn judge_operations<'a>(
        &self,
        tx: &mut PgConnection,
        messages: &'a [Finished],
        verdicts: &mut [Verdict],
    ) -> Sure<Held<'a>> {
        let mut first: BTreeMap<Key<'a>, (usize, &'a [u8; 32])> = BTreeMap::new();
        for (n, message) in messages.iter().enumerate().filter(|(n, _)| verdicts[*n] == Verdict::Stored) {
            if let Some((key, hash)) = of(message) {
                first.entry(key).or_insert((n, hash));
            }
        }
        let mut held = Held::default();
        if first.is_empty() {
            return Ok(held);
        }
        let mut columns = Columns::default();
        for (key, (n, hash)) in &first {
            columns.push(*key, hash, &messages[*n]);
        }
        let first: Vec<_> = first.into_iter().collect();
        for row in self.send(HOLD, &columns).fetch_all(tx).await? {
            let found: Key<'_> = (row.try_get(0)?, row.try_get(1)?);
            let Ok(at) = first.binary_search_by(|(key, _)| key.cmp(&found)) else { continue };
            let (key, (n, hash)) = &first[at];
            let holder = Holder::of(&row)?;
            let as_written = (holder == Holder::by(&messages[*n], hash)).then_some(*n);
            held.keys.insert(*key, Known { holder, as_written });
        }
        let mut holders: BTreeMap<Key<'_>, Holder> = held.keys.iter().map(|(k, v)| (*k, v.holder.clone())).collect();
        for (message, verdict) in messages.iter().zip(verdicts.iter_mut()).filter(|(_, v)| **v == Verdict::Stored) {
            let Some((key, hash)) = of(message) else { continue };
            let Some(holder) = holders.get_mut(&key) else { continue };
            *verdict = holder.judge(message, hash);
            if *verdict == Verdict::Stored {
                *holder = Holder::by(message, hash); // for those after it in this batch
            }
        }
        held.judged = verdicts.to_vec();
        Ok(held)
    }

    /// After the fence: keys follow those messages that are stored.
    pub(super) async fn settle_operations(
        &self,
        tx: &mut PgConnection,
        messages: &[Finished],
        verdicts: &[Verdict],
        held: &Held<'_>,
    ) -> Sure<()> {
        if held.keys.is_empty() {
            return Ok(());
        }
        check_again(messages, verdicts, held)?;
        let (mut last, mut forgotten) = (BTreeMap::new(), Columns::default());
        for (n, message) in messages.iter().enumerate() {
            let Some((key, hash)) = of(message) else { continue };
            let stands = held.keys.get(&key).is_some_and(|known| known.as_written == Some(n));
            match verdicts[n] {
                Verdict::Stored => drop(last.insert(key, (stands, hash, message))),
                Verdict::IdReused if stands => forgotten.push(key, hash, message),
                _ => {}
            }
        }
        if !forgotten.id.is_empty() {
            self.send(FORGET, &forgotten).execute(&mut *tx).await?;
        }
        let mut changed = Columns::default();
        for (key, (_, hash, message)) in last.into_iter().filter(|(_, (stands, ..))| !stands) {
            changed.push(key, hash, message);
        }
        if !changed.id.is_empty() {
            self.send(UPDATE, &changed).execute(tx).await?;
        }
        Ok(())
    }

    fn send<'q>(
        &self,
        template: &'static str,
        columns: &'q Columns<'_>,
    ) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(self.sql.get(template))
            .bind(&columns.consumer)
            .bind(&columns.key)
            .bind(&columns.hash)
            .bind(&columns.source)
            .bind(&columns.id)
            .bind(&columns.fate)
            .bind(&columns.at)
    }
}

/// A message that took a key and then lost to the fence must not have turned away another of the batch: apart, each is judged by
/// what is stored.
fn check_again(messages: &[Finished], verdicts: &[Verdict], held: &Held<'_>) -> Sure<()> {
    let mut holders: BTreeMap<Key<'_>, Holder> = BTreeMap::new();
    for (key, known) in &held.keys {
        let is_gone = known.as_written.is_some_and(|n| verdicts[n] == Verdict::IdReused);
        if !is_gone {
            holders.insert(*key, known.holder.clone());
        }
    }
    for (n, message) in messages.iter().enumerate() {
        let (Some((key, hash)), judged) = (of(message), held.judged[n]) else { continue };
        let overturned = judged == Verdict::Stored && verdicts[n] != Verdict::Stored;
        if judged == Verdict::Conflict || overturned {
            continue;
        }
        let again = holders.get(&key).map_or(Verdict::Stored, |holder| holder.judge(message, hash));
        if again != judged {
            let why = "two messages of one operation key cannot be judged in one batch";
            return Err(StoreError::Refused(anyhow::anyhow!(why)).into());
        }
        if again == Verdict::Stored {
            holders.insert(key, Holder::by(message, hash));
        }
    }
    Ok(())
}
