//! Connection Check: do the brokers answer, and do they take us for who we say we are?
//!
//! The client never gives up: a wrong password looks to it like a broker that is away. So a start listens to what it says
//! beside its errors, and tells which setting is wrong.

use super::Options;
use crate::{clock, transport::TransportError};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    metadata::Metadata,
    types::RDKafkaErrorCode,
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tracing::debug;

/// How long the brokers may take for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The same for somebody who only wants to know whether they are there.
const ONCE: Duration = Duration::from_secs(3);
/// After each of these it is looked whether there is any hope.
const STEP: Duration = Duration::from_millis(500);
/// Between two questions to a partition that has no leader.
const PAUSE: Duration = Duration::from_millis(100);

/// What the client says about its connections, the last of each kind.
#[derive(Default)]
pub(super) struct Heard(Mutex<Vec<(RDKafkaErrorCode, String)>>);

impl ClientContext for Heard {
    /// What it says of a connection that broke it says here alone.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(message, "the client says");
        if facility == "FAIL" {
            self.note(RDKafkaErrorCode::BrokerTransportFailure, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason);
        }
    }
}

impl ConsumerContext for Heard {}

impl Heard {
    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|(known, _)| *known != code);
        heard.push((code, reason.to_owned()));
    }

    /// The reason that came with such an error, if one came.
    pub(super) fn of(&self, code: RDKafkaErrorCode) -> Option<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().find(|(known, _)| *known == code).map(|(_, reason)| reason.clone())
    }
}

/// A client that only asks: no member of any group. Blocks until a broker has answered, or is known never to.
pub(super) fn reach(options: &Options, group: Option<&str>) -> Result<BaseConsumer<Heard>, TransportError> {
    let mut config = options.client();
    config.set_log_level(RDKafkaLogLevel::Info); // that a broker hung up is no more to it
    if let Some(group) = group {
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("queued.min.messages", "1").set("fetch.message.max.bytes", "1024"); // whole batches come all the same
    }
    let client: BaseConsumer<Heard> = config.create_with_context(Heard::default()).map_err(|error| unfit(&error))?;
    metadata(&client, options, None)?;
    Ok(client)
}

/// Who answers, asked once. A broker tells clients no version of its own.
pub(super) fn about(options: &Options) -> Result<String, TransportError> {
    let mut config = options.client();
    config.set_log_level(RDKafkaLogLevel::Info);
    let client: BaseConsumer<Heard> = config.create_with_context(Heard::default()).map_err(|error| unfit(&error))?;
    let all = metadata_within(ONCE, &client, options, None)?;
    let brokers = all.brokers().len();
    let user = options.security.login.as_ref().map(|login| format!(", user {}", login.user)).unwrap_or_default();
    Ok(format!("Kafka, {brokers} {}{user}", if brokers == 1 { "broker" } else { "brokers" }))
}

/// A client that cannot even be made: a file that is no certificate, a build without OpenSSL.
pub(super) fn unfit(error: &KafkaError) -> TransportError {
    TransportError::Unfit(format!("the client cannot be made of these settings: {error}"))
}

/// What the brokers say about one topic, or about all that this user may see.
pub(super) fn metadata(
    client: &BaseConsumer<Heard>,
    options: &Options,
    topic: Option<&str>,
) -> Result<Metadata, TransportError> {
    metadata_within(PATIENCE, client, options, topic)
}

fn metadata_within(
    patience: Duration,
    client: &BaseConsumer<Heard>,
    options: &Options,
    topic: Option<&str>,
) -> Result<Metadata, TransportError> {
    let until = clock::instant() + patience;
    loop {
        let error = match client.fetch_metadata(topic, STEP) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        listen(client);
        if let Some(hopeless) = hopeless(client.context(), options) {
            return Err(hopeless);
        }
        // Asked once, a refusal of all of them is the answer.
        let refused = patience == ONCE && client.context().of(RDKafkaErrorCode::AllBrokersDown).is_some();
        if refused || clock::instant() >= until {
            let said = client.context().of(RDKafkaErrorCode::BrokerTransportFailure);
            return Err(TransportError::Away(said.map_or_else(|| error.to_string(), |said| explained(&said, options))));
        }
    }
}

