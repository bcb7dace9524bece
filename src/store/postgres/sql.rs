//! Query Object: SQL texts with the schema's name in them, rendered once. The only file that vouches for SQL made at run time.

use crate::store::{RowSpec, StoreError, StoreResult};
use sqlx::AssertSqlSafe;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// A text that can be sent.
pub(super) type Text = AssertSqlSafe<Arc<str>>;

/// Statements for the tables of one schema.
#[derive(Debug)]
pub(super) struct Sql {
    schema: String,
    quoted: String,
    ours: RwLock<HashMap<&'static str, Arc<str>>>,
    rows: RwLock<HashMap<RowKey, RowTexts>>,
}

type RowKey = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The two statements for a table of the author's.
#[derive(Clone, Debug)]
pub(super) struct RowTexts {
    upsert: Arc<str>,
    delete: Arc<str>,
}

impl RowTexts {
    pub(super) fn upsert(&self) -> Text {
        AssertSqlSafe(self.upsert.clone())
    }

    pub(super) fn delete(&self) -> Text {
        AssertSqlSafe(self.delete.clone())
    }
}

impl Sql {
    pub(super) fn new(schema: &str) -> StoreResult<Self> {
        Ok(Self {
            schema: schema.to_owned(),
            quoted: quoted(schema).map_err(|why| StoreError::Unfit(format!("the store's schema {why}")))?,
            ours: RwLock::default(),
            rows: RwLock::default(),
        })
    }

    /// The schema's name, unquoted: for comparing with the catalogue.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// `template` with the quoted schema in place of `{s}`.
    pub(super) fn get(&self, template: &'static str) -> Text {
        if let Some(text) = self.ours.read().unwrap_or_else(PoisonError::into_inner).get(template) {
            return AssertSqlSafe(text.clone());
        }
        let text: Arc<str> = template.replace("{s}", &self.quoted).into();
        self.ours.write().unwrap_or_else(PoisonError::into_inner).insert(template, text.clone());
        AssertSqlSafe(text)
    }

    /// A statement of DDL, which takes no parameters: `table` must be a name that this store has made.
    pub(super) fn ddl(&self, template: &str, table: &str) -> Text {
        debug_assert!(is_identifier(table));
        AssertSqlSafe(template.replace("{s}", &self.quoted).replace("{t}", table).into())
    }

    /// The start of a transaction whose statements end when `left` has passed, and which ends soon after.
    pub(super) fn begin(left: Duration) -> Text {
        // Zero would mean no limit, and more than this is refused.
        let millis = left.as_millis().clamp(1, i32::MAX as u128 - 1_000);
        let idle = millis + 1_000;
        let text = format!(
            "begin; set local statement_timeout = {millis}; set local idle_in_transaction_session_timeout = {idle}"
        );
        AssertSqlSafe(text.into())
    }

    /// The statements for a table of the author's. Its names are constants of the author's code, checked all the same.
    pub(super) fn row(&self, spec: &RowSpec) -> StoreResult<RowTexts> {
        let key = (spec.table, spec.key, spec.columns);
        if let Some(texts) = self.rows.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(texts.clone());
        }
        let texts = row_texts(spec).map_err(StoreError::Unfit)?;
        self.rows.write().unwrap_or_else(PoisonError::into_inner).insert(key, texts.clone());
        Ok(texts)
    }
}

fn row_texts(spec: &RowSpec) -> Result<RowTexts, String> {
    let named = |why: String| format!("table `{}`: {why}", spec.table);
    let (schema, table) = split_table(spec.table)?;
    let table = format!("{}.{}", quoted(schema).map_err(named)?, quoted(table).map_err(named)?);
    let names = |columns: &[&str]| columns.iter().map(|c| quoted(c).map_err(named)).collect::<Result<Vec<_>, _>>();
    let (key, columns) = (names(spec.key)?, names(spec.columns)?);
    if key.is_empty() {
        return Err(named("KEY is empty; name the columns of its primary key or of a unique index".into()));
    }
    if let Some(stray) = key.iter().find(|k| !columns.contains(k)) {
        return Err(named(format!("column {stray} is in KEY and not in COLUMNS; list it in both")));
    }
    let set: Vec<_> =
        columns.iter().filter(|c| !key.contains(c)).map(|column| format!("{column} = excluded.{column}")).collect();
    let action = if set.is_empty() { "nothing".to_owned() } else { format!("update set {}", set.join(", ")) };
    let columns = columns.join(", ");
    let on: Vec<_> = key.iter().map(|column| format!("t.{column} = k.{column}")).collect();
    Ok(RowTexts {
        upsert: format!(
            "insert into {table} ({columns}) select {columns} from jsonb_populate_recordset(null::{table}, $1::text::jsonb) \
             on conflict ({}) do {action}",
            key.join(", ")
        )
        .into(),
        delete: format!(
            "delete from {table} t using jsonb_populate_recordset(null::{table}, $1::text::jsonb) k where {}",
            on.join(" and ")
        )
        .into(),
    })
}

/// Schema and table of the author's `schema.table`.
pub(super) fn split_table(table: &str) -> Result<(&str, &str), String> {
    table.split_once('.').filter(|(_, name)| !name.contains('.')).ok_or_else(|| {
        format!("table `{table}` is not written as `schema.table`; name its schema, so that no search path decides")
    })
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 63
}

/// `"name"`, if it is one that needs no further thought.
fn quoted(name: &str) -> Result<String, String> {
    if is_identifier(name) {
        Ok(format!("\"{name}\""))
    } else {
        Err(format!("name `{name}` is not 1 to 63 letters, digits and underscores that start with a letter"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_end_the_statement_is_refused() {
        for name in ["", "a\"b", "a b", "1a", "a;drop", "a.b", &"x".repeat(64)] {
            assert!(quoted(name).is_err(), "{name}");
        }
        assert!(Sql::new("x\"; drop schema public").is_err());
    }

    #[test]
    fn only_listed_columns_are_written() {
        let spec = RowSpec { table: "shop.brief", key: &["id"], columns: &["id", "note"] };
        let texts = row_texts(&spec).unwrap();
        assert_eq!(
            &*texts.upsert,
            "insert into \"shop\".\"brief\" (\"id\", \"note\") select \"id\", \"note\" from \
             jsonb_populate_recordset(null::\"shop\".\"brief\", $1::text::jsonb) on conflict (\"id\") do update set \
             \"note\" = excluded.\"note\""
        );
        assert!(row_texts(&RowSpec { table: "brief", ..spec }).unwrap_err().contains("schema.table"));
        assert!(row_texts(&RowSpec { key: &["other"], ..spec }).unwrap_err().contains("list it in both"));
    }
}
