//! Message Replay: a worker over old records. Its transport hears nothing but a stretch of the log; the rest is a worker like
//! any other, so that the inbox decides what is new, and every fate is what it always is.

use crate::{
    clock::{self, Instant},
    store::Destination,
    transport::{
        Consumer, Delivery, Depth, Endpoints, Inspection, Loss, Progress, Promises, PublishError, Published, Room,
        Sending, Stretch, Subscription, Transport, TransportError,
    },
};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A transport whose subscriptions are readings.
pub(crate) struct Replay {
    transport: Arc<dyn Transport>,
    stretch: Stretch,
    readings: BTreeMap<Arc<str>, Reading>,
    /// Records a second, of all subscriptions together.
    rate: Option<Arc<Rate>>,
}

struct Reading {
    progress: Arc<Progress>,
    /// Begun before the worker, so that what is wrong is said before it starts.
    ready: Mutex<Option<Box<dyn Consumer>>>,
}

impl Replay {
    /// Begins to read for each of these.
    pub(crate) async fn begin(
        transport: Arc<dyn Transport>,
        subscriptions: impl Iterator<Item = &Subscription>,
        stretch: Stretch,
        rate: Option<u32>,
    ) -> Result<Self, TransportError> {
        let mut readings = BTreeMap::new();
        for subscription in subscriptions {
            let progress = Arc::<Progress>::default();
            let consumer = transport.reread(subscription, &stretch, &progress).await?;
            readings.insert(subscription.name.clone(), Reading { progress, ready: Mutex::new(Some(consumer)) });
        }
        let rate =
            rate.map(|rate| Arc::new(Rate { each: Duration::from_secs(1) / rate.max(1), next: Mutex::default() }));
        Ok(Self { transport, stretch, readings, rate })
    }

    /// How far each subscription's reading is.
    pub(crate) fn progress(&self) -> BTreeMap<Arc<str>, Arc<Progress>> {
        self.readings.iter().map(|(name, reading)| (name.clone(), reading.progress.clone())).collect()
    }

    /// The reading of a subscription, which then is the caller's.
    pub(crate) fn take(&self, subscription: &str) -> Option<Box<dyn Consumer>> {
        self.readings.get(subscription)?.ready.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Transport for Replay {
    fn kind(&self) -> &'static str {
        self.transport.kind()
    }

    fn kind_of(&self, name: &str) -> &'static str {
        self.transport.kind_of(name)
    }

    fn know(&self, endpoints: &Endpoints) {
        self.transport.know(endpoints);
    }

    fn carrier_of(&self, name: &str) -> &str {
        self.transport.carrier_of(name)
    }

    fn promises(&self) -> Promises {
        self.transport.promises()
    }

    fn promises_of(&self, name: &str) -> Promises {
        self.transport.promises_of(name)
    }

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        self.transport.declare(endpoints).await
    }

    async fn inspect(&self, endpoints: &Endpoints) -> Result<Inspection, TransportError> {
        self.transport.inspect(endpoints).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        let reading = self.readings.get(&subscription.name).ok_or(TransportError::Closed)?;
        let consumer = match self.take(&subscription.name) {
            Some(consumer) => consumer,
            // It was lost, or handed back while the store was away.
            None => {
                let passages = reading.progress.passages();
                let resume = passages.into_iter().map(|(partition, passage)| (partition, passage.next)).collect();
                let rest = Stretch { resume, ..self.stretch.clone() };
                self.transport.reread(subscription, &rest, &reading.progress).await?
            }
        };
        Ok(match self.rate.clone() {
            Some(rate) => Box::new(Throttled { consumer, rate }),
            None => consumer,
        })
    }

    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        self.transport.publish(destination, rows).await
    }

    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        self.transport.depth(subscription).await
    }

    fn take_losses(&self) -> Vec<Loss> {
        self.transport.take_losses()
    }

    async fn close(&self) {
        self.transport.close().await;
    }
}

/// So many a second, evenly: the next one is not handed out before its time.
struct Rate {
    each: Duration,
    next: Mutex<Option<Instant>>,
}

impl Rate {
    /// When what comes now may be handed out, if it is so many.
    fn take(&self, count: usize) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::instant();
        let begin = next.map_or(now, |next| next.max(now));
        *next = Some(begin + self.each * u32::try_from(count).unwrap_or(u32::MAX));
        begin
    }

    /// What comes within a fiftieth of a second comes together.
    fn most(&self) -> usize {
        usize::try_from((Duration::from_millis(20).as_nanos() / self.each.as_nanos().max(1)).max(1))
            .unwrap_or(usize::MAX)
    }
}

struct Throttled {
    consumer: Box<dyn Consumer>,
    rate: Arc<Rate>,
}

#[async_trait]
impl Consumer for Throttled {
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        let room = Room { count: room.count.min(self.rate.most()), ..room };
        let received = self.consumer.receive(room).await?;
        // Dropped here, they are given back and come again: nothing is lost by a shutdown.
        tokio::time::sleep_until(self.rate.take(received.len())).await;
        Ok(received)
    }

    async fn hand_back(self: Box<Self>) {
        self.consumer.hand_back().await;
    }
}
