//! Group commit of what comes in: whatever is ready when a commit ends is the next batch. No timers, so one alone does not wait.

use crate::{
    Envelope, clock,
    pipeline::operation_hash,
    store::{Accepted, Asked, AskedKey, OutboxRow, StoreError},
    worker::View,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Commands in one transaction.
const BATCH: usize = 128;
/// Commands that wait for theirs; beyond it requests wait with their bodies.
const WAITING: usize = 1_024;

/// A command that was read and may be stored.
pub(super) struct Order {
    pub(super) envelope: Arc<Envelope>,
    /// The name of its handler, to whom its business key belongs.
    pub(super) consumer: String,
    pub(super) rows: Vec<OutboxRow>,
}

struct Entry {
    order: Order,
    hash: Option<[u8; 32]>,
    answer: oneshot::Sender<Result<Accepted, String>>,
}

/// The way in. Its task ends with the last of it.
pub(super) struct Queue(mpsc::Sender<Entry>);

impl Queue {
    pub(super) fn start(view: Arc<View>) -> Self {
        let (queue, entries) = mpsc::channel(WAITING);
        tokio::spawn(run(view, entries));
        Self(queue)
    }

    /// Returns when the command is durable, or known.
    pub(super) async fn accept(&self, order: Order) -> Result<Accepted, String> {
        let (answer, accepted) = oneshot::channel();
        let hash = order.envelope.idempotency_key.as_ref().map(|_| operation_hash(&order.envelope));
        let gone = || "the worker ends".to_owned();
        self.0.send(Entry { order, hash, answer }).await.map_err(|_closed| gone())?;
        accepted.await.unwrap_or_else(|_dropped| Err(gone()))
    }
}

async fn run(view: Arc<View>, mut entries: mpsc::Receiver<Entry>) {
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let answers = commit(&view, &batch).await;
        for (entry, answer) in batch.drain(..).zip(answers) {
            if let Ok(Accepted::New) = answer {
                // This worker owns the rows, so they leave at once.
                view.relay.take(entry.order.rows);
            }
            // Who asked may have gone; what was stored stands.
            let _ = entry.answer.send(answer);
        }
    }
}

/// All together; where the store refuses the batch, each by itself, so that one of them spoils no other's.
async fn commit(view: &View, batch: &[Entry]) -> Vec<Result<Accepted, String>> {
    match store(view, batch).await {
        Ok(accepted) => accepted.into_iter().map(Ok).collect(),
        Err(StoreError::Refused(_)) if batch.len() > 1 => {
            let mut answers = Vec::with_capacity(batch.len());
            for entry in batch {
                let answer = store(view, std::slice::from_ref(entry)).await;
                answers.push(answer.map(|mut accepted| accepted.remove(0)).map_err(|error| error.to_string()));
            }
            answers
        }
        Err(error) => {
            // Perhaps stored, and the answer was lost: the relay looks whether rows stand there under its name.
            batch.iter().for_each(|entry| view.relay.look_again(&entry.order.rows));
            batch.iter().map(|_| Err(error.to_string())).collect()
        }
    }
}

async fn store(view: &View, batch: &[Entry]) -> Result<Vec<Accepted>, StoreError> {
    let asked: Vec<_> = batch
        .iter()
        .map(|Entry { order, hash, .. }| Asked {
            rows: &order.rows,
            operation: hash.as_ref().and_then(|hash| {
                let Envelope { source, id, idempotency_key, .. } = &*order.envelope;
                Some(AskedKey { consumer: &order.consumer, key: idempotency_key.as_deref()?, hash, source, id })
            }),
        })
        .collect();
    view.store.accept(Some(view.worker), &asked, clock::now()).await
}
