//! Subject Under Test: a transport on its bench, and what a case asks of it again and again.

use super::{Bench, ear::Ear, samples::TYPE};
use crate::{
    Envelope, clock,
    message::Intent,
    route,
    store::{Destination, Purpose},
    transport::*,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A connected transport.
#[derive(Clone)]
pub struct Subject {
    pub(super) bench: Arc<dyn Bench>,
    pub(super) transport: Arc<dyn Transport>,
    /// All that were connected, to be closed at the end.
    connected: Arc<Mutex<Vec<Arc<dyn Transport>>>>,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("transport", &self.transport.kind()).finish_non_exhaustive()
    }
}

impl Subject {
    /// Connects a first time.
    pub async fn new(bench: Arc<dyn Bench>) -> Self {
        let transport = bench.connect().await;
        Self { bench, connected: Arc::new(Mutex::new(vec![transport.clone()])), transport }
    }

    /// Closes whatever was connected and clears the bench, after a case.
    pub async fn end(&self) {
        let connected = std::mem::take(&mut *self.connected.lock().unwrap_or_else(PoisonError::into_inner));
        for transport in connected {
            transport.close().await;
        }
        self.bench.clear().await;
    }

    /// The same broker from another process.
    pub(super) async fn another(&self) -> Self {
        let transport = self.bench.connect().await;
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).push(transport.clone());
        Self { transport, ..self.clone() }
    }

    pub(super) fn promises(&self) -> Promises {
        self.transport.promises()
    }

    /// The queue of a command channel.
    pub(super) fn commands(&self, name: &str) -> Subscription {
        let name: Arc<str> = format!("{}.{name}", self.bench.prefix()).into();
        Subscription {
            channel: name.clone(),
            name,
            intent: Intent::Command,
            types: vec![TYPE.into()],
            delays: self.bench.delays(),
        }
    }

    /// What `service` hears of an event channel.
    pub(super) fn events(&self, name: &str, service: &str) -> Subscription {
        let commands = self.commands(name);
        Subscription { name: format!("{}.{service}", commands.channel).into(), intent: Intent::Event, ..commands }
    }

    /// Declares these subscriptions and the channels that they listen to.
    pub(super) async fn declare(&self, subscriptions: &[&Subscription]) {
        let mut channels = BTreeMap::new();
        for s in subscriptions {
            let channel = Channel { name: s.channel.clone(), intent: s.intent, types: s.types.clone() };
            channels.insert(s.channel.clone(), channel);
        }
        let subscriptions = subscriptions.iter().map(|s| (*s).clone()).collect();
        let endpoints = Endpoints { subscriptions, channels: channels.into_values().collect() };
        self.transport.declare(&endpoints).await.expect("what a case needs can be declared");
    }

    /// A declared queue of a command channel.
    pub(super) async fn queue(&self, name: &str) -> Subscription {
        let queue = self.commands(name);
        self.declare(&[&queue]).await;
        queue
    }

    pub(super) async fn listen(&self, to: &Subscription) -> Ear {
        let consumer = self.transport.subscribe(to).await.expect("a declared subscription can be listened to");
        Ear::new(consumer, to.clone(), &*self.bench)
    }

    /// Publishes to one destination; one answer a message.
    pub(super) async fn publish(
        &self,
        to: &Destination,
        envelopes: &[Envelope],
    ) -> Vec<Result<Published, PublishError>> {
        let rows: Vec<Sending> = envelopes.iter().map(|envelope| sending(to, envelope)).collect();
        let publish = self.transport.publish(to, &rows);
        let answers = tokio::time::timeout(self.bench.patience(), publish).await;
        let answers = answers.expect("a publish ends");
        assert_eq!(answers.len(), rows.len(), "one answer a message");
        answers
    }

    /// Publishes what must be taken.
    pub(super) async fn publish_all(&self, to: &Destination, envelopes: &[Envelope]) {
        let taken = if self.promises().keeps_rows { Published::Kept } else { Published::Confirmed };
        let answers = self.publish(to, envelopes).await;
        assert_eq!(answers, vec![Ok(taken); envelopes.len()], "publish to {to}");
    }

    /// Sends to the channel that these listen to, as the router does: one message, or one for each subscription.
    pub(super) async fn send_to(&self, subscriptions: &[&Subscription], envelopes: &[Envelope]) {
        if self.promises().row_per_subscription {
            for subscription in subscriptions {
                self.publish_all(&Destination::Subscription(subscription.name.clone()), envelopes).await;
            }
        } else if let Some(first) = subscriptions.first() {
            self.publish_all(&Destination::Channel(first.channel.clone()), envelopes).await;
        }
    }

    /// Sends to the one subscription of a channel.
    pub(super) async fn send(&self, subscription: &Subscription, envelopes: &[Envelope]) {
        self.send_to(&[subscription], envelopes).await;
    }
}

/// A row of the outbox on its way.
pub(super) fn sending(to: &Destination, envelope: &Envelope) -> Sending {
    let row = route::row(to.clone(), None, Purpose::Message, Arc::new(envelope.clone()));
    Sending { row, begun: false }
}

/// Waits until `look` has found it.
pub(super) async fn eventually<T>(bench: &dyn Bench, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = clock::instant();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < bench.patience(), "not within {:?}: {what}", bench.patience());
        crate::testing::poll_pause().await;
    }
}
