//! Connection Settings: how the brokers are reached, who we are to them, and what is made there.

use crate::{config::Hidden, message::wire::Prefix};
use rdkafka::ClientConfig;
use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

/// Members hear of a change in their group with the answer to a heartbeat: the partitions of one that stops move so soon.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How the brokers are reached and what is made there.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port,host:port`: any of them tells of the others.
    pub brokers: String,
    /// Topics that are missing are made; else a start without them is refused.
    pub declare: bool,
    /// Partitions of a channel that is made.
    pub partitions: usize,
    /// Partitions of each retry topic that is made.
    pub retry_partitions: usize,
    /// Replicas of what is made; -1: as many as the broker's own default.
    pub replication: i32,
    /// How long what is made keeps its records.
    pub retention: Duration,
    /// How members agree on who reads what.
    pub protocol: GroupProtocol,
    /// Silent for so long, a member is taken for dead. With the protocol `consumer` the broker's setting counts.
    pub session_timeout: Duration,
    /// A worker that does not ask for records for so long is taken for stuck.
    pub max_poll_interval: Duration,
    /// What to do when records are gone that were never handled.
    pub on_lost: OnLost,
    /// A topic that could lose messages is only told of.
    pub warn_only: bool,
    /// What the names of attributes begin with in what is sent, by channel, where it is not `ce_`.
    pub prefixes: HashMap<String, Prefix>,
    /// Whether the brokers must prove who they are, and how we do.
    pub security: Security,
    /// A static member's name: restarted within `session_timeout` it has its partitions again at once. Each process of a
    /// service needs one of its own.
    pub instance_id: Option<String>,
    /// Further settings of the client, by its own names.
    pub properties: BTreeMap<String, String>,
}

/// How members of a group agree on who reads what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The clients agree among themselves, `cooperative-sticky`.
    #[default]
    Classic,
    /// The broker decides (KIP-848).
    Consumer,
}

/// What to do when records are gone that were never handled. It is told loudly and counted either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLost {
    /// Go on with what is there.
    #[default]
    Continue,
    /// Stop the subscription until a person has decided.
    Stop,
}

impl Options {
    /// The defaults, for these brokers.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            declare: true,
            partitions: 6,
            retry_partitions: 1,
            replication: -1,
            retention: Duration::from_secs(7 * 86_400),
            protocol: GroupProtocol::default(),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
            on_lost: OnLost::default(),
            warn_only: false,
            prefixes: HashMap::new(),
            security: Security::default(),
            instance_id: None,
            properties: BTreeMap::new(),
        }
    }

    /// What all clients have in common.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "pitcrew")
            .set("allow.auto.create.topics", "false")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        self.security.apply(&mut config);
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// A member of a group.
    pub(super) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("max.poll.interval.ms", self.max_poll_interval.as_millis().to_string())
            .set("auto.offset.reset", "error")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "100")
            // What the client reads ahead is beside what the worker holds.
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384");
        match self.protocol {
            GroupProtocol::Classic => config
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
                .set("heartbeat.interval.ms", (self.session_timeout / 4).min(HEARTBEAT).as_millis().to_string()),
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        if let Some(instance) = &self.instance_id {
            config.set("group.instance.id", instance);
        }
        config
    }
}

/// TLS, and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Encrypted, and the brokers' certificates are verified.
    pub tls: bool,
    /// A PEM file with what these may be signed by; else the system's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with our own certificate, and what it is signed by.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with its key.
    pub client_key: Option<PathBuf>,
    /// Who we are, where it is not the certificate that says it.
    pub login: Option<Login>,
}

/// Name and password (SASL).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Hidden,
    /// How it is shown to the broker.
    pub mechanism: Mechanism,
}

/// How a password is shown to the broker (SASL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// As it is.
    Plain,
    /// Proved to be known, and never sent.
    ScramSha256,
    /// The same, with a longer hash.
    #[default]
    ScramSha512,
}

impl Mechanism {
    /// Its name among the mechanisms of SASL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Security {
    /// Whether librdkafka needs OpenSSL for it.
    pub fn needs_openssl(&self) -> bool {
        self.tls || self.login.as_ref().is_some_and(|login| login.mechanism != Mechanism::Plain)
    }

    fn apply(&self, config: &mut ClientConfig) {
        let protocol = match (self.tls, &self.login) {
            (false, None) => return,
            (false, Some(_)) => "sasl_plaintext",
            (true, None) => "ssl",
            (true, Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.client_cert),
            ("ssl.key.location", &self.client_key),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                config.set(name, file.to_string_lossy());
            }
        }
        if let Some(Login { user, password, mechanism }) = &self.login {
            config.set("sasl.mechanism", mechanism.as_str()).set("sasl.username", user);
            config.set("sasl.password", password.expose());
        }
    }
}
