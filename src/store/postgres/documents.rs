//! Optimistic Offline Lock: documents, guarded by their version.

use super::{
    PostgresStore,
    errors::{Sure, Trouble},
};
use crate::store::{DocumentWrite, Expect, Finished, StoredDocument, Verdict};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// In key order: two batches never wait for each other in a circle.
const LOCK: &str = "select k.n, d.version from unnest($1::text[], $2::text[]) with ordinality k (collection, id, n)
 join {s}.document d using (collection, id) order by d.collection, d.id for update of d";

const WRITE: &str = "insert into {s}.document as d (collection, id, schema, body)
 select collection, id, schema, body::jsonb
 from unnest($1::text[], $2::text[], $3::int8[], $4::text[]) u (collection, id, schema, body)
 on conflict (collection, id) do update set schema = excluded.schema, body = excluded.body, version = d.version + 1";

/// As [`WRITE`], and how many of the keys after it, which were to be new, were not.
const WRITE_NEW: &str = "with written as (
  insert into {s}.document as d (collection, id, schema, body)
  select collection, id, schema, body::jsonb
  from unnest($1::text[], $2::text[], $3::int8[], $4::text[]) u (collection, id, schema, body)
  on conflict (collection, id) do update set schema = excluded.schema, body = excluded.body, version = d.version + 1
  returning d.collection, d.id, d.version)
 select count(*) from written join unnest($5::text[], $6::text[]) n (collection, id) using (collection, id) where version > 1";

const LOAD: &str = "select version, schema, body::text from {s}.document where collection = $1 and id = $2";

type Key<'a> = (&'a str, &'a str);

fn key_of(write: &DocumentWrite) -> Key<'_> {
    (write.collection, &write.id)
}

impl PostgresStore {
    /// Locks the documents of a batch with guarded writes and finds who comes too late. Judged in memory, message after message:
    /// of two updates of one document in a batch the second loses.
    pub(super) async fn judge_documents(
        &self,
        tx: &mut PgConnection,
        messages: &[Finished],
        verdicts: &mut [Verdict],
    ) -> Sure<()> {
        if !messages.iter().any(|message| message.effects.is_guarded()) {
            return Ok(());
        }
        // All documents of the batch, not only the guarded: a second round of locks could close a circle.
        let keys: BTreeSet<Key<'_>> = messages.iter().flat_map(|m| &m.effects.documents).map(key_of).collect();
        let (collections, ids): (Vec<_>, Vec<_>) = keys.iter().copied().unzip();
        let rows = sqlx::query(self.sql.get(LOCK)).bind(&collections).bind(&ids).fetch_all(tx).await?;
        let keys: Vec<Key<'_>> = keys.into_iter().collect();
        let mut found: BTreeMap<Key<'_>, i64> = BTreeMap::new();
        for row in rows {
            let n = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
            found.insert(keys[n], row.try_get(1)?);
        }
        for (message, verdict) in messages.iter().zip(verdicts) {
            let finds = |write: &DocumentWrite| match write.expect {
                Expect::Anything => true,
                Expect::Absent => !found.contains_key(&key_of(write)),
                Expect::Version(version) => found.get(&key_of(write)) == Some(&version),
            };
            if !message.effects.documents.iter().all(finds) {
                *verdict = Verdict::Conflict;
                continue;
            }
            for write in &message.effects.documents {
                *found.entry(key_of(write)).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Writes each document once, as its last writer left it.
    pub(super) async fn write_documents(&self, tx: &mut PgConnection, stored: &[&Finished]) -> Sure<()> {
        let writes = || stored.iter().flat_map(|message| &message.effects.documents);
        let mut last: Vec<&DocumentWrite> = writes().collect();
        if last.is_empty() {
            return Ok(());
        }
        last.sort_by_key(|write| key_of(write)); // stable: writers of one document stay in their order
        last.dedup_by(|later, earlier| {
            let same = key_of(later) == key_of(earlier);
            if same {
                *earlier = *later;
            }
            same
        });
        let (collections, ids): (Vec<_>, Vec<_>) = last.iter().map(|write| key_of(write)).unzip();
        let schemas: Vec<_> = last.iter().map(|write| i64::from(write.schema)).collect();
        let bodies: Vec<_> = last.iter().map(|write| write.body.as_str()).collect();
        let new: BTreeSet<Key<'_>> = writes().filter(|w| w.expect == Expect::Absent).map(key_of).collect();
        let text = if new.is_empty() { WRITE } else { WRITE_NEW };
        let query = sqlx::query(self.sql.get(text)).bind(collections).bind(ids).bind(schemas).bind(bodies);
        if new.is_empty() {
            query.execute(tx).await?;
            return Ok(());
        }
        // What does not exist cannot be locked: another transaction may have made it since.
        let (collections, ids): (Vec<_>, Vec<_>) = new.into_iter().unzip();
        let row = query.bind(collections).bind(ids).fetch_one(tx).await?;
        match row.try_get::<i64, _>(0)? {
            0 => Ok(()),
            _ => Err(Trouble::busy("a document that was to be new was made by another transaction")),
        }
    }

    pub(super) async fn load_document(&self, collection: &str, id: &str) -> Sure<Option<StoredDocument>> {
        if collection.contains('\0') || id.contains('\0') {
            return Ok(None); // nothing of that name can ever have been stored
        }
        let row = sqlx::query(self.sql.get(LOAD)).bind(collection).bind(id).fetch_optional(&self.other.get()).await?;
        let Some(row) = row else { return Ok(None) };
        let schema = super::inbox::u32_of(row.try_get(1)?);
        Ok(Some(StoredDocument { version: row.try_get(0)?, schema, body: row.try_get(2)? }))
    }
}
