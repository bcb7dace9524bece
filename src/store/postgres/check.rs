//! Refuses a set-up that cannot keep the promises, with the reason and the fix.

use super::{PostgresStore, errors::Sure, sql::split_table};
use crate::store::{RowSpec, StoreError};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, HashMap};

/// The first with `detach partition … concurrently`.
const OLDEST: u32 = 140_000;

const SETTINGS: &str =
    "select name, setting from pg_settings where name in ('server_version_num', 'server_encoding', 'fsync',
    'full_page_writes', 'synchronous_commit', 'transaction_read_only')
 union all select 'in_recovery', case when pg_is_in_recovery() then 'on' else 'off' end";

const TABLE: &str = "select c.oid::int8, c.relkind in ('r', 'p'),
    has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";

const COLUMNS: &str = "select attname::text, attgenerated <> '' or attidentity = 'a',
    attnotnull and not atthasdef and attidentity = ''
 from pg_attribute where attrelid = $1::int8::oid and attnum > 0 and not attisdropped";

const UNIQUE: &str = "select array_agg(a.attname::text order by a.attname::text)
 from pg_index i cross join lateral unnest(i.indkey::int2[]) with ordinality k (attnum, n)
 join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
 where i.indrelid = $1::int8::oid and k.n <= i.indnkeyatts and i.indisunique and i.indisvalid and i.indimmediate
   and i.indpred is null and i.indexprs is null
 group by i.indexrelid";

/// Tables of the schema that this role cannot work on.
const FORBIDDEN: &str = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relkind in ('r', 'p') and c.relname in ('inbox', 'attempt', 'operation', 'document', 'outbox',
    'dead_letter', 'dead_replay', 'dead_replay_letter', 'claim', 'worker', 'consumer', 'audit')
   and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
            and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))
 order by 1";

impl PostgresStore {
    pub(super) async fn check_all(&self, rows: &[RowSpec]) -> Sure<Vec<String>> {
        let mut connection = self.other.get().acquire().await?;
        let mut settings = HashMap::new();
        for row in sqlx::query(SETTINGS).fetch_all(&mut *connection).await? {
            settings.insert(row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?);
        }
        let mut warnings = judge(&settings).map_err(StoreError::Unfit)?;
        let schema = self.sql.schema();
        let forbidden = sqlx::query_scalar::<_, String>(FORBIDDEN).bind(schema).fetch_all(&mut *connection).await?;
        if !forbidden.is_empty() {
            return Err(StoreError::Unfit(format!(
                "this role may not work on the tables {} of schema `{schema}`; \
                 `grant select, insert, update, delete on all tables in schema {schema}` to it, and \
                 `alter default privileges in schema {schema} grant select, insert, update, delete on tables`, for those to come",
                forbidden.join(", ")
            ))
            .into());
        }
        for spec in rows {
            self.sql.row(spec)?;
            warnings.extend(check_table(&mut connection, spec).await?);
        }
        Ok(warnings)
    }
}

/// What the settings mean: an error, or warnings.
fn judge(settings: &HashMap<String, String>) -> Result<Vec<String>, String> {
    let get = |name: &str| settings.get(name).map_or("", String::as_str);
    let version: u32 = get("server_version_num").parse().unwrap_or_default();
    if version < OLDEST {
        let found = version / 10_000;
        return Err(format!(
            "this is Postgres {found}; the inbox needs 14 or later, which can detach partitions under load"
        ));
    }
    if get("server_encoding") != "UTF8" {
        let found = get("server_encoding");
        return Err(format!(
            "the database's encoding is {found}; messages are UTF-8: create one `with encoding 'UTF8'`"
        ));
    }
    if get("fsync") == "off" {
        return Err("fsync is off: a crash of the server loses what was acknowledged to the broker; \
                    set `fsync = on` in postgresql.conf and reload"
            .into());
    }
    let mut warnings = Vec::new();
    let mut warn = |bad: bool, text: &str| {
        if bad {
            warnings.push(text.to_owned());
        }
    };
    warn(
        get("synchronous_commit") == "off",
        "synchronous_commit is off: a crash of the server may lose the last commits, whose messages are acknowledged already; \
         set `synchronous_commit = on` for this role or server",
    );
    warn(
        get("full_page_writes") == "off",
        "full_page_writes is off: a crash of the machine may damage the database; set `full_page_writes = on` and reload",
    );
    warn(
        get("in_recovery") == "on" || get("transaction_read_only") == "on",
        "the server is read-only: nothing is committed, and nothing acknowledged, until it takes writes; \
         point the store at the primary",
    );
    Ok(warnings)
}

