//! Lag: what an operator sees of a group, partition by partition.

use crate::bed::{Bed, LIMIT, take, work};
use pitcrew::{
    clock,
    store::Destination,
    testing::conformance::transport::ack,
    transport::{Depth, Lag, Transport, kafka::Options},
};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_depth_says_by_partition_what_is_not_finished_and_how_old_it_is() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(Options { partitions: 2, ..bed.options() }).await;
    let depth = async || transport.depth(&bed.queue.name).await.expect("the broker answers");
    let began = clock::now() - Duration::from_millis(1); // a record has milliseconds
    bed.send(&transport, 40, 10).await;
    let sent = clock::now();
    let Depth { ready, unacked, consumers, oldest, partitions, .. } = depth().await;
    assert_eq!((ready, unacked, consumers), (Some(40), Some(0), Some(0)), "nobody is there");
    assert!(oldest.is_some_and(|oldest| began <= oldest && oldest <= sent), "{began} {oldest:?} {sent}");
    let [one, two, retries] = &partitions[..] else { panic!("{partitions:?}") };
    assert_eq!((one.committed, two.committed, one.end + two.end), (None, None, 40));
    assert!([one, two].iter().all(|lag| lag.oldest.is_some_and(|at| oldest <= Some(at))), "{partitions:?}");
    assert_eq!(
        *retries,
        Lag { topic: format!("{}.retry.1s", bed.queue.name), partition: 0, committed: None, end: 0, oldest: None }
    );

    let mut consumer = transport.subscribe(&bed.queue).await.unwrap();
    let mut held = take(&mut *consumer, 40).await;
    let rest = held.split_off(1);
    rest.into_iter().for_each(ack);
    bed.retry(&transport, Duration::from_secs(3_600)).await;
    bed.try_send(&transport, &Destination::Dead(bed.queue.name.clone())).await.unwrap();
    // What is finished is committed soon; then the oldest is the one that is held.
    let until = Instant::now() + LIMIT;
    let depth = loop {
        let depth = depth().await;
        if depth.partitions[..2].iter().any(|lag| lag.committed == Some(lag.end)) {
            break depth;
        }
        assert!(Instant::now() < until, "{depth:?}");
        pitcrew::testing::poll_pause().await;
    };
    let told = (depth.unacked, depth.delayed, depth.dead, depth.consumers);
    assert_eq!(told, (Some(1), Some(1), Some(1), Some(1)), "{depth:?}");
    let behind: Vec<&Lag> = depth.partitions[..2].iter().filter(|lag| lag.committed != Some(lag.end)).collect();
    assert!(behind.len() == 1 && behind[0].oldest.is_some_and(|at| at <= sent), "{depth:?}");
    assert_eq!(depth.oldest, behind[0].oldest, "the copy is younger");
    assert_eq!(depth.partitions[2].end, 1);
    held.into_iter().for_each(ack);
    work(&mut *consumer, 0).await;
    transport.close().await;
}
