//! Producer: idempotent, confirmed by all replicas that are in sync, a batch of delivery reports awaited together.

use super::{Options, record, topics};
use crate::{
    clock,
    message::wire::Prefix,
    transport::{Destination, OutboxRow, PublishError, Published, Sending, Subscription},
};
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::OwnedHeaders,
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tracing::warn;

/// How long the broker may take to say which topics there are.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the client tries to deliver a message. Then its fate is unknown, and the outbox row is published again.
const DELIVERY: Duration = Duration::from_secs(10);

/// The largest payload. A topic takes 1 MiB by default; the rest is for attributes.
pub(super) const MAX_BYTES: usize = 1_000_000;

/// So many rows take longer to hand over than the client's thread takes to wake up.
const MANY: usize = 32;

type Answer = Result<Published, PublishError>;

/// The way out, shared by all destinations.
pub(super) struct Producer {
    /// For rows that few come with: they leave at once.
    few: Line,
    /// For rows of which more come: they leave in one request. A destination's next publish begins when its last one has been
    /// answered, so two clients keep its order as one would.
    many: Line,
    /// Topics that the broker is known to have.
    known: Mutex<HashSet<String>>,
    /// The delays of subscriptions, ascending.
    delays: Mutex<HashMap<Arc<str>, Vec<Duration>>>,
    /// The channels of subscriptions.
    channels: Mutex<HashMap<Arc<str>, Arc<str>>>,
    /// How attributes are written to a channel, where not as ever.
    prefixes: HashMap<String, Prefix>,
}

/// A client, made when it is first needed.
struct Line {
    config: ClientConfig,
    client: Mutex<Option<FutureProducer>>,
}

impl Line {
    fn new(options: &Options, linger: &str) -> Self {
        let mut config = options.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", linger)
            // As Java's clients do: one key is in one partition, whoever sends it.
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            // The topic's own limit counts.
            .set("message.max.bytes", "100000000")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string());
        Self { config, client: Mutex::default() }
    }

    fn client(&self) -> Result<FutureProducer, KafkaError> {
        let mut client = lock(&self.client);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        Ok(client.insert(self.config.create()?).clone())
    }

    /// An idempotent producer that has lost its place in the sequence never sends again.
    fn renew_if_broken(&self, used: &FutureProducer) {
        let Some((code, reason)) = used.client().fatal_error() else { return };
        warn!(%code, reason, "the producer gave up; another one is made");
        if let Some(broken) = lock(&self.client).take() {
            std::thread::spawn(move || drop(broken)); // it waits for its threads
        }
    }

    /// What is in the client goes out, or its fate is unknown; the outbox rows stand until it is known.
    async fn close(&self, limit: Duration) {
        let Some(client) = lock(&self.client).take() else { return };
        let flushed = blocking(move || client.flush(limit));
        if let Err(error) = flushed.await {
            warn!(%error, "not everything was confirmed before the end; it is published again");
        }
    }
}

