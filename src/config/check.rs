//! Cross checks: settings that are right one by one and wrong together.

use std::fmt;
use std::time::Duration;

use super::explain::{self, header};
use super::units::format_duration;
use super::words::{GroupProtocol, Guarantees, Sasl, TransportKind};
use super::{BrokerUrl, Config, KafkaConfig, Name, StoreUrl, TransportConfig, routing};

/// What a commit and the wait before it may take beside the handler, until the broker takes the message away.
const MARGIN: Duration = Duration::from_secs(60);

/// The transports of this build.
const BUILT: &[TransportKind] = &[
    TransportKind::Embedded,
    #[cfg(feature = "kafka")]
    TransportKind::Kafka,
    #[cfg(feature = "rabbitmq")]
    TransportKind::Rabbitmq,
];

/// Something that a start refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as `[section] key`.
    pub key: String,
    /// Why it cannot stay.
    pub reason: String,
    /// What to do.
    pub fix: String,
    /// How bad it is.
    pub gravity: Gravity,
}

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// Nothing could run so.
    Impossible,
    /// It would run and could not keep a promise.
    Weak,
}

impl Problem {
    /// Is a start refused for it?
    pub fn refuses(&self, guarantees: Guarantees) -> bool {
        self.gravity == Gravity::Impossible || guarantees == Guarantees::Strict
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.reason, self.fix)
    }
}

/// All problems of a configuration.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    store(config, &mut found);
    worker(config, &mut found);
    for (name, transport) in &config.transport {
        found.0.extend(transport.check(name.as_str()));
    }
    found.0.extend(super::audit::problems(&config.audit));
    found.0.extend(super::http::problems(&config.http));
    found.0.extend(super::telemetry::problems(&config.telemetry));
    channels(config, &mut found);
    handlers(config, &mut found);
    found.0.extend(routing::twice(config).into_iter().map(|twice| Problem {
        key: format!("{} types", header(&["channel", twice.second.as_str()])),
        reason: format!("`{}` is also in {}", twice.kind, header(&["channel", twice.first.as_str()])),
        fix: "leave it in one of them: a type is in exactly one channel".into(),
        gravity: Gravity::Impossible,
    }));
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn add(
        &mut self,
        gravity: Gravity,
        section: &[&str],
        key: &str,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let key = format!("{} {key}", header(section));
        self.0.push(Problem { key, reason: reason.into(), fix: fix.into(), gravity });
    }
    fn impossible(&mut self, section: &[&str], key: &str, reason: impl Into<String>, fix: impl Into<String>) {
        self.add(Gravity::Impossible, section, key, reason, fix);
    }
    fn weak(&mut self, section: &[&str], key: &str, reason: impl Into<String>, fix: impl Into<String>) {
        self.add(Gravity::Weak, section, key, reason, fix);
    }
}

fn store(config: &Config, found: &mut Found) {
    if config.store.url == StoreUrl::Memory {
        let fix = "set url to sqlite:PATH or postgres://…";
        found.weak(&["store"], "url", "a memory store forgets every message when the process ends", fix);
    }
    if config.store.retention.inbox < Duration::from_secs(86_400) {
        let reason = "the inbox is kept in days";
        found.weak(&["store", "retention"], "inbox", reason, "set it to at least 1 day, for example \"14d\"");
    }
}

fn worker(config: &Config, found: &mut Found) {
    let worker = &config.worker;
    for (key, value) in [("finished", worker.finished), ("commits", worker.commits), ("batch", worker.batch)] {
        if value == 0 {
            found.impossible(&["worker"], key, "with 0 nothing is ever committed", "set it to 1 or more");
        }
    }
    if worker.payload_limit == 0 {
        let fix = "set it to the largest payload, for example \"1MB\"";
        found.impossible(&["worker"], "payload_limit", "with 0 every message is too large", fix);
    }
    if worker.in_flight_bytes < worker.payload_limit {
        let reason = "it is smaller than payload_limit: the largest messages could never be received";
        found.impossible(&["worker"], "in_flight_bytes", reason, "raise it to a multiple of payload_limit");
    }
}