async fn check_table(on: &mut PgConnection, spec: &RowSpec) -> Sure<Vec<String>> {
    let name = spec.table;
    let unfit = |why: String| StoreError::Unfit(format!("table `{name}` {why}"));
    let (schema, table) = split_table(name).map_err(StoreError::Unfit)?;
    let found = sqlx::query(TABLE).bind(schema).bind(table).fetch_optional(&mut *on).await?;
    let Some(found) = found else {
        let columns = spec.columns.join(", ");
        return Err(
            unfit(format!("does not exist; create it with the columns {columns}, or correct `Row::TABLE`")).into()
        );
    };
    let (oid, is_table, may_write): (i64, bool, bool) = (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
    if !is_table {
        return Err(unfit("is no table; rows are written to tables only".into()).into());
    }
    if !may_write {
        return Err(unfit("may not be written by this role; grant it select, insert, update and delete".into()).into());
    }
    let mut columns = BTreeMap::new();
    for row in sqlx::query(COLUMNS).bind(oid).fetch_all(&mut *on).await? {
        columns.insert(row.try_get::<String, _>(0)?, (row.try_get::<bool, _>(1)?, row.try_get::<bool, _>(2)?));
    }
    for column in spec.columns {
        match columns.get(*column) {
            None => {
                let fix = "add it, or take it out of `Row::COLUMNS`";
                return Err(unfit(format!("has no column `{column}`; {fix}")).into());
            }
            Some((true, _)) => {
                let fix = "take it out of `Row::COLUMNS`";
                return Err(unfit(format!("makes column `{column}` itself; {fix}")).into());
            }
            Some(_) => {}
        }
    }
    let mut key: Vec<&str> = spec.key.to_vec();
    key.sort_unstable();
    let mut unique = Vec::new();
    for row in sqlx::query(UNIQUE).bind(oid).fetch_all(on).await? {
        unique.push(row.try_get::<Vec<String>, _>(0)?);
    }
    if !unique.iter().any(|index| index.iter().map(String::as_str).eq(key.iter().copied())) {
        let key = spec.key.join(", ");
        return Err(unfit(format!(
            "has no primary key or unique index on exactly ({key}); create one, or correct `Row::KEY`"
        ))
        .into());
    }
    let required =
        columns.iter().filter(|(column, (_, required))| *required && !spec.columns.contains(&column.as_str()));
    Ok(required
        .map(|(column, _)| {
            format!("table `{name}`: column `{column}` is not null, has no default and is not in `Row::COLUMNS`; new rows fail")
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let sound = [
            ("server_version_num", "150018"),
            ("server_encoding", "UTF8"),
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("transaction_read_only", "off"),
            ("in_recovery", "off"),
        ];
        judge(&sound.iter().chain(changes).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn fsync_off_is_refused_with_the_fix() {
        assert!(with(&[("fsync", "off")]).unwrap_err().contains("set `fsync = on`"));
    }

    #[test]
    fn an_old_server_and_another_encoding_are_refused() {
        assert!(with(&[("server_version_num", "130014")]).unwrap_err().contains("14 or later"));
        assert!(with(&[("server_encoding", "SQL_ASCII")]).unwrap_err().contains("UTF8"));
    }

    #[test]
    fn what_weakens_is_warned_about() {
        assert_eq!(with(&[]), Ok(vec![]));
        assert_eq!(with(&[("synchronous_commit", "local")]), Ok(vec![]));
        for (name, value) in [("synchronous_commit", "off"), ("full_page_writes", "off"), ("in_recovery", "on")] {
            assert_eq!(with(&[(name, value)]).map(|warnings| warnings.len()), Ok(1), "{name}");
        }
    }
}
