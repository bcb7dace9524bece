//! Auditor: counts from the database alone, with its own connection and its own SQL, and trusts no counter of the worker.
//!
//! Effects are counted by a write that is *not* idempotent (each brief counts its own writes), never by a unique key.

use super::{
    kinds::{Kind, Target},
    trouble::{self, Trouble},
};
use crate::notification::contract::Notification;
use anyhow::Context as _;
use pitcrew::{
    Document, Envelope,
    config::{Config, StoreUrl},
    sqlx::{self, AssertSqlSafe, PgPool, SqlitePool, sqlite::SqliteConnectOptions},
};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The distinct commands that were sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// By command ID: what it is to cause.
    pub commands: HashMap<String, Target>,
    /// The demo made them: what is dead has to be poison, and the other way round.
    pub made: bool,
    /// How many were sent a second time.
    pub duplicates: usize,
    /// Which these are.
    pub twice: HashSet<String>,
}

impl Sent {
    /// Enters a command; the answer is its number, from 0.
    pub fn note(&mut self, envelope: &Envelope) -> usize {
        let data = serde_json::from_slice::<Value>(&envelope.data).unwrap_or_default();
        if let Some(kind) = Kind::of(&envelope.ty) {
            self.commands.insert(envelope.id.clone(), Target::of(kind, &data));
        }
        self.commands.len().saturating_sub(1)
    }

    /// Distinct commands.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// The demo's database, read from outside.
#[derive(Debug)]
pub enum Database {
    /// A file.
    Sqlite(SqlitePool),
    /// A schema.
    Postgres(PgPool, String),
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// Commands with a last fate.
    pub ended: usize,
    /// Of these, done.
    pub done: usize,
    /// Events that were handled.
    pub notified: usize,
    /// Rows in the outbox.
    pub waiting: usize,
}

/// Rows of a query, each cell as text.
type Rows = Vec<Vec<String>>;

impl Database {
    /// Opens the store that `config` names, beside the worker.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.store.url {
            StoreUrl::Sqlite(path) => {
                let options =
                    SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(10));
                Ok(Self::Sqlite(SqlitePool::connect_with(options).await.context("opening the database to count")?))
            }
            StoreUrl::Postgres(url) => {
                let pool = PgPool::connect(url.expose()).await.context("reaching the database to count")?;
                Ok(Self::Postgres(pool, config.store.schema.clone()))
            }
            StoreUrl::Memory => anyhow::bail!("a memory store dies with its worker: name a file or a Postgres"),
        }
    }

    /// Ends the connection.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool, _) => pool.close().await,
        }
    }

    /// `{s}` stands for the schema; every column must be text.
    pub(super) async fn rows(&self, sql: &str, columns: usize) -> anyhow::Result<Rows> {
        use sqlx::Row;
        match self {
            Self::Sqlite(pool) => {
                let rows = sqlx::query(AssertSqlSafe(sql.replace("{s}.", ""))).fetch_all(pool).await?;
                rows.iter().map(|row| (0..columns).map(|n| Ok(row.try_get::<String, _>(n)?)).collect()).collect()
            }
            Self::Postgres(pool, schema) => {
                let rows = sqlx::query(AssertSqlSafe(sql.replace("{s}", schema))).fetch_all(pool).await?;
                rows.iter().map(|row| (0..columns).map(|n| Ok(row.try_get::<String, _>(n)?)).collect()).collect()
            }
        }
    }

    /// A count per word.
    async fn counts(&self, sql: &str) -> anyhow::Result<BTreeMap<String, usize>> {
        let rows = self.rows(sql, 2).await?;
        rows.into_iter().map(|row| Ok((row[0].clone(), row[1].parse()?))).collect()
    }

    /// How far the work is; for the progress bar and the marks of the kills, not for the account.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn state(&self, sent: &Sent) -> anyhow::Result<State> {
        let types = Kind::types();
        let fates = self
            .counts(&format!(
                "select fate, cast(count(*) as text) from {{s}}.inbox where type in ({types}) and fate in ('done', 'dead', 'expired') group by fate"
            ))
            .await?;
        let done = fates.get("done").copied().unwrap_or_default();
        let others = self
            .counts(&format!(
                "select 'notified', cast(count(*) as text) from {{s}}.inbox where type not in ({types}) and fate = 'done'
                 union all select 'waiting', cast(count(*) as text) from {{s}}.outbox"
            ))
            .await?;
        let of = |word: &str| others.get(word).copied().unwrap_or_default();
        let ended = fates.values().sum::<usize>().min(sent.len());
        Ok(State { ended, done, notified: of("notified"), waiting: of("waiting") })
    }
}

