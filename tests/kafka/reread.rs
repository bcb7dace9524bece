//! Old records read again: which of them, up to where, and that the group is not disturbed.

use crate::bed::{Bed, LIMIT, end, id, take, work};
use pitcrew::{
    clock,
    testing::conformance::transport::ack,
    transport::{
        Consumer, Delivery, Passage, Place, Progress, Room, Stretch, Transport, TransportError,
        kafka::{Kafka, Options},
    },
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

const ALL: Stretch = Stretch {
    from: Place::Offset(0),
    to: None,
    partition: None,
    resume: BTreeMap::new(),
    types: Vec::new(),
    only_look: false,
};

struct Reading {
    consumer: Box<dyn Consumer>,
    progress: Arc<Progress>,
}

impl Reading {
    async fn begin(bed: &Bed, transport: &Kafka, stretch: &Stretch) -> Self {
        let progress = Arc::default();
        let consumer = transport.reread(&bed.queue, stretch, &progress).await.expect("it is there");
        Self { consumer, progress }
    }

    /// Everything, without settling it.
    async fn all(&mut self) -> Vec<Delivery> {
        let mut all = Vec::new();
        loop {
            let room = Room { count: 100, bytes: usize::MAX };
            match tokio::time::timeout(LIMIT, self.consumer.receive(room)).await.expect("it ends") {
                Ok(some) => all.extend(some),
                Err(TransportError::Closed) => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The passages, when they are what is waited for.
    async fn until(&self, found: impl Fn(&BTreeMap<i32, Passage>) -> bool) -> BTreeMap<i32, Passage> {
        let until = Instant::now() + LIMIT;
        loop {
            let passages = self.progress.passages();
            if found(&passages) {
                return passages;
            }
            assert!(Instant::now() < until, "{passages:?}");
            pitcrew::testing::poll_pause().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_records_come_again_beside_the_group_and_nothing_of_it_moves() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(Options { partitions: 2, ..bed.options() }).await;
    bed.send(&transport, 60, 10).await;
    let mut group = transport.subscribe(&bed.queue).await.unwrap();
    let done = take(&mut *group, 60).await;
    let ids: HashSet<String> = done.iter().map(|delivery| id(delivery, &bed.queue)).collect();
    done.into_iter().for_each(ack);
    let depth = async || transport.depth(&bed.queue.name).await.expect("the broker answers");
    let until = Instant::now() + LIMIT;
    while depth().await.ready != Some(0) {
        assert!(Instant::now() < until, "the group does not commit");
    }
    let before = depth().await;
    assert_eq!(before.consumers, Some(1));

    let mut reading = Reading::begin(&bed, &transport, &ALL).await;
    let again = reading.all().await;
    assert!(again.iter().all(|delivery| delivery.suspect), "every one of them may have been done");
    let came: HashSet<String> = again.iter().map(|delivery| id(delivery, &bed.queue)).collect();
    assert_eq!((again.len(), &came), (60, &ids));
    assert!(reading.progress.passages().values().all(|passage| passage.next < passage.to), "nothing is settled");
    again.into_iter().for_each(ack);
    let passages = reading.until(|passages| passages.values().all(|passage| passage.next == passage.to)).await;
    assert_eq!(passages.values().map(|passage| passage.read).sum::<u64>(), 60);
    drop(reading);

    assert_eq!(depth().await, before, "no offset has moved, and nobody came or went");
    bed.send(&transport, 4, 10).await;
    work(&mut *group, 4).await;
    drop(group);
    transport.close().await;

    // Without members a group takes a commit from anybody.
    let alone = bed.connect(Options { partitions: 2, ..bed.options() }).await;
    let committed = async || {
        let lags = alone.depth(&bed.queue.name).await.expect("the broker answers").partitions;
        lags.into_iter().map(|lag| (lag.topic, lag.partition, lag.committed)).collect::<Vec<_>>()
    };
    let before = committed().await;
    let mut beginning = Reading::begin(&bed, &alone, &Stretch { to: Some(Place::Offset(5)), ..ALL }).await;
    beginning.all().await.into_iter().for_each(ack);
    beginning.until(|passages| passages.values().all(|passage| passage.next == passage.to)).await;
    drop(beginning);
    let reader = bed.connect(Options { partitions: 2, ..bed.options() }).await;
    alone.close().await; // its clients have said all that they had to say
    let lags = reader.depth(&bed.queue.name).await.expect("the broker answers").partitions;
    let after: Vec<_> = lags.into_iter().map(|lag| (lag.topic, lag.partition, lag.committed)).collect();
    assert_eq!(after, before);
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_that_ends_early_says_where_to_go_on() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(bed.options()).await;
    bed.send(&transport, 40, 10).await;
    let part = Stretch { from: Place::Offset(5), to: Some(Place::Offset(30)), ..ALL };
    let mut first = Reading::begin(&bed, &transport, &part).await;
    let mut came = take(&mut *first.consumer, 20).await;
    let open = came.remove(9); // the others ran ahead of it
    came.into_iter().for_each(ack);
    let passages = first.until(|passages| passages[&0].next == 14).await;
    assert_eq!((passages[&0].from, passages[&0].to), (5, 30));
    drop(open);
    drop(first.consumer);

    let rest = Stretch { resume: BTreeMap::from([(0, 14)]), ..part };
    let mut second = Reading::begin(&bed, &transport, &rest).await;
    let left = second.all().await;
    assert_eq!(left.len(), 16, "from the first that was not finished up to the end that was asked for");
    left.into_iter().for_each(ack);
    second.until(|passages| passages[&0].next == 30).await;
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_asked_for_its_time_and_its_type() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(bed.options()).await;
    let now = clock::now();
    let hour = |n: u32| now - Duration::from_secs(3_600) * (10 - n);
    // Not in order: a late one among the early, as a log has them when producers resend.
    let times = [1, 2, 8, 3, 4, 1, 5].map(hour);
    for at in times {
        bed.put_at(at).await;
    }
    let between =
        Stretch { from: Place::Time(hour(2) - Duration::from_secs(60)), to: Some(Place::Time(hour(5))), ..ALL };
    let mut reading = Reading::begin(&bed, &transport, &between).await;
    let came = reading.all().await;
    assert_eq!(came.len(), 3, "of hours 2, 3 and 4");
    came.into_iter().for_each(ack);
    let passage = reading.until(|passages| passages[&0].next == 7).await[&0];
    assert_eq!((passage.from, passage.read, passage.other_time, passage.other_type), (1, 3, 3, 0));

    let typed = Stretch { types: vec!["demo.Other".into()], ..ALL };
    let mut none = Reading::begin(&bed, &transport, &typed).await;
    assert!(none.all().await.is_empty());
    assert_eq!(none.until(|passages| passages[&0].next == 7).await[&0].other_type, 7);
    let young = Stretch { from: Place::Time(clock::now() + Duration::from_secs(3_600)), ..ALL };
    assert!(Reading::begin(&bed, &transport, &young).await.all().await.is_empty(), "nothing is so young");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_looked_at_ends_when_it_is_dropped() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(bed.options()).await;
    bed.send(&transport, 700, 10).await; // more than is held at once
    let mut looking = Reading::begin(&bed, &transport, &Stretch { only_look: true, ..ALL }).await;
    let mut seen = 0;
    while seen < 700 {
        seen += take(&mut *looking.consumer, 1).await.len();
    }
    assert!(matches!(end(&mut *looking.consumer).await, TransportError::Closed));
    looking.until(|passages| passages[&0].next == 700).await;
    let absent = transport.reread(&bed.queue, &Stretch { partition: Some(3), ..ALL }, &Arc::default()).await;
    let Err(TransportError::Unfit(why)) = absent.map(drop) else { panic!("there is no partition 3") };
    assert!(why.contains("has no partition 3: it has 1"), "{why}");
    transport.close().await;
}
