//! Workers of one Kafka group: restarted one by one, killed, and standing still for longer than a session.

use crate::{WORKER, has_time, kafka::pass};
use processes::shop::{Shop, broker, plain, slow};
use std::time::{Duration, Instant};

async fn scene() -> Option<Shop> {
    let broker = broker("PITCREW_KAFKA_URL")?;
    Shop::on_postgres(WORKER, &broker, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_workers_that_are_restarted_one_by_one_lose_and_double_nothing() {
    let Some(shop) = scene().await else { return };
    let mut workers = vec![shop.start(), shop.start(), shop.start()];
    for round in 0..3 {
        shop.send(slow(round * 100..round * 100 + 100, Duration::from_millis(10))).await;
        shop.done(round as usize * 100 + 50).await; // in the midst of it
        workers.remove(0).stop().await;
        workers.push(shop.start());
    }
    shop.send(plain(300..340)).await;
    shop.each_once(340).await;
    for worker in workers {
        worker.stop().await;
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_partitions_are_taken_over() {
    let Some(shop) = scene().await else { return };
    let victim = shop.start();
    shop.send(slow(0..200, Duration::from_millis(10))).await;
    shop.done(20).await;
    let mut neighbour = shop.start();
    neighbour.is_at_work().await;
    victim.kill().await;
    let killed = Instant::now();
    shop.send(plain(200..240)).await;
    shop.each_once(240).await;
    println!("a worker was killed, a session is 6 s: all over after {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(40), "{:?} after the kill", killed.elapsed());
    neighbour.stop().await;
    shop.close().await;
}

/// A zombie: its partitions are another's when it wakes up, and it goes on with what it held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_for_longer_than_its_session_doubles_nothing() {
    if !has_time("takes half a minute") {
        return;
    }
    let Some(shop) = scene().await else { return };
    let (zombie, mut neighbour) = (shop.start(), shop.start());
    neighbour.is_at_work().await;
    shop.send(slow(0..400, Duration::from_millis(50))).await;
    shop.done(40).await;
    zombie.signal("STOP");
    shop.send(plain(400..440)).await;
    pass(Duration::from_secs(15)).await;
    zombie.signal("CONT");
    let woken = Instant::now();
    shop.send(plain(440..480)).await;
    shop.each_once(480).await;
    println!("a worker stood still for 15 s, a session is 6 s: all over {:?} after it woke up", woken.elapsed());
    zombie.stop().await;
    neighbour.stop().await;
    shop.close().await;
}
