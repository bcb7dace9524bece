//! Channel Adapter of the bench: a queue in memory that gives deliveries as a broker does, and counts what comes back.
//!
//! Its messages are raw, headers and body, so that a worker pays for the parsing that it pays for on a broker.

use async_trait::async_trait;
use pitcrew::{
    message::wire::{Prefix, Raw, to_raw},
    store::Destination,
    transport::{
        Consumer, Content, Delivery, Depth, Endpoints, Promises, PublishError, Published, Room, Sending, Settle,
        Subscription, Transport, TransportError,
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// One queue, filled beforehand or message by message.
#[derive(Default)]
pub(crate) struct Broker(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    /// Something was settled or published.
    moved: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Raw>>,
    next_tag: u64,
    acked: usize,
    released: usize,
    /// IDs of what was published, in order.
    published: Vec<Uuid>,
    wanted: Wanted,
}

/// What somebody waits for: nobody is woken before it is so.
#[derive(Clone, Copy, Default)]
struct Wanted {
    acked: usize,
    published: usize,
}

impl Broker {
    pub(crate) fn push(&self, messages: impl IntoIterator<Item = Arc<Raw>>) {
        self.0.lock().ready.extend(messages);
        self.0.arrived.notify_one();
    }

    /// Returns when so many were acked and so many published, in all.
    pub(crate) async fn moved(&self, acked: usize, published: usize) {
        loop {
            let moved = self.0.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let mut state = self.0.lock();
                state.wanted = Wanted { acked, published };
                if state.acked >= acked && state.published.len() >= published {
                    return;
                }
            }
            moved.await;
        }
    }

    /// What the checker asks: how many were acked, handed back, published, and published twice.
    pub(crate) fn tally(&self) -> Tally {
        let state = self.0.lock();
        let mut ids = state.published.clone();
        ids.sort_unstable();
        ids.dedup();
        let (acked, released, published) = (state.acked, state.released, state.published.len());
        Tally { acked, released, published, published_twice: published - ids.len() }
    }
}

/// What went through a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acked: usize,
    pub(crate) released: usize,
    pub(crate) published: usize,
    pub(crate) published_twice: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let Wanted { acked, published } = state.wanted;
        let enough = state.acked >= acked && state.published.len() >= published;
        drop(state);
        if enough {
            self.moved.notify_waiters();
        }
    }
}

impl Settle for Queue {
    fn ack(&self, _: u64) {
        self.change(|state| state.acked += 1);
    }

    fn release(&self, _: u64) {
        self.change(|state| state.released += 1);
    }
}

#[async_trait]
impl Transport for Broker {
    fn kind(&self) -> &'static str {
        "bench"
    }

    /// Those of a broker: what is published leaves the outbox when it is confirmed.
    fn promises(&self) -> Promises {
        Promises {
            order_per_key: true,
            row_per_subscription: false,
            keeps_rows: false,
            keeps_unheard: true,
            longest_delay: Duration::ZERO,
            dead_letter_channel: false,
            max_bytes: usize::MAX,
            delay_accuracy: Duration::from_millis(500),
        }
    }

    async fn declare(&self, _: &Endpoints) -> Result<(), TransportError> {
        Ok(())
    }

    async fn subscribe(&self, _: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        Ok(Box::new(Listener(self.0.clone())))
    }

    async fn publish(&self, _: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let id = |sending: &Sending| Uuid::try_parse(&sending.row.envelope.id).unwrap_or_default();
        self.0.change(|state| state.published.extend(rows.iter().map(id)));
        rows.iter().map(|_| Ok(Published::Confirmed)).collect()
    }

    async fn depth(&self, _: &str) -> Result<Depth, TransportError> {
        Ok(Depth { ready: Some(self.0.lock().ready.len() as u64), ..Depth::default() })
    }

    async fn close(&self) {}
}

struct Listener(Arc<Queue>);

#[async_trait]
impl Consumer for Listener {
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        loop {
            let arrived = self.0.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let taken: Vec<(u64, Arc<Raw>)> = {
                let mut state = self.0.lock();
                let count = room.count.min(state.ready.len());
                let first = state.next_tag;
                state.next_tag += count as u64;
                (first..).zip(state.ready.drain(..count)).collect()
            };
            if !taken.is_empty() {
                let settle: Arc<dyn Settle> = self.0.clone();
                let deliver = |(tag, raw): (u64, Arc<Raw>)| {
                    let suspect = raw.is_again();
                    Delivery::new(Content::Raw(raw), suspect, None, settle.clone(), tag)
                };
                return Ok(taken.into_iter().map(deliver).collect());
            }
            arrived.await;
        }
    }
}

/// `envelope` as bytes, with the headers that it has on Kafka.
pub(crate) fn raw(envelope: &pitcrew::Envelope) -> Arc<Raw> {
    Arc::new(to_raw(envelope, Prefix::Ce))
}
