//! Saboteur: a transport whose publishes fail on purpose, in front of the one under test.

use crate::{
    store::{Destination, Store},
    transport::*,
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// How a publish fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The rows never reach the broker.
    Lost,
    /// They do, and its answer does not come back.
    AnswerLost,
}

/// Fails the first publishes of each row, and watches its row in the outbox meanwhile.
pub(super) struct Faulty {
    pub(super) inner: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    script: &'static [Fault],
    /// Publishes of each row, by its number.
    times: Mutex<HashMap<uuid::Uuid, usize>>,
    /// Rows that were gone before their confirm was answered.
    pub(super) gone: Mutex<Vec<String>>,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Transport>, store: Arc<dyn Store>, script: &'static [Fault]) -> Self {
        Self { inner, store, script, times: Mutex::default(), gone: Mutex::default() }
    }

    /// Publishes of the row that was published most often.
    pub(super) fn most_times(&self) -> usize {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.values().copied().max().unwrap_or_default()
    }

    async fn watch(&self, sending: &Sending) {
        let history = self.store.history(&sending.row.envelope.id).await.expect("history can be read");
        if !history.outbox.iter().any(|entry| entry.row.seq == sending.row.seq) {
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.push(sending.row.envelope.id.clone());
        }
    }

    fn next(&self, sending: &Sending) -> Option<Fault> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let times = times.entry(sending.row.seq).or_default();
        *times += 1;
        self.script.get(*times - 1).copied()
    }

    async fn publish_one(&self, destination: &Destination, sending: &Sending) -> Result<Published, PublishError> {
        let lost = || PublishError::Unknown("on purpose".into());
        let fault = self.next(sending);
        if fault == Some(Fault::Lost) {
            return Err(lost());
        }
        let mut answers = self.inner.publish(destination, std::slice::from_ref(sending)).await;
        let answer = answers.pop().unwrap_or_else(|| Err(lost()));
        // Where the row is the message, it may be handled and gone by now.
        if answer == Ok(Published::Confirmed) {
            self.watch(sending).await;
        }
        match fault {
            Some(Fault::AnswerLost) => Err(lost()),
            _ => answer,
        }
    }
}

#[async_trait]
impl Transport for Faulty {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        self.inner.declare(endpoints).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        self.inner.subscribe(subscription).await
    }

    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let mut answers = Vec::with_capacity(rows.len());
        for row in rows {
            answers.push(self.publish_one(destination, row).await);
        }
        answers
    }

    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        self.inner.depth(subscription).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
