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
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// `true`: acked; `false`: handed back.
type Settled = oneshot::Sender<bool>;

struct Item {
    content: Content,
    settled: Option<Settled>,
    /// It was taken before, by a worker that died.
    suspect: bool,
}

#[derive(Default)]
struct Queue {
    /// `None`: closed.
    items: Mutex<Option<VecDeque<Item>>>,
    wake: Notify,
}

impl Queue {
    fn of(items: VecDeque<Item>) -> Arc<Self> {
        Arc::new(Self { items: Mutex::new(Some(items)), wake: Notify::new() })
    }

    fn items(&self) -> MutexGuard<'_, Option<VecDeque<Item>>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queues in memory. What is handed back is gone: a test worker is stopped once.
#[derive(Default)]
pub(in crate::testing) struct Broker {
    queues: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    ledger: Arc<Ledger>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("unsettled", &self.unsettled()).finish_non_exhaustive()
    }
}

/// Who waits for which delivery.
#[derive(Default)]
struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    next_tag: u64,
    /// Pushed and not settled.
    open: usize,
    taken: HashMap<u64, Taken>,
}

/// A delivery under way.
#[cfg_attr(not(feature = "fault"), expect(dead_code, reason = "only a worker that can be killed leaves anything"))]
struct Taken {
    queue: Arc<str>,
    content: Content,
    settled: Option<Settled>,
}

impl Broker {
    /// Delivers and waits until it is acked; `None`: it was handed back.
    pub(super) async fn deliver(&self, queue: &str, content: Content) -> Option<()> {
        let (settled, answer) = oneshot::channel();
        self.push(queue, Item { content, settled: Some(settled), suspect: false }).then_some(())?;
        answer.await.unwrap_or(false).then_some(())
    }

    pub(super) fn unsettled(&self) -> usize {
        self.ledger.lock().open
    }

    /// What the next worker finds when this one's is dead: what that had taken and not acked comes again, and first.
    #[cfg(feature = "fault")]
    pub(in crate::testing) fn after_a_death(&self) -> Self {
        let (mut queues, mut open) = (HashMap::<Arc<str>, VecDeque<Item>>::new(), 0);
        let mut taken: Vec<_> = self.ledger.lock().taken.drain().collect();
        taken.sort_by_key(|(tag, _)| *tag);
        for (_, Taken { queue, content, .. }) in taken {
            queues.entry(queue).or_default().push_back(Item { content, settled: None, suspect: true });
        }
        for (name, queue) in &*self.queues() {
            let left = queue.items().take().unwrap_or_default();
            queues.entry(name.clone()).or_default().extend(left.into_iter().map(|item| Item { settled: None, ..item }));
        }
        queues.values().for_each(|items| open += items.len());
        let ledger = Ledger(Mutex::new(Entries { open, ..Entries::default() }));
        let queues = queues.into_iter().map(|(name, items)| (name, Queue::of(items))).collect();
        Self { queues: Mutex::new(queues), ledger: Arc::new(ledger) }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, name: &str, item: Item) -> bool {
        let Some(queue) = self.queues().get(name).cloned() else { return false };
        let sent = queue.items().as_mut().map(|items| items.push_back(item)).is_some();
        self.ledger.lock().open += usize::from(sent);
        queue.wake.notify_one();
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
        if let Some(settled) = entries.taken.remove(&tag).and_then(|taken| taken.settled) {
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
        let mut queues = self.queues();
        for subscription in &endpoints.subscriptions {
            queues.entry(subscription.name.clone()).or_insert_with(|| Queue::of(VecDeque::new()));
        }
        Ok(())
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        let queue = self.queues().get(&subscription.name).cloned().ok_or(TransportError::Closed)?;
        Ok(Box::new(Listener { name: subscription.name.clone(), queue, ledger: self.ledger.clone() }))
    }

    /// A channel to which nobody here listens has taken it, as a broker would for another service.
    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let publish = |sending: &Sending| {
            if let Destination::Subscription(name) = destination {
                let content = Content::Parsed(sending.row.envelope.clone());
                let item = Item { content, settled: None, suspect: false };
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
        for (_, queue) in self.queues().drain() {
            *queue.items() = None; // who waits for one of them is told that it was handed back
            queue.wake.notify_one();
        }
    }
}

struct Listener {
    name: Arc<str>,
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
}

impl Listener {
    /// What is there, `room` of it.
    fn take(&self, room: usize) -> Result<Vec<Delivery>, TransportError> {
        let mut items = self.queue.items();
        let items = items.as_mut().ok_or(TransportError::Closed)?;
        let deliver = |Item { content, settled, suspect }| {
            let mut entries = self.ledger.lock();
            entries.next_tag += 1;
            let tag = entries.next_tag;
            entries.taken.insert(tag, Taken { queue: self.name.clone(), content: content.clone(), settled });
            Delivery::new(content, suspect, None, self.ledger.clone(), tag)
        };
        let most = room.max(1).min(items.len());
        Ok(items.drain(..most).map(deliver).collect())
    }
}

#[async_trait]
impl Consumer for Listener {
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        loop {
            let taken = self.take(room.count)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            self.queue.wake.notified().await;
        }
    }
}
