//! The settings with their defaults: plain data, one struct a section of `config/pitcrew.toml`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::address::{BrokerUrl, StoreUrl};
use super::name::{self, Name};
use super::secret::Hidden;
use super::units::{self, Count, Span};
use super::web::ManagementUrl;
use super::words::{Dedup, GroupProtocol, OnLost, Ordering, Sasl, TooOld, TransportKind, Unrouted};
use super::{explain, secret};
use crate::message::wire::Prefix;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// `[transport.NAME]`: a broker to consume from and to publish to.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportConfig {
    /// The kind of broker; a file that gives only the url gives the kind with it.
    pub kind: TransportKind,
    /// Where the broker is.
    pub url: BrokerUrl,
    /// Whether what is missing on the broker is made at the start, or only verified.
    pub declare: bool,
    /// Who logs in, if the url does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password, if the url has none: for the environment, not for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Hidden>,
    /// A file with the password, in place of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// A PEM file with the certificates that the broker's may be signed by, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with this service's own certificate, and those between it and what the broker trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<PathBuf>,
    /// A PEM file with its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// RabbitMQ's management API: what AMQP does not show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<ManagementUrl>,
    /// What is particular to Kafka.
    pub kafka: KafkaConfig,
}

impl Default for TransportConfig {
    fn default() -> Self {
        TransportConfig {
            kind: TransportKind::Embedded,
            url: BrokerUrl::Embedded,
            declare: true,
            user: None,
            password: None,
            password_file: None,
            ca_file: None,
            client_cert: None,
            client_key: None,
            management: None,
            kafka: KafkaConfig::default(),
        }
    }
}

/// `[transport.NAME.kafka]`: what a Kafka transport makes and how its groups work.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// Partitions of a channel's topic that is made.
    #[serde(deserialize_with = "units::count")]
    pub partitions: usize,
    /// Partitions of each retry topic that is made.
    #[serde(deserialize_with = "units::count")]
    pub retry_partitions: usize,
    /// Replicas of a topic that is made; 0: as many as the broker's default.
    #[serde(deserialize_with = "units::count")]
    pub replication: usize,
    /// How long a topic that is made keeps its records.
    #[serde(with = "units::duration")]
    pub topic_retention: Duration,
    /// How the members of a group agree on who reads what.
    pub group_protocol: GroupProtocol,
    /// Silent for so long, a worker is taken for dead and its partitions move.
    #[serde(with = "units::duration")]
    pub session_timeout: Duration,
    /// What happens when records are gone that were never handled.
    pub on_lost: OnLost,
    /// How a password is shown to the broker.
    pub sasl: Sasl,
    /// A static member's name, one a process; `${NAME}` in it is taken from the environment. Empty: no static member.
    pub group_instance_id: String,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        KafkaConfig {
            partitions: 6,
            retry_partitions: 1,
            replication: 0,
            topic_retention: 7 * DAY,
            group_protocol: GroupProtocol::Classic,
            session_timeout: Duration::from_secs(10),
            on_lost: OnLost::Continue,
            sasl: Sasl::ScramSha512,
            group_instance_id: String::new(),
        }
    }
}

/// `[store]`: the database of inbox, outbox, documents and dead letters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Where the database is.
    pub url: StoreUrl,
    /// The Postgres schema of pitcrew's tables: one per service.
    #[serde(deserialize_with = "name::schema")]
    pub schema: String,
    /// How long rows are kept.
    pub retention: Retention,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig { url: StoreUrl::sqlite("pitcrew.db"), schema: "pitcrew".into(), retention: Retention::default() }
    }
}

/// `[store.retention]`: how long rows are kept.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The dedup window: for so long a second delivery of a message is recognised.
    #[serde(with = "units::duration")]
    pub inbox: Duration,
    /// For so long a dead letter can be looked at and replayed.
    #[serde(with = "units::duration")]
    pub dead_letters: Duration,
    /// For so long `audit list` shows what operators did.
    #[serde(with = "units::duration")]
    pub audit: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { inbox: 14 * DAY, dead_letters: 90 * DAY, audit: 400 * DAY }
    }
}

