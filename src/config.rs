//! Layered configuration: built-in defaults, a file, a profile's file, the environment, flags; each wins over the one
//! before it, and everything that is wrong is said at once, where it was written.
//!
//! `config/pitcrew.toml` is the reference: every key with its default.

mod address;
mod audit;
mod check;
mod environment;
mod explain;
mod foreign;
mod http;
mod layer;
mod name;
mod routing;
mod secret;
mod settings;
mod show;
mod telemetry;
mod units;
mod web;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::message::Intent;
use figment::Figment;
use figment::providers::Serialized;
use serde::{Deserialize, Serialize};

pub use address::{AddressError, BrokerUrl, StoreUrl};
pub use audit::AuditConfig;
pub use check::{Gravity, Problem};
pub use explain::{ConfigError, Finding, Place};
pub use http::{HttpConfig, Role, TokenConfig};
pub use name::{ChannelName, Name, NameError};
pub use routing::RouteError;
pub use secret::{Hidden, Secret};
pub use settings::{
    ChannelConfig, HandlerConfig, KafkaConfig, Retention, RetryPolicy, StoreConfig, TransportConfig, WorkerConfig,
};
pub use telemetry::TelemetryConfig;
pub use units::{format_duration, format_size, parse_duration, parse_size};
pub use web::{CollectorUrl, ManagementUrl};
pub use words::{Dedup, GroupProtocol, Guarantees, OnLost, Ordering, Sasl, TooOld, TransportKind, Unrouted};

/// All settings of a service.
///
/// `Serialize` and `Debug` never print a secret, so what they give may go to a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names the subscription; `/<service>` is the source of what it sends.
    pub service: Name,
    /// What a weak set-up does to a start.
    pub guarantees: Guarantees,
    /// The channels that a foreign message may name in its `replyto`.
    pub replyto_allowed: Vec<Name>,
    /// The database.
    pub store: StoreConfig,
    /// Where the audit trail goes in the end.
    pub audit: AuditConfig,
    /// The budgets of one process.
    pub worker: WorkerConfig,
    /// The HTTP door.
    pub http: HttpConfig,
    /// What is pushed to a collector.
    pub telemetry: TelemetryConfig,
    /// The brokers by name.
    pub transport: BTreeMap<Name, TransportConfig>,
    /// The channels that differ from the defaults; [`Config::channel`] knows the others too.
    pub channel: BTreeMap<ChannelName, ChannelConfig>,
    /// The handlers that differ from the defaults, by consumer; [`Config::handler`] knows the others too.
    pub handlers: BTreeMap<String, HandlerConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            service: Name::fixed("pitcrew"),
            guarantees: Guarantees::Strict,
            replyto_allowed: Vec::new(),
            store: StoreConfig::default(),
            audit: AuditConfig::default(),
            worker: WorkerConfig::default(),
            http: HttpConfig::default(),
            telemetry: TelemetryConfig::default(),
            transport: BTreeMap::from([(Name::fixed("default"), TransportConfig::default())]),
            channel: BTreeMap::new(),
            handlers: BTreeMap::new(),
        }
    }
}

/// Where settings come from, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The service's name if nothing else says it: the binary's.
    pub service: String,
    /// The file of `--config`. Without it `config/pitcrew.toml` or `pitcrew.toml`, if there is one.
    pub file: Option<PathBuf>,
    /// The working directory: relative paths begin here.
    pub directory: PathBuf,
    /// Chooses `pitcrew.<profile>.toml` beside the file; beats `PITCREW_PROFILE`.
    pub profile: Option<String>,
    /// The environment; variables that do not begin with `PITCREW_` are ignored.
    pub environment: Vec<(String, String)>,
    /// The flags.
    pub overrides: Overrides,
}

/// Settings from the command line.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--broker`: the url of the default transport.
    pub broker: Option<String>,
    /// `--store`: the url of the store.
    pub store: Option<String>,
}

impl Sources {
    /// The sources of this process; `service` is the binary's name.
    pub fn of_process(service: &str) -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Sources {
            service: service.into(),
            environment: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
            ..Sources::default()
        }
    }
}

impl Config {
    /// Reads all sources. Whether the settings go together is [`Config::check`]'s question.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let mut findings = Vec::new();
        let mut layers = layer::files(sources, &mut findings);
        environment::read(&sources.environment, &mut layers, &mut findings);
        layers.extend(sources.overrides.layers());
        for layer in &mut layers {
            findings.extend(layer.findings());
            layer.complete_transports();
        }

        let service = Name::nearest(&sources.service).unwrap_or_else(|| Config::default().service);
        let mut merged = Figment::from(Serialized::defaults(Config { service, ..Config::default() }));
        for layer in &layers {
            merged = merged.merge(layer);
        }
        match merged.extract::<Config>() {
            Ok(config) => {
                // A list with something wrong in it is not the list that was meant.
                if findings.is_empty() {
                    findings = routing::findings(&config, &layers);
                    findings.extend(foreign::findings(&config, &layers));
                }
                if findings.is_empty() { Ok(config) } else { Err(ConfigError { findings }) }
            }
            Err(error) => {
                let place = Place::File { file: "all sources together".into(), line: None, column: None };
                findings.push(Finding { place, message: error.to_string() });
                Err(ConfigError { findings })
            }
        }
    }

    /// The settings of a channel; the defaults for one that no source mentions.
    pub fn channel(&self, name: &ChannelName) -> ChannelConfig {
        self.channel.get(name).cloned().unwrap_or_default()
    }

    /// The settings of a handler; the defaults for one that no source mentions.
    pub fn handler(&self, consumer: &str) -> HandlerConfig {
        self.handlers.get(consumer).cloned().unwrap_or_default()
    }

    /// The channel that carries a type: the one that lists it, else `car.commands` or `car.events` for `car.X`.
    pub fn channel_of(&self, message_type: &str, kind: Intent) -> Result<ChannelName, RouteError> {
        routing::channel_of(self, message_type, kind)
    }

    /// Settings that are right one by one and wrong together, each with the fix.
    pub fn check(&self) -> Vec<Problem> {
        check::problems(self)
    }

    /// Sections of `[handlers]` that belong to no handler; `known` are the consumers of this build.
    pub fn check_handlers(&self, known: &[&str]) -> Vec<Problem> {
        check::strangers(self, known)
    }

    /// All settings as a file that could be loaded again, without the secrets.
    pub fn show(&self) -> String {
        show::toml(&self.show_json())
    }

    /// The same as JSON.
    pub fn show_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_else(|error| serde_json::Value::String(error.to_string()))
    }
}

impl Overrides {
    fn layers(&self) -> impl Iterator<Item = layer::Layer> {
        let flag = |name: &str, path: &[&str], value: &Option<String>| {
            let path: Vec<String> = path.iter().map(|part| (*part).into()).collect();
            let value = value.clone()?;
            Some(layer::Layer::setting(Place::Flag(name.into()), &path, value.into()))
        };
        let broker = flag("--broker", &["transport", "default", "url"], &self.broker);
        broker.into_iter().chain(flag("--store", &["store", "url"], &self.store))
    }
}
