//! The log under a group: records that vanish, and how far the committed offset may go.

use crate::bed::{Bed, end, is_quiet, take, work};
use pitcrew::{
    Command, Context, Handlers, Message, Worker,
    config::{ChannelConfig, Config, Guarantees},
    store::{Store, memory::MemoryStore},
    testing::conformance::transport::ack,
    transport::{
        Loss, Transport, TransportError,
        kafka::{Kafka, OnLost, Options},
    },
};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::AdminOptions,
    consumer::{BaseConsumer, Consumer},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

impl Bed {
    /// Deletes the records before this offset.
    async fn delete_before(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.queue.channel, 0, Offset::Offset(offset)).unwrap();
        self.admin().delete_records(&list, &AdminOptions::new()).await.expect("records can be deleted");
    }

    /// What the group has committed.
    async fn committed(&self) -> Option<i64> {
        let (group, brokers) = (self.queue.name.to_string(), self.brokers.clone());
        let look = move || {
            let mut config = rdkafka::ClientConfig::new();
            let config = config.set("bootstrap.servers", brokers).set("group.id", &group);
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            list.add_partition(&group, 0);
            let list = consumer.committed_offsets(list, Duration::from_secs(10)).expect("the broker answers");
            match list.elements()[0].offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }
        };
        tokio::task::spawn_blocking(look).await.unwrap()
    }

    async fn commits(&self, offset: i64) {
        let until = Instant::now() + crate::bed::LIMIT;
        while self.committed().await != Some(offset) {
            assert!(Instant::now() < until, "{:?} is committed, not {offset}", self.committed().await);
            pitcrew::testing::poll_pause().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_never_committed_past_unfinished_work() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(bed.options()).await;
    let mut consumer = transport.subscribe(&bed.queue).await.unwrap();
    bed.commits(0).await; // it began, and says so before it takes anything
    bed.send(&transport, 400, 10).await;
    let mut held = take(&mut *consumer, 400).await;
    let rest = held.split_off(8);
    let stuck = held.pop().unwrap();
    rest.into_iter().for_each(ack); // hundreds of one partition are done ahead of it
    bed.commits(0).await;
    held.into_iter().for_each(ack);
    bed.commits(7).await;
    is_quiet(&mut *consumer).await;
    bed.commits(7).await;
    ack(stuck);
    bed.commits(400).await;
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_were_deleted_while_nobody_was_there_are_told_and_counted() {
    let Some(bed) = Bed::new() else { return };
    let first = bed.connect(bed.options()).await;
    bed.send(&first, 30, 10).await;
    let mut consumer = first.subscribe(&bed.queue).await.unwrap();
    work(&mut *consumer, 30).await;
    first.close().await;
    let sender = bed.connect(bed.options()).await;
    bed.send(&sender, 30, 10).await;
    bed.delete_before(45).await;

    let careful = bed.connect(Options { on_lost: OnLost::Stop, ..bed.options() }).await;
    let mut stopped = careful.subscribe(&bed.queue).await.unwrap();
    let error = end(&mut *stopped).await;
    assert!(matches!(&error, TransportError::Unfit(why) if why.contains("records 30–44 of p0 are gone")), "{error:?}");
    assert_eq!(careful.lost_records(), 15);
    careful.close().await;

    let next = bed.connect(bed.options()).await;
    let mut consumer = next.subscribe(&bed.queue).await.unwrap();
    work(&mut *consumer, 15).await;
    is_quiet(&mut *consumer).await;
    assert_eq!(next.lost_records(), 15);
    let what = "records 30–44 of p0 are gone: they were deleted before this group handled them".to_owned();
    assert_eq!(next.take_losses(), [Loss { topic: bed.queue.channel.to_string(), what }]);
    assert_eq!(next.take_losses(), [], "told once");
    tokio::join!(next.close(), sender.close());
}

#[derive(serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
struct Do(String);
impl Message for Do {
    type Kind = Command;
    const TYPE: &str = "demo.Do";
}

async fn nothing(_: Do, _: &mut Context) -> pitcrew::Result {
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_writes_down_what_is_lost_once() {
    let Some(bed) = Bed::new() else { return };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let start = async || {
        let transport = Arc::new(Kafka::new(bed.options()));
        let mut config = Config { guarantees: Guarantees::Warn, ..Config::default() };
        let types = ChannelConfig { types: vec!["demo.Do".into()], ..ChannelConfig::default() };
        config.channel.insert(bed.queue.channel.parse().unwrap(), types);
        let worker = Worker::new(config, Handlers::new().handle(nothing));
        (worker.start(store.clone(), transport.clone()).await.expect("it starts"), transport)
    };
    let (running, transport) = start().await;
    bed.send(&*transport, 10, 10).await;
    bed.commits(10).await;
    running.shutdown().await;
    let sender = bed.connect(bed.options()).await;
    bed.send(&sender, 10, 10).await;
    bed.delete_before(15).await;
    sender.close().await;
    for _ in 0..2 {
        let (running, _) = start().await;
        bed.commits(20).await;
        running.shutdown().await;
    }
    let lost = store.recorded("lost", 10).await.unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(
        *lost[0].target == *bed.queue.channel && lost[0].reason.starts_with("records 10–14 of p0 are gone"),
        "{lost:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_deleted_under_a_worker_are_told_and_counted() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(bed.options()).await;
    let mut consumer = transport.subscribe(&bed.queue).await.unwrap();
    // More than the client reads ahead: the worker takes none of them.
    bed.send(&transport, 3_000, 20_000).await;
    bed.delete_before(2_950).await;
    let mut came = Vec::new();
    let until = Instant::now() + crate::bed::LIMIT;
    while came.last() != Some(&2_999) {
        assert!(Instant::now() < until, "{} came, the last {:?}", came.len(), came.last());
        for delivery in take(&mut *consumer, 1).await {
            came.push(delivery_offset(came.len(), transport.lost_records()));
            ack(delivery);
        }
    }
    assert!(transport.lost_records() > 0, "some were gone before they were fetched");
    bed.commits(3_000).await;
    is_quiet(&mut *consumer).await;
    transport.close().await;
}

/// As many new records as the group had committed of the old ones: an old offset in the new log would pass over all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_and_made_again_is_read_from_its_beginning() {
    let Some(bed) = Bed::new() else { return };
    let (admin, options) = (bed.admin(), AdminOptions::new());
    let transport = bed.connect(bed.options()).await;
    let mut consumer = transport.subscribe(&bed.queue).await.unwrap();
    bed.send(&transport, 50, 10).await;
    work(&mut *consumer, 50).await;
    // The commit of these is still to come.
    admin.delete_topics(&[&bed.queue.channel], &options).await.unwrap()[0].as_ref().unwrap();
    let error = end(&mut *consumer).await;
    assert!(matches!(&error, TransportError::Away(why) if why.contains("the topic is gone")), "{error:?}");
    drop(consumer);
    transport.close().await;

    let again = bed.connect(bed.options()).await;
    bed.send(&again, 50, 10).await;
    let mut consumer = again.subscribe(&bed.queue).await.unwrap();
    work(&mut *consumer, 50).await;
    is_quiet(&mut *consumer).await;
    assert_eq!(again.lost_records(), 0, "nothing of this log is lost");
    bed.commits(50).await;
    again.close().await;
}

/// The offset of what came after so many, if so many were lost.
fn delivery_offset(came: usize, lost: u64) -> u64 {
    came as u64 + lost
}
