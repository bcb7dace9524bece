//! A database of a test's own, read from outside by the test's own SQL, and what the death of a process does to it.

use pitcrew::{
    sqlx::{self, AssertSqlSafe, PgPool, Row, SqlitePool, postgres::PgPoolOptions, sqlite::SqliteConnectOptions},
    store::{Store, postgres, postgres::PostgresStore, sqlite::SqliteStore},
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Nothing that a test waits for takes longer, unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where a database is: enough to open it from any thread.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres { url: String, schema: String },
}

impl Place {
    /// The store of one worker, told apart from others by its name.
    pub(crate) async fn open(&self, worker: &str) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(path) => {
                Arc::new(SqliteStore::open(path.to_str().unwrap(), Default::default()).await.expect("the file opens"))
            }
            Self::Postgres { url, schema } => {
                let options = postgres::Options {
                    schema: schema.clone(),
                    application_name: worker.to_owned(),
                    ..postgres::Options::default()
                };
                Arc::new(PostgresStore::connect(url, options).await.expect("Postgres answers"))
            }
        }
    }
}

/// The test's own connection.
enum Reader {
    Sqlite(SqlitePool, TempDir),
    Postgres(PgPool, String),
}

pub(crate) struct Bed {
    pub(crate) place: Place,
    reader: Reader,
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.db");
        let reader = Reader::Sqlite(read(&path, true).await, directory);
        let bed = Self { place: Place::Sqlite(path), reader };
        bed.migrate().await
    }

    /// `None` where there is no Postgres.
    pub(crate) async fn postgres() -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let schema = format!("t_{}", pitcrew::clock::uuid_v7().simple());
        let pool = PgPoolOptions::new().max_connections(2).connect(&url).await.expect("Postgres answers");
        let reader = Reader::Postgres(pool, schema.clone());
        Some(Self { place: Place::Postgres { url, schema }, reader }.migrate().await)
    }

    async fn migrate(self) -> Self {
        let store = self.place.open("migrator").await;
        store.migrate().await.expect("it migrates");
        store.close().await;
        self
    }

    /// Names the connections of one life of one test.
    pub(crate) fn name(&self, life: &str) -> String {
        match &self.reader {
            Reader::Sqlite(..) => life.to_owned(),
            Reader::Postgres(_, schema) => format!("{life} {}", &schema[schema.len() - 12..]),
        }
    }

    /// Each cell must be text; `{s}` is the schema with its dot.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        macro_rules! fetch {
            ($pool:expr, $schema:expr) => {
                sqlx::query(AssertSqlSafe(sql.replace("{s}", $schema)))
                    .fetch_all($pool)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}: {error}"))
                    .iter()
                    .map(|row| (0..row.len()).map(|n| row.get::<String, _>(n)).collect())
                    .collect()
            };
        }
        match &self.reader {
            Reader::Sqlite(pool, _) => fetch!(pool, ""),
            Reader::Postgres(pool, schema) => fetch!(pool, &format!("{schema}.")),
        }
    }

    pub(crate) async fn count(&self, table: &str) -> u64 {
        let rows = self.rows(&format!("select cast(count(*) as text) from {{s}}{table}")).await;
        rows[0][0].parse().expect("a number")
    }

    /// Waits until so many rows are in a table.
    pub(crate) async fn comes_to(&self, table: &str, rows: u64) {
        let until = Instant::now() + LIMIT;
        loop {
            let found = self.count(table).await;
            if found == rows {
                return;
            }
            assert!(Instant::now() < until, "{found} rows are in {table} instead of {rows}");
            pitcrew::testing::poll_pause().await;
        }
    }

    /// What is left of a worker that stopped in the middle of everything, and whose process is gone.
    ///
    /// Postgres: its connections end, and it has not been heard of for a while. SQLite: open transactions and locks are gone
    /// with their process, what remains is what was committed. Here the process lives on and keeps its locks, so the next worker
    /// gets a copy of what was committed.
    pub(crate) async fn bury(&mut self, worker: &str) {
        match &mut self.reader {
            Reader::Postgres(pool, schema) => {
                cut(pool, worker).await;
                let silent = format!("update {schema}.worker set seen = seen - interval '1 minute'");
                sqlx::query(AssertSqlSafe(silent)).execute(&*pool).await.expect("time passes");
            }
            Reader::Sqlite(pool, directory) => {
                let path = directory.path().join(format!("{worker}.db"));
                let copy = format!("vacuum into '{}'", path.display());
                sqlx::query(AssertSqlSafe(copy)).execute(&*pool).await.expect("a copy");
                *pool = read(&path, false).await;
                self.place = Place::Sqlite(path);
            }
        }
    }

    pub(crate) async fn drop(self) {
        if let Reader::Postgres(pool, schema) = self.reader {
            sqlx::query(AssertSqlSafe(format!("drop schema {schema} cascade"))).execute(&pool).await.expect("it goes");
        }
    }
}

async fn read(path: &PathBuf, create: bool) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(create).busy_timeout(LIMIT);
    SqlitePool::connect_with(options).await.expect("the file opens")
}

/// Ends a worker's connections, and returns when the server has let go of what they held.
async fn cut(pool: &PgPool, worker: &str) {
    let until = Instant::now() + LIMIT;
    loop {
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1";
        if sqlx::query(cut).bind(worker).fetch_all(pool).await.expect("they can be ended").is_empty() {
            return;
        }
        assert!(Instant::now() < until, "the connections of {worker} do not end");
        pitcrew::testing::poll_pause().await;
    }
}
