//! Opens what the config names.

#[cfg(feature = "kafka")]
use crate::transport::kafka::Kafka;
use crate::{
    clock,
    config::{BrokerUrl, Config, Name, StoreUrl},
    store::{
        Store, StoreError,
        memory::MemoryStore,
        postgres::{self, PostgresStore},
        sqlite::{SqliteStore, WorkerLock},
    },
    transport::{ByChannel, Endpoints, Transport, TransportError, embedded::Embedded},
};
#[cfg(feature = "rabbitmq")]
use crate::{
    config::{ChannelConfig, Hidden, TransportConfig},
    transport::rabbitmq,
};
use anyhow::Context as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tracing::warn;

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

/// Opens the store of `config` to look at it: no file is made, and on SQLite nothing can be written.
///
/// # Errors
/// As [`open_store`]; and there is no such file.
pub(crate) async fn look_at_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let StoreUrl::Sqlite(path) = &config.store.url else { return Ok(open_store(config, false).await?.store) };
    let path = path.to_str().context("the path of the SQLite file is not UTF-8")?;
    Ok(Arc::new(SqliteStore::look(path).await?))
}

/// Asks again, with growing pauses, while what is asked for does not answer: whoever starts everything at once need not start it in
/// order. A set-up that is wrong is not waited for.
///
/// # Errors
/// The last answer, once `limit` is over.
pub(crate) async fn patiently<T>(
    limit: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = clock::instant();
    let mut pause = Duration::from_millis(250);
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() || !is_away(&error) {
            return Err(error);
        }
        warn!(error = %format!("{error:#}"), for_at_most_s = left.as_secs(), "not there yet; this start waits");
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(Duration::from_secs(4));
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TransportError::Away(_)))
        || error.downcast_ref().is_some_and(StoreError::is_transient)
}

/// Opens the transports that the channels of `config` name, as one. No connection is made yet.
///
/// # Errors
/// This build does not have one of them, or a file that it needs cannot be read.
pub fn open_transport(config: &Config) -> anyhow::Result<Arc<dyn Transport>> {
    let default = Name::fixed("default");
    let mut elsewhere: BTreeMap<&Name, Vec<Arc<str>>> = BTreeMap::new();
    for (channel, settings) in config.channel.iter().filter(|(_, settings)| settings.transport != default) {
        elsewhere.entry(&settings.transport).or_default().push(channel.as_str().into());
    }
    let carrier = open_one(config, &default)?;
    if elsewhere.is_empty() {
        return Ok(carrier);
    }
    let mut carriers = ByChannel::new(default.as_str(), carrier);
    for (name, channels) in elsewhere {
        carriers = carriers.with(name.as_str(), open_one(config, name)?, channels);
    }
    Ok(Arc::new(carriers))
}

/// One of the brokers of a config, looked at by itself: what is known of it is shown without the others.
pub(crate) struct Carrier {
    pub(crate) name: Name,
    pub(crate) transport: anyhow::Result<Arc<dyn Transport>>,
    /// What it is asked for. With nothing of it, it need not be there.
    pub(crate) share: Endpoints,
}

/// The brokers that the channels of `config` name, and the default, which carries those that name none.
pub(crate) fn open_carriers(config: &Config, endpoints: &Endpoints) -> Vec<Carrier> {
    let default = Name::fixed("default");
    let carrier = |channel: &str| {
        let named = config.channel.iter().find(|(name, _)| name.as_str() == channel);
        named.map_or(&default, |(_, settings)| &settings.transport)
    };
    let names: BTreeSet<_> = config.channel.values().map(|settings| &settings.transport).chain([&default]).collect();
    let opened = names.into_iter().map(|name| Carrier {
        name: name.clone(),
        transport: open_one(config, name),
        share: endpoints.only(|channel| carrier(channel) == name),
    });
    opened.collect()
}

fn open_one(config: &Config, name: &Name) -> anyhow::Result<Arc<dyn Transport>> {
    let transport = config.transport.get(name).cloned().unwrap_or_default();
    match &transport.url {
        BrokerUrl::Embedded => Ok(Arc::new(Embedded::default())),
        #[cfg(feature = "kafka")]
        BrokerUrl::Kafka(url) => {
            Ok(Arc::new(Kafka::new(super::kafka::options(config, name, &transport, url.expose())?)))
        }
        #[cfg(not(feature = "kafka"))]
        BrokerUrl::Kafka(_) => anyhow::bail!("this build speaks no Kafka: build it with --features kafka"),
        #[cfg(feature = "rabbitmq")]
        BrokerUrl::Amqp(url) => {
            Ok(Arc::new(rabbitmq::RabbitMq::new(url.expose(), rabbitmq(config, name, &transport)?)?))
        }
        #[cfg(not(feature = "rabbitmq"))]
        BrokerUrl::Amqp(_) => anyhow::bail!("this build is without RabbitMQ: build it with the feature `rabbitmq`"),
    }
}

#[cfg(feature = "rabbitmq")]
fn rabbitmq(config: &Config, name: &Name, transport: &TransportConfig) -> anyhow::Result<rabbitmq::Options> {
    let read = |key: &str, path: &Option<std::path::PathBuf>| {
        let text = path.as_ref().map(|path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("reading {}, [transport.{name}] {key}", path.display()))
        });
        text.transpose()
    };
    // An editor ends the last line of a file; no password does.
    let password = read("password_file", &transport.password_file)?;
    let password = password.map(|text| Hidden::new(text.trim_end_matches(['\r', '\n'])));
    let own = (read("client_cert", &transport.client_cert)?, read("client_key", &transport.client_key)?);
    Ok(rabbitmq::Options {
        name: config.service.as_str().into(),
        declare: transport.declare,
        user: transport.user.clone(),
        password: password.or_else(|| transport.password.clone()),
        ca: read("ca_file", &transport.ca_file)?,
        identity: match own {
            (Some(certificate), Some(key)) => Some(rabbitmq::Identity { certificate, key: Hidden::new(key) }),
            // `config check` refuses one without the other.
            _ => None,
        },
        management: transport.management.clone(),
        prefixes: prefixes(config),
        concurrency: config.channel.iter().map(|(name, c)| (name.as_str().into(), c.concurrency)).collect(),
        default_concurrency: ChannelConfig::default().concurrency,
    })
}

/// The channels whose headers are written in another way than their transport does by itself.
#[cfg(any(feature = "kafka", feature = "rabbitmq"))]
pub(super) fn prefixes(config: &Config) -> std::collections::HashMap<String, crate::message::wire::Prefix> {
    let named = config.channel.iter().filter_map(|(name, c)| Some((name.as_str().into(), c.attribute_prefix?)));
    named.collect()
}