impl TransportConfig {
    /// What keeps this transport, named so in the configuration, from being used.
    pub fn check(&self, name: &str) -> Vec<Problem> {
        let (mut found, section) = (Found(Vec::new()), ["transport", name]);
        let kind = self.kind;
        if !BUILT.contains(&kind) {
            let reason = format!("this build has no transport `{kind}` yet");
            found.impossible(&section, "kind", reason, "set kind to \"embedded\" and leave url away");
        } else if kind != self.url.kind() && self.url != BrokerUrl::Embedded {
            let reason = format!("kind is `{kind}` and url is an address of `{}`", self.url.kind());
            found.impossible(&section, "url", reason, "leave kind away: the url says it");
        }
        if kind != TransportKind::Embedded && self.url == BrokerUrl::Embedded {
            let example = if kind == TransportKind::Kafka { "kafka://host:9092" } else { "amqp://host:5672" };
            found.impossible(&section, "url", "there is none", format!("set it, for example to \"{example}\""));
        }
        login(name, self, &mut found);
        if kind == TransportKind::Kafka {
            kafka(name, &self.kafka, &mut found);
            kafka_login(name, self, &mut found);
        }
        found.0
    }
}

/// Who logs in, and how the way there is guarded.
fn login(name: &str, transport: &TransportConfig, found: &mut Found) {
    let section = ["transport", name];
    let TransportConfig { url, password, password_file, ca_file, client_cert, client_key, management, .. } = transport;
    let (address, text) = match url {
        BrokerUrl::Amqp(url) => (Some(url.expose()), url.expose()),
        BrokerUrl::Kafka(url) => (None, url.expose()),
        BrokerUrl::Embedded => (None, ""),
    };
    let in_url = text.rsplit_once('@').is_some_and(|(user, _)| user.replacen("://", "", 1).contains(':'));
    let given = [(in_url, "url"), (password.is_some(), "password"), (password_file.is_some(), "password_file")];
    let given: Vec<_> = given.iter().filter(|(given, _)| *given).map(|(_, key)| *key).collect();
    if let [first, .., last] = given[..] {
        found.impossible(&section, last, format!("{first} has a password too"), "leave one of them away");
    }
    for (key, one, other, has) in
        [("client_cert", client_cert, client_key, "client_key"), ("client_key", client_key, client_cert, "client_cert")]
    {
        if one.is_some() && other.is_none() {
            found.impossible(&section, key, format!("there is no {has} to it"), format!("set {has} too"));
        }
    }
    let plain = address.is_some_and(|url| url.starts_with("amqp://"));
    let encrypted_elsewhere = management.as_ref().is_some_and(|url| url.is_encrypted());
    let tls = [("ca_file", ca_file), ("client_cert", client_cert)].into_iter().find(|(_, file)| file.is_some());
    if let Some((key, _)) = tls
        && plain
        && !encrypted_elsewhere
    {
        let reason = "url is amqp://, so nothing is encrypted and it has no effect";
        found.weak(&section, key, reason, "write amqps:// (port 5671), or remove it");
    }
    if management.is_some() && transport.kind != TransportKind::Rabbitmq {
        found.impossible(&section, "management", "only RabbitMQ has that API", "remove it");
    }
}

fn kafka(name: &str, kafka: &KafkaConfig, found: &mut Found) {
    let section = ["transport", name, "kafka"];
    for (key, value) in [("partitions", kafka.partitions), ("retry_partitions", kafka.retry_partitions)] {
        if value == 0 {
            found.impossible(&section, key, "a topic has at least one", "set it to 1 or more");
        }
    }
    if kafka.group_protocol == GroupProtocol::Classic && kafka.session_timeout < Duration::from_secs(6) {
        let reason = format!("{} is less than a broker takes by default", format_duration(kafka.session_timeout));
        let fix = "set it to at least 6s, or lower the broker's group.min.session.timeout.ms";
        found.weak(&section, "session_timeout", reason, fix);
    }
}

