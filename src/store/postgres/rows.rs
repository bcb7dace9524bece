//! Table Data Gateway: rows of the author's own tables, one statement a table.

use super::{PostgresStore, errors::Sure};
use crate::store::{Finished, RowSpec, RowWrite};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// Writes of one row type that may be done at once: one upsert and one delete.
struct Phase<'a> {
    spec: RowSpec,
    /// By key, sorted: two batches that share rows then never wait for each other in a circle.
    writes: BTreeMap<&'a str, &'a RowWrite>,
}

impl Phase<'_> {
    /// Whether it may have written the row of `write`. Keys of other columns cannot be compared.
    fn touches(&self, write: &RowWrite) -> bool {
        self.spec.key != write.spec.key || self.writes.contains_key(write.key.as_str())
    }
}

/// Each row once, as its last writer left it. Several row types of one table keep their order where they meet in a row.
fn phases<'a>(writes: impl Iterator<Item = &'a RowWrite>) -> Vec<Phase<'a>> {
    let mut phases: Vec<Phase<'a>> = Vec::new();
    for write in writes {
        let met = phases.iter().rposition(|phase| phase.touches(write)).unwrap_or(0);
        match phases[met..].iter_mut().find(|phase| phase.spec == write.spec) {
            Some(phase) => drop(phase.writes.insert(&write.key, write)),
            None => phases.push(Phase { spec: write.spec, writes: BTreeMap::from([(write.key.as_str(), write)]) }),
        }
    }
    phases
}

impl PostgresStore {
    /// Table by table, in one order for all writers.
    pub(super) async fn write_rows(&self, tx: &mut PgConnection, stored: &[&Finished]) -> Sure<()> {
        let mut tables: BTreeMap<&str, Vec<&RowWrite>> = BTreeMap::new();
        for write in stored.iter().flat_map(|message| &message.effects.rows) {
            tables.entry(write.spec.table).or_default().push(write);
        }
        for phase in tables.into_values().flat_map(|writes| phases(writes.into_iter())) {
            let texts = self.sql.row(&phase.spec)?;
            let (puts, deletes): (Vec<_>, Vec<_>) = phase.writes.into_values().partition(|write| write.body.is_some());
            if !puts.is_empty() {
                let bodies = array(puts.iter().filter_map(|write| write.body.as_deref()));
                sqlx::query(texts.upsert()).bind(bodies).execute(&mut *tx).await?;
            }
            if !deletes.is_empty() {
                let keys: Vec<_> = deletes.into_iter().map(|write| key_object(phase.spec.key, &write.key)).collect();
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
