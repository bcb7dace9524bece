//! Kafka through its bare client: what an arm by hand does, and what the bench itself asks.

use crate::{
    hand::{AT_ONCE, BATCH, Incoming, Out, Outgoing, Tables},
    idle::Steps,
    site::{LIMIT, LOOK, Site},
    work::Worked,
};
use anyhow::{Context as _, anyhow, ensure};
use futures::StreamExt;
use pitcrew::Message as _;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
    types::RDKafkaErrorCode,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

fn client(site: &Site) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", site.broker.address());
    config
}

/// Asks how many events are in their topic.
pub(crate) struct Ear {
    client: Arc<BaseConsumer>,
    topic: String,
    partitions: usize,
}

impl Ear {
    pub(crate) fn open(site: &Site) -> anyhow::Result<Self> {
        let client: BaseConsumer = client(site).create()?;
        Ok(Self { client: Arc::new(client), topic: site.events(), partitions: site.partitions })
    }

    pub(crate) async fn count(&mut self) -> anyhow::Result<usize> {
        let (client, topic, partitions) = (self.client.clone(), self.topic.clone(), self.partitions);
        let ends = move || -> anyhow::Result<usize> {
            let mut count = 0;
            for partition in 0..i32::try_from(partitions)? {
                count += usize::try_from(client.fetch_watermarks(&topic, partition, PATIENCE)?.1)?;
            }
            Ok(count)
        };
        tokio::task::spawn_blocking(ends).await?
    }
}

fn id<'a>(record: &'a BorrowedMessage<'_>) -> anyhow::Result<&'a str> {
    let headers = record.headers().context("a record without headers")?;
    let header = headers.iter().find(|header| header.key == "ce_id").and_then(|header| header.value);
    Ok(std::str::from_utf8(header.context("a record without an id")?)?)
}

fn incoming(record: &BorrowedMessage<'_>) -> anyhow::Result<Incoming> {
    Incoming::of(id(record)?, record.payload().context("a record without a body")?)
}

/// A consumer that reads a topic from its beginning (or its end), in no group.
fn reader(site: &Site, topic: &str, from: Offset) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = client(site).set("group.id", "bench").set("enable.auto.commit", "false").create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(site.partitions)? {
        list.add_partition_offset(topic, partition, from)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// The ids of all events that are there.
pub(crate) async fn events(site: &Site) -> anyhow::Result<Vec<String>> {
    let count = Ear::open(site)?.count().await?;
    let reader = reader(site, &site.events(), Offset::Beginning)?;
    let read = move || -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            ids.push(id(&reader.poll(LIMIT).context("the events do not come")??)?.to_owned());
        }
        Ok(ids)
    };
    tokio::task::spawn_blocking(read).await?
}

pub(crate) async fn clear(site: &Site) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(site).create()?;
    let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
    let ours: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).filter(|name| site.owns(name)).collect();
    for deleted in admin.delete_topics(&ours, &AdminOptions::new()).await? {
        deleted.map_err(|(topic, error)| anyhow!("{topic}: {error}"))?;
    }
    Ok(())
}

/// Publishes events idempotently, pipelined.
struct Topic {
    producer: FutureProducer,
    name: String,
}

impl Topic {
    /// `linger`: how long a batch is waited for, in milliseconds.
    fn open(site: &Site, name: String, linger: &str) -> anyhow::Result<Self> {
        let producer = client(site).set("enable.idempotence", "true").set("linger.ms", linger).create()?;
        Ok(Self { producer, name })
    }

    fn send(&self, key: &str, headers: OwnedHeaders, body: &[u8]) -> anyhow::Result<rdkafka::producer::DeliveryFuture> {
        let record = FutureRecord::to(&self.name).key(key).payload(body).headers(headers);
        self.producer.send_result(record).map_err(|(error, _)| error.into())
    }
}

fn headers(all: &[(&str, &str)]) -> OwnedHeaders {
    let add = |headers: OwnedHeaders, (key, value): &(&str, &str)| headers.insert(Header { key, value: Some(*value) });
    all.iter().fold(OwnedHeaders::new_with_capacity(all.len()), add)
}

