//! Bare clients of the brokers (lapin, rdkafka): they send commands, keep what leaves, and look for what is left behind.

use crate::generator::Sending;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use pitcrew::Message;
use processes::{
    Work, Worked,
    shop::{LIMIT, SERVICE},
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, Message as _, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use std::{collections::BTreeMap, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const DELAYS: [&str; 2] = ["retry.100ms", "retry.200ms"];

/// A message that left: the number in it, and its ID.
pub(crate) type Left = (u32, String);

pub(crate) enum Bare {
    Rabbit { connection: Box<Connection>, channel: Box<Channel>, prefix: String },
    Kafka { producer: FutureProducer, brokers: String, prefix: String },
}

fn attributes(id: &str) -> [(&'static str, &str); 4] {
    [("specversion", "1.0"), ("id", id), ("source", "/matrix"), ("type", Work::TYPE)]
}

fn number(body: &[u8]) -> u32 {
    let event: serde_json::Value = serde_json::from_slice(body).expect("an event");
    event["n"].as_u64().and_then(|n| n.try_into().ok()).expect("its number")
}

pub(crate) fn subscriptions(prefix: &str) -> [String; 2] {
    [format!("{prefix}.commands"), format!("{prefix}.events.{SERVICE}")]
}

impl Bare {
    /// On channels that are there.
    pub(crate) async fn on(url: &str, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        if let Some(brokers) = url.strip_prefix("kafka://") {
            let producer = ClientConfig::new().set("bootstrap.servers", brokers).set("acks", "all").create();
            return Self::Kafka { producer: producer.expect("a producer"), brokers: brokers.into(), prefix };
        }
        // Of several hosts the first.
        let url = format!("{}/%2f", url.split(',').next().unwrap_or_default());
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel opens");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let witness = format!("{prefix}.witness");
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        // Of a cluster it survives any node.
        let mut replicated = FieldTable::default();
        replicated.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare((*witness).into(), durable, replicated).await.expect("a queue");
        let events = format!("{prefix}.events");
        let bind = channel.queue_bind(
            (*witness).into(),
            (*events).into(),
            Worked::TYPE.into(),
            Default::default(),
            FieldTable::default(),
        );
        bind.await.expect("it is bound");
        Self::Rabbit { connection: connection.into(), channel: channel.into(), prefix }
    }

    /// Sends, in this order; all of it is confirmed.
    pub(crate) async fn publish(&self, sendings: &[Sending]) {
        match self {
            Self::Rabbit { channel, prefix, .. } => {
                let exchange = format!("{prefix}.commands");
                let mut confirms = Vec::new();
                for sending in sendings {
                    let properties = properties(attributes(&sending.id));
                    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                    let put = channel.basic_publish(
                        (*exchange).into(),
                        Work::TYPE.into(),
                        options,
                        &sending.body,
                        properties,
                    );
                    confirms.push(put.await.expect("it is sent"));
                }
                for confirm in confirms {
                    let confirmed = confirm.await.expect("it is answered");
                    assert!(confirmed.is_ack(), "the broker took it: {confirmed:?}");
                }
            }
            Self::Kafka { producer, prefix, .. } => {
                let topic = format!("{prefix}.commands");
                for sending in sendings {
                    let mut headers =
                        OwnedHeaders::new().insert(Header { key: "content-type", value: Some("application/json") });
                    for (name, value) in attributes(&sending.id) {
                        headers = headers.insert(Header { key: &format!("ce_{name}"), value: Some(value) });
                    }
                    let record: FutureRecord<'_, str, [u8]> =
                        FutureRecord::to(&topic).payload(&sending.body[..]).key(&sending.id[..]).headers(headers);
                    let sent = producer.send_result(record).map_err(|(error, _)| error).expect("there is room");
                    if sending.id.ends_with('0') {
                        sent.await.expect("it is answered").expect("the broker took it"); // keeps the memory small
                    }
                }
                let flushed = producer.clone();
                let flush = move || rdkafka::producer::Producer::flush(&flushed, LIMIT);
                tokio::task::spawn_blocking(flush).await.expect("it ends").expect("the broker took all");
            }
        }
    }

    /// Every event that ever left.
    pub(crate) async fn events(&self) -> Vec<Left> {
        match self {
            Self::Rabbit { channel, prefix, .. } => {
                let witness = format!("{prefix}.witness");
                let mut events = Vec::new();
                while let Some(got) =
                    channel.basic_get((*witness).into(), BasicGetOptions { no_ack: true }).await.expect("it answers")
                {
                    let headers = got.delivery.properties.headers().clone().unwrap_or_default();
                    let id = match headers.inner().get("cloudEvents_id") {
                        Some(AMQPValue::LongString(id)) => id.to_string(),
                        other => panic!("an event without an ID: {other:?}"),
                    };
                    events.push((number(&got.delivery.data), id));
                }
                events
            }
            Self::Kafka { brokers, prefix, .. } => {
                let (brokers, topic) = (brokers.clone(), format!("{prefix}.events"));
                tokio::task::spawn_blocking(move || log(&brokers, &topic)).await.expect("it is read")
            }
        }
    }

    /// What waits in queues and topics of commands, of events and of retries, by name; what is empty is not in it.
    pub(crate) async fn left(&self) -> BTreeMap<String, u64> {
        let mut left = BTreeMap::new();
        match self {
            Self::Rabbit { channel, prefix, .. } => {
                for subscription in subscriptions(prefix) {
                    let delays = DELAYS.map(|delay| format!("{subscription}.{delay}"));
                    for queue in [subscription].into_iter().chain(delays) {
                        let look = QueueDeclareOptions { passive: true, ..Default::default() };
                        let queue_is = channel.queue_declare((*queue).into(), look, FieldTable::default()).await;
                        let waiting = queue_is.expect("it is there").message_count();
                        if waiting > 0 {
                            left.insert(queue, u64::from(waiting));
                        }
                    }
                }
            }
            Self::Kafka { brokers, prefix, .. } => {
                let (brokers, prefix) = (brokers.clone(), prefix.clone());
                left = tokio::task::spawn_blocking(move || lag(&brokers, &prefix)).await.expect("it is read");
            }
        }
        left
    }

    /// Takes away what was made.
    pub(crate) async fn clear(self) {
        match self {
            Self::Rabbit { connection, channel, prefix } => {
                let mut queues = vec![format!("{prefix}.witness"), format!("{prefix}.replies")];
                for subscription in subscriptions(&prefix) {
                    let others = ["dead", DELAYS[0], DELAYS[1]].map(|suffix| format!("{subscription}.{suffix}"));
                    queues.extend([subscription].into_iter().chain(others));
                }
                for queue in queues {
                    channel.queue_delete((*queue).into(), Default::default()).await.expect("it goes");
                }
                for name in ["commands", "commands.dead", "events", "events.dead"] {
                    let exchange = format!("{prefix}.{name}");
                    channel.exchange_delete((*exchange).into(), Default::default()).await.expect("it goes");
                }
                connection.close(200, "cleared".into()).await.expect("closes");
            }
            Self::Kafka { brokers, prefix, .. } => {
                let admin: AdminClient<DefaultClientContext> =
                    ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("an admin client");
                let topics = topics(&consumer(&brokers, "nobody"), &prefix);
                let names: Vec<&str> = topics.keys().map(String::as_str).collect();
                admin.delete_topics(&names, &AdminOptions::new()).await.expect("they go");
            }
        }
    }
}

fn consumer(brokers: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group).set("enable.auto.commit", "false");
    config.create().expect("a consumer")
}

/// Topics that begin so, and their partitions.
fn topics(consumer: &BaseConsumer, prefix: &str) -> BTreeMap<String, i32> {
    let metadata = consumer.fetch_metadata(None, PATIENCE).expect("the broker answers");
    let ours = metadata.topics().iter().filter(|topic| topic.name().starts_with(prefix));
    ours.map(|topic| (topic.name().into(), topic.partitions().len().try_into().expect("few"))).collect()
}

/// The whole log of a topic, read past any group.
fn log(brokers: &str, topic: &str) -> Vec<Left> {
    let consumer = consumer(brokers, "witness");
    let mut list = TopicPartitionList::new();
    let mut open = 0;
    for partition in 0..topics(&consumer, topic)[topic] {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).expect("the broker answers");
        open += high - low;
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("it is assigned");
    let (mut events, until) = (Vec::new(), std::time::Instant::now() + LIMIT);
    while events.len() < usize::try_from(open).expect("a count") {
        assert!(std::time::Instant::now() < until, "{} of {open} records of {topic}", events.len());
        let Some(record) = consumer.poll(Duration::from_millis(200)) else { continue };
        let record = record.expect("a record");
        let headers = record.headers().expect("headers");
        let id = headers.iter().find(|header| header.key == "ce_id").and_then(|header| header.value);
        let id = String::from_utf8(id.expect("an event has an ID").to_vec()).expect("text");
        events.push((number(record.payload().expect("a payload")), id));
    }
    events
}

/// Records that no commit of their group covers.
pub(crate) fn lag(brokers: &str, prefix: &str) -> BTreeMap<String, u64> {
    let any = consumer(brokers, "nobody");
    let topics = topics(&any, prefix);
    let mut left = BTreeMap::new();
    for subscription in subscriptions(prefix) {
        let channel = subscription.strip_suffix(&format!(".{SERVICE}")).unwrap_or(&subscription).to_owned();
        let delays = DELAYS.map(|delay| (format!("{subscription}.{delay}"), format!("{subscription}.retry")));
        for (topic, group) in [(channel, subscription.clone())].into_iter().chain(delays) {
            let of_group = consumer(brokers, &group);
            for partition in 0..topics.get(&topic).copied().unwrap_or_default() {
                let (low, high) = any.fetch_watermarks(&topic, partition, PATIENCE).expect("the broker answers");
                let mut list = TopicPartitionList::new();
                list.add_partition(&topic, partition);
                let list = of_group.committed_offsets(list, PATIENCE).expect("the broker answers");
                let committed = match list.elements()[0].offset() {
                    Offset::Offset(offset) => offset,
                    _ => low,
                };
                if high > committed {
                    *left.entry(topic.clone()).or_default() += u64::try_from(high - committed).expect("a count");
                }
            }
        }
    }
    left
}

/// A command's, for RabbitMQ.
pub(crate) fn properties(attributes: [(&'static str, &str); 4]) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in attributes {
        headers.insert(format!("cloudEvents_{name}").into(), AMQPValue::LongString(value.into()));
    }
    BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into()).with_headers(headers)
}
