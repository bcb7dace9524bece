//! Workers on a Kafka that fails, and a group that never comes to rest.

use crate::{WORKER, has_time, node::Node};
use pitcrew::testing::poll_pause;
use processes::{
    Work,
    shop::{Process, Shop, plain, slow},
};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use std::time::{Duration, Instant};

/// A broker of its own and a shop on it. `None`, said so: something is missing.
async fn scene(settings: &str) -> Option<(Node, Shop)> {
    let node = Node::start().await?;
    let shop = Shop::on_postgres(WORKER, &node.url(), settings).await?;
    Some((node, shop))
}

async fn two_at_work(shop: &Shop) -> [Process; 2] {
    let mut workers = [shop.start(), shop.start()];
    for worker in &mut workers {
        worker.is_at_work().await;
    }
    workers
}

/// Lets time pass while something is as it is.
pub(crate) async fn pass(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        poll_pause().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed_under_load() {
    let Some((mut node, shop)) = scene("").await else { return };
    let workers = two_at_work(&shop).await;
    shop.send(slow(0..1_000, Duration::from_millis(5))).await;
    shop.done(100).await;
    node.kill();
    shop.send(plain(1_000..1_020)).await;
    node.start_again().await;
    let (back, before) = (Instant::now(), shop.tally().await.done);
    shop.done(before + 1).await;
    println!("killed: first effect {:?} after it served again", back.elapsed());
    shop.each_once(1_020).await;
    println!("killed: all over after {:?}", back.elapsed());
    for worker in workers {
        worker.stop().await;
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_stands_still_for_longer_than_a_session() {
    if !has_time("takes half a minute") {
        return;
    }
    let Some((node, shop)) = scene("").await else { return };
    let workers = two_at_work(&shop).await;
    shop.send(slow(0..1_000, Duration::from_millis(5))).await;
    shop.done(100).await;
    node.signal("STOP");
    shop.send(plain(1_000..1_020)).await;
    pass(Duration::from_secs(10)).await;
    node.signal("CONT");
    let (back, before) = (Instant::now(), shop.tally().await.done);
    shop.done(before + 1).await;
    println!("frozen for 10 s, a session is 6 s: first effect {:?} after it", back.elapsed());
    shop.each_once(1_020).await;
    println!("frozen for 10 s, a session is 6 s: all over after {:?}", back.elapsed());
    for worker in workers {
        worker.stop().await;
    }
    shop.close().await;
}

/// One worker stays; beside it another comes each second, and the one before goes: asked to, or killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_never_comes_to_rest_loses_and_doubles_nothing() {
    if !has_time("takes a minute") {
        return;
    }
    let Some((_node, shop)) = scene("").await else { return };
    let mut stays = shop.start();
    stays.is_at_work().await;
    let direct = shop.direct().await;
    let (mut guest, mut leaving, mut sent): (Option<Process>, _, _) = (None, Vec::new(), 0);
    for second in 0..30_u32 {
        let began = Instant::now();
        for work in slow(sent..sent + 40, Duration::from_millis(20)) {
            direct.send(&work).await.expect("it is sent");
        }
        sent += 40;
        match guest.replace(shop.start()) {
            Some(before) if second % 10 == 0 => before.kill().await,
            Some(before) => {
                before.signal("TERM");
                leaving.push(before);
            }
            None => {}
        }
        pass(Duration::from_secs(1).saturating_sub(began.elapsed())).await;
    }
    let during = shop.tally().await.done;
    let over = Instant::now();
    shop.each_once(sent as usize).await;
    println!(
        "a join and a leave a second for 30 s: {during} of {sent} done meanwhile, all of them {:?} later",
        over.elapsed()
    );
    for mut left in leaving {
        assert_eq!(left.ends().await.code(), Some(0), "{}", shop.logs());
    }
    stays.stop().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topic_is_deleted_under_its_consumer() {
    let Some((node, shop)) = scene("").await else { return };
    let mut worker = shop.start();
    worker.is_at_work().await;
    shop.send(plain(0..50)).await;
    shop.each_once(50).await;
    let (admin, topic) = (node.admin(), shop.commands());
    admin.delete_topics(&[&topic], &AdminOptions::new()).await.expect("it answers")[0].as_ref().expect("it goes");
    shop.send(plain(50..60)).await;
    pass(Duration::from_secs(2)).await;
    assert_eq!(shop.tally().await.done, 50, "there is nowhere to go, and the outbox keeps it");
    let again = NewTopic::new(&topic, 4, TopicReplication::Fixed(1));
    admin.create_topics(&[again], &AdminOptions::new()).await.expect("it answers")[0].as_ref().expect("it is made");
    let back = Instant::now();
    shop.done(51).await;
    println!("deleted and made again: first effect after {:?}", back.elapsed());
    shop.each_once(60).await;
    worker.stop().await;
    shop.close().await;
}

/// It is the first record of the only partition: nobody gets past it but by ending it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_its_worker_is_told_from_those_behind_it() {
    if !has_time("waits for the end of four sessions") {
        return;
    }
    let Some((node, shop)) = scene("").await else { return };
    let topic = shop.commands();
    let one = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    node.admin().create_topics(&[one], &AdminOptions::new()).await.expect("it answers")[0]
        .as_ref()
        .expect("it is made");
    let poison = Work { n: 1_000, takes: 100, kills: true, ..Work::default() };
    shop.send([poison].into_iter().chain(slow(0..30, Duration::from_millis(400)))).await;
    let began = Instant::now();
    let mut deaths = 0;
    let last = loop {
        let mut worker = shop.start();
        let letter = shop.until("a death, or the letter", async || (!shop.letters().await.is_empty()).then_some(()));
        tokio::select! {
            status = worker.ends() => {
                assert_eq!(status.code(), None, "it did not end by itself: {}", shop.logs());
                deaths += 1;
            }
            () = letter => break worker,
        }
    };
    assert_eq!(deaths, 4, "three in company, one alone");
    shop.each_once(30).await;
    println!("a poison message at the head of a partition: over after {:?} and {deaths} workers", began.elapsed());
    let letters = shop.letters().await;
    assert!(letters.len() == 1 && letters[0].reason == "kills_worker", "{letters:?}");
    assert_eq!(shop.attempts().await, ["crash"], "the innocents have no attempt that did not end done");
    last.stop().await;
    shop.close().await;
}