/// `[worker]`: the budgets of one worker process.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// How long `run` waits for a store or a broker that does not answer yet; zero: it gives up at once.
    #[serde(with = "units::duration")]
    pub start_timeout: Duration,
    /// How long a shutdown waits for handlers that still run.
    #[serde(with = "units::duration")]
    pub drain_timeout: Duration,
    /// How long the broker waits for an ack; it cannot be read from the broker.
    #[serde(with = "units::duration")]
    pub ack_timeout: Duration,
    /// The largest payload that is received or sent, in bytes.
    #[serde(with = "units::size")]
    pub payload_limit: usize,
    /// Messages that are handled and wait for their commit, at most.
    #[serde(deserialize_with = "units::count")]
    pub finished: usize,
    /// Payloads that this process holds at once, in bytes.
    #[serde(with = "units::size")]
    pub in_flight_bytes: usize,
    /// Commits at work at once; each has a database connection.
    #[serde(deserialize_with = "units::count")]
    pub commits: usize,
    /// Messages in one commit, at most.
    #[serde(deserialize_with = "units::count")]
    pub batch: usize,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        WorkerConfig {
            start_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(25),
            ack_timeout: HOUR / 2,
            payload_limit: 1_000_000,
            finished: 1024,
            in_flight_bytes: 64_000_000,
            commits: 4,
            batch: 256,
        }
    }
}

/// `[channel.NAME]`: how the messages of one Message Channel are received.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelConfig {
    /// The transport that carries the channel.
    pub transport: Name,
    /// The message types that it carries, beside those that come to it by name.
    #[serde(deserialize_with = "name::types")]
    pub types: Vec<String>,
    /// Handlers that run at once.
    #[serde(deserialize_with = "units::count")]
    pub concurrency: usize,
    /// How long a handler may take.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
    /// Whether messages of one ordering key run one after another.
    pub ordering: Ordering,
    /// What happens to a message that is older than the inbox's memory.
    pub too_old: TooOld,
    /// What happens to an event that nobody subscribes to.
    pub unrouted: Unrouted,
    /// What the names of attributes begin with in the headers of what is sent there. Default: the transport's.
    #[serde(with = "attribute_prefix", skip_serializing_if = "Option::is_none")]
    pub attribute_prefix: Option<Prefix>,
    /// What happens after a failure.
    pub retry: RetryPolicy,
}

/// `#[serde(with)]` for a prefix.
mod attribute_prefix {
    use super::*;
    const EXPECTED: &str = "\"cloudEvents_\", \"cloudEvents:\", \"ce-\" or \"ce_\"";
    pub(super) fn serialize<S: Serializer>(value: &Option<Prefix>, to: S) -> Result<S::Ok, S::Error> {
        value.map(Prefix::as_str).serialize(to)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Prefix>, D::Error> {
        units::text(from, EXPECTED, |word| Prefix::ALL.into_iter().find(|prefix| prefix.as_str() == word)).map(Some)
    }
}

impl Default for ChannelConfig {
    fn default() -> Self {
        ChannelConfig {
            transport: Name::fixed("default"),
            types: Vec::new(),
            concurrency: 64,
            deadline: Duration::from_secs(30),
            ordering: Ordering::Key,
            too_old: TooOld::Dead,
            unrouted: Unrouted::Hold,
            attribute_prefix: None,
            retry: RetryPolicy::default(),
        }
    }
}

/// `[channel.NAME.retry]`: when a failed message comes again, and when it no longer does.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Failures after which a message is dead; 1 means no retry.
    #[serde(deserialize_with = "units::attempts")]
    pub attempts: u32,
    /// The bound of the first delay; each further one doubles it.
    #[serde(with = "units::duration")]
    pub first: Duration,
    /// The bound of every delay.
    #[serde(with = "units::duration")]
    pub max: Duration,
    /// The delays that the broker keeps, ascending; a computed delay is rounded up to one of them.
    #[serde(with = "units::durations")]
    pub tiers: Vec<Duration>,
    /// The age since its first failure at which a message is dead whatever its attempts.
    #[serde(with = "units::duration")]
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 8,
            first: Duration::from_secs(1),
            max: Duration::from_secs(600),
            tiers: [1, 2, 5, 10, 30, 60, 120, 300, 600].map(Duration::from_secs).into(),
            give_up_after: DAY,
        }
    }
}

