//! Table Data Gateway: rows of the author's own tables, one statement a table.

use super::{PostgresStore, errors::Sure};
use crate::store::{Finished, RowSpec, RowWrite};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// One statement's table: name, key, columns.
type Table = (&'static str, &'static [&'static str], &'static [&'static str]);

impl PostgresStore {
    /// Writes each row once, as its last writer left it, sorted by key.
    pub(super) async fn write_rows(&self, tx: &mut PgConnection, stored: &[&Finished]) -> Sure<()> {
        let mut tables: BTreeMap<Table, BTreeMap<&str, &RowWrite>> = BTreeMap::new();
        for write in stored.iter().flat_map(|message| &message.effects.rows) {
            let spec = &write.spec;
            tables.entry((spec.table, spec.key, spec.columns)).or_default().insert(&write.key, write);
        }
        for ((table, key, columns), writes) in tables {
            let texts = self.sql.row(&RowSpec { table, key, columns })?;
            let (puts, deletes): (Vec<&RowWrite>, Vec<_>) =
                writes.into_values().partition(|write| write.body.is_some());
            if !puts.is_empty() {
                let bodies = array(puts.iter().filter_map(|write| write.body.as_deref()));
                sqlx::query(texts.upsert()).bind(bodies).execute(&mut *tx).await?;
            }
            if !deletes.is_empty() {
                let keys: Vec<_> = deletes.into_iter().map(|write| key_object(key, &write.key)).collect();
                sqlx::query(texts.delete()).bind(array(keys.iter().map(String::as_str))).execute(&mut *tx).await?;
            }
        }
        Ok(())
    }
}

/// A JSON array of what is JSON already.
fn array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("[");
    for item in items {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(item);
    }
    text.push(']');
    text
}

/// `["a", 1]` as an object with the key's columns; what is no such array goes to the database as it is, which refuses it.
fn key_object(columns: &[&str], values: &str) -> String {
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(values) else { return values.to_owned() };
    let object: serde_json::Map<_, _> = columns.iter().map(|column| (*column).to_owned()).zip(values).collect();
    serde_json::Value::Object(object).to_string()
}