impl Out for Topic {
    async fn publish(&self, rows: &[Outgoing]) -> anyhow::Result<()> {
        let send = |row: &Outgoing| {
            let (id, causation) = (row.id.to_string(), row.causation.to_string());
            let headers = headers(&[("ce_id", &id), ("ce_type", Worked::TYPE), ("ce_causationid", &causation)]);
            self.send(&row.subject, headers, &row.payload)
        };
        let sent: Vec<_> = rows.iter().map(send).collect::<Result<_, _>>()?;
        for sent in sent {
            sent.await?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }
}

fn member(site: &Site) -> anyhow::Result<StreamConsumer> {
    let consumer: StreamConsumer = client(site)
        .set("group.id", site.commands())
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        .create()?;
    consumer.subscribe(&[&site.commands()])?;
    Ok(consumer)
}

/// What of each partition is under way, so that no offset is stored above one that is not finished.
#[derive(Clone, Default)]
struct Progress(Arc<Mutex<HashMap<i32, Partition>>>);

#[derive(Default)]
struct Partition {
    running: BTreeSet<i64>,
    next: i64,
}

impl Progress {
    fn begin(&self, record: &BorrowedMessage<'_>) {
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = partitions.entry(record.partition()).or_default();
        partition.running.insert(record.offset());
        partition.next = record.offset() + 1;
    }

    /// Stored under the lock, else an older watermark could overwrite a newer one.
    fn end(&self, consumer: &StreamConsumer, topic: &str, number: i32, offset: i64) -> anyhow::Result<()> {
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = partitions.entry(number).or_default();
        let was_first = partition.running.first() == Some(&offset);
        partition.running.remove(&offset);
        if was_first {
            let low = partition.running.first().copied().unwrap_or(partition.next);
            consumer.store_offset(topic, number, low - 1)?;
        }
        Ok(())
    }
}

/// The worker by hand: each message in a task and a transaction of its own, 16 at once, and only offsets below which all is
/// finished are committed.
pub(crate) async fn worker(
    site: Site,
    tables: Tables,
    begun: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let relay = tokio::spawn(tables.clone().relay(Topic::open(&site, site.events(), "5")?, stop.clone()));
    let (consumer, topic) = (Arc::new(member(&site)?), site.commands());
    let (slots, progress) = (Arc::new(Semaphore::new(AT_ONCE)), Progress::default());
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let record = tokio::select! { biased; () = stop.cancelled() => break, record = consumer.recv() => record? };
        begun.cancel();
        progress.begin(&record);
        let (number, offset, message) = (record.partition(), record.offset(), incoming(&record)?);
        let (tables, consumer, topic, progress) = (tables.clone(), consumer.clone(), topic.clone(), progress.clone());
        tokio::spawn(async move {
            let done = async {
                tables.handle(&[message]).await?;
                progress.end(&consumer, &topic, number, offset)
            };
            if let Err(error) = done.await {
                eprintln!("by hand: {error:#}"); // not stored: it comes again, and is missed by the checker
            }
            drop(slot);
        });
    }
    let _all = slots.acquire_many(AT_ONCE as u32).await?;
    relay.await??;
    leave(consumer).await
}

/// The worker by hand that works in batches: whatever has arrived, at most 256, in one transaction. What fails fails with its
/// whole batch.
pub(crate) async fn batches(
    site: Site,
    tables: Tables,
    begun: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let relay = tokio::spawn(tables.clone().relay(Topic::open(&site, site.events(), "5")?, stop.clone()));
    let (consumer, topic) = (Arc::new(member(&site)?), site.commands());
    let mut arrived = consumer.stream().ready_chunks(BATCH);
    loop {
        let batch = tokio::select! { biased; () = stop.cancelled() => break, batch = arrived.next() => batch };
        let batch = batch.context("the topic is gone")?.into_iter().collect::<Result<Vec<_>, _>>()?;
        begun.cancel();
        let messages: Vec<Incoming> = batch.iter().map(incoming).collect::<Result<_, _>>()?;
        tables.handle(&messages).await?;
        for record in &batch {
            consumer.store_offset(&topic, record.partition(), record.offset())?;
        }
    }
    drop(arrived);
    relay.await??;
    leave(consumer).await
}

