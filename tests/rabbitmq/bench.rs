//! A bench on a real broker: names of its own, a proxy to cut, a bare client to look and to put.

use super::proxy::Proxy;
use async_trait::async_trait;
use bytes::Bytes;
use lapin::{
    BasicProperties, Channel as AmqpChannel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use pitcrew::{
    clock,
    config::format_duration,
    message::wire::{Properties, Raw},
    store::{Destination, Store, memory::MemoryStore},
    testing::conformance::transport::Bench,
    transport::{
        Consumer, Depth, Endpoints, Inspection, Promises, PublishError, Published, Sending, Subscription, Transport,
        TransportError,
        rabbitmq::{Options, RabbitMq},
    },
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A broker to test on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broker {
    V3,
    V4,
}

impl Broker {
    /// `None`, said so: there is none of this version.
    pub(crate) fn url(self) -> Option<String> {
        let (variable, what) = match self {
            Self::V3 => ("PITCREW_RABBITMQ_URL", "RabbitMQ"),
            Self::V4 => ("PITCREW_RABBITMQ4_URL", "RabbitMQ 4"),
        };
        let url = std::env::var(variable).ok();
        if url.is_none() {
            eprintln!("skipped: no {what} ({variable})");
        }
        url
    }
}

/// Names that no other test has.
pub(crate) fn unique() -> String {
    format!("t-{}", clock::uuid_v7().simple())
}

/// `amqp://user:password@host:port/…` by its parts: what is before the address, the address, what is after it.
fn parts(url: &str) -> (String, String, String) {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (user, host) = rest.rsplit_once('@').map_or(("", rest), |(user, host)| (user, host));
    let (address, path) = host.find(['/', '?']).map_or((host, ""), |at| host.split_at(at));
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let port = if scheme.starts_with("postgres") { 5432 } else { 5672 };
    let address = if address.contains(':') { address.to_owned() } else { format!("{address}:{port}") };
    (format!("{scheme}://{user}"), address, path.to_owned())
}

/// The address of the broker, for a proxy.
pub(crate) fn address(url: &str) -> String {
    parts(url).1
}

/// The same URL through another port of this machine.
pub(crate) fn through(url: &str, port: u16) -> String {
    let (before, _, after) = parts(url);
    format!("{before}127.0.0.1:{port}{after}")
}

/// A client of our own, as bare as a foreign one.
pub(crate) async fn client(url: &str) -> (Connection, AmqpChannel) {
    let (before, address, path) = parts(url);
    let url = format!("{before}{address}{}", if path.is_empty() { "/%2f" } else { &path });
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel opens");
    (connection, channel)
}

/// A transport that writes down what it is asked to declare, and listens beside it to the dead letter channels.
pub(crate) struct Recording {
    pub(crate) inner: RabbitMq,
    url: String,
    seen: Arc<Mutex<Vec<Endpoints>>>,
}

#[async_trait]
impl Transport for Recording {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn promises(&self) -> Promises {
        self.inner.promises()
    }
    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        self.seen.lock().unwrap().push(endpoints.clone());
        self.inner.declare(endpoints).await?;
        let (connection, channel) = client(&self.url).await;
        for subscription in &endpoints.subscriptions {
            let (queue, exchange) = (heard_of(subscription), format!("{}.dead", subscription.channel));
            channel.queue_declare((*queue).into(), Default::default(), FieldTable::default()).await.expect("declares");
            let (queue, exchange, key) = ((*queue).into(), (*exchange).into(), (*subscription.name).into());
            channel.queue_bind(queue, exchange, key, Default::default(), FieldTable::default()).await.expect("binds");
        }
        connection.close(200, "bound".into()).await.expect("closes");
        Ok(())
    }
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        self.inner.subscribe(subscription).await
    }
    async fn publish(&self, to: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        self.inner.publish(to, rows).await
    }
    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        self.inner.depth(subscription).await
    }
    async fn buried(&self, subscription: &Subscription) -> Result<Option<Box<dyn Consumer>>, TransportError> {
        self.inner.buried(subscription).await
    }
    async fn inspect(&self, endpoints: &Endpoints) -> Result<Inspection, TransportError> {
        self.inner.inspect(endpoints).await
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A queue of the bench's own at the dead letter channel, as anybody may bind one: the default one is drained by the workers.
fn heard_of(subscription: &Subscription) -> String {
    format!("{}.heard-of", subscription.name)
}

/// One case.
pub(crate) struct RabbitBench {
    url: String,
    proxy: Proxy,
    prefix: String,
    seen: Arc<Mutex<Vec<Endpoints>>>,
    store: Arc<MemoryStore>,
}

impl RabbitBench {
    pub(crate) fn on(broker: Broker) -> Option<Arc<Self>> {
        let url = broker.url()?;
        let proxy = Proxy::to(address(&url));
        let (seen, store) = (Arc::default(), Arc::new(MemoryStore::new()));
        Some(Arc::new(Self { url, proxy, prefix: unique(), seen, store }))
    }

    pub(crate) fn transport(&self, options: Options) -> Arc<Recording> {
        let inner = RabbitMq::new(&through(&self.url, self.proxy.port), options).expect("the URL is one");
        Arc::new(Recording { inner, url: self.url.clone(), seen: self.seen.clone() })
    }
}

#[async_trait]
impl Bench for RabbitBench {
    async fn connect(&self) -> Arc<dyn Transport> {
        // A case holds more at once than a worker of 64 handlers is given.
        self.transport(Options { default_concurrency: 1_000, ..Options::default() })
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    async fn put(&self, subscription: &Subscription, raw: Raw) {
        let (connection, channel) = client(&self.url).await;
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let (queue, properties) = ((*subscription.name).into(), properties(&raw));
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let sent = channel.basic_publish("".into(), queue, options, &raw.body, properties).await;
        let taken = sent.expect("it is sent").await.expect("it is taken");
        assert_eq!(taken, Confirmation::Ack(None), "it is in the queue");
        connection.close(200, "put".into()).await.expect("closes");
    }

    async fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn cut(&self) -> bool {
        self.proxy.cut();
        true
    }

    async fn dead_letters(&self, subscription: &Subscription) -> Option<Vec<Raw>> {
        let (connection, channel) = client(&self.url).await;
        let mut letters = Vec::new();
        let queue = heard_of(subscription);
        while let Some(got) = channel.basic_get((*queue).into(), BasicGetOptions { no_ack: true }).await.expect("asks")
        {
            letters.push(raw(&got.delivery.properties, got.delivery.data));
        }
        connection.close(200, "read".into()).await.expect("closes");
        Some(letters)
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(300)
    }

    fn most_held(&self) -> usize {
        2_000
    }

    async fn clear(&self) {
        let (connection, channel) = client(&self.url).await;
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        for endpoints in seen {
            for subscription in endpoints.subscriptions {
                let retry = |delay| format!(".retry.{}", format_duration(delay));
                let delays = subscription.delays.into_iter().map(retry);
                for suffix in delays.chain([String::new(), ".dead".into(), ".heard-of".into()]) {
                    let name = format!("{}{suffix}", subscription.name);
                    let _ = channel.queue_delete((*name).into(), QueueDeleteOptions::default()).await;
                }
                let dead = format!("{}.dead", subscription.channel);
                let _ = channel.exchange_delete((*dead).into(), ExchangeDeleteOptions::default()).await;
                let _ = channel.exchange_delete((*subscription.channel).into(), Default::default()).await;
            }
            for answers in endpoints.channels {
                let _ = channel.exchange_delete((*answers.name).into(), Default::default()).await;
                let _ = channel.queue_delete((*answers.name).into(), QueueDeleteOptions::default()).await;
            }
        }
        let _ = connection.close(200, "cleared".into()).await;
    }
}

/// As a foreign producer writes them: texts as they are, native properties beside them.
fn properties(raw: &Raw) -> BasicProperties {
    let mut headers = FieldTable::default();
    // The broker reads these two as lists of routing keys and takes no message where they are something else.
    for (name, value) in raw.headers.iter().filter(|(name, _)| !matches!(&**name, "CC" | "BCC")) {
        let value = match value {
            Some(bytes) => AMQPValue::LongString(bytes.to_vec().into()),
            None => AMQPValue::Void,
        };
        headers.insert((**name).into(), value);
    }
    let Properties { message_id, ty, correlation_id, content_type, reply_to, app_id, timestamp, .. } = &raw.properties;
    let mut properties = BasicProperties::default().with_headers(headers);
    if let Some(id) = message_id {
        properties = properties.with_message_id((**id).into());
    }
    if let Some(ty) = ty {
        properties = properties.with_type((**ty).into());
    }
    if let Some(correlation) = correlation_id {
        properties = properties.with_correlation_id((**correlation).into());
    }
    if let Some(content) = content_type {
        properties = properties.with_content_type((**content).into());
    }
    if let Some(reply_to) = reply_to {
        properties = properties.with_reply_to((**reply_to).into());
    }
    if let Some(app) = app_id {
        properties = properties.with_app_id((**app).into());
    }
    if let Some(time) = timestamp {
        properties = properties.with_timestamp(time.timestamp().unsigned_abs());
    }
    properties
}

fn raw(properties: &BasicProperties, body: Vec<u8>) -> Raw {
    let headers = properties.headers().iter().flatten().filter_map(|(name, value)| match value {
        AMQPValue::LongString(text) => Some((name.to_string(), Some(Bytes::copy_from_slice(text.as_bytes())))),
        _ => None,
    });
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    Raw {
        headers: headers.collect(),
        properties: Properties { content_type: text(properties.content_type()), ..Properties::default() },
        body: body.into(),
    }
}
