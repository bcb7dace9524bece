//! Unit of Work: the writes of one handler run, collected in memory.

use super::EffectError;
use crate::{message::to_json_text, store::OutboxRow};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::fmt::Display;

/// One run may write so many rows; more is a job for a chain of commands.
const MAX_ROWS: usize = 10_000;
/// One run may write so many bytes.
const MAX_BYTES: usize = 16 << 20;

/// A document without DDL of the author's own: collection + id + JSON, with a version that guards read-modify-write.
pub trait Document: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The collection's name.
    const COLLECTION: &'static str;
    /// The version of its JSON that this build writes.
    const VERSION: u32 = 1;

    /// Unique in the collection.
    fn id(&self) -> impl Display;

    /// One step: the JSON of version `from` as version `from + 1`. Called until `VERSION` is reached.
    fn upcast(from: u32, old: Value) -> Result<Value, String> {
        let _ = old;
        Err(format!("collection {} has no upcaster from version {from}", Self::COLLECTION))
    }
}

/// A row of the author's own table, written in the group commit.
pub trait Row: Serialize + Send + Sync + 'static {
    /// Schema-qualified: `shop.brief`.
    const TABLE: &'static str;
    /// The columns of the primary key (or of a unique index).
    const KEY: &'static [&'static str];
    /// All columns that are written, those of the key included. A column not listed is never touched.
    const COLUMNS: &'static [&'static str];
}

/// What a document write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: the last writer wins.
    Anything,
    /// No document of this id.
    Absent,
    /// Exactly this version.
    Version(i64),
}

/// One document to write.
#[derive(Clone, Debug)]
pub struct DocumentWrite {
    /// [`Document::COLLECTION`].
    pub collection: &'static str,
    /// [`Document::id`].
    pub id: String,
    /// [`Document::VERSION`].
    pub schema: u32,
    /// JSON.
    pub body: String,
    /// The guard.
    pub expect: Expect,
}

/// A table of the author's, as constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSpec {
    /// [`Row::TABLE`].
    pub table: &'static str,
    /// [`Row::KEY`].
    pub key: &'static [&'static str],
    /// [`Row::COLUMNS`].
    pub columns: &'static [&'static str],
}

impl RowSpec {
    /// Those of `R`.
    pub const fn of<R: Row>() -> Self {
        Self { table: R::TABLE, key: R::KEY, columns: R::COLUMNS }
    }
}

/// One upsert (`body` is the row as JSON object) or delete (`body` is `None`) of a row.
#[derive(Clone, Debug)]
pub struct RowWrite {
    /// The table.
    pub spec: RowSpec,
    /// The key's values as a JSON array: what rows are coalesced and sorted by.
    pub key: String,
    /// The row as a JSON object; `None` deletes it.
    pub body: Option<String>,
}

/// The writes of one run. A second write of one document or row replaces the first.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Documents, each at most once.
    pub documents: Vec<DocumentWrite>,
    /// Rows of the author's tables, each at most once.
    pub rows: Vec<RowWrite>,
    /// Outgoing messages, in the order of the calls.
    pub outbox: Vec<OutboxRow>,
    bytes: usize,
}

impl Effects {
    /// Writes in all.
    #[expect(clippy::len_without_is_empty, reason = "counted, never asked whether empty")]
    pub fn len(&self) -> usize {
        self.documents.len() + self.rows.len() + self.outbox.len()
    }

    /// Bytes of all bodies, for the budgets of a batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a document write expects a version.
    pub fn is_guarded(&self) -> bool {
        self.documents.iter().any(|d| d.expect != Expect::Anything)
    }

    pub(crate) fn save<D: Document>(&mut self, document: &D, expect: Expect) -> Result<(), EffectError> {
        let what = D::COLLECTION;
        let body = to_json_text(document).map_err(|source| EffectError::Unserialisable { what, source })?;
        let id = document.id().to_string();
        self.admit(what, &body)?;
        if id.contains('\0') {
            return Err(EffectError::Nul(what));
        }
        match self.documents.iter_mut().find(|d| d.collection == what && d.id == id) {
            Some(own) => own.body = body, // and keeps what the first one expects to find
            None => self.documents.push(DocumentWrite { collection: what, id, schema: D::VERSION, body, expect }),
        }
        Ok(())
    }

    /// A document that this run has written already.
    pub(crate) fn own_document<D: Document>(&self, id: &str) -> Option<Result<(D, Expect), EffectError>> {
        let own = self.documents.iter().find(|d| d.collection == D::COLLECTION && d.id == id)?;
        Some(read_document::<D>(own.schema, &own.body).map(|document| (document, own.expect)))
    }

