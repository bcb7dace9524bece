//! Back-pressure: how much one subscription holds in this process. The rest stays in the broker.

use crate::transport::Room;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Messages and bytes in flight, from receipt to ack.
#[derive(Debug)]
pub(crate) struct InFlight {
    most: Room,
    held: Mutex<Room>,
    freed: Notify,
}

/// The share of one message; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Weight {
    room: Arc<InFlight>,
    bytes: usize,
}

impl InFlight {
    pub(crate) fn new(most: Room) -> Self {
        Self { most, held: Mutex::new(Room { count: 0, bytes: 0 }), freed: Notify::new() }
    }

    /// Messages in all.
    pub(crate) fn count(&self) -> usize {
        self.most.count
    }

    /// Waits until something may be received, and says how much.
    pub(crate) async fn wait(&self) -> Room {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let held = *self.held();
            if held.count < self.most.count && held.bytes < self.most.bytes {
                return Room { count: self.most.count - held.count, bytes: self.most.bytes - held.bytes };
            }
            freed.await;
        }
    }

    /// Takes the share of a message that was received.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Weight {
        let mut held = self.held();
        held.count += 1;
        held.bytes += bytes;
        Weight { room: self.clone(), bytes }
    }

    /// What is in flight now.
    pub(crate) fn held(&self) -> MutexGuard<'_, Room> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.count -= 1;
        held.bytes -= self.bytes;
        drop(held);
        self.room.freed.notify_one();
    }
}
