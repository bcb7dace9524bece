//! Cases: what is settled is over, and what is not comes again.

use super::{
    Subject,
    ear::{Heard, assert_each_once},
    samples::*,
    subject::eventually,
};
use crate::Envelope;
use std::collections::HashSet;

pub(super) async fn what_is_acked_does_not_come_again(on: Subject) {
    let queue = on.queue("acked").await;
    let mut first = on.listen(&queue).await;
    on.send(&queue, &messages(50)).await;
    // Last comes first: acks have no order.
    first.take(50).await.into_iter().rev().for_each(Heard::ack);
    first.hears_nothing().await;
    drop(first);
    let mut second = on.listen(&queue).await;
    second.hears_nothing().await;
    let last = messages(1);
    on.send(&queue, &last).await;
    assert_each_once(&last, &second.take(1).await);
}

pub(super) async fn what_is_released_comes_again_and_is_suspect(on: Subject) {
    let queue = on.queue("released").await;
    let mut ear = on.listen(&queue).await;
    let sent = messages(20);
    on.send(&queue, &sent).await;
    let mut lost = Vec::new();
    for (n, heard) in ear.take(sent.len()).await.into_iter().enumerate() {
        if n % 3 == 0 {
            lost.push(heard.envelope.clone());
            drop(heard);
        } else {
            heard.ack();
        }
    }
    for _ in 0..2 {
        let again = ear.take(lost.len()).await;
        assert_each_once(&lost, &again);
        assert!(again.iter().all(|h| h.delivery.suspect), "it may have been begun");
    }
    ear.take(lost.len()).await.into_iter().for_each(Heard::ack);
    ear.hears_nothing().await;
}

pub(super) async fn a_released_message_holds_up_nobody(on: Subject) {
    let queue = on.queue("stubborn").await;
    let mut ear = on.listen(&queue).await;
    on.send(&queue, &of_key("stubborn", 1)).await;
    let stubborn = ear.take(1).await.remove(0).envelope;
    let sent: Vec<_> = (0..20).flat_map(|n| of_key(&format!("key {n}"), 1)).collect();
    on.send(&queue, &sent).await;
    let mut missing: HashSet<_> = sent.iter().map(|e| e.id.clone()).collect();
    let bench = on.bench.clone();
    eventually(&*bench, "the others come although one is released again and again", async || {
        for heard in ear.some().await {
            if heard.envelope.id != stubborn.id {
                missing.remove(&heard.envelope.id);
                heard.ack();
            }
        }
        missing.is_empty().then_some(())
    })
    .await;
    assert_eq!(ear.take(1).await.remove(0).envelope, stubborn, "and it is still there");
}

pub(super) async fn a_dropped_consumer_hands_back_what_nobody_began(on: Subject) {
    let queue = on.queue("unbegun").await;
    let mut first = on.listen(&queue).await;
    let sent = messages(60);
    on.send(&queue, &sent).await;
    // Ten are done, ten are received and not begun, the others may lie in the transport's memory.
    let done = first.take(10).await;
    let rest = except(&sent, &done);
    done.into_iter().for_each(Heard::ack);
    let unbegun = first.take(10).await;
    let mut second = on.listen(&queue).await.after(&first);
    drop(unbegun);
    drop(first);
    let heard = second.take(rest.len()).await;
    assert_each_once(&rest, &heard);
    heard.into_iter().for_each(Heard::ack);
    second.hears_nothing().await;
}

pub(super) async fn what_runs_when_its_consumer_is_dropped_can_still_be_acked(on: Subject) {
    let queue = on.queue("running").await;
    let mut first = on.listen(&queue).await;
    let sent = messages(30);
    on.send(&queue, &sent).await;
    // A shutdown drops the consumer first and waits for what runs.
    let running = first.take(5).await;
    let rest = except(&sent, &running);
    drop(first);
    running.into_iter().for_each(Heard::ack);
    let mut second = on.listen(&queue).await;
    let heard = second.take(rest.len()).await;
    assert_each_once(&rest, &heard);
    heard.into_iter().for_each(Heard::ack);
    second.hears_nothing().await;
}

pub(super) async fn what_a_closed_transport_held_comes_again_and_is_suspect(on: Subject) {
    if on.promises().keeps_rows {
        return; // the rows are in the store: a worker's case
    }
    let life = on.another().await;
    let queue = life.queue("held").await;
    let mut first = life.listen(&queue).await;
    let sent = messages(12);
    life.send(&queue, &sent).await;
    let mut held = first.take(sent.len()).await;
    let done: Vec<_> = held.drain(..4).collect();
    let unsettled = except(&sent, &done);
    done.into_iter().for_each(Heard::ack);
    life.transport.close().await;
    let mut second = on.listen(&queue).await.after(&first);
    let again = second.take(unsettled.len()).await;
    assert_each_once(&unsettled, &again);
    // A tag of an earlier life goes nowhere: neither an ack nor a release touches what the second one holds.
    held.drain(..4).for_each(Heard::ack);
    drop(held);
    second.hears_nothing().await;
    drop(again);
    second.take(8).await.into_iter().for_each(Heard::ack);
    second.hears_nothing().await;
}

/// Those of `sent` that were not heard.
fn except(sent: &[Envelope], heard: &[Heard]) -> Vec<Envelope> {
    let heard: HashSet<_> = heard.iter().map(|h| &h.envelope.id).collect();
    sent.iter().filter(|e| !heard.contains(&e.id)).cloned().collect()
}