/// The bare client: each record is taken and its offset stored, and nothing else.
pub(crate) async fn bare(
    site: Site,
    seen: Arc<AtomicUsize>,
    begun: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (consumer, topic) = (Arc::new(member(&site)?), site.commands());
    loop {
        let record = tokio::select! { biased; () = stop.cancelled() => break, record = consumer.recv() => record? };
        begun.cancel();
        consumer.store_offset(&topic, record.partition(), record.offset())?;
        seen.fetch_add(1, Relaxed);
    }
    leave(consumer).await
}

async fn leave(consumer: Arc<StreamConsumer>) -> anyhow::Result<()> {
    let leave = move || {
        commit(&consumer)?;
        drop(consumer);
        anyhow::Ok(())
    };
    tokio::task::spawn_blocking(leave).await?
}

/// What the client has not committed by itself.
fn commit(consumer: &StreamConsumer) -> anyhow::Result<()> {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        committed => Ok(committed?),
    }
}

/// Waits until the group of the commands has so many members who agree.
pub(crate) async fn agreed(site: &Site, members: usize) -> anyhow::Result<()> {
    let (client, group): (BaseConsumer, String) = (client(site).create()?, site.commands());
    let client = Arc::new(client);
    let began = Instant::now();
    loop {
        let (asked, name) = (client.clone(), group.clone());
        let agree = move || -> anyhow::Result<bool> {
            let list = asked.fetch_group_list(Some(&name), PATIENCE)?;
            Ok(list.groups().iter().any(|group| group.state() == "Stable" && group.members().len() == members))
        };
        if tokio::task::spawn_blocking(agree).await?? {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "the group of {members} does not come to rest");
        tokio::time::sleep(LOOK).await;
    }
}

/// The idle cell's hands: who sends a command, who does what a worker does step by step, and who hears the event.
pub(crate) struct Hands {
    commands: Topic,
    events: Topic,
    received: Option<StreamConsumer>,
    heard: StreamConsumer,
}

impl Hands {
    /// `works`: they also consume the commands.
    pub(crate) async fn open(site: &Site, works: bool) -> anyhow::Result<Self> {
        let heard: StreamConsumer =
            client(site).set("group.id", "bench").set("enable.auto.commit", "false").create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(site.partitions)? {
            list.add_partition_offset(&site.events(), partition, Offset::Beginning)?;
        }
        heard.assign(&list)?;
        Ok(Self {
            commands: Topic::open(site, site.commands(), "0")?,
            events: Topic::open(site, site.events(), "0")?,
            received: if works { Some(member(site)?) } else { None },
            heard,
        })
    }

    /// Closing a client waits for its threads.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let close = move || {
            if let Some(received) = &self.received {
                commit(received)?;
            }
            self.commands.producer.flush(PATIENCE)?;
            drop(self);
            anyhow::Ok(())
        };
        tokio::task::spawn_blocking(close).await?
    }
}

impl Steps for Hands {
    async fn send(&mut self, id: &str, key: &str, body: &[u8]) -> anyhow::Result<()> {
        let all = [("ce_specversion", "1.0"), ("ce_id", id), ("ce_source", "/shop"), ("ce_type", key)];
        self.commands.send(id, headers(&all), body)?.await?.map_err(|(error, _)| error)?;
        Ok(())
    }

    async fn work(&mut self, tables: &Tables) -> anyhow::Result<Vec<Outgoing>> {
        let consumer = self.received.as_ref().context("these hands do not work")?;
        let record = consumer.recv().await?;
        let events = tables.handle(&[incoming(&record)?]).await?;
        self.events.publish(&events).await?;
        consumer.store_offset(record.topic(), record.partition(), record.offset())?;
        Ok(events)
    }

    async fn hear(&mut self) -> anyhow::Result<u64> {
        let event = self.heard.recv().await?;
        Ok(serde_json::from_slice::<Worked>(event.payload().context("an event without a body")?)?.n)
    }
}