/// `[handlers."CONSUMER"]`: what the runtime does for one handler, and the handler's own settings.
#[derive(Clone, PartialEq)]
pub struct HandlerConfig {
    /// How long it may take; beats the channel's.
    pub deadline: Option<Duration>,
    /// How many of it run at once, within the channel's `concurrency`.
    pub concurrency: Option<usize>,
    /// When the inbox is asked before it runs.
    pub dedup: Dedup,
    /// The author's own keys: an object, without the three above.
    pub own: Value,
}

impl Default for HandlerConfig {
    fn default() -> Self {
        HandlerConfig { deadline: None, concurrency: None, dedup: Dedup::Suspect, own: Value::Object(Map::new()) }
    }
}

/// An author's own keys may hold anything, so they are shown like a URL: without what looks like a secret.
impl fmt::Debug for HandlerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerConfig")
            .field("deadline", &self.deadline)
            .field("concurrency", &self.concurrency)
            .field("dedup", &self.dedup)
            .field("own", &secret::masked_value(&self.own))
            .finish()
    }
}

impl Serialize for HandlerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(deadline) = self.deadline {
            map.serialize_entry("deadline", &units::format_duration(deadline))?;
        }
        if let Some(concurrency) = self.concurrency {
            map.serialize_entry("concurrency", &concurrency)?;
        }
        map.serialize_entry("dedup", &self.dedup)?;
        if let Value::Object(own) = secret::masked_value(&self.own) {
            for (name, value) in own {
                map.serialize_entry(&name, &value)?;
            }
        }
        map.end()
    }
}

/// The keys of a handler's section that are the runtime's.
pub(super) const RUNTIME_KEYS: &[&str] = &["deadline", "concurrency", "dedup"];

enum HandlerKey {
    Deadline,
    Concurrency,
    Dedup,
    Own(String),
}

impl<'de> Deserialize<'de> for HandlerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        match key.as_str() {
            "deadline" => Ok(HandlerKey::Deadline),
            "concurrency" => Ok(HandlerKey::Concurrency),
            "dedup" => Ok(HandlerKey::Dedup),
            // Anything may be the author's, so a cap that was misspelt would silently be no cap.
            _ if RUNTIME_KEYS.iter().any(|known| explain::distance(&key, known) == 1) => {
                Err(de::Error::unknown_field(&key, RUNTIME_KEYS))
            }
            _ => Ok(HandlerKey::Own(key)),
        }
    }
}

impl<'de> Deserialize<'de> for HandlerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Section;
        impl<'de> Visitor<'de> for Section {
            type Value = HandlerConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HandlerConfig, A::Error> {
                let mut handler = HandlerConfig::default();
                let mut own = Map::new();
                while let Some(key) = map.next_key()? {
                    match key {
                        HandlerKey::Deadline => handler.deadline = Some(map.next_value::<Span>()?.0),
                        HandlerKey::Concurrency => handler.concurrency = Some(map.next_value::<Count>()?.0),
                        HandlerKey::Dedup => handler.dedup = map.next_value()?,
                        HandlerKey::Own(name) => _ = own.insert(name, map.next_value()?),
                    }
                }
                handler.own = Value::Object(own);
                Ok(handler)
            }
        }
        deserializer.deserialize_map(Section)
    }
}
