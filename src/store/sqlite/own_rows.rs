//! The author's own tables: one upsert and one delete a table, checked at the start.

use super::{SqliteStore, schema::TABLES};
use crate::store::{Finished, RowSpec, RowWrite, StoreError, StoreResult};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The last write of a row wins. Tables in one fixed order; in a table, deletes before upserts.
///
/// Two specs of one table (two types that write different columns of it) are different rows here, and keep the order of their commits.
pub(super) async fn write(connection: &mut SqliteConnection, stored: &[&Finished]) -> sqlx::Result<()> {
    let mut tables: BTreeMap<&str, Vec<&RowWrite>> = BTreeMap::new();
    for write in stored.iter().flat_map(|message| &message.effects.rows) {
        tables.entry(write.spec.table).or_default().push(write);
    }
    for writes in tables.values() {
        for run in runs(latest(writes)) {
            write_run(connection, &run).await?;
        }
    }
    Ok(())
}

/// Each row once, where it was written last.
fn latest<'a>(writes: &[&'a RowWrite]) -> Vec<&'a RowWrite> {
    let mut last: HashMap<(&[&str], &str), usize> = HashMap::new();
    for (position, write) in writes.iter().enumerate() {
        last.insert((write.spec.columns, &write.key), position);
    }
    let mut kept: Vec<usize> = last.into_values().collect();
    kept.sort_unstable();
    kept.into_iter().map(|position| writes[position]).collect()
}

/// Writes that one statement can do, in an order that gives the same rows.
fn runs(mut writes: Vec<&RowWrite>) -> Vec<Vec<&RowWrite>> {
    let is_one_spec = writes.windows(2).all(|pair| pair[0].spec == pair[1].spec);
    if is_one_spec {
        writes.sort_by_key(|write| write.body.is_some()); // stable, and no row is in it twice
    }
    let is_same = |a: &&RowWrite, b: &&RowWrite| a.spec == b.spec && a.body.is_some() == b.body.is_some();
    writes.chunk_by(is_same).map(<[_]>::to_vec).collect()
}

async fn write_run(connection: &mut SqliteConnection, run: &[&RowWrite]) -> sqlx::Result<()> {
    let Some(first) = run.first() else { return Ok(()) };
    let (sql, texts): (String, Vec<&str>) = match &first.body {
        Some(_) => (upsert(&first.spec)?, run.iter().filter_map(|write| write.body.as_deref()).collect()),
        None => (delete(&first.spec)?, run.iter().map(|write| &*write.key).collect()),
    };
    let rows = format!("[{}]", texts.join(","));
    sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(connection).await.map(drop)
}

/// JSON keeps its types: booleans are 1 and 0, arrays and objects text.
fn upsert(spec: &RowSpec) -> sqlx::Result<String> {
    let columns = quoted(spec.columns)?;
    let set: Vec<String> = spec
        .columns
        .iter()
        .zip(&columns)
        .filter(|(name, _)| !spec.key.contains(name))
        .map(|(_, column)| format!("{column} = excluded.{column}"))
        .collect();
    let conflict = if set.is_empty() { "nothing".to_owned() } else { format!("update set {}", set.join(", ")) };
    let values: Vec<String> = spec.columns.iter().map(|column| format!("value ->> '{column}'")).collect();
    Ok(format!(
        // `where true` tells the parser that `on` begins no join.
        "insert into {} ({}) select {} from json_each(?) where true on conflict ({}) do {conflict}",
        table(spec)?,
        columns.join(", "),
        values.join(", "),
        quoted(spec.key)?.join(", "),
    ))
}

fn delete(spec: &RowSpec) -> sqlx::Result<String> {
    let values: Vec<String> = (0..spec.key.len()).map(|n| format!("value ->> {n}")).collect();
    let (table, key) = (table(spec)?, quoted(spec.key)?.join(", "));
    Ok(format!("delete from {table} where ({key}) in (select {} from json_each(?))", values.join(", ")))
}

/// What stands after the dot: SQLite's only schema is the file.
fn name(spec: &RowSpec) -> &'static str {
    spec.table.rsplit_once('.').map_or(spec.table, |(_, table)| table)
}

fn table(spec: &RowSpec) -> sqlx::Result<String> {
    Ok(quoted(&[name(spec)])?.remove(0))
}

