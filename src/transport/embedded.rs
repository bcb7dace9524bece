//! The in-process broker: durable over the store's own outbox.
//!
//! A message is its outbox row: publishing keeps it in a bounded queue of this process, and the row leaves in the commit that
//! handles its delivery. A killed worker loses nothing: its rows are taken over by the next one's sweep.

mod adverse;

pub use adverse::Adverse;

use super::{
    Consumer, Content, Delivery, Depth, Endpoints, Promises, PublishError, Published, Room, Sending, Settle,
    Subscription, Transport, TransportError,
};
use crate::{message::wire::Raw, store::Destination};
use adverse::Dice;
use async_trait::async_trait;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// How much one queue keeps in memory; the rest stays in the outbox.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages.
    pub count: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { count: 4_096, bytes: 64 << 20 }
    }
}

/// The embedded transport. Cheap to clone through `Arc`; one per process.
#[derive(Debug, Default)]
pub struct Embedded {
    queues: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    bounds: Bounds,
    adverse: Adverse,
    closed: AtomicBool,
}

impl Embedded {
    /// With bounds and adversity of one's own.
    pub fn with(bounds: Bounds, adverse: Adverse) -> Self {
        Self { bounds, adverse, ..Self::default() }
    }

    /// Puts bytes into a queue as a foreign producer would. They live in memory only: for tests.
    ///
    /// # Errors
    /// The queue is not declared.
    pub fn inject(&self, subscription: &str, raw: Raw) -> Result<(), TransportError> {
        let queue = self.queue(subscription)?;
        queue.push(Item { content: Content::Raw(Arc::new(raw)), row: None, suspect: false });
        Ok(())
    }

    fn queue(&self, name: &str) -> Result<Arc<Queue>, TransportError> {
        if self.closed.load(Relaxed) {
            return Err(TransportError::Closed);
        }
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(name).cloned().ok_or_else(|| TransportError::Unfit(format!("no queue `{name}` in this process")))
    }
}

#[async_trait]
impl Transport for Embedded {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn promises(&self) -> Promises {
        Promises {
            order_per_key: true,
            row_per_subscription: true,
            keeps_unheard: false,
            keeps_rows: true,
            longest_delay: Duration::ZERO,
            dead_letter_channel: false,
            max_bytes: usize::MAX,
            delay_accuracy: Duration::from_millis(500),
        }
    }

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for subscription in &endpoints.subscriptions {
            let fresh = || Arc::new(Queue::new(self.bounds, self.adverse));
            queues.entry(subscription.name.clone()).or_insert_with(fresh);
        }
        Ok(())
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        Ok(Box::new(Listener(self.queue(&subscription.name)?)))
    }

    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let Destination::Subscription(name) = destination else {
            let why = format!("nobody in this process subscribes to {destination}");
            return vec![Err(PublishError::Unroutable(why)); rows.len()];
        };
        let queue = match self.queue(name) {
            Ok(queue) => queue,
            Err(TransportError::Closed) => return vec![Err(closed()); rows.len()],
            Err(_) => {
                let why = format!("no worker of this process takes {destination}");
                return vec![Err(PublishError::Unroutable(why)); rows.len()];
            }
        };
        let mut answers = Vec::with_capacity(rows.len());
        for row in rows {
            answers.push(queue.publish(row).await);
        }
        answers
    }

    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        let queue = self.queue(subscription)?;
        let state = queue.lock();
        Ok(Depth {
            ready: Some(state.ready.len() as u64),
            unacked: Some(state.unacked.len() as u64),
            ..Depth::default()
        })
    }

    async fn close(&self) {
        self.closed.store(true, Relaxed);
        for queue in self.queues.lock().unwrap_or_else(PoisonError::into_inner).values() {
            queue.lock().closed = true;
            queue.arrived.notify_waiters();
            queue.left.notify_waiters();
        }
    }
}

fn closed() -> PublishError {
    PublishError::Unknown("the transport is closed".into())
}

