//! Tests of the relay: what is taken over from a lost worker, and more than fits into memory.

use super::*;
use crate::{
    Envelope, clock,
    message::Intent,
    store::{Purpose, memory::MemoryStore},
    transport::{Room, Subscription, embedded::Embedded},
};

fn row(n: usize) -> OutboxRow {
    OutboxRow {
        seq: clock::uuid_v7(),
        destination: Destination::Subscription("q".into()),
        due: None,
        key: None,
        purpose: Purpose::Message,
        envelope: Arc::new(Envelope::new("shop.Work", "/shop", n.to_string())),
    }
}

/// What a relay with room for two rows delivers of five.
async fn delivered(owner: Option<Uuid>) -> Vec<bool> {
    let (store, transport) = (Arc::new(MemoryStore::new()), Arc::new(Embedded::default()));
    let q = Subscription { name: "q".into(), channel: "q".into(), intent: Intent::Command, types: Vec::new() };
    transport.declare(std::slice::from_ref(&q)).await.unwrap();
    store.enqueue(owner, &(0..5).map(row).collect::<Vec<_>>()).await.unwrap();
    let settings = Settings { rows: 2, ..Settings::new(clock::uuid_v7(), "1".into()) };
    let relay = Relay::start(store, transport.clone(), settings, CancellationToken::new());
    let mut consumer = transport.subscribe(&q).await.unwrap();
    let mut suspects = Vec::new();
    while suspects.len() < 5 {
        let received = consumer.receive(Room { count: 5, bytes: 1_000 });
        let received = tokio::time::timeout(Duration::from_secs(20), received).await.expect("five come").unwrap();
        suspects.extend(received.iter().map(|delivery| delivery.suspect));
        std::mem::forget(received); // dropped, they would come again
    }
    relay.drain(Duration::from_secs(1)).await;
    suspects
}

#[tokio::test]
async fn what_a_lost_worker_may_have_begun_is_suspect_though_it_did_not_fit_into_memory() {
    assert_eq!(delivered(Some(clock::uuid_v7())).await, [true; 5]);
    assert_eq!(delivered(None).await, [false; 5]);
}
