//! Cases: a receiver takes what it has room for, and stops when it likes.

use super::{
    Subject,
    ear::{AMPLE, Heard, assert_each_once},
    samples::*,
    subject::eventually,
};
use crate::{store::Destination, transport::Room};
use std::sync::Arc;

pub(super) async fn receive_is_cancel_safe(on: Subject) {
    let queue = on.queue("cancelled").await;
    let mut ear = on.listen(&queue).await;
    let sent = messages(200);
    let (mut heard, to) = (Vec::new(), queue.clone());
    // Dropped while nothing is there, while it comes, and when it is there.
    for batch in sent.chunks(50) {
        ear.fidget(20).await;
        let (_, ()) = tokio::join!(ear.fidget(50), on.send(&to, batch));
        ear.fidget(20).await;
        heard.extend(ear.take(batch.len()).await);
    }
    assert_each_once(&sent, &heard);
    heard.into_iter().for_each(Heard::ack);
    ear.hears_nothing().await;
}

pub(super) async fn no_more_comes_than_there_is_room_for(on: Subject) {
    let queue = on.queue("room").await;
    let mut ear = on.listen(&queue).await;
    let sent: Vec<_> = (0..60).map(|_| of_size(10_000)).collect();
    on.send(&queue, &sent).await;
    let rooms = [(1, usize::MAX), (7, usize::MAX), (1_000, 35_000), (1_000, 10_000), (3, 1)];
    let mut heard = Vec::new();
    for (count, bytes) in rooms.into_iter().cycle() {
        if heard.len() == sent.len() {
            break;
        }
        let received = ear.receive(Room { count, bytes }).await.expect("a receive succeeds");
        let size: usize = received.iter().map(|d| d.weight()).sum();
        let first = received.first().map_or(0, |d| d.weight());
        // What a delivery weighs beside its payload is not the transport's to know.
        assert!(size <= first.max(bytes.saturating_add(1_000 * received.len())), "{size} bytes for a room of {bytes}");
        heard.extend(received);
    }
    heard.into_iter().for_each(super::ear::ack);
    ear.hears_nothing().await;
}

pub(super) async fn a_receive_that_waits_is_woken(on: Subject) {
    let queue = on.queue("woken").await;
    let mut ear = on.listen(&queue).await;
    ear.hears_nothing().await;
    for sent in messages(5) {
        let sent = std::slice::from_ref(&sent);
        let (heard, ()) = tokio::join!(ear.take(1), on.send(&queue, sent));
        assert_each_once(sent, &heard);
        heard.into_iter().for_each(Heard::ack);
    }
}

pub(super) async fn a_receive_waits_for_one_and_not_for_many(on: Subject) {
    let queue = on.queue("eager").await;
    let mut ear = on.listen(&queue).await;
    for sent in messages(3) {
        on.send(&queue, std::slice::from_ref(&sent)).await;
        let received = ear.receive(AMPLE).await.expect("a receive succeeds");
        assert_eq!(received.len(), 1, "the only message there is comes at once");
        received.into_iter().for_each(super::ear::ack);
    }
}

pub(super) async fn without_a_receiver_little_is_held_and_nothing_is_lost(on: Subject) {
    let queue = on.queue("pressure").await;
    let mut ear = on.listen(&queue).await;
    let most = on.bench.most_held();
    let sent = messages(most + 1_000);
    let to = match on.promises().row_per_subscription {
        true => Destination::Subscription(queue.name.clone()),
        false => Destination::Channel(queue.channel.clone()),
    };
    let mut publishing = {
        let (on, to, sent) = (on.clone(), to, sent.clone());
        tokio::spawn(async move {
            for batch in sent.chunks(250) {
                on.publish_all(&to, batch).await;
            }
        })
    };
    // Either the broker keeps what is not received, or whoever publishes has to wait.
    let transport = on.transport.clone();
    eventually(&*on.bench, "the queue settles", async || {
        let depth = transport.depth(&queue.name).await.expect("a depth is answered");
        let published = publishing.is_finished();
        match (depth.ready, published) {
            (Some(ready), true) => (ready as usize >= sent.len() - most).then_some(()),
            (Some(ready), false) => (ready as usize >= most).then_some(()),
            (None, _) => published.then_some(()),
        }
    })
    .await;
    if on.promises().keeps_rows {
        // The memory that holds them is this process' own.
        let waits = tokio::time::timeout(on.bench.quiet(), &mut publishing).await.is_err();
        let depth = transport.depth(&queue.name).await.expect("a depth is answered");
        assert!(waits && depth.ready.unwrap_or_default() as usize <= most, "{depth:?} held, and {most} are the most");
    }
    // Settled as it comes: a broker may bound what one consumer has unsettled.
    let mut came = Vec::new();
    while came.len() < sent.len() {
        for heard in ear.some().await {
            came.push(Arc::new(heard.envelope.clone()));
            heard.ack();
        }
    }
    assert_each_once(&sent, &came);
    publishing.await.expect("everything was published");
    ear.hears_nothing().await;
}