/// A message in a queue.
#[derive(Clone, Debug)]
struct Item {
    content: Content,
    row: Option<Uuid>,
    suspect: bool,
}

impl Item {
    fn bytes(&self) -> usize {
        match &self.content {
            Content::Raw(raw) => raw.body.len(),
            Content::Parsed(envelope) => envelope.data.len(),
        }
    }
}

#[derive(Debug)]
struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
    /// Something became ready.
    arrived: Notify,
    /// Room was made.
    left: Notify,
}

#[derive(Debug)]
struct State {
    ready: VecDeque<Item>,
    ready_bytes: usize,
    unacked: HashMap<u64, Item>,
    next_tag: u64,
    closed: bool,
    dice: Dice,
}

impl Queue {
    fn new(bounds: Bounds, adverse: Adverse) -> Self {
        let state = State {
            ready: VecDeque::new(),
            ready_bytes: 0,
            unacked: HashMap::new(),
            next_tag: 1,
            closed: false,
            dice: Dice::new(adverse),
        };
        Self { bounds, state: Mutex::new(state), arrived: Notify::new(), left: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room: the relay's own bound, and the outbox behind it, take what does not fit.
    async fn publish(&self, sending: &Sending) -> Result<Published, PublishError> {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            {
                let mut state = self.lock();
                if state.closed {
                    return Err(closed());
                }
                if state.ready.len() < self.bounds.count && state.ready_bytes < self.bounds.bytes {
                    state.dice.publish()?;
                    break;
                }
            }
            left.await;
        }
        let Sending { row, begun } = sending;
        self.push(Item { content: Content::Parsed(row.envelope.clone()), row: Some(row.seq), suspect: *begun });
        Ok(Published::Kept)
    }

    fn push(&self, item: Item) {
        let mut state = self.lock();
        for item in state.dice.arrivals(item) {
            state.ready_bytes += item.bytes();
            let waiting = state.ready.len();
            let place = state.dice.place(waiting);
            state.ready.insert(place, item);
        }
        drop(state);
        self.arrived.notify_one();
    }

    fn take(&self, room: Room) -> Vec<(u64, Item)> {
        let mut state = self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        if state.closed {
            return taken; // what is left is rows of the outbox
        }
        while taken.len() < room.count {
            let Some(next) = state.ready.front().map(Item::bytes) else { break };
            if !taken.is_empty() && bytes + next > room.bytes {
                break;
            }
            let Some(item) = state.ready.pop_front() else { break };
            bytes += next;
            state.ready_bytes -= next;
            let tag = state.next_tag;
            state.next_tag += 1;
            state.unacked.insert(tag, item.clone());
            taken.push((tag, item));
        }
        taken
    }

    /// Back to its place at the head; it may have been begun.
    fn give_back(&self, state: &mut State, mut item: Item) {
        item.suspect = true;
        state.ready_bytes += item.bytes();
        state.ready.push_front(item);
        self.arrived.notify_one();
    }
}

impl Settle for Queue {
    fn ack(&self, tag: u64) {
        let mut state = self.lock();
        let Some(item) = state.unacked.remove(&tag) else { return };
        if state.dice.loses_ack() {
            self.give_back(&mut state, item);
        }
        drop(state);
        self.left.notify_waiters();
    }

    fn release(&self, tag: u64) {
        let mut state = self.lock();
        if let Some(item) = state.unacked.remove(&tag) {
            self.give_back(&mut state, item);
        }
    }
}

struct Listener(Arc<Queue>);

#[async_trait]
impl Consumer for Listener {
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        loop {
            let arrived = self.0.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let taken = self.0.take(room);
            if !taken.is_empty() {
                self.0.left.notify_waiters();
                let settle: Arc<dyn Settle> = self.0.clone();
                let delivery =
                    |(tag, item): (u64, Item)| Delivery::new(item.content, item.suspect, item.row, settle.clone(), tag);
                return Ok(taken.into_iter().map(delivery).collect());
            }
            if self.0.lock().closed {
                return Err(TransportError::Closed);
            }
            arrived.await;
        }
    }
}
