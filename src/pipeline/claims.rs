//! Claims are written together: whatever waits when one write ends shares the next one. After a crash, or when a broker hands out
//! again what it had given to another consumer, a whole prefetch comes as suspects, and each would pay for a transaction.

use crate::{
    clock,
    store::{InboxKey, Store},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot::{self, error::TryRecvError};
use uuid::Uuid;

/// Those who wait for the write that is under way.
#[derive(Default)]
pub(crate) struct Claims {
    waiting: Mutex<Vec<(InboxKey, oneshot::Sender<()>)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Claims {
    /// `false`: the claims that were to be written together were not. One that cannot be written must not keep the others from it:
    /// each is to be tried alone.
    pub(super) async fn write(&self, store: &dyn Store, worker: Uuid, key: InboxKey) -> bool {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push((key, answer));
        let _turn = self.turn.lock().await;
        match answered.try_recv() {
            Ok(()) => return true,
            Err(TryRecvError::Closed) => return false,
            Err(TryRecvError::Empty) => {}
        }
        let mut together = std::mem::take(&mut *self.waiting());
        together.retain(|(_, answer)| !answer.is_closed()); // its walk was dropped: it has not begun
        let (keys, answers): (Vec<_>, Vec<_>) = together.into_iter().unzip();
        if store.claim(&keys, worker, clock::now()).await.is_err() {
            return false;
        }
        for answer in answers {
            let _ = answer.send(());
        }
        true
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(InboxKey, oneshot::Sender<()>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
