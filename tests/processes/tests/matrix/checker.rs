//! The checker: adds up, from the database and the broker alone, what became of everything that was sent. None of pitcrew's code is in it.

use crate::{bare::Left, generator::Sent};
use pitcrew::sqlx::{
    AssertSqlSafe, PgPool, Row, SqlitePool, query,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

/// A reader's own connection to the database of the workers.
pub(crate) enum Database {
    Postgres { pool: PgPool, schema: String },
    Sqlite(SqlitePool),
}

impl Database {
    pub(crate) async fn postgres(url: &str, schema: &str) -> Self {
        Self::Postgres { pool: PgPool::connect(url).await.expect("it answers"), schema: schema.into() }
    }

    pub(crate) async fn sqlite(file: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        Self::Sqlite(pool.expect("the file opens"))
    }

    /// Rows of text; `{s}` is where the schema stands.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        macro_rules! fetch {
            ($pool:expr, $schema:expr) => {{
                let rows = query(AssertSqlSafe(sql.replace("{s}", $schema))).fetch_all($pool).await;
                let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
                rows.iter().map(|row| (0..row.len()).map(|at| row.get(at)).collect()).collect()
            }};
        }
        match self {
            Self::Postgres { pool, schema } => fetch!(pool, &format!("{schema}.")),
            Self::Sqlite(pool) => fetch!(pool, ""),
        }
    }

    async fn count(&self, table: &str) -> u64 {
        self.rows(&format!("select cast(count(*) as text) from {{s}}{table}")).await[0][0].parse().expect("a count")
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Postgres { pool, .. } => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

/// What there is at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// By number: how often it was done, how often its event was heard.
    pub(crate) effects: BTreeMap<u32, (u64, u64)>,
    /// Every event that left.
    pub(crate) events: Vec<Left>,
    /// Fates of commands, by their IDs.
    pub(crate) fates: BTreeMap<String, Vec<String>>,
    /// IDs of the letters.
    pub(crate) letters: Vec<String>,
    /// What is not empty and should be: queues, topics, tables.
    pub(crate) left: BTreeMap<String, u64>,
}

impl Facts {
    pub(crate) async fn read(database: &Database, events: Vec<Left>, mut left: BTreeMap<String, u64>) -> Self {
        let mut facts = Self { events, ..Self::default() };
        for row in database.rows("select cast(body as text) from {s}document where collection = 'effects'").await {
            let body: serde_json::Value = serde_json::from_str(&row[0]).expect("a document");
            let of = |name| body[name].as_u64().expect("a count");
            facts.effects.insert(of("n").try_into().expect("its number"), (of("done"), of("heard")));
        }
        for row in database.rows("select id, fate from {s}inbox where consumer = 'test.Work'").await {
            facts.fates.entry(row[0].clone()).or_default().push(row[1].clone());
        }
        facts.letters = database.rows("select id from {s}dead_letter").await.into_iter().flatten().collect();
        for table in ["outbox", "claim"] {
            let rows = database.count(table).await;
            if rows > 0 {
                left.insert(table.into(), rows);
            }
        }
        facts.left = left;
        facts
    }
}

/// What is wrong, each in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) lost: Vec<String>,
    pub(crate) double: Vec<String>,
    /// What belongs to nothing that was sent, has no fate, or was left behind.
    pub(crate) orphans: Vec<String>,
}

impl Account {
    pub(crate) fn of(sent: &Sent, facts: &Facts) -> Self {
        let mut account = Self::default();
        let mut ids: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for (n, id) in &facts.events {
            ids.entry(*n).or_default().insert(id);
        }
        for n in sent.good.keys() {
            let (done, heard) = facts.effects.get(n).copied().unwrap_or_default();
            let left = ids.get(n).map_or(0, BTreeSet::len);
            for (what, times) in
                [("effects", done), ("events heard", heard), ("events with an ID of their own", left as u64)]
            {
                match times {
                    0 => account.lost.push(format!("{n} has no {what}")),
                    1 => {}
                    _ => account.double.push(format!("{n} has {times} {what}")),
                }
            }
        }
        let known: BTreeSet<&str> = sent.good.values().chain(&sent.poison).map(String::as_str).collect();
        for id in &known {
            let expected = if sent.poison.contains(*id) { "dead" } else { "done" };
            match facts.fates.get(*id).map(Vec::as_slice) {
                Some([fate]) if fate == expected => {}
                None => account.orphans.push(format!("message {id} has no fate")),
                Some(fates) => account.orphans.push(format!("message {id} is {fates:?}, not {expected}")),
            }
        }
        let foreign = |id: &&String| !known.contains(id.as_str());
        account
            .orphans
            .extend(facts.fates.keys().filter(foreign).map(|id| format!("a fate of {id}, which nobody sent")));
        let stray = facts.effects.keys().chain(ids.keys()).filter(|n| !sent.good.contains_key(n));
        account.orphans.extend(stray.map(|n| format!("effect or event of {n}, which was not to be done")));
        let mut letters = facts.letters.clone();
        letters.sort();
        if letters != sent.poison.iter().cloned().collect::<Vec<_>>() {
            account.orphans.push(format!("letters {letters:?} for the poison {:?}", sent.poison));
        }
        account.orphans.extend(facts.left.iter().map(|(place, count)| format!("{count} left behind in {place}")));
        account
    }

    pub(crate) fn is_well(&self) -> bool {
        *self == Self::default()
    }
}
