//! Cases: what is published comes, whole, to whom it is for, and once.

use super::{
    Subject,
    ear::{Heard, assert_each_once},
    samples::*,
    subject::eventually,
};
use crate::Envelope;
use futures::future::join_all;
use std::{collections::HashMap, sync::Arc};

pub(super) async fn a_message_comes_as_it_was_sent(on: Subject) {
    let queue = on.queue("whole").await;
    let mut ear = on.listen(&queue).await;
    for sent in [full(), message()] {
        on.send(&queue, std::slice::from_ref(&sent)).await;
        let heard = ear.take(1).await.remove(0);
        assert_eq!(heard.envelope, sent);
        assert!(heard.delivery.row.is_some() == on.promises().keeps_rows, "the row is the message, or there is none");
        heard.ack();
    }
    ear.hears_nothing().await;
}

pub(super) async fn any_bytes_are_a_payload(on: Subject) {
    let queue = on.queue("bytes").await;
    let mut ear = on.listen(&queue).await;
    let payloads: [&[u8]; 5] =
        [b"", b"\0", &[0, 159, 146, 150, 255], "\u{feff}{}\r\n".as_bytes(), b"{\"a\":\"\\u0000\"}"];
    let binary = |data: &[u8]| Envelope {
        data: data.to_vec().into(),
        content_type: Some("application/octet-stream".into()),
        ..message()
    };
    let sent = payloads.map(binary);
    on.send(&queue, &sent).await;
    let heard = ear.take(sent.len()).await;
    for sent in &sent {
        let same = heard.iter().find(|h| h.envelope.id == sent.id).expect("it came");
        assert_eq!(same.envelope, *sent);
    }
    heard.into_iter().for_each(Heard::ack);
}

pub(super) async fn a_large_message_comes_whole(on: Subject) {
    let queue = on.queue("large").await;
    let mut ear = on.listen(&queue).await;
    let size = on.promises().max_bytes.min(4 << 20) - (16 << 10);
    let mut sent = of_size(size);
    sent.data = (0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    on.send(&queue, std::slice::from_ref(&sent)).await;
    let heard = ear.take(1).await.remove(0);
    assert!(heard.envelope == sent, "{size} bytes came otherwise than they were sent");
    heard.ack();
}

pub(super) async fn each_message_comes_once(on: Subject) {
    let queue = on.queue("once").await;
    let mut ear = on.listen(&queue).await;
    let sent = messages(500);
    for batch in sent.chunks(100) {
        on.send(&queue, batch).await;
    }
    let heard = ear.take(sent.len()).await;
    assert_each_once(&sent, &heard);
    heard.into_iter().for_each(Heard::ack);
    ear.hears_nothing().await;
}

pub(super) async fn what_is_published_before_anybody_listens_waits(on: Subject) {
    let queue = on.queue("early").await;
    let sent = messages(20);
    on.send(&queue, &sent).await;
    let mut ear = on.listen(&queue).await;
    assert_each_once(&sent, &ear.take(sent.len()).await);
}

pub(super) async fn declaring_again_changes_nothing(on: Subject) {
    let (queue, other) = (on.queue("twice").await, on.commands("other"));
    let mut ear = on.listen(&queue).await;
    on.send(&queue, &messages(1)).await;
    // With what is there already, with more beside it, and as a worker that comes later does.
    on.declare(&[&queue]).await;
    on.declare(&[&queue, &other]).await;
    if !on.promises().keeps_rows {
        on.another().await.declare(&[&other, &queue]).await;
    }
    on.send(&queue, &messages(1)).await;
    ear.take(2).await.into_iter().for_each(Heard::ack);
    ear.hears_nothing().await;
}

pub(super) async fn a_command_goes_to_one_of_two_consumers(on: Subject) {
    let queue = on.queue("shared").await;
    let (mut one, mut two) = (on.listen(&queue).await, on.listen(&queue).await);
    let sent: Vec<_> = (0..40).flat_map(|key| of_key(&format!("key {key}"), 5)).collect();
    on.send(&queue, &sent).await;
    let mut all: Vec<Arc<Envelope>> = Vec::new();
    // Either may have nothing for a while: a group shares out its partitions first. So both ack at once.
    eventually(&*on.bench, "every command came", async || {
        let (a, b) = tokio::join!(one.rest(), two.rest());
        for heard in a.into_iter().chain(b) {
            all.push(Arc::new(heard.envelope.clone()));
            heard.ack();
        }
        (all.len() >= sent.len()).then_some(())
    })
    .await;
    assert_each_once(&sent, &all);
}

pub(super) async fn an_event_goes_to_every_subscription(on: Subject) {
    let subscriptions = ["shop", "mail", "audit"].map(|service| on.events("facts", service));
    let all: Vec<_> = subscriptions.iter().collect();
    on.declare(&all).await;
    let mut ears = join_all(all.iter().map(|s| on.listen(s))).await;
    let sent = messages(30);
    on.send_to(&all, &sent).await;
    for ear in &mut ears {
        let heard = ear.take(sent.len()).await;
        assert_each_once(&sent, &heard);
        heard.into_iter().for_each(Heard::ack);
        ear.hears_nothing().await;
    }
}

pub(super) async fn messages_of_one_key_come_in_order(on: Subject) {
    if !on.promises().order_per_key {
        return;
    }
    let queue = on.queue("ordered").await;
    let mut ear = on.listen(&queue).await;
    let keys = ["a", "b", "c", "d", "e"];
    let by_key = keys.map(|key| of_key(key, 60));
    let sent: Vec<_> = (0..60).flat_map(|n| by_key.iter().map(move |of_key| of_key[n].clone())).collect();
    // A key's next row is published when the one before is confirmed, as the relay does: each batch has a key once.
    for batch in sent.chunks(keys.len()) {
        on.send(&queue, batch).await;
    }
    let heard = ear.take(sent.len()).await;
    let mut came: HashMap<&str, Vec<&str>> = HashMap::new();
    for Heard { envelope, .. } in &heard {
        came.entry(envelope.ordering_key().expect("a key")).or_default().push(&envelope.id);
    }
    for (key, of_key) in keys.iter().zip(&by_key) {
        let ids: Vec<&str> = of_key.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(came[key], ids, "key {key}");
    }
    heard.into_iter().for_each(Heard::ack);
}