/// The account of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Distinct commands of this run.
    pub sent: usize,
    /// Of these, done.
    pub done: usize,
    /// Of these, dead.
    pub dead: usize,
    /// Deliveries that were sent a second time and had no second effect.
    pub duplicates: usize,
    /// Attempts that were followed by another.
    pub retries: usize,
    /// SIGKILLs of the worker.
    pub kills: u32,
    /// Writes of documents, as the documents themselves count them.
    pub effects: usize,
    /// Commands without a fate, or done without an effect.
    pub lost: usize,
    /// Commands whose document was written more than once.
    pub double: usize,
    /// Dead, and not on purpose; or done, although they are poison.
    pub astray: usize,
    /// The same, worker by worker.
    pub workers: BTreeMap<&'static str, Count>,
    /// What went wrong for each of them.
    pub troubles: BTreeMap<&'static str, Trouble>,
    /// Done commands whose event was not handled exactly once.
    #[serde(skip)]
    pub untold: usize,
    /// Rows left in the outbox.
    #[serde(skip)]
    pub left_behind: usize,
    /// What each worker did, in the order of their starts.
    #[serde(skip)]
    pub processes: Vec<Worked>,
    /// The command that is most worth an explanation, and what happened to it.
    #[serde(skip)]
    pub interesting: Option<(String, String)>,
    /// A dead command.
    #[serde(skip)]
    pub a_dead_one: Option<String>,
    /// A brief, as stored.
    #[serde(skip)]
    pub a_brief: Option<Value>,
}

/// What became of the commands of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Distinct commands.
    pub sent: usize,
    /// Of these, done.
    pub done: usize,
    /// Of these, dead.
    pub dead: usize,
    /// Writes of its documents.
    pub effects: usize,
    /// Commands without a fate, or done without an effect.
    pub lost: usize,
    /// Commands whose document was written more than once.
    pub double: usize,
    /// Users who were told.
    pub told: usize,
}

/// What one process did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Its ID, without dashes.
    pub id: String,
    /// Commands that it ended as done.
    pub done: usize,
    /// Commands that it ended as dead.
    pub dead: usize,
    /// Events that it handled.
    pub notifications: usize,
}