    pub(crate) fn put<R: Row>(&mut self, row: &R) -> Result<(), EffectError> {
        let what = R::TABLE;
        let bad = |why: String| EffectError::BadRow { table: what, why };
        let value = serde_json::to_value(row).map_err(|source| EffectError::Unserialisable { what, source })?;
        let Value::Object(object) = value else { return Err(bad("a row must be written as a JSON object".into())) };
        let field = |column: &&str| object.get(*column).ok_or_else(|| bad(format!("column `{column}` is missing")));
        let key: Vec<&Value> = R::KEY.iter().map(field).collect::<Result<_, _>>()?;
        for column in R::COLUMNS {
            field(column)?;
        }
        let key = serde_json::to_string(&key).map_err(|source| EffectError::Unserialisable { what, source })?;
        let body = Value::Object(object).to_string();
        self.admit(what, &body)?;
        self.push_row(RowWrite { spec: RowSpec::of::<R>(), key, body: Some(body) });
        Ok(())
    }

    pub(crate) fn delete<R: Row>(&mut self, key: impl Serialize) -> Result<(), EffectError> {
        let what = R::TABLE;
        let value = serde_json::to_value(key).map_err(|source| EffectError::Unserialisable { what, source })?;
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        if values.len() != R::KEY.len() {
            let why = format!("a key of {} values was given for {} key columns", values.len(), R::KEY.len());
            return Err(EffectError::BadRow { table: what, why });
        }
        let key = Value::Array(values).to_string();
        self.admit(what, &key)?;
        self.push_row(RowWrite { spec: RowSpec::of::<R>(), key, body: None });
        Ok(())
    }

    fn push_row(&mut self, write: RowWrite) {
        match self.rows.iter_mut().find(|r| r.spec.table == write.spec.table && r.key == write.key) {
            Some(own) => *own = write,
            None => self.rows.push(write),
        }
    }

    pub(crate) fn push(&mut self, rows: Vec<OutboxRow>) -> Result<(), EffectError> {
        for row in &rows {
            self.bytes += row.envelope.data.len();
        }
        self.outbox.extend(rows);
        self.check_limits("outbox")
    }

    fn admit(&mut self, what: &'static str, body: &str) -> Result<(), EffectError> {
        if holds_nul(body) {
            return Err(EffectError::Nul(what));
        }
        self.bytes += body.len();
        self.check_limits(what)
    }

    fn check_limits(&self, what: &'static str) -> Result<(), EffectError> {
        if self.len() >= MAX_ROWS {
            return Err(EffectError::TooLarge { what, size: self.len() + 1, limit: MAX_ROWS });
        }
        if self.bytes > MAX_BYTES {
            return Err(EffectError::TooLarge { what, size: self.bytes, limit: MAX_BYTES });
        }
        Ok(())
    }
}

/// Stored JSON as a document of this build, upcast if it is older.
pub(crate) fn read_document<D: Document>(schema: u32, body: &str) -> Result<D, EffectError> {
    let unreadable = |why: String| EffectError::Unreadable { collection: D::COLLECTION, why };
    if schema == D::VERSION {
        return serde_json::from_str(body).map_err(|e| unreadable(e.to_string()));
    }
    if schema > D::VERSION {
        return Err(unreadable(format!(
            "its version {schema} is newer than {}, the newest this build knows",
            D::VERSION
        )));
    }
    let mut value: Value = serde_json::from_str(body).map_err(|e| unreadable(e.to_string()))?;
    for from in schema..D::VERSION {
        value = D::upcast(from, value).map_err(unreadable)?;
    }
    serde_json::from_value(value).map_err(|e| unreadable(e.to_string()))
}

/// Whether a JSON text holds a NUL, which JSON writes as `\u0000` and Postgres cannot keep.
pub(crate) fn holds_nul(json: &str) -> bool {
    // Most texts have no backslash at all, and that is found out faster.
    // An escaped backslash before `u0000` is no escape of a NUL: an odd number of backslashes is.
    json.as_bytes().contains(&b'\\')
        && json
            .match_indices("\\u0000")
            .any(|(at, _)| json[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0)
}

#[cfg(test)]
mod tests {
    use super::holds_nul;

    #[test]
    fn a_nul_is_told_from_an_escaped_backslash() {
        assert!(holds_nul(&serde_json::to_string("a\0b").unwrap()));
        assert!(holds_nul(&serde_json::to_string("\\\0").unwrap()));
        assert!(!holds_nul(&serde_json::to_string("\\u0000").unwrap()));
        assert!(!holds_nul(&serde_json::to_string("plain").unwrap()));
    }
}
