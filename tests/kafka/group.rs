//! Members of a group: what a slow handler, a drain and a stranger under the same name do to them.

use crate::bed::{Bed, SESSION, end, id, is_quiet, take, work};
use pitcrew::{
    testing::conformance::transport::ack,
    transport::{Delivery, Room, Transport, TransportError, kafka::Options},
};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// Whoever does not poll for so long is taken for stuck. The client wants it to be at least a session.
const POLL: Duration = SESSION.saturating_add(Duration::from_secs(1));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_outlasts_session_and_poll_interval_costs_nobody_his_partition() {
    let Some(bed) = Bed::new() else { return };
    let options = || Options { max_poll_interval: POLL, ..bed.options() };
    let (one, two) = (bed.connect(options()).await, bed.connect(options()).await);
    bed.send(&one, 20, 10).await;
    let mut slow = one.subscribe(&bed.queue).await.unwrap();
    let held = take(&mut *slow, 20).await;
    // It might take over the one partition there is, if anybody lost it.
    let mut idle = two.subscribe(&bed.queue).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < POLL + Duration::from_secs(2) {
        pitcrew::testing::poll_pause().await;
    }
    is_quiet(&mut *idle).await;
    held.into_iter().for_each(ack);
    bed.send(&one, 5, 10).await;
    work(&mut *slow, 5).await;
    one.close().await;
    // Everything was committed, and said to the next owner.
    bed.send(&two, 1, 10).await;
    let next = take(&mut *idle, 1).await;
    assert!(!next[0].suspect, "nobody began it");
    next.into_iter().for_each(ack);
    is_quiet(&mut *idle).await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_when_partitions_move_may_end_and_what_outlives_the_drain_comes_again() {
    let Some(bed) = Bed::new() else { return };
    let options = || Options { partitions: 2, max_poll_interval: Duration::from_secs(8), ..bed.options() };
    let (one, two) = (bed.connect(options()).await, bed.connect(options()).await);
    bed.send(&one, 40, 10).await;
    let mut first = one.subscribe(&bed.queue).await.unwrap();
    // Every second one, so that some of each partition are slow in whatever order they came.
    let (mut held, mut slow) = (Vec::new(), Vec::new());
    for (n, delivery) in take(&mut *first, 40).await.into_iter().enumerate() {
        if n % 2 == 0 { &mut held } else { &mut slow }.push(delivery);
    }
    let expected: HashSet<String> = slow.iter().map(|delivery| id(delivery, &bed.queue)).collect();
    // The newcomer gets a partition when the drain is over, 4 s later; what ended until then does not come again.
    let mut second = two.subscribe(&bed.queue).await.unwrap();
    held.into_iter().for_each(ack);
    let mut came: HashSet<String> = HashSet::new();
    let mut hear = |delivery: Delivery| {
        assert!(delivery.suspect, "somebody may have begun it");
        came.insert(id(&delivery, &bed.queue));
        ack(delivery);
        came.is_superset(&expected)
    };
    for delivery in take(&mut *second, 1).await {
        hear(delivery);
    }
    drop(slow); // released: those of the partition that stayed come again to the first, the others came to the second
    let limit = Instant::now() + crate::bed::LIMIT;
    let mut all = false;
    while !all {
        assert!(Instant::now() < limit, "not all that was open came again");
        let room = Room { count: 100, bytes: usize::MAX };
        let received = tokio::select! {
            received = first.receive(room) => received,
            received = second.receive(room) => received,
            () = pitcrew::testing::poll_pause() => Ok(Vec::new()),
        };
        // What ended above one that did not comes again, too: the log knows one offset, the inbox knows the rest.
        received.unwrap().into_iter().for_each(|delivery| all |= hear(delivery));
    }
    tokio::join!(one.close(), two.close());
}

/// A worker that is told to end receives nothing more and waits for what runs: the member stays in its group until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_after_a_wait_that_outlasts_the_poll_interval_is_committed() {
    let Some(bed) = Bed::new() else { return };
    let options = || Options { max_poll_interval: POLL, ..bed.options() };
    let (one, two) = (bed.connect(options()).await, bed.connect(options()).await);
    bed.send(&one, 3, 10).await;
    let mut ending = one.subscribe(&bed.queue).await.unwrap();
    let held = take(&mut *ending, 3).await;
    drop(ending);
    let began = Instant::now();
    while began.elapsed() < POLL + Duration::from_secs(2) {
        pitcrew::testing::poll_pause().await;
    }
    held.into_iter().for_each(ack);
    one.close().await;
    bed.send(&two, 1, 10).await;
    let mut next = two.subscribe(&bed.queue).await.unwrap();
    let came = take(&mut *next, 1).await;
    assert!(!came[0].suspect, "those that were held come again");
    came.into_iter().for_each(ack);
    is_quiet(&mut *next).await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_that_is_restarted_has_its_partition_again_at_once() {
    let Some(bed) = Bed::new() else { return };
    let named = |name: &str| Options { instance_id: Some(name.into()), ..bed.options() };
    let (first, neighbour) = (bed.connect(named("a")).await, bed.connect(named("b")).await);
    let mut consumer = first.subscribe(&bed.queue).await.unwrap();
    bed.send(&first, 3, 10).await;
    work(&mut *consumer, 3).await;
    let mut idle = neighbour.subscribe(&bed.queue).await.unwrap();
    is_quiet(&mut *idle).await;
    drop(consumer);
    first.close().await;
    bed.send(&neighbour, 3, 10).await;
    is_quiet(&mut *idle).await; // without a name the partition would be his by now
    let again = bed.connect(named("a")).await;
    let began = Instant::now();
    let mut consumer = again.subscribe(&bed.queue).await.unwrap();
    work(&mut *consumer, 3).await;
    let took = began.elapsed();
    eprintln!("a restarted static member worked again after {took:?}");
    assert!(took < SESSION / 3, "{took:?}, which is no better than a session");
    is_quiet(&mut *idle).await;
    tokio::join!(again.close(), neighbour.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gave_up_is_followed_by_a_new_one() {
    let Some(bed) = Bed::new() else { return };
    // Two members of one static name: the broker fences the first for good.
    let mut options = bed.options();
    options.instance_id = Some("twin".into());
    let (one, two) = (bed.connect(options.clone()).await, bed.connect(options).await);
    let mut first = one.subscribe(&bed.queue).await.unwrap();
    bed.send(&one, 3, 10).await;
    work(&mut *first, 3).await;
    let second = two.subscribe(&bed.queue).await.unwrap();
    let error = end(&mut *first).await;
    assert!(matches!(&error, TransportError::Away(why) if why.contains("gave up")), "{error:?}");
    drop(second);
    two.close().await;
    drop(first);
    // As the pipeline does.
    let mut again = one.subscribe(&bed.queue).await.unwrap();
    bed.send(&one, 3, 10).await;
    work(&mut *again, 3).await;
    one.close().await;
}
