//! Faults of a real broker under a whole worker: killed, frozen, cut off, out of memory. Nothing is lost and nothing is done twice.
//!
//! Each version gets one node of this test's own, on which the faults follow one another.

use super::{
    bench::{self, Broker},
    node::Node,
    rig::{PATIENCE, Rig},
};
use pitcrew::{store::memory::MemoryStore, testing::poll_pause};
use std::{sync::Arc, time::Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_on_3_10() {
    all(Broker::V3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_on_4() {
    all(Broker::V4).await;
}

async fn all(broker: Broker) {
    let Some(mut node) = Node::start(broker, "").await else { return };
    connections_are_closed_by_an_operator(&node).await;
    the_queue_is_deleted_under_its_consumer(&node).await;
    a_memory_alarm_blocks_the_relay_and_nothing_else(&node).await;
    the_broker_is_frozen(&node).await;
    the_broker_is_killed(&mut node).await;
}

async fn rig(node: &Node) -> Rig {
    Rig::start(&node.url(), Arc::new(MemoryStore::new()), |_| {}).await
}

async fn connections_are_closed_by_an_operator(node: &Node) {
    let rig = rig(node).await;
    rig.send(0..300, 0).await;
    rig.until(0..300, 30).await;
    node.ctl(&["close_all_connections", "maintenance"]);
    let cut = Instant::now();
    rig.send(300..320, 1).await;
    rig.each_once(0..320).await;
    println!("closed by an operator: over after {:?}", cut.elapsed());
    rig.end().await;
}

async fn the_queue_is_deleted_under_its_consumer(node: &Node) {
    let rig = rig(node).await;
    rig.send(0..20, 0).await;
    rig.each_once(0..20).await;
    let (connection, channel) = bench::client(&node.url()).await;
    let deleted = channel.queue_delete((*rig.commands()).into(), Default::default()).await;
    assert_eq!(deleted.expect("it is deleted"), 0, "what is in a deleted queue is gone");
    connection.close(200, "done".into()).await.expect("closes");
    rig.send(20..40, 1).await;
    rig.each_once(0..40).await;
    rig.end().await;
}

async fn a_memory_alarm_blocks_the_relay_and_nothing_else(node: &Node) {
    let rig = rig(node).await;
    rig.send(0..100, 0).await;
    rig.each_once(0..100).await;
    // Published while all was well, and due during the alarm: consuming goes on.
    node.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    rig.send(100..120, 0).await;
    let waiting = async || rig.store.counts().await.expect("counts").outbox;
    let began = Instant::now();
    while waiting().await < 20 && began.elapsed() < PATIENCE {
        poll_pause().await;
    }
    assert_eq!(rig.done(100..120).await, 0, "the broker takes nothing, and the outbox keeps it");
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    rig.each_once(0..120).await;
    rig.end().await;
}

async fn the_broker_is_frozen(node: &Node) {
    let rig = rig(node).await;
    rig.send(0..200, 0).await;
    rig.until(0..200, 20).await;
    node.signal("STOP");
    rig.send(200..220, 0).await;
    // Longer than twice the heartbeat: the connections are given up, not only slow.
    let frozen = Instant::now();
    while frozen.elapsed().as_secs() < 6 {
        poll_pause().await;
    }
    node.signal("CONT");
    let back = Instant::now();
    rig.each_once(0..220).await;
    println!("frozen for 6 s: over after {:?}", back.elapsed());
    rig.end().await;
}

async fn the_broker_is_killed(node: &mut Node) {
    let rig = rig(node).await;
    // A third fails at first, so that some are in delay queues. Where most fail it is a storm, which ends at one probe every 5 s.
    for n in 0..500 {
        rig.send(n..n + 1, u32::from(n % 3 == 0)).await;
    }
    rig.until(0..500, 50).await;
    node.kill();
    rig.send(500..520, 0).await;
    node.start_again().await;
    let back = Instant::now();
    let before = rig.done(0..520).await;
    rig.until(0..520, before + 1).await;
    println!("killed: first effect {:?} after its port was back", back.elapsed());
    rig.each_once(0..520).await;
    rig.end().await;
}
