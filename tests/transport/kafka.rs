//! The Kafka transport on a real broker, each case with topics of its own.

use async_trait::async_trait;
use pitcrew::{
    clock,
    message::wire::{Properties, Raw},
    sqlx,
    store::{
        Store,
        postgres::{Options as PostgresOptions, PostgresStore},
        sqlite::SqliteStore,
    },
    testing::conformance::transport::Bench,
    transport::{
        Subscription, Transport,
        kafka::{GroupProtocol, Kafka, Options},
    },
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use std::{sync::Arc, time::Duration};

struct KafkaBench {
    prefix: String,
    brokers: String,
    protocol: GroupProtocol,
    database: Database,
}

enum Database {
    Sqlite(tempfile::TempDir),
    /// A schema of its own.
    Postgres {
        url: String,
        schema: String,
    },
}

impl KafkaBench {
    fn open(protocol: GroupProtocol, database: Option<Database>) -> Option<Arc<dyn Bench>> {
        let Ok(url) = std::env::var("PITCREW_KAFKA_URL") else {
            eprintln!("skipped: no Kafka (PITCREW_KAFKA_URL)");
            return None;
        };
        let brokers = url.trim_start_matches("kafka://").to_owned();
        let prefix = format!("conformance-{}", clock::uuid_v7().simple());
        Some(Arc::new(Self { prefix: prefix[..40].into(), brokers, protocol, database: database? }))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }
}

fn sqlite() -> Option<Database> {
    Some(Database::Sqlite(tempfile::tempdir().expect("a directory for the database")))
}

fn postgres() -> Option<Database> {
    let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return None;
    };
    Some(Database::Postgres { url, schema: format!("kafka_{}", clock::uuid_v7().simple()) })
}

/// The clients agree on who reads what.
pub(crate) fn classic() -> Option<Arc<dyn Bench>> {
    KafkaBench::open(GroupProtocol::Classic, sqlite())
}

/// The broker decides on who reads what.
pub(crate) fn broker_side() -> Option<Arc<dyn Bench>> {
    KafkaBench::open(GroupProtocol::Consumer, sqlite())
}

pub(crate) fn on_sqlite() -> Option<Arc<dyn Bench>> {
    classic()
}

pub(crate) fn on_postgres() -> Option<Arc<dyn Bench>> {
    KafkaBench::open(GroupProtocol::Classic, postgres())
}

/// Too long for every run.
pub(crate) fn with_all(bench: fn() -> Option<Arc<dyn Bench>>) -> Option<Arc<dyn Bench>> {
    if std::env::var_os("PITCREW_ALL").is_none() {
        eprintln!("skipped: takes long (PITCREW_ALL)");
        return None;
    }
    bench()
}

#[async_trait]
impl Bench for KafkaBench {
    async fn connect(&self) -> Arc<dyn Transport> {
        let options = Options {
            partitions: 3,
            protocol: self.protocol,
            session_timeout: Duration::from_secs(6),
            ..Options::new(&self.brokers)
        };
        Arc::new(Kafka::new(options))
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    async fn put(&self, subscription: &Subscription, raw: Raw) {
        let producer: FutureProducer = self.client().create().expect("a producer");
        let content_type =
            raw.properties.content_type.iter().map(|ty| ("content-type".to_owned(), Some(ty.clone().into())));
        let headers: Vec<_> = raw.headers.iter().cloned().chain(content_type).collect();
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value: value.as_ref().map(|value: &bytes::Bytes| &value[..]) })
        });
        let key = raw.properties.key.clone();
        let record = FutureRecord::to(&subscription.channel).payload(&raw.body[..]).headers(headers);
        let record = match &key {
            Some(key) => record.key(key.as_bytes()),
            None => record,
        };
        producer.send(record, Duration::from_secs(10)).await.expect("the broker takes it");
    }

    async fn store(&self) -> Arc<dyn Store> {
        match &self.database {
            Database::Sqlite(directory) => {
                let path = directory.path().join("store.db");
                let store = SqliteStore::open(path.to_str().expect("a path in UTF-8"), Default::default()).await;
                Arc::new(store.expect("the file can be opened"))
            }
            Database::Postgres { url, schema } => {
                let options = PostgresOptions { schema: schema.clone(), ..Default::default() };
                Arc::new(PostgresStore::connect(url, options).await.expect("Postgres answers"))
            }
        }
    }

    fn shares_store(&self) -> bool {
        !matches!(self.database, Database::Sqlite(_))
    }

    /// Delays of which the first is longer than a pause of the retry topics costs.
    fn delays(&self) -> Vec<Duration> {
        [1_000, 2_000, 3_000].map(Duration::from_millis).into()
    }

    fn most_held(&self) -> usize {
        1_024
    }

    async fn dead_letters(&self, subscription: &Subscription) -> Option<Vec<Raw>> {
        let topic = format!("{}.dead", subscription.name);
        let mut config = self.client();
        config.set("group.id", format!("{topic}.look")).set("enable.partition.eof", "true");
        let look = move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, Offset::Beginning).expect("an offset");
            consumer.assign(&list).expect("an assignment");
            let mut found = Vec::new();
            while let Some(Ok(record)) = consumer.poll(Duration::from_secs(10)) {
                let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
                let headers: Vec<_> =
                    headers.map(|h| (h.key.to_owned(), h.value.map(bytes::Bytes::copy_from_slice))).collect();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
                let content_type = headers.iter().find(|(name, _)| name == "content-type");
                let content_type = content_type.and_then(|(_, value)| text(value.as_deref()?));
                let key = record.key().and_then(text);
                let body = bytes::Bytes::copy_from_slice(record.payload().unwrap_or_default());
                found.push(Raw {
                    headers,
                    properties: Properties { content_type, key, ..Properties::default() },
                    body,
                });
            }
            found
        };
        Some(tokio::task::spawn_blocking(look).await.expect("it can be read"))
    }

    async fn clear(&self) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).expect("the broker answers");
        let ours = metadata.topics().iter().map(|topic| topic.name()).filter(|name| name.starts_with(&self.prefix));
        let ours: Vec<&str> = ours.collect();
        if !ours.is_empty() {
            admin.delete_topics(&ours, &AdminOptions::new()).await.expect("topics can be deleted");
        }
        let Database::Postgres { url, schema } = &self.database else { return };
        let pool = sqlx::PgPool::connect(url).await.expect("Postgres answers");
        let drop = sqlx::AssertSqlSafe(format!("drop schema if exists {schema} cascade"));
        sqlx::raw_sql(drop).execute(&pool).await.expect("the schema can be dropped");
        pool.close().await;
    }
}
