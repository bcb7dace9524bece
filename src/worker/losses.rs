//! Control Bus: what a broker says is lost, written down where `explain` finds it.

use crate::{
    clock,
    store::{Audit, Store},
    transport::{Loss, Transport},
};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::warn;
use uuid::Uuid;

/// [`Audit::action`] of a loss.
pub(crate) const LOST: &str = "lost";

/// Takes losses from the transport, and keeps them until the store has them.
pub(super) struct Losses {
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    worker: Uuid,
    unwritten: Mutex<Vec<Loss>>,
}

impl Losses {
    pub(super) fn new(store: Arc<dyn Store>, transport: Arc<dyn Transport>, worker: Uuid) -> Self {
        Self { store, transport, worker, unwritten: Mutex::default() }
    }

    /// Each once, however often and by however many workers it was met.
    pub(super) async fn write_down(&self) {
        let mut losses = std::mem::take(&mut *self.lock());
        losses.extend(self.transport.take_losses());
        for loss in losses {
            let audit = Audit {
                actor: format!("worker {}", self.worker),
                action: LOST.into(),
                target: loss.topic.clone(),
                reason: loss.what.clone(),
                at: clock::now(),
                bodies: None,
            };
            if let Err(error) = self.store.record(&audit).await {
                warn!(%error, topic = loss.topic, "a loss could not be written down; it is tried again");
                self.lock().push(loss);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Loss>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
