//! Cases: the end of a transport, and of a connection.

use super::{
    Subject,
    ear::{AMPLE, Heard},
    samples::*,
    subject::eventually,
};
use crate::{store::Destination, transport::TransportError};
use std::collections::HashSet;

pub(super) async fn close_ends_everything(on: Subject) {
    let queue = on.queue("closed").await;
    let (mut waiting, mut late) = (on.listen(&queue).await, on.listen(&queue).await);
    let transport = on.transport.clone();
    let (ended, ()) = tokio::join!(waiting.receive(AMPLE), async {
        tokio::task::yield_now().await;
        transport.close().await;
    });
    assert!(matches!(ended, Err(TransportError::Closed)), "who waits is told: {ended:?}");
    let ended = late.receive(AMPLE).await;
    assert!(matches!(ended, Err(TransportError::Closed)), "who asks later, too: {ended:?}");
    let again = transport.subscribe(&queue).await;
    assert!(matches!(again, Err(TransportError::Closed)), "nobody can listen any more");
    let answers = on.publish(&Destination::Subscription(queue.name.clone()), &messages(2)).await;
    assert!(answers.iter().all(Result::is_err), "nothing is published any more: {answers:?}");
    transport.close().await; // again, and it stays closed
}

pub(super) async fn nothing_is_delivered_after_close(on: Subject) {
    let queue = on.queue("late").await;
    let mut ear = on.listen(&queue).await;
    on.send(&queue, &messages(20)).await;
    ear.take(5).await.into_iter().for_each(Heard::ack);
    // The others are there, or on their way.
    on.transport.close().await;
    for _ in 0..3 {
        let ended = ear.receive(AMPLE).await;
        assert!(matches!(ended, Err(TransportError::Closed)), "{} came after the end", ended.map_or(0, |d| d.len()));
    }
}

pub(super) async fn depth_counts_what_waits(on: Subject) {
    let queue = on.queue("depth").await;
    let empty = on.transport.depth(&queue.name).await.expect("a depth is answered");
    assert!(empty.ready.is_none_or(|ready| ready == 0), "{empty:?}");
    on.send(&queue, &messages(7)).await;
    eventually(&*on.bench, "seven are ready", async || {
        let depth = on.transport.depth(&queue.name).await.expect("a depth is answered");
        depth.ready.is_none_or(|ready| ready == 7).then_some(())
    })
    .await;
    on.listen(&queue).await.take(7).await.into_iter().for_each(Heard::ack);
    eventually(&*on.bench, "nothing is left", async || {
        let depth = on.transport.depth(&queue.name).await.expect("a depth is answered");
        (depth.ready.unwrap_or_default() + depth.unacked.unwrap_or_default() == 0).then_some(())
    })
    .await;
}

pub(super) async fn after_a_cut_everything_goes_on(on: Subject) {
    let queue = on.queue("cut").await;
    let mut ear = on.listen(&queue).await;
    let sent = messages(30);
    on.send(&queue, &sent).await;
    let mut held = ear.take(10).await;
    let mut settled: HashSet<String> = HashSet::new();
    for heard in held.drain(..5) {
        settled.insert(heard.envelope.id.clone());
        heard.ack();
    }
    if !on.bench.cut().await {
        return; // nothing lies between here and the broker
    }
    // As a worker does: listen again until it can, with what it held still in its hands.
    let late = messages(10);
    let to = Destination::Subscription(queue.name.clone());
    eventually(&*on.bench, "publishing works again", async || {
        let answers = on.publish(&to, &late).await;
        answers.iter().all(Result::is_ok).then_some(())
    })
    .await;
    held.into_iter().for_each(Heard::ack); // of the life that was cut: they go nowhere, or were in time
    let expected: HashSet<_> = sent.iter().chain(&late).map(|e| e.id.clone()).collect();
    let mut known = ear.known_ids();
    eventually(&*on.bench, "everything came", async || {
        match ear.receive(AMPLE).await {
            Ok(received) => {
                for delivery in received {
                    settled.extend(ear.id_of(&delivery));
                    super::ear::ack(delivery);
                }
            }
            Err(TransportError::Closed) => panic!("closed, and nobody asked for it"),
            Err(_) => {
                if let Ok(consumer) = on.transport.subscribe(&queue).await {
                    ear.go_on(consumer);
                }
            }
        }
        known.extend(ear.known_ids());
        // What was in our hands at the cut may have been settled in time.
        let open = expected.iter().filter(|id| !settled.contains(*id) && !known.contains(*id)).count();
        (open == 0).then_some(())
    })
    .await;
}
