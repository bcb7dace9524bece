//! Opens what the config names.

#[cfg(feature = "rabbitmq")]
use crate::transport::rabbitmq;
use crate::{
    config::{BrokerUrl, ChannelConfig, Config, Name, StoreUrl},
    store::{
        Store,
        memory::MemoryStore,
        postgres::{self, PostgresStore},
        sqlite::{SqliteStore, WorkerLock},
    },
    transport::{Transport, embedded::Embedded},
};
use anyhow::{Context as _, bail};
use std::sync::Arc;

/// A store, with the right to be the one worker on it where there can be only one.
#[derive(Clone)]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Held for the life of a worker on SQLite; `None` elsewhere, and for commands beside a worker.
    pub lock: Option<Arc<WorkerLock>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("store", &self.store.kind()).finish_non_exhaustive()
    }
}

/// Opens the store of `config`; `as_worker` takes the lock of a file that only one worker may have.
///
/// # Errors
/// Says what could not be reached, without a password.
pub async fn open_store(config: &Config, as_worker: bool) -> anyhow::Result<Opened> {
    Ok(match &config.store.url {
        StoreUrl::Memory => Opened { store: Arc::new(MemoryStore::new()), lock: None },
        StoreUrl::Sqlite(path) => {
            let path = path.to_str().context("the path of the SQLite file is not UTF-8")?;
            let lock = if as_worker { Some(Arc::new(SqliteStore::lock(path)?)) } else { None };
            Opened { store: Arc::new(SqliteStore::open(path, Default::default()).await?), lock }
        }
        StoreUrl::Postgres(url) => {
            let options = postgres::Options {
                schema: config.store.schema.clone(),
                commit_connections: u32::try_from(config.worker.commits).unwrap_or(u32::MAX),
                application_name: format!("{} pitcrew", config.service.as_str()),
                ..postgres::Options::default()
            };
            Opened { store: Arc::new(PostgresStore::connect(url.expose(), options).await?), lock: None }
        }
    })
}

/// Opens the default transport of `config`. No connection is made yet.
///
/// # Errors
/// This build does not have it, or a file that it needs cannot be read.
pub fn open_transport(config: &Config) -> anyhow::Result<Arc<dyn Transport>> {
    let name: Name = "default".parse().context("the default transport's name")?;
    let transport = config.transport.get(&name).cloned().unwrap_or_default();
    match &transport.url {
        BrokerUrl::Embedded => Ok(Arc::new(Embedded::default())),
        #[cfg(feature = "rabbitmq")]
        BrokerUrl::Amqp(url) => {
            let ca = |path: &std::path::PathBuf| {
                std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}, [transport.default] ca_file", path.display()))
            };
            let options = rabbitmq::Options {
                name: config.service.as_str().into(),
                declare: transport.declare,
                ca: transport.ca_file.as_ref().map(ca).transpose()?,
                concurrency: config.channel.iter().map(|(name, c)| (name.as_str().into(), c.concurrency)).collect(),
                default_concurrency: ChannelConfig::default().concurrency,
            };
            Ok(Arc::new(rabbitmq::RabbitMq::new(url.expose(), options)?))
        }
        #[cfg(not(feature = "rabbitmq"))]
        BrokerUrl::Amqp(_) => bail!("this build is without RabbitMQ: build it with the feature `rabbitmq`"),
        BrokerUrl::Kafka(_) => bail!("this build has no Kafka yet: start with --broker embedded or amqp://…"),
    }
}
