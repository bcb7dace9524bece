//! RabbitMQ through its bare client: what an arm by hand does, and what the bench itself asks.

use crate::{
    hand::{AT_ONCE, BATCH, Incoming, Out, Outgoing, Tables},
    idle::Steps,
    site::{LIMIT, Site},
    work::Worked,
};
use anyhow::{Context as _, ensure};
use futures::{StreamExt, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use pitcrew::Message;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Unacked at once: enough that a loop is never without work.
const PREFETCH: u16 = 512;

pub(crate) async fn connect(url: &str) -> anyhow::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await.context("reaching RabbitMQ")
}

/// Asks how many events are in their queue.
pub(crate) struct Ear {
    _connection: Connection,
    channel: Channel,
    queue: String,
}

impl Ear {
    pub(crate) async fn open(site: &Site) -> anyhow::Result<Self> {
        let connection = connect(&site.broker.url).await?;
        let channel = connection.create_channel().await?;
        Ok(Self { _connection: connection, channel, queue: site.heard() })
    }

    pub(crate) async fn count(&mut self) -> anyhow::Result<usize> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare((*self.queue).into(), options, FieldTable::default()).await?;
        Ok(queue.message_count() as usize)
    }
}

async fn consume(channel: &Channel, queue: &str, prefetch: u16, no_ack: bool) -> anyhow::Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

fn id(delivery: &Delivery) -> anyhow::Result<&str> {
    Ok(delivery.properties.message_id().as_ref().context("a message without an id")?.as_str())
}

/// The ids of all events that are there, at most a few more than `count`.
pub(crate) async fn events(site: &Site, count: usize) -> anyhow::Result<Vec<String>> {
    let connection = connect(&site.broker.url).await?;
    let channel = connection.create_channel().await?;
    let there = Ear::open(site).await?.count().await?;
    ensure!(there == count, "{there} events are there, {count} were to be");
    let mut consumer = consume(&channel, &site.heard(), 0, true).await?;
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let delivery = tokio::time::timeout(LIMIT, consumer.next()).await?.context("the events' queue is gone")??;
        ids.push(id(&delivery)?.to_owned());
    }
    connection.close(200, "seen".into()).await?;
    Ok(ids)
}

pub(crate) async fn clear(site: &Site) -> anyhow::Result<()> {
    let connection = connect(&site.broker.url).await?;
    let channel = connection.create_channel().await?;
    let subscriptions = [site.commands(), site.heard()];
    let dead = subscriptions.iter().map(|name| format!("{name}.dead"));
    for queue in subscriptions.iter().cloned().chain(dead).chain(site.delayed()) {
        channel.queue_delete((*queue).into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in [site.commands(), site.events()] {
        channel.exchange_delete((*exchange).into(), ExchangeDeleteOptions::default()).await?;
        channel.exchange_delete(format!("{exchange}.dead").into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "cleared".into()).await?;
    Ok(())
}

/// Publishes events with confirms, pipelined.
struct Exchange {
    channel: Channel,
    name: String,
}

impl Exchange {
    async fn open(connection: &Connection, name: String) -> anyhow::Result<Self> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, name })
    }

    async fn send(&self, key: &str, properties: BasicProperties, body: &[u8]) -> anyhow::Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = properties.with_delivery_mode(2).with_content_type("application/json".into());
        let sent = self.channel.basic_publish((*self.name).into(), key.into(), options, body, properties).await?;
        let confirmation = sent.await?;
        ensure!(!confirmation.is_nack() && confirmation.take_message().is_none(), "the broker did not take an event");
        Ok(())
    }
}

impl Out for Exchange {
    async fn publish(&self, rows: &[Outgoing]) -> anyhow::Result<()> {
        let send = |row: &Outgoing| {
            let properties = BasicProperties::default()
                .with_message_id(row.id.to_string().into())
                .with_type(Worked::TYPE.into())
                .with_correlation_id(row.causation.to_string().into());
            let payload = row.payload.clone();
            async move { self.send(Worked::TYPE, properties, &payload).await }
        };
        try_join_all(rows.iter().map(send).collect::<Vec<_>>()).await?;
        Ok(())
    }
}

/// The worker by hand: each message in a task and a transaction of its own, 16 at once, acked after its commit.
pub(crate) async fn worker(
    site: Site,
    tables: Tables,
    begun: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (consuming, publishing) = (connect(&site.broker.url).await?, connect(&site.broker.url).await?);
    let relay = tokio::spawn(tables.clone().relay(Exchange::open(&publishing, site.events()).await?, stop.clone()));
    let channel = consuming.create_channel().await?;
    let mut consumer = consume(&channel, &site.commands(), PREFETCH, false).await?;
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(delivery) = next(&mut consumer, &stop).await? {
        begun.cancel();
        let (slot, tables) = (slots.clone().acquire_owned().await?, tables.clone());
        tokio::spawn(async move {
            let done = async {
                tables.handle(&[Incoming::of(id(&delivery)?, &delivery.data)?]).await?;
                delivery.ack(BasicAckOptions::default()).await?;
                anyhow::Ok(())
            };
            if let Err(error) = done.await {
                eprintln!("by hand: {error:#}"); // not acked: it comes again, and is missed by the checker
            }
            drop(slot);
        });
    }
    let _all = slots.acquire_many(AT_ONCE as u32).await?;
    relay.await??;
    end(&channel, [consuming, publishing]).await
}