impl Producer {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            few: Line::new(options, "0"),
            // Longer than it takes to hand over a full batch.
            many: Line::new(options, "5"),
            known: Mutex::default(),
            delays: Mutex::default(),
            channels: Mutex::default(),
            prefixes: options.prefixes.clone(),
        }
    }

    /// Makes the clients. An idempotent one asks for its number first, and if no connection stands then, again after half a second:
    /// who has something to send should not wait for that.
    pub(super) fn get_ready(&self) {
        for line in [&self.few, &self.many] {
            if let Err(error) = line.client() {
                warn!(%error, "a producer cannot be made; it is tried again when something is to be sent");
            }
        }
    }

    pub(super) fn learn(&self, subscriptions: &[Subscription], topics: impl IntoIterator<Item = String>) {
        let mut delays = lock(&self.delays);
        delays.extend(subscriptions.iter().map(|s| (s.name.clone(), s.delays.clone())));
        lock(&self.channels).extend(subscriptions.iter().map(|s| (s.name.clone(), s.channel.clone())));
        lock(&self.known).extend(topics);
    }

    pub(super) async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Answer> {
        let line = if rows.len() < MANY { &self.few } else { &self.many };
        let (client, topics) = match self.prepare(line, destination, rows).await {
            Ok(prepared) => prepared,
            Err(error) => return vec![Err(error); rows.len()],
        };
        let prefix = self.prefix(destination);
        // Written first and handed over together: what came after a request has left would wait for its answer, and for as long as
        // something waits so the client's thread asks without a pause whether it may send that.
        let written: Vec<_> = rows.iter().map(|sending| Written::of(sending, prefix)).collect();
        let sends = written.into_iter().zip(rows).zip(&topics);
        let sent: Vec<_> = sends.map(|((written, sending), topic)| written.send(&client, topic, sending)).collect();
        let mut answers = Vec::with_capacity(rows.len());
        for (sent, topic) in sent.into_iter().zip(&topics) {
            let delivered = match sent {
                Ok(delivery) => delivery.await.map_err(|_| KafkaError::Canceled),
                Err(error) => Err(error),
            };
            answers.push(match delivered {
                Ok(Ok(_)) => Ok(Published::Confirmed),
                Ok(Err((error, _))) | Err(error) => Err(self.refusal(topic, &error)),
            });
        }
        line.renew_if_broken(&client);
        answers
    }

    /// How attributes are written there: as the channel wants it, in its retries and dead letters too.
    fn prefix(&self, to: &Destination) -> Prefix {
        let channels = lock(&self.channels);
        let channel = match to {
            Destination::Channel(name) => name,
            Destination::Dead(name) | Destination::Subscription(name) => channels.get(name).unwrap_or(name),
        };
        self.prefixes.get(&**channel).copied().unwrap_or(Prefix::Ce)
    }

    /// The client, and for each row the topic that takes it.
    async fn prepare(
        &self,
        line: &Line,
        destination: &Destination,
        rows: &[Sending],
    ) -> Result<(FutureProducer, Vec<String>), PublishError> {
        let unknown = |error: KafkaError| PublishError::Unknown(error.to_string());
        let client = line.client().map_err(unknown)?;
        let topics: Vec<String> = match destination {
            Destination::Channel(name) => vec![name.to_string(); rows.len()],
            Destination::Dead(name) => vec![topics::dead(name); rows.len()],
            Destination::Subscription(name) => {
                let delays = self.delays(&client, name).await?;
                rows.iter().map(|sending| topics::retry(name, covering(&delays, &sending.row))).collect()
            }
        };
        let unseen: HashSet<&String> = topics.iter().collect();
        for topic in unseen {
            if !lock(&self.known).contains(topic) {
                self.look_for(&client, topic).await?;
            }
        }
        Ok((client, topics))
    }

    /// The retry delays of a subscription; of another service's the broker is asked.
    async fn delays(&self, client: &FutureProducer, name: &Arc<str>) -> Result<Vec<Duration>, PublishError> {
        if let Some(delays) = lock(&self.delays).get(name).filter(|delays| !delays.is_empty()) {
            return Ok(delays.clone());
        }
        let (asked, prefix) = (client.clone(), name.clone());
        let found = blocking(move || {
            let metadata = asked.client().fetch_metadata(None, PATIENCE)?;
            let topics = metadata.topics().iter();
            Ok(topics.filter_map(|topic| topics::delay(&prefix, topic.name())).collect::<Vec<_>>())
        });
        let mut delays = found.await?;
        delays.sort_unstable();
        if delays.is_empty() {
            let why = format!("subscription `{name}` has no retry topic ({name}.retry.<delay>)");
            return Err(PublishError::Unroutable(why));
        }
        lock(&self.delays).insert(name.clone(), delays.clone());
        Ok(delays)
    }

    /// The client itself finds out about a missing topic only when the message times out.
    async fn look_for(&self, client: &FutureProducer, topic: &str) -> Result<(), PublishError> {
        let (asked, name) = (client.clone(), topic.to_owned());
        let error = blocking(move || {
            let metadata = asked.client().fetch_metadata(Some(&name), PATIENCE)?;
            Ok(metadata.topics().iter().find_map(|topic| topic.error()).map(RDKafkaErrorCode::from))
        });
        match error.await? {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Err(
                PublishError::Unroutable(format!("there is no topic `{topic}`: make it, or let a worker declare it")),
            ),
            Some(RDKafkaErrorCode::InvalidTopic) => {
                Err(PublishError::Permanent(format!("`{topic}` cannot be the name of a topic")))
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                Err(PublishError::Refused(format!("this user may not write to topic `{topic}`")))
            }
            _ => {
                lock(&self.known).insert(topic.to_owned());
                Ok(())
            }
        }
    }

    fn refusal(&self, topic: &str, error: &KafkaError) -> PublishError {
        use RDKafkaErrorCode as Code;
        let why = format!("topic `{topic}`: {error}");
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => PublishError::Refused("the client's own queue is full".into()),
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => PublishError::Permanent(why),
            Some(Code::InvalidRecord | Code::InvalidTimestamp | Code::UnknownPartition) => PublishError::Permanent(why),
            Some(Code::InvalidTopic) => PublishError::Permanent(why),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                lock(&self.known).remove(topic);
                PublishError::Unroutable(why)
            }
            Some(Code::TopicAuthorizationFailed | Code::NotEnoughReplicas) => PublishError::Refused(why),
            Some(Code::MessageTimedOut) => {
                lock(&self.known).remove(topic); // it may have been deleted: ask before the next one
                PublishError::Unknown(why)
            }
            _ => PublishError::Unknown(why),
        }
    }

    pub(super) async fn close(&self, limit: Duration) {
        tokio::join!(self.few.close(limit), self.many.close(limit));
    }
}

/// What of a row is made for the client.
struct Written {
    key: Option<String>,
    headers: OwnedHeaders,
}

impl Written {
    fn of(Sending { row, begun }: &Sending, prefix: Prefix) -> Self {
        Self { key: record::key(&row.envelope), headers: record::written(&row.envelope, prefix, *begun) }
    }

    fn send(self, client: &FutureProducer, topic: &str, sending: &Sending) -> Result<DeliveryFuture, KafkaError> {
        let data = &sending.row.envelope.data;
        if data.len() > MAX_BYTES {
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
        }
        let record = FutureRecord::to(topic).payload(&data[..]).headers(self.headers);
        let record = match &self.key {
            Some(key) => record.key(key.as_bytes()),
            None => record,
        };
        client.send_result(record).map_err(|(error, _)| error)
    }
}

/// The shortest delay that covers what is left until the row is due, else the longest.
fn covering(delays: &[Duration], row: &OutboxRow) -> Duration {
    let left = row.envelope.hop.due.map_or(Duration::ZERO, |due| clock::between(clock::now(), due));
    let covers = delays.iter().find(|delay| **delay >= left);
    covers.or(delays.last()).copied().unwrap_or_default()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, PublishError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(PublishError::Unknown(error.to_string())),
        Err(error) => Err(PublishError::Unknown(error.to_string())),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