impl Account {
    /// Counts.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take(database: &Database, sent: &Sent, kills: u32) -> anyhow::Result<Self> {
        let types = Kind::types();
        let inbox = database.rows(&format!("select id, fate from {{s}}.inbox where type in ({types})"), 2).await?;
        let fates: HashMap<&str, &str> = inbox.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
        let mut effects = HashMap::new();
        for kind in Kind::ALL {
            effects.insert(kind, parse(database.rows(&documents(kind.collection()), 2).await?)?);
        }
        let mut told: HashMap<String, usize> = HashMap::new();
        for notification in parse(database.rows(&documents(Notification::COLLECTION), 2).await?)?.into_values() {
            *told.entry(notification["about"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let attempts = format!(
            "select id, cast(attempt as text) from {{s}}.attempt where consumer in ({types}) and next is not null"
        );
        let attempts = database.rows(&attempts, 2).await?;

        let mut account = Self {
            sent: sent.len(),
            kills,
            duplicates: sent.duplicates,
            retries: attempts.iter().filter(|row| sent.commands.contains_key(&row[0])).count(),
            ..Self::default()
        };
        for (id, target) in &sent.commands {
            let document = effects.get(&target.kind).and_then(|documents| documents.get(&target.document));
            let writes = document.and_then(|document| document["writes"].as_u64()).unwrap_or_default() as usize;
            let count = account.workers.entry(target.kind.effects()).or_default();
            let heard = told.get(&target.about).copied().unwrap_or_default();
            count.sent += 1;
            count.effects += writes;
            count.double += usize::from(writes > 1);
            count.told += heard;
            match fates.get(id.as_str()) {
                Some(&"done") => {
                    count.done += 1;
                    count.lost += usize::from(writes == 0);
                    account.untold += usize::from(heard != 1);
                    account.astray += usize::from(sent.made && target.poison);
                }
                Some(&"dead") => {
                    count.dead += 1;
                    account.a_dead_one.get_or_insert_with(|| id.clone());
                    account.astray += usize::from(sent.made && !target.poison);
                }
                _ => count.lost += 1,
            }
        }
        for count in account.workers.values() {
            account.done += count.done;
            account.dead += count.dead;
            account.effects += count.effects;
            account.lost += count.lost;
            account.double += count.double;
        }
        account.troubles = trouble::of(database, sent, attempts.iter().map(|row| row[0].as_str())).await?;
        account.interesting = interesting(database, sent, &fates).await?;
        account.a_brief = effects
            .remove(&Kind::Recommendation)
            .into_iter()
            .flat_map(HashMap::into_values)
            .filter(|b| b["picks"].as_array().is_some_and(|p| p.len() > 1))
            .min_by_key(|b| b["id"].to_string());
        let left = database.rows("select cast(count(*) as text) from {s}.outbox", 1).await?;
        account.left_behind = left.first().map_or(Ok(0), |row| row[0].parse())?;
        account.processes = processes(database).await?;
        Ok(account)
    }

    /// Every command is accounted for and has exactly one effect, and every event of a done one was heard once.
    pub fn adds_up(&self) -> bool {
        self.lost == 0
            && self.double == 0
            && self.untold == 0
            && self.astray == 0
            && self.left_behind == 0
            && self.done + self.dead == self.sent
    }

    /// One line of JSON.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A worker's ID as text without dashes.
fn worker_id(database: &Database, column: &str) -> String {
    match database {
        Database::Sqlite(_) => format!("lower(hex({column}))"),
        Database::Postgres(..) => format!("replace(cast({column} as text), '-', '')"),
    }
}

/// All of a collection.
fn documents(collection: &str) -> String {
    format!("select id, cast(body as text) from {{s}}.document where collection = '{collection}'")
}

async fn processes(database: &Database) -> anyhow::Result<Vec<Worked>> {
    let (types, worker) = (Kind::types(), worker_id(database, "worker"));
    let sql = format!(
        "select {worker}, case when consumer in ({types}) then fate else 'told' end, cast(count(*) as text) from {{s}}.inbox group by 1, 2 order by 1, 2"
    );
    let mut workers: Vec<Worked> = Vec::new();
    for row in database.rows(&sql, 3).await? {
        if workers.last().is_none_or(|last| last.id != row[0]) {
            workers.push(Worked { id: row[0].clone(), ..Worked::default() });
        }
        let (Some(worker), count) = (workers.last_mut(), row[2].parse()?) else { continue };
        match row[1].as_str() {
            "done" => worker.done = count,
            "told" => worker.notifications = count,
            _ => worker.dead = count,
        }
    }
    Ok(workers)
}

/// The command to which most has happened: sent twice, failed at first, its worker killed, done by another one.
async fn interesting(
    database: &Database,
    sent: &Sent,
    fates: &HashMap<&str, &str>,
) -> anyhow::Result<Option<(String, String)>> {
    let (first, last) = (worker_id(database, "a.worker"), worker_id(database, "i.worker"));
    let sql = format!(
        "select a.id, a.kind, case when {first} = {last} then '' else 'killed' end from {{s}}.attempt a
         join {{s}}.inbox i on i.id = a.id and i.consumer = a.consumer
         where a.consumer in ({}) and a.next is not null order by a.at, a.id",
        Kind::types()
    );
    let rows = database.rows(&sql, 3).await?;
    let stories = rows.iter().filter(|row| fates.get(row[0].as_str()) == Some(&"done")).map(|row| {
        let mut what = Vec::new();
        what.extend(sent.twice.contains(&row[0]).then_some("sent twice"));
        what.push(if row[1] == "panic" { "panicked at first" } else { "failed at first" });
        what.extend((row[2] == "killed").then_some("its worker killed"));
        (row[0].clone(), what)
    });
    // Of equals the earliest.
    let best = stories.rev().max_by_key(|(_, what)| what.len());
    let plain = || fates.iter().find(|(_, fate)| **fate == "done").map(|(id, _)| ((*id).to_owned(), "done".to_owned()));
    Ok(best.map(|(id, what)| (id, what.join(", ") + ", and done once")).or_else(plain))
}

fn parse(rows: Rows) -> anyhow::Result<HashMap<String, Value>> {
    rows.into_iter().map(|row| Ok((row[0].clone(), serde_json::from_str(&row[1])?))).collect()
}
