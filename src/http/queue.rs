//! Group commit of what comes in: whatever is ready when a commit ends is the next batch. No timers, so one alone does not wait.

use crate::{
    Envelope, clock,
    pipeline::operation_hash,
    relay::Relay,
    store::{Accepted, Asked, AskedKey, OutboxRow, Store, StoreError},
    worker::View,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

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
        let answers = commit(&*view.store, &view.relay, view.worker, &batch).await;
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
async fn commit(store: &dyn Store, relay: &Relay, worker: Uuid, batch: &[Entry]) -> Vec<Result<Accepted, String>> {
    // Perhaps stored, and the answer was lost: the relay looks whether rows stand there under its name.
    let in_doubt = |entries: &[Entry], error: &StoreError| {
        entries.iter().for_each(|entry| relay.look_again(&entry.order.rows));
        entries.iter().map(|_| Err(error.to_string())).collect::<Vec<_>>()
    };
    match write(store, worker, batch).await {
        Ok(accepted) => accepted.into_iter().map(Ok).collect(),
        Err(StoreError::Refused(_)) if batch.len() > 1 => {
            let mut answers = Vec::with_capacity(batch.len());
            for entry in batch.chunks(1) {
                match write(store, worker, entry).await {
                    Ok(accepted) => answers.extend(accepted.into_iter().map(Ok)),
                    Err(error) => answers.extend(in_doubt(entry, &error)),
                }
            }
            answers
        }
        Err(error) => in_doubt(batch, &error),
    }
}

async fn write(store: &dyn Store, worker: Uuid, batch: &[Entry]) -> Result<Vec<Accepted>, StoreError> {
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
    store.accept(Some(worker), &asked, clock::now()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        relay::tests::{Bed, row},
        store::memory::Failure,
        transport::Published,
    };

    /// A command whose commit was done and not answered stands in the outbox under a worker that was not told of it.
    #[tokio::test(start_paused = true)]
    async fn what_was_stored_without_an_answer_leaves_all_the_same() {
        for together in [true, false] {
            let bed = Bed::make(100, |_, _| Ok(Published::Confirmed));
            if !together {
                bed.store.fail_next(1, Failure::Refused); // one of them spoils the batch: each by itself
            }
            bed.store.fail_next(1, Failure::AnswerLost);
            let rows = [row("a", None), row("a", None)];
            let entry = |row: &OutboxRow| {
                let order = Order { envelope: row.envelope.clone(), consumer: "a".into(), rows: vec![row.clone()] };
                Entry { order, hash: None, answer: oneshot::channel().0 }
            };
            let batch: Vec<Entry> = rows.iter().map(entry).collect();
            let answers = commit(&*bed.store, &bed.relay, bed.worker, &batch).await;
            let known: Vec<bool> = answers.iter().map(Result::is_ok).collect();
            assert_eq!(known, [false, !together]);
            for (row, known) in rows.iter().zip(known) {
                if known {
                    bed.relay.take(vec![row.clone()]); // as `run` does
                }
            }
            bed.until(|bed| bed.seen().len() == 2).await;
            assert_eq!(bed.store.failures_left(), 0);
        }
    }
}
