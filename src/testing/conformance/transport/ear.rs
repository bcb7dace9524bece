//! Polling Consumer of a case: receives, and holds each delivery to what is true of every one.

use super::Bench;
use crate::{Envelope, committer::Committed, message::wire, transport::*};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// Room for everything.
pub(super) const AMPLE: Room = Room { count: 10_000, bytes: usize::MAX };

/// Settles a delivery without a commit: for tests of a transport, where nothing is durable but what the test remembers.
pub fn ack(delivery: Delivery) {
    delivery.ack(Committed::in_memory_of_a_test());
}

/// A delivery and the message in it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) envelope: Envelope,
    pub(super) delivery: Delivery,
}

impl Heard {
    pub(super) fn ack(self) {
        ack(self.delivery);
    }
}

impl AsRef<Envelope> for Heard {
    fn as_ref(&self) -> &Envelope {
        &self.envelope
    }
}

/// A consumer with patience.
pub(super) struct Ear {
    consumer: Box<dyn Consumer>,
    pub(super) subscription: Subscription,
    patience: Duration,
    quiet: Duration,
    /// What came before, by ID and attempt: the second time it must be suspect.
    known: HashSet<(String, u32)>,
}

impl Ear {
    pub(super) fn new(consumer: Box<dyn Consumer>, subscription: Subscription, bench: &dyn Bench) -> Self {
        let (patience, quiet) = (bench.patience(), bench.quiet());
        Self { consumer, subscription, patience, quiet, known: HashSet::new() }
    }

    /// What `before` has heard is known to its successor, too.
    pub(super) fn after(mut self, before: &Self) -> Self {
        self.known.extend(before.known.iter().cloned());
        self
    }

    /// One call of [`Consumer::receive`], as raw as it comes.
    pub(super) async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        let received = tokio::time::timeout(self.patience, self.consumer.receive(room)).await;
        let received = received.unwrap_or_else(|_| panic!("nothing was received within {:?}", self.patience));
        if let Ok(deliveries) = &received {
            assert!(!deliveries.is_empty(), "a receive waits for the first message");
            assert!(deliveries.len() <= room.count, "{} received, asked for {}", deliveries.len(), room.count);
            for delivery in deliveries {
                if let Ok(envelope) = envelope_of(delivery, &self.subscription) {
                    let seen = !self.known.insert((envelope.id.clone(), envelope.hop.attempt));
                    assert!(delivery.suspect || !seen, "{} came again and is not suspect", envelope.id);
                }
            }
        }
        received
    }

    /// Begins to receive and gives up at once, `times` times: what a `select!` does.
    pub(super) async fn fidget(&mut self, times: usize) {
        for _ in 0..times {
            let receive = self.consumer.receive(AMPLE);
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                received = receive => {
                    // It won against the cancellation: handed back, it comes again.
                    for delivery in received.expect("a receive succeeds") {
                        if let Ok(envelope) = envelope_of(&delivery, &self.subscription) {
                            self.known.insert((envelope.id, envelope.hop.attempt));
                        }
                    }
                }
            }
        }
    }

    /// The next `count` messages, no more.
    pub(super) async fn take(&mut self, count: usize) -> Vec<Heard> {
        let mut heard = Vec::with_capacity(count);
        while heard.len() < count {
            let room = Room { count: count - heard.len(), ..AMPLE };
            let (patience, missing) = (self.patience, room.count);
            let received = tokio::time::timeout(patience, self.receive(room)).await;
            let received = received.unwrap_or_else(|_| panic!("{missing} of {count} missing after {patience:?}"));
            heard.extend(received.expect("a receive succeeds").into_iter().map(|d| self.heard(d)));
        }
        heard
    }

    /// Whatever comes together, at least one.
    pub(super) async fn some(&mut self) -> Vec<Heard> {
        let received = self.receive(AMPLE).await.expect("a receive succeeds");
        received.into_iter().map(|d| self.heard(d)).collect()
    }

    /// Everything until nothing comes for a while.
    pub(super) async fn rest(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Ok(received) = tokio::time::timeout(self.quiet, self.consumer.receive(AMPLE)).await {
            heard.extend(received.expect("a receive succeeds").into_iter().map(|d| self.heard(d)));
        }
        heard
    }

    /// All that came so far.
    pub(super) fn known_ids(&self) -> HashSet<String> {
        self.known.iter().map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn id_of(&self, delivery: &Delivery) -> Option<String> {
        envelope_of(delivery, &self.subscription).ok().map(|envelope| envelope.id)
    }

    /// The next life of the same subscription.
    pub(super) fn go_on(&mut self, consumer: Box<dyn Consumer>) {
        self.consumer = consumer;
    }

    /// Nothing more comes.
    pub(super) async fn hears_nothing(&mut self) {
        let rest = self.rest().await;
        let ids: Vec<_> = rest.iter().map(|h| (&h.envelope.id, h.envelope.hop.attempt)).collect();
        assert!(ids.is_empty(), "came unexpectedly: {ids:?}");
    }

    fn heard(&self, delivery: Delivery) -> Heard {
        match envelope_of(&delivery, &self.subscription) {
            Ok(envelope) => Heard { envelope, delivery },
            Err(error) => panic!("what pitcrew sent cannot be read: {error}"),
        }
    }
}

pub(super) fn envelope_of(delivery: &Delivery, from: &Subscription) -> Result<Envelope, wire::WireError> {
    match &delivery.content {
        Content::Parsed(envelope) => Ok((**envelope).clone()),
        Content::Raw(raw) => wire::parse(raw, &from.channel),
    }
}

/// Each of `sent` came once and nothing else.
pub(super) fn assert_each_once<'a>(sent: &[Envelope], came: impl IntoIterator<Item = &'a (impl AsRef<Envelope> + 'a)>) {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for envelope in came {
        *times.entry(&envelope.as_ref().id).or_default() += 1;
    }
    let missing: Vec<_> = sent.iter().filter(|e| !times.contains_key(e.id.as_str())).map(|e| &e.id).collect();
    assert!(missing.is_empty(), "{} of {} did not come: {missing:?}", missing.len(), sent.len());
    let twice: Vec<_> = times.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "came more than once: {twice:?}");
    assert_eq!(times.len(), sent.len(), "nothing else comes");
}
