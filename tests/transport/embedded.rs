//! The embedded transport over each store, in fair weather and foul.

use async_trait::async_trait;
use pitcrew::{
    clock,
    message::wire::Raw,
    sqlx,
    store::{
        Store,
        memory::MemoryStore,
        postgres::{Options, PostgresStore},
        sqlite::SqliteStore,
    },
    testing::conformance::transport::Bench,
    transport::{
        Subscription, Transport,
        embedded::{Adverse, Bounds, Embedded},
    },
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// The embedded transport over a store: each connection is a process of its own, and the store is all they share.
struct EmbeddedBench {
    prefix: String,
    database: Database,
    weather: Adverse,
    connected: Mutex<Vec<Arc<Embedded>>>,
}

/// Where the rows are.
enum Database {
    Memory(Arc<MemoryStore>),
    Sqlite(tempfile::TempDir),
    /// A schema of its own.
    Postgres {
        url: String,
        schema: String,
    },
}

fn bench(database: Database, weather: Adverse) -> Option<Arc<dyn Bench>> {
    let prefix = format!("conformance-{}", clock::uuid_v7().simple());
    Some(Arc::new(EmbeddedBench { prefix: prefix[..40].into(), database, weather, connected: Mutex::default() }))
}

pub(crate) fn on_memory() -> Option<Arc<dyn Bench>> {
    bench(Database::Memory(Arc::new(MemoryStore::new())), Adverse::default())
}

/// What a broker does on a bad day, but for the order: that is promised while nothing fails.
pub(crate) fn in_foul_weather() -> Option<Arc<dyn Bench>> {
    let weather = Adverse { seed: 7, duplicate: 0.2, lose_ack: 0.2, refuse: 0.1, unroutable: 0.05, reorder: 0.2 };
    bench(Database::Memory(Arc::new(MemoryStore::new())), weather)
}

pub(crate) fn on_sqlite() -> Option<Arc<dyn Bench>> {
    let directory = tempfile::tempdir().expect("a directory for the database");
    bench(Database::Sqlite(directory), Adverse::default())
}

/// In a schema of its own.
pub(crate) fn on_postgres() -> Option<Arc<dyn Bench>> {
    let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return None;
    };
    let schema = format!("conformance_{}", clock::uuid_v7().simple());
    bench(Database::Postgres { url, schema }, Adverse::default())
}

#[async_trait]
impl Bench for EmbeddedBench {
    async fn connect(&self) -> Arc<dyn Transport> {
        let transport = Arc::new(Embedded::with(Bounds::default(), self.weather));
        self.connected.lock().unwrap().push(transport.clone());
        transport
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    async fn put(&self, subscription: &Subscription, raw: Raw) {
        let latest = self.connected.lock().unwrap().last().cloned().expect("something is connected");
        latest.inject(&subscription.name, raw).expect("the subscription is declared");
    }

    async fn store(&self) -> Arc<dyn Store> {
        match &self.database {
            Database::Memory(store) => store.clone(),
            Database::Sqlite(directory) => {
                let path = directory.path().join("store.db");
                let store = SqliteStore::open(path.to_str().expect("a path in UTF-8"), Default::default()).await;
                Arc::new(store.expect("the file can be opened"))
            }
            Database::Postgres { url, schema } => {
                let options = Options { schema: schema.clone(), ..Default::default() };
                Arc::new(PostgresStore::connect(url, options).await.expect("Postgres answers"))
            }
        }
    }

    fn shares_store(&self) -> bool {
        !matches!(self.database, Database::Sqlite(_))
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(50)
    }

    async fn clear(&self) {
        let Database::Postgres { url, schema } = &self.database else { return };
        let pool = sqlx::PgPool::connect(url).await.expect("Postgres answers");
        let drop = sqlx::AssertSqlSafe(format!("drop schema if exists {schema} cascade"));
        sqlx::raw_sql(drop).execute(&pool).await.expect("the schema can be dropped");
        pool.close().await;
    }
}
