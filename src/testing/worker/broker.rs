//! A broker of a test: one queue for each subscription, and whoever delivered is told when it is settled.

use crate::{
    store::Destination,
    transport::{
        Consumer, Content, Delivery, Depth, Endpoints, Promises, PublishError, Published, Room, Sending, Settle,
        Subscription, Transport, TransportError,
    },
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// `true`: acked; `false`: handed back.
type Settled = oneshot::Sender<bool>;

struct Item {
    content: Content,
    settled: Option<Settled>,
}

#[derive(Debug)]
struct Queue {
    send: mpsc::UnboundedSender<Item>,
    receive: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Item>>>,
}

/// Queues in memory. What is handed back is gone: a test worker is stopped once.
#[derive(Debug, Default)]
pub(super) struct Broker {
    queues: Mutex<HashMap<Arc<str>, Queue>>,
    ledger: Arc<Ledger>,
}

/// Who waits for which delivery.
#[derive(Debug, Default)]
struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next_tag: u64,
    /// Pushed and not settled.
    open: usize,
    waiting: HashMap<u64, Settled>,
}

impl Broker {
    /// Delivers and waits until it is acked; `None`: it was handed back.
    pub(super) async fn deliver(&self, queue: &str, content: Content) -> Option<()> {
        let (settled, answer) = oneshot::channel();
        self.push(queue, Item { content, settled: Some(settled) }).then_some(())?;
        answer.await.unwrap_or(false).then_some(())
    }

    pub(super) fn unsettled(&self) -> usize {
        self.ledger.lock().open
    }

    fn push(&self, queue: &str, item: Item) -> bool {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = queues.get(queue).is_some_and(|queue| queue.send.send(item).is_ok());
        self.ledger.lock().open += usize::from(sent);
        sent
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, tag: u64, acked: bool) {
        let mut entries = self.lock();
        entries.open -= 1;
        if let Some(settled) = entries.waiting.remove(&tag) {
            let _ = settled.send(acked); // the test may have stopped waiting
        }
    }
}

impl Settle for Ledger {
    fn ack(&self, tag: u64) {
        self.settle(tag, true);
    }

    fn release(&self, tag: u64) {
        self.settle(tag, false);
    }
}

#[async_trait]
impl Transport for Broker {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn promises(&self) -> Promises {
        Promises {
            order_per_key: true,
            row_per_subscription: true,
            keeps_unheard: true,
            keeps_rows: false,
            longest_delay: Duration::ZERO,
            dead_letter_channel: false,
            max_bytes: usize::MAX,
            delay_accuracy: Duration::from_millis(500),
        }
    }

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for subscription in &endpoints.subscriptions {
            queues.entry(subscription.name.clone()).or_insert_with(|| {
                let (send, receive) = mpsc::unbounded_channel();
                Queue { send, receive: Arc::new(tokio::sync::Mutex::new(receive)) }
            });
        }
        Ok(())
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&subscription.name).ok_or(TransportError::Closed)?;
        Ok(Box::new(Listener { queue: queue.receive.clone(), ledger: self.ledger.clone() }))
    }

    /// A channel to which nobody here listens has taken it, as a broker would for another service.
    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let publish = |sending: &Sending| {
            if let Destination::Subscription(name) = destination {
                let item = Item { content: Content::Parsed(sending.row.envelope.clone()), settled: None };
                if !self.push(name, item) {
                    return Err(PublishError::Unroutable(format!("no handler of the test takes {destination}")));
                }
            }
            Ok(Published::Confirmed)
        };
        rows.iter().map(publish).collect()
    }

    async fn depth(&self, _: &str) -> Result<Depth, TransportError> {
        Ok(Depth { ready: None, unacked: Some(self.unsettled() as u64), ..Depth::default() })
    }

    async fn close(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

struct Listener {
    queue: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Item>>>,
    ledger: Arc<Ledger>,
}

#[async_trait]
impl Consumer for Listener {
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        let mut queue = self.queue.lock().await;
        let mut items = vec![queue.recv().await.ok_or(TransportError::Closed)?];
        while items.len() < room.count
            && let Ok(item) = queue.try_recv()
        {
            items.push(item);
        }
        let deliver = |Item { content, settled }| {
            let mut entries = self.ledger.lock();
            entries.next_tag += 1;
            let tag = entries.next_tag;
            entries.waiting.extend(settled.map(|settled| (tag, settled)));
            Delivery::new(content, false, None, self.ledger.clone(), tag)
        };
        Ok(items.into_iter().map(deliver).collect())
    }
}