/// Who logs in to Kafka, and whether this build can.
fn kafka_login(name: &str, transport: &TransportConfig, found: &mut Found) {
    let (section, url) = (["transport", name], transport.url.expose());
    let tls = url.starts_with("kafkas://");
    let in_url = url.split_once("://").and_then(|(_, rest)| Some(rest.rsplit_once('@')?.0));
    let (user_in_url, password_in_url) = in_url.map_or((false, false), |login| {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        (!user.is_empty(), !password.is_empty())
    });
    let user = user_in_url || transport.user.is_some();
    let password = password_in_url || transport.password.is_some() || transport.password_file.is_some();
    if user && !password {
        let fix = "set password_file, or the password in PITCREW_TRANSPORT__NAME__PASSWORD or the url";
        found.impossible(&section, "user", "there is no password to it", fix);
    }
    if password && !user {
        found.impossible(
            &section,
            "user",
            "there is a password, and nobody who logs in",
            "set user, or name it in url",
        );
    }
    let files = [("ca_file", &transport.ca_file), ("client_cert", &transport.client_cert)];
    if let Some((key, _)) = files.into_iter().find(|(_, file)| file.is_some() && !tls) {
        let reason = "url is kafka://, so nothing is encrypted and it has no effect";
        found.weak(&section, key, reason, "write kafkas://, or remove it");
    }
    let sasl = transport.kafka.sasl;
    if user && !tls && sasl == Sasl::Plain {
        let reason = "the password goes over the network as it is";
        let fix = "write kafkas:// in url, or set it to \"scram-sha-512\"";
        found.weak(&["transport", name, "kafka"], "sasl", reason, fix);
    }
    if !cfg!(feature = "kafka-tls") && (tls || (user && sasl != Sasl::Plain)) {
        let what = if tls { "TLS" } else { "SCRAM" };
        let fix = "build it with --features pitcrew/kafka-tls, which needs the system's OpenSSL (Debian: libssl-dev)";
        found.impossible(&section, "url", format!("this build has no {what} for Kafka"), fix);
    }
}

fn channels(config: &Config, found: &mut Found) {
    for (name, channel) in &config.channel {
        let section = ["channel", name.as_str()];
        if channel.concurrency == 0 {
            found.impossible(&section, "concurrency", "with 0 nothing is ever handled", "set it to 1 or more");
        }
        deadline(config, &section, channel.deadline, found);
        if !config.transport.contains_key(&channel.transport) {
            let known = config.transport.keys().map(|name| name.as_str());
            let fix = match explain::nearest(channel.transport.as_str(), known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write {}", header(&["transport", channel.transport.as_str()])),
            };
            found.impossible(&section, "transport", format!("there is no transport `{}`", channel.transport), fix);
        } else if let Some(inside) = embedded_beside(config, &channel.transport) {
            let reason = format!("`{inside}` is embedded, and what is inside the process cannot be beside a broker");
            let named = header(&["transport", inside]);
            let fix = match only_broker(config) {
                // Else somebody sets a broker of which nothing is needed.
                Some(only) if inside == "default" => format!(
                    "if all channels are on `{only}`, call it {named} and leave `transport` away; else set url in {named}, \
                     which carries every channel that names no transport"
                ),
                _ if inside == "default" => {
                    format!("set url in {named}, which carries every channel that names no transport")
                }
                _ => format!("set url in {named}"),
            };
            found.impossible(&section, "transport", reason, fix);
        }
        retry(config, name.as_str(), found);
    }
}

/// The one of the two that would be embedded, if a channel is not carried by the default.
fn embedded_beside<'a>(config: &Config, carrier: &'a Name) -> Option<&'a str> {
    if carrier.as_str() == "default" {
        return None;
    }
    let is_embedded = |name: &str| {
        let named = config.transport.iter().find(|(known, _)| known.as_str() == name);
        named.is_none_or(|(_, transport)| transport.url == BrokerUrl::Embedded)
    };
    ["default", carrier.as_str()].into_iter().find(|name| is_embedded(name))
}

