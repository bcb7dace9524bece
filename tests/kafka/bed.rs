//! Topics of a test's own on a real broker.

use chrono::{DateTime, Utc};
use pitcrew::{
    Envelope,
    message::{Intent, wire},
    store::{Destination, OutboxRow, Purpose},
    testing::conformance::transport::ack,
    transport::{
        Channel, Consumer, Content, Delivery, Endpoints, PublishError, Published, Room, Sending, Subscription,
        Transport, TransportError,
        kafka::{Kafka, Options},
    },
};
use rdkafka::{
    ClientConfig,
    admin::AdminClient,
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Nothing that a test waits for takes longer, unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// As long as no sign of life is needed for.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

pub(crate) struct Bed {
    pub(crate) brokers: String,
    pub(crate) queue: Subscription,
}

impl Bed {
    /// `None` where there is no Kafka.
    pub(crate) fn new() -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_KAFKA_URL") else {
            eprintln!("skipped: no Kafka (PITCREW_KAFKA_URL)");
            return None;
        };
        let name: Arc<str> = format!("t{}", pitcrew::clock::uuid_v7().simple()).into();
        let queue = Subscription {
            channel: name.clone(),
            name,
            intent: Intent::Command,
            types: vec!["demo.Do".into()],
            delays: vec![Duration::from_secs(1)],
        };
        Some(Self { brokers: url.trim_start_matches("kafka://").to_owned(), queue })
    }

    /// One partition, so that offsets can be told.
    pub(crate) fn options(&self) -> Options {
        Options { partitions: 1, session_timeout: SESSION, ..Options::new(&self.brokers) }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        let Subscription { name, intent, types, .. } = self.queue.clone();
        Endpoints { subscriptions: vec![self.queue.clone()], channels: vec![Channel { name, intent, types }] }
    }

    pub(crate) async fn connect(&self, options: Options) -> Kafka {
        let transport = Kafka::new(options);
        transport.declare(&self.endpoints()).await.expect("topics can be made");
        transport
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("an admin client")
    }

    /// Sends so many messages of so many bytes to the channel.
    pub(crate) async fn send(&self, to: &dyn Transport, count: usize, size: usize) {
        for batch in vec![size; count].chunks(500) {
            let rows: Vec<Sending> = batch.iter().map(|size| message(&self.destination(), *size)).collect();
            let answers = to.publish(&self.destination(), &rows).await;
            assert!(answers.iter().all(|answer| *answer == Ok(Published::Confirmed)), "{answers:?}");
        }
    }

    /// Sends a copy that is due so much later.
    pub(crate) async fn retry(&self, to: &Kafka, delay: Duration) {
        let destination = Destination::Subscription(self.queue.name.clone());
        let mut copy = message(&destination, 10);
        Arc::make_mut(&mut copy.row.envelope).hop.due = Some(pitcrew::clock::now() + delay);
        assert_eq!(to.publish(&destination, &[copy]).await, [Ok(Published::Confirmed)]);
    }

    pub(crate) async fn try_send(&self, to: &Kafka, destination: &Destination) -> Result<Published, PublishError> {
        to.publish(destination, &[message(destination, 10)]).await.remove(0)
    }

    /// A record of this time in partition 0.
    pub(crate) async fn put_at(&self, at: DateTime<Utc>) {
        let producer: FutureProducer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("a producer");
        let envelope = message(&self.destination(), 10).row.envelope;
        let headers = wire::headers(&envelope, wire::Prefix::Ce).into_iter();
        let headers = headers.fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key: &key, value: Some(value.as_bytes()) })
        });
        let record: FutureRecord<'_, (), [u8]> = FutureRecord::to(&self.queue.channel).payload(&envelope.data[..]);
        let record = record.headers(headers).partition(0).timestamp(at.timestamp_millis());
        producer.send(record, LIMIT).await.expect("the broker takes it");
    }

    pub(crate) fn destination(&self) -> Destination {
        Destination::Channel(self.queue.channel.clone())
    }
}

fn message(destination: &Destination, size: usize) -> Sending {
    let mut envelope = Envelope::new("demo.Do", "/test", format!("\"{}\"", "x".repeat(size)));
    envelope.partition_key = Some(envelope.id.clone()); // all over the partitions
    let row = OutboxRow {
        seq: pitcrew::clock::uuid_v7(),
        destination: destination.clone(),
        due: None,
        key: None,
        purpose: Purpose::Message,
        envelope: Arc::new(envelope),
    };
    Sending { row, begun: false }
}

/// Exactly so many, in order of receipt.
pub(crate) async fn take(from: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let room = Room { count: count - taken.len(), bytes: usize::MAX };
        let received = tokio::time::timeout(LIMIT, from.receive(room)).await;
        let received = received.unwrap_or_else(|_| panic!("{} of {count} came within {LIMIT:?}", taken.len()));
        taken.extend(received.expect("it goes on"));
    }
    taken
}

/// Takes and acks so many.
pub(crate) async fn work(from: &mut dyn Consumer, count: usize) {
    take(from, count).await.into_iter().for_each(ack);
}

/// The error that ends the subscription; what comes before it is acked.
pub(crate) async fn end(from: &mut dyn Consumer) -> TransportError {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        let received = tokio::time::timeout(LIMIT, from.receive(Room { count: 100, bytes: usize::MAX })).await;
        match received.expect("something comes") {
            Ok(received) => received.into_iter().for_each(ack),
            Err(error) => return error,
        }
    }
    panic!("it goes on and on")
}

/// Nothing comes for a while.
pub(crate) async fn is_quiet(from: &mut dyn Consumer) {
    let room = Room { count: 100, bytes: usize::MAX };
    let received = tokio::time::timeout(Duration::from_secs(1), from.receive(room)).await;
    assert!(received.is_err(), "{received:?}");
}

pub(crate) fn id(delivery: &Delivery, queue: &Subscription) -> String {
    let Content::Raw(raw) = &delivery.content else { panic!("it comes as bytes") };
    wire::parse(raw, &queue.channel).expect("it is a message").id
}