/// The worker by hand that works in batches: whatever has arrived, at most 256, in one transaction and one ack. What fails fails
/// with its whole batch.
pub(crate) async fn batches(
    site: Site,
    tables: Tables,
    begun: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (consuming, publishing) = (connect(&site.broker.url).await?, connect(&site.broker.url).await?);
    let relay = tokio::spawn(tables.clone().relay(Exchange::open(&publishing, site.events()).await?, stop.clone()));
    let channel = consuming.create_channel().await?;
    let mut arrived = consume(&channel, &site.commands(), PREFETCH, false).await?.ready_chunks(BATCH);
    loop {
        let batch = tokio::select! { biased; () = stop.cancelled() => break, batch = arrived.next() => batch };
        let batch: Vec<Delivery> = batch.context("the queue is gone")?.into_iter().collect::<Result<_, _>>()?;
        begun.cancel();
        let messages: Vec<Incoming> =
            batch.iter().map(|delivery| Incoming::of(id(delivery)?, &delivery.data)).collect::<Result<_, _>>()?;
        tables.handle(&messages).await?;
        batch.last().context("a batch of none")?.ack(BasicAckOptions { multiple: true }).await?;
    }
    relay.await??;
    end(&channel, [consuming, publishing]).await
}

/// The bare client: each message is acked in a task of its own, and nothing else. `acked` is `n` when the broker has read all acks.
pub(crate) async fn bare(
    site: Site,
    n: usize,
    acked: Arc<AtomicUsize>,
    begun: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let connection = connect(&site.broker.url).await?;
    let channel = connection.create_channel().await?;
    let mut consumer = consume(&channel, &site.commands(), PREFETCH, false).await?;
    let mut acks = JoinSet::new();
    while acks.len() < n
        && let Some(delivery) = next(&mut consumer, &stop).await?
    {
        begun.cancel();
        acks.spawn(async move { delivery.ack(BasicAckOptions::default()).await });
    }
    for answer in acks.join_all().await {
        answer?;
    }
    // An ack has no answer, and is sent long before it is read. A channel's methods are read in their order: this one has an answer.
    let asks = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare((*site.commands()).into(), asks, FieldTable::default()).await?;
    acked.store(n, Relaxed);
    stop.cancelled().await;
    end(&channel, [connection]).await
}

async fn next(from: &mut Consumer, stop: &CancellationToken) -> anyhow::Result<Option<Delivery>> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        delivery = from.next() => Ok(Some(delivery.context("the queue is gone")??)),
    }
}

/// The channel first: the broker has then taken every ack.
async fn end(acked: &Channel, connections: impl IntoIterator<Item = Connection>) -> anyhow::Result<()> {
    acked.close(200, "done".into()).await?;
    for connection in connections {
        connection.close(200, "done".into()).await?;
    }
    Ok(())
}

/// The idle cell's hands: who sends a command, who does what a worker does step by step, and who hears the event.
pub(crate) struct Hands {
    _connections: [Connection; 3],
    commands: Exchange,
    events: Exchange,
    received: Option<Consumer>,
    heard: Consumer,
}

impl Hands {
    /// `works`: they also consume the commands.
    pub(crate) async fn open(site: &Site, works: bool) -> anyhow::Result<Self> {
        let url = &site.broker.url;
        let connections = [connect(url).await?, connect(url).await?, connect(url).await?];
        let received = if works {
            Some(consume(&connections[0].create_channel().await?, &site.commands(), PREFETCH, false).await?)
        } else {
            None
        };
        Ok(Self {
            commands: Exchange::open(&connections[2], site.commands()).await?,
            events: Exchange::open(&connections[1], site.events()).await?,
            received,
            heard: consume(&connections[2].create_channel().await?, &site.heard(), 0, true).await?,
            _connections: connections,
        })
    }
}

impl Steps for Hands {
    async fn send(&mut self, id: &str, key: &str, body: &[u8]) -> anyhow::Result<()> {
        let properties = BasicProperties::default().with_message_id(id.into()).with_type(key.into());
        self.commands.send(key, properties.with_app_id("shop".into()), body).await
    }

    async fn work(&mut self, tables: &Tables) -> anyhow::Result<Vec<Outgoing>> {
        let consumer = self.received.as_mut().context("these hands do not work")?;
        let delivery = consumer.next().await.context("the queue is gone")??;
        let events = tables.handle(&[Incoming::of(id(&delivery)?, &delivery.data)?]).await?;
        self.events.publish(&events).await?;
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(events)
    }

    async fn hear(&mut self) -> anyhow::Result<u64> {
        let event = self.heard.next().await.context("the events' queue is gone")??;
        Ok(serde_json::from_slice::<Worked>(&event.data)?.n)
    }
}
