//! Value Object: where the store and the broker are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::secret::Secret;
use super::words::TransportKind;

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `postgres://user:password@host/database`
    Postgres(Secret),
    /// `sqlite:path` or `sqlite://path`
    Sqlite(PathBuf),
    /// `memory:`, gone when the process is
    Memory,
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerUrl {
    /// `embedded`: inside this process, over the store
    Embedded,
    /// `amqp://user:password@host:5672`, with `host:5672,host:5672` the nodes of a cluster, or `amqps://…`
    Amqp(Secret),
    /// `kafka://user:password@host:9092,host:9092` or `kafkas://…`
    Kafka(Secret),
}

/// An address that is none. Of the text it shows the scheme at most: the rest may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found}, expected {expected}")]
pub struct AddressError {
    found: String,
    expected: &'static str,
}

const STORE: &str = "postgres://user:password@host/database, sqlite:path or memory:";
const BROKER: &str = "embedded, amqp://user:password@host:5672, amqps://…, kafka://host:9092,host:9092 or kafkas://…";

impl AddressError {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        let shown = scheme.filter(|s| !s.is_empty() && s.len() <= 20 && s.chars().all(|c| c.is_ascii_alphanumeric()));
        let found = match shown {
            _ if text.is_empty() => "is empty".into(),
            Some(scheme) => format!("begins with `{scheme}:` and cannot be used"),
            None => "is no address (not shown, it may hold a password)".into(),
        };
        AddressError { found, expected }
    }
}

impl FromStr for StoreUrl {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError::new(text, STORE);
        if text == "memory:" {
            return Ok(StoreUrl::Memory);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(StoreUrl::Postgres(Secret::new(text)));
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")).ok_or_else(refused)?;
        // `:memory:` would be a new database for each connection, and a parameter part of a file's name.
        if path.is_empty() || path.starts_with(':') || path.contains(['?', '\0']) || path.ends_with('/') {
            return Err(refused());
        }
        Ok(StoreUrl::Sqlite(PathBuf::from(path)))
    }
}

impl FromStr for BrokerUrl {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = text.split_once("://").map(|(scheme, rest)| (scheme, rest, !rest.is_empty()));
        match address {
            None if text == "embedded" => Ok(BrokerUrl::Embedded),
            Some(("amqp" | "amqps", rest, true)) => {
                let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
                let hosts = hosts.split(['/', '?']).next().unwrap_or_default();
                // One that is empty is the client's to judge; of several it is a slip.
                let all = !hosts.contains(',') || hosts.split(',').all(|host| !host.trim().is_empty());
                if all { Ok(BrokerUrl::Amqp(Secret::new(text))) } else { Err(AddressError::new(text, BROKER)) }
            }
            Some(("kafka" | "kafkas", rest, true)) => {
                let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
                let all = hosts.split(',').all(|host| !host.trim().is_empty());
                if all { Ok(BrokerUrl::Kafka(Secret::new(text))) } else { Err(AddressError::new(text, BROKER)) }
            }
            _ => Err(AddressError::new(text, BROKER)),
        }
    }
}

impl StoreUrl {
    /// An SQLite file.
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        StoreUrl::Sqlite(path.as_ref().into())
    }
}

impl BrokerUrl {
    /// The text with its password, if it has one: for opening the connection and for nothing else.
    pub(super) fn expose(&self) -> &str {
        match self {
            BrokerUrl::Embedded => "embedded",
            BrokerUrl::Amqp(url) | BrokerUrl::Kafka(url) => url.expose(),
        }
    }

    /// The kind of transport that speaks to this address.
    pub fn kind(&self) -> TransportKind {
        match self {
            BrokerUrl::Embedded => TransportKind::Embedded,
            BrokerUrl::Amqp(_) => TransportKind::Rabbitmq,
            BrokerUrl::Kafka(_) => TransportKind::Kafka,
        }
    }
}

/// Without the password: what people may see.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Postgres(url) => url.fmt(f),
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StoreUrl::Memory => f.pad("memory:"),
        }
    }
}

/// Without the password: what people may see.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerUrl::Embedded => f.pad("embedded"),
            BrokerUrl::Amqp(url) | BrokerUrl::Kafka(url) => url.fmt(f),
        }
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for BrokerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