/// The transport with an address, if there is one and no more.
fn only_broker(config: &Config) -> Option<&str> {
    let mut brokers = config.transport.iter().filter(|(_, transport)| transport.url != BrokerUrl::Embedded);
    let (name, _) = brokers.next()?;
    brokers.next().is_none().then_some(name.as_str())
}

fn deadline(config: &Config, section: &[&str], deadline: Duration, found: &mut Found) {
    let limit = config.worker.ack_timeout;
    if deadline.is_zero() {
        let fix = "set it to what a handler needs, for example \"30s\"";
        found.impossible(section, "deadline", "with 0s no handler ever ends in time", fix);
    } else if deadline + MARGIN > limit {
        let reason = format!(
            "{} and {} for wait and commit are more than the broker's {} for an ack: it would deliver again while the \
             handler runs",
            format_duration(deadline),
            format_duration(MARGIN),
            format_duration(limit),
        );
        let fix = match limit.checked_sub(MARGIN).filter(|room| !room.is_zero()) {
            Some(room) => format!(
                "lower it to {} or less, or raise the broker's ack timeout and [worker] ack_timeout with it",
                format_duration(room)
            ),
            None => "raise the broker's ack timeout and [worker] ack_timeout with it".into(),
        };
        found.weak(section, "deadline", reason, fix);
    }
}

fn retry(config: &Config, channel: &str, found: &mut Found) {
    let (section, inbox) = (["channel", channel, "retry"], config.store.retention.inbox);
    let Some(retry) = config.channel.get(channel).map(|channel| &channel.retry) else { return };
    if retry.attempts == 0 {
        let fix = "set it to 1 (no retry) or more";
        found.impossible(&section, "attempts", "with 0 a message is dead before it is tried", fix);
    }
    if retry.first.is_zero() {
        let reason = "with 0s a failing message comes again at once, forever faster than it can succeed";
        found.impossible(&section, "first", reason, "set it to \"1s\"");
    }
    if retry.first > retry.max {
        let reason = format!("the first delay, {}, is above max, {}", text(retry.first), text(retry.max));
        found.impossible(&section, "first", reason, "lower first or raise max");
    }
    if retry.tiers.is_empty() {
        let fix = "leave the key away for the default, or list at least one delay";
        found.impossible(&section, "tiers", "without a tier no delay can be kept", fix);
    }
    if retry.tiers.iter().any(Duration::is_zero) {
        found.impossible(&section, "tiers", "a tier of 0s is no delay", "remove it");
    }
    if let Some(pair) = retry.tiers.windows(2).find(|pair| pair[0] >= pair[1]) {
        let reason = format!("{} is followed by {}", text(pair[0]), text(pair[1]));
        found.impossible(&section, "tiers", reason, "list the delays ascending, each once");
    }
    if retry.give_up_after > inbox {
        let reason = format!(
            "{} is longer than the inbox remembers, {}: a late retry could have its effect twice",
            text(retry.give_up_after),
            text(inbox),
        );
        found.weak(&section, "give_up_after", reason, "lower it, or raise [store.retention] inbox");
    }
}

fn text(duration: Duration) -> String {
    format_duration(duration)
}

fn handlers(config: &Config, found: &mut Found) {
    for (consumer, handler) in &config.handlers {
        let section = ["handlers", consumer.as_str()];
        if handler.concurrency == Some(0) {
            found.impossible(&section, "concurrency", "with 0 nothing is ever handled", "set it to 1 or more");
        }
        if let Some(limit) = handler.deadline {
            deadline(config, &section, limit, found);
        }
    }
}

/// Sections for handlers that are not there: a deadline without effect, and nobody knows.
pub(super) fn strangers(config: &Config, known: &[&str]) -> Vec<Problem> {
    let strangers = config.handlers.keys().filter(|consumer| !known.contains(&consumer.as_str()));
    let problem = |consumer: &String| Problem {
        key: header(&["handlers", consumer]),
        reason: "there is no handler of this name".into(),
        fix: match explain::nearest(consumer, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove the section, or register the handler".into(),
        },
        gravity: Gravity::Impossible,
    };
    strangers.map(problem).collect()
}