/// The names are constants of the author's code, and still: what is no plain identifier does not reach SQL.
fn quoted(names: &[&str]) -> sqlx::Result<Vec<String>> {
    let plain = |name: &&str| {
        let good = is_identifier(name).then(|| format!("\"{name}\""));
        good.ok_or_else(|| sqlx::Error::Encode(format!("`{name}` is no identifier (letters, digits, _)").into()))
    };
    names.iter().map(plain).collect()
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Refuses tables that cannot take the rows declared for them: all of them at once, each with its fix. Gives warnings.
pub(super) async fn check(store: &SqliteStore, specs: &[RowSpec]) -> StoreResult<Vec<String>> {
    let mut connection = store.answer(store.reader().await)?;
    let (mut refused, mut warnings) = (Vec::new(), Vec::from_iter(store.file.warning()));
    for spec in specs {
        match wrong_names(spec) {
            Some(why) => refused.push(why),
            None => {
                let table = store.answer(Table::read(&mut connection, name(spec)).await)?;
                refused.extend(table.refuses(spec));
                warnings.extend(table.warns(spec));
            }
        }
    }
    if refused.is_empty() { Ok(warnings) } else { Err(StoreError::Unfit(refused.join("\n"))) }
}

fn wrong_names(spec: &RowSpec) -> Option<String> {
    let table = spec.table;
    let mut names = [name(spec)].into_iter().chain(spec.columns.iter().copied());
    match () {
        () if TABLES.iter().any(|own| own.eq_ignore_ascii_case(name(spec))) => {
            Some(format!("{table}: `{}` is a table of pitcrew's own in this file; give yours another name", name(spec)))
        }
        () if spec.key.is_empty() => Some(format!("{table}: KEY is empty; list the columns of a unique index")),
        () => match spec.key.iter().find(|key| !spec.columns.contains(key)) {
            Some(key) => {
                Some(format!("{table}: key column `{key}` is not written; list every column of KEY in COLUMNS too"))
            }
            None => {
                let odd = names.find(|name| !is_identifier(name))?;
                Some(format!("{table}: `{odd}` is no identifier; use letters, digits and _"))
            }
        },
    }
}

/// A table as it stands in the file.
#[derive(Debug, Default)]
struct Table {
    columns: BTreeSet<String>,
    /// Columns that an insert must give.
    required: BTreeSet<String>,
    /// The columns of the primary key and of each unique index.
    unique: Vec<BTreeSet<String>>,
}

impl Table {
    async fn read(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<Self> {
        let mut table = Self::default();
        let mut key = BTreeSet::new();
        let columns =
            sqlx::query("select lower(name), pk, \"notnull\" and dflt_value is null from pragma_table_info(?)");
        for row in columns.bind(name).fetch_all(&mut *connection).await? {
            let column: String = row.try_get(0)?;
            let in_key = row.try_get::<i64, _>(1)? > 0;
            if row.try_get(2)? {
                table.required.insert(column.clone());
            }
            if in_key {
                key.insert(column.clone());
            }
            table.columns.insert(column);
        }
        table.unique.push(key);
        let indexes = sqlx::query(
            "select l.name, lower(i.name) from pragma_index_list(?) l, pragma_index_info(l.name) i
             where l.\"unique\" and not l.partial",
        );
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in indexes.bind(name).fetch_all(connection).await? {
            let column: Option<String> = row.try_get(1)?; // none: the index is over an expression
            found.entry(row.try_get(0)?).or_default().insert(column.unwrap_or_default());
        }
        table.unique.extend(found.into_values());
        Ok(table)
    }

    fn refuses(&self, spec: &RowSpec) -> Option<String> {
        let table = name(spec);
        if self.columns.is_empty() {
            return Some(format!("{}: the database has no table `{table}`; create it", spec.table));
        }
        let missing: Vec<_> = lower(spec.columns).difference(&self.columns).map(|c| format!("`{c}`")).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Some(format!(
                "{}: the table `{table}` has no column {missing}; add it, or leave it out of COLUMNS",
                spec.table
            ));
        }
        let key = lower(spec.key);
        if !self.unique.contains(&key) {
            let columns = spec.key.join(", ");
            return Some(format!(
                "{}: no unique index has exactly the columns of KEY; create unique index {table}_key on {table} ({columns})",
                spec.table
            ));
        }
        None
    }

    fn warns(&self, spec: &RowSpec) -> Option<String> {
        let written = lower(spec.columns);
        // An INTEGER PRIMARY KEY fills itself, and then KEY is another index.
        let left: Vec<_> = self.required.difference(&written).map(|c| format!("`{c}`")).collect();
        if left.is_empty() {
            return None;
        }
        let left = left.join(", ");
        Some(format!(
            "{}: {left} is not null, has no default and is not in COLUMNS: a new row will be refused",
            spec.table
        ))
    }
}

fn lower(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: RowSpec = RowSpec { table: "shop.brief", key: &["id"], columns: &["id", "body"] };
    const OTHER: RowSpec = RowSpec { table: "shop.brief", key: &["id"], columns: &["id", "score"] };

    fn write(spec: RowSpec, key: &str, body: Option<&str>) -> RowWrite {
        RowWrite { spec, key: key.into(), body: body.map(Into::into) }
    }

    #[test]
    fn a_row_written_twice_is_written_once_with_the_last_body() {
        let writes = [write(SPEC, "[1]", Some("a")), write(SPEC, "[2]", Some("b")), write(SPEC, "[1]", None)];
        let runs = runs(latest(&writes.iter().collect::<Vec<_>>()));
        let keys: Vec<Vec<_>> =
            runs.iter().map(|run| run.iter().map(|w| (&*w.key, w.body.as_deref())).collect()).collect();
        assert_eq!(keys, [vec![("[1]", None)], vec![("[2]", Some("b"))]]);
    }

    #[test]
    fn two_specs_of_one_table_keep_their_order() {
        let writes = [write(SPEC, "[1]", Some("a")), write(OTHER, "[1]", Some("b")), write(SPEC, "[1]", None)];
        let runs = runs(latest(&writes.iter().collect::<Vec<_>>()));
        assert_eq!(runs.iter().map(|run| run[0].body.as_deref()).collect::<Vec<_>>(), [Some("b"), None]);
    }

    #[test]
    fn what_is_no_identifier_does_not_reach_sql() {
        assert!(table(&SPEC).is_ok_and(|name| name == "\"brief\""));
        assert!(quoted(&["a\" drop table x"]).is_err());
        assert!(quoted(&["1a"]).is_err());
    }
}