/// What the client has to say comes with its records, of which there are none.
pub(super) fn listen(client: &BaseConsumer<Heard>) {
    // A word is answered with nothing, too: only several in a row mean that there is no more.
    let mut nothing = 0;
    while nothing < 8 {
        nothing = if client.poll(Duration::ZERO).is_some() { 0 } else { nothing + 1 };
    }
}

/// What waiting does not cure.
fn hopeless(heard: &Heard, options: &Options) -> Option<TransportError> {
    let unfit = |text: String| Some(TransportError::Unfit(text));
    if let Some(said) =
        heard.of(RDKafkaErrorCode::Authentication).or_else(|| heard.of(RDKafkaErrorCode::SaslAuthenticationFailed))
    {
        let user = options.security.login.as_ref().map_or("anonymous", |login| &login.user);
        return unfit(format!(
            "the brokers refuse user `{user}` (the transport's url, user and password_file, and kafka.sasl): {said}"
        ));
    }
    let broken = heard.of(RDKafkaErrorCode::BrokerTransportFailure);
    // One that ended in the midst of it may be on its way down.
    let tls = |said: &String| said.contains("SSL handshake failed") || said.contains("SSL routines");
    let untrusted = broken.filter(|said| tls(said) && !said.contains("Disconnected"));
    if let Some(said) = heard.of(RDKafkaErrorCode::SSL).or(untrusted) {
        return unfit(format!("no TLS with the brokers (the transport's ca_file, client_cert and client_key): {said}"));
    }
    None
}

/// Why a broker hung up it does not say itself.
fn explained(said: &str, options: &Options) -> String {
    let hung_up = said.contains("Disconnected");
    let hint = match (&options.security.tls, &options.security.login) {
        (false, _) if hung_up && said.contains("APIVERSION_QUERY") => {
            "; perhaps a listener with TLS, which is reached by kafkas://"
        }
        (_, None) if hung_up => {
            "; perhaps a listener that wants a user, which is reached by kafka://user:password@host"
        }
        _ => "",
    };
    // Before it stands the name of the client's thread.
    let said = said.split_once("]: ").map_or(said, |(_, said)| said);
    format!("{said}{hint}")
}

/// An answer of the brokers, and what is wrong in our words.
pub(super) fn ask<T>(answer: KafkaResult<T>) -> Result<T, TransportError> {
    answer.map_err(|error| TransportError::Away(error.to_string()))
}

/// The same of what only a partition's leader knows: one that is new, or whose broker went, has one a moment later.
pub(super) fn ask_leader<T>(ask_once: impl Fn() -> KafkaResult<T>) -> Result<T, TransportError> {
    let until = clock::instant() + PATIENCE;
    loop {
        match ask_once() {
            Err(error) if has_no_leader(&error) && clock::instant() < until => std::thread::sleep(PAUSE),
            answer => return ask(answer),
        }
    }
}

fn has_no_leader(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
        )
    )
}

/// The first offset that a partition holds, and the next that will be written.
pub(super) fn watermarks(
    client: &BaseConsumer<Heard>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), TransportError> {
    ask_leader(|| client.fetch_watermarks(topic, partition, PATIENCE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_has_no_leader_yet_is_asked_again_and_another_error_is_an_answer() {
        let asked = Cell::new(0);
        let answers = |errors: &[RDKafkaErrorCode]| {
            asked.set(asked.get() + 1);
            errors.get(asked.get() - 1).map_or(Ok(7), |code| Err(KafkaError::MetadataFetch(*code)))
        };
        let moved = [RDKafkaErrorCode::NotLeaderForPartition, RDKafkaErrorCode::LeaderNotAvailable];
        assert_eq!(ask_leader(|| answers(&moved)).unwrap(), 7);
        assert_eq!(asked.replace(0), 3);
        assert!(ask_leader(|| answers(&[RDKafkaErrorCode::TopicAuthorizationFailed])).is_err());
        assert_eq!(asked.get(), 1);
    }
}
