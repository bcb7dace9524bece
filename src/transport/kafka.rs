//! Kafka: topics and consumer groups as channels and subscriptions.
//!
//! A partition's messages run side by side; what is committed is the offset below which all are finished. The group's records
//! and its retry topics are read by a member each, every member on a thread of its own, and both come to one pipeline.

mod declare;
mod depth;
mod group;
mod inbound;
mod member;
mod options;
mod partition;
mod produce;
mod reach;
mod record;
mod reread;
mod start;
mod survey;
mod topics;
mod waiting;
mod watermark;

use super::{
    Consumer, Delivery, Depth, Destination, Endpoints, Inspection, Loss, Progress, Promises, PublishError, Published,
    Room, Sending, Stretch, Subscription, Transport, TransportError,
};
use async_trait::async_trait;
use group::Notes;
use inbound::{Inbound, Stage, Wake};
use member::{Member, Role};
pub use options::{GroupProtocol, Login, Mechanism, OnLost, Options, Security};
use produce::Producer;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use reread::Reread;
use start::Lost;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use survey::Stray;
use tokio::sync::oneshot;

/// How long the end of the members, and then of the producer, may take.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The Kafka transport. Nothing is connected before it is used.
pub struct Kafka {
    options: Arc<Options>,
    producer: Producer,
    running: Mutex<Vec<Running>>,
    /// What is known of each subscription since it was declared or looked at.
    known: Mutex<HashMap<Arc<str>, Known>>,
    lost: Arc<Lost>,
    closed: AtomicBool,
}

/// A subscription, and the retry topics of delays that are no longer in its ladder: what is left in them is work.
#[derive(Clone)]
struct Known {
    subscription: Subscription,
    strays: Vec<String>,
}

/// A member's thread.
struct Running {
    /// `None`: it is no member of the subscription's groups.
    subscription: Option<Arc<str>>,
    inbound: Arc<Inbound>,
    ended: oneshot::Receiver<()>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("brokers", &self.options.brokers).finish_non_exhaustive()
    }
}

impl Kafka {
    /// With these options.
    pub fn new(options: Options) -> Self {
        let producer = Producer::new(&options);
        Self {
            options: Arc::new(options),
            producer,
            running: Mutex::default(),
            known: Mutex::default(),
            lost: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Records that were deleted before this process' groups handled them.
    pub fn lost_records(&self) -> u64 {
        self.lost.records()
    }

    fn known(&self, subscription: &str) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(subscription).cloned()
    }

    fn learn(&self, endpoints: &Endpoints, strays: &[Stray]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for subscription in &endpoints.subscriptions {
            let strays = strays.iter().filter(|stray| stray.subscription == *subscription.name);
            let strays = strays.map(|stray| stray.topic.clone()).collect();
            known.insert(subscription.name.clone(), Known { subscription: subscription.clone(), strays });
        }
    }

    fn start(
        &self,
        subscription: &Subscription,
        role: Role,
        topics: &[&str],
        group: &str,
        inbound: &Arc<Inbound>,
    ) -> Result<(), TransportError> {
        let wake = Arc::new(Wake::default());
        let mut consumer: BaseConsumer<Notes> = self
            .options
            .member(group)
            .create_with_context(Notes::new(wake.clone()))
            .map_err(|error| TransportError::Unfit(format!("the client cannot be made: {error}")))?;
        let woken = wake.clone();
        consumer.set_nonempty_callback(move || woken.wake());
        consumer.subscribe(topics).map_err(|error| TransportError::Away(error.to_string()))?;
        inbound.add_wake(wake.clone());
        let member = Member::new(consumer, role, inbound.clone(), wake, self.options.clone(), self.lost.clone());
        self.spawn(format!("kafka {group}"), Some(&subscription.name), inbound, move || member.run())
    }

    fn spawn(
        &self,
        name: String,
        subscription: Option<&Arc<str>>,
        inbound: &Arc<Inbound>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), TransportError> {
        let (ended, end) = oneshot::channel();
        let guarded = inbound.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _ended = ended; // dropped last, and by a panic, too
            let _over = Over(guarded);
            run();
        });
        thread.map_err(|error| TransportError::Away(format!("no thread for a member: {error}")))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain_mut(|member| matches!(member.ended.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        running.push(Running { subscription: subscription.cloned(), inbound: inbound.clone(), ended: end });
        Ok(())
    }
}

/// A thread that ends tells the pipeline, whatever ended it.
struct Over(Arc<Inbound>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.end(TransportError::Away("a member of the group has ended; another one is made".into()));
    }
}

#[async_trait]
impl Transport for Kafka {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn promises(&self) -> Promises {
        Promises {
            order_per_key: true,
            row_per_subscription: false,
            keeps_rows: false,
            keeps_unheard: true,
            longest_delay: Duration::MAX,
            dead_letter_channel: true,
            max_bytes: produce::MAX_BYTES,
            delay_accuracy: Duration::from_secs(1),
        }
    }

    async fn about(&self) -> Result<String, TransportError> {
        let options = self.options.clone();
        let asked = tokio::task::spawn_blocking(move || reach::about(&options));
        asked.await.map_err(|error| TransportError::Away(error.to_string()))?
    }

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        let (topics, strays) = declare::declare(&self.options, endpoints).await?;
        self.producer.learn(&endpoints.subscriptions, topics);
        self.learn(endpoints, &strays);
        Ok(())
    }

    async fn inspect(&self, endpoints: &Endpoints) -> Result<Inspection, TransportError> {
        let seen = survey::survey(&self.options, endpoints).await?;
        self.learn(endpoints, &seen.strays);
        let mut told = seen.tell(&self.options).await?;
        told.refusals.extend(declare::groups(&self.options, endpoints).await?);
        Ok(told)
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(TransportError::Closed);
        }
        self.producer.get_ready();
        let inbound = Arc::new(Inbound::default());
        let listener = Listener(inbound.clone());
        let (name, channel) = (&subscription.name, &subscription.channel);
        self.start(subscription, Role::Channel, &[channel], name, &inbound)?;
        let mut retries: Vec<String> = subscription.delays.iter().map(|delay| topics::retry(name, *delay)).collect();
        retries.extend(self.known(name).into_iter().flat_map(|known| known.strays));
        if !retries.is_empty() {
            let retries: Vec<&str> = retries.iter().map(String::as_str).collect();
            self.start(subscription, Role::Retry, &retries, &topics::retry_group(name), &inbound)?;
        }
        Ok(Box::new(listener))
    }

    async fn reread(
        &self,
        subscription: &Subscription,
        stretch: &Stretch,
        progress: &Arc<Progress>,
    ) -> Result<Box<dyn Consumer>, TransportError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(TransportError::Closed);
        }
        let inbound = Arc::new(Inbound::default());
        let listener = Listener(inbound.clone());
        let name = format!("replay {}", subscription.name);
        let asked = (self.options.clone(), subscription.clone(), stretch.clone(), inbound.clone(), progress.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let (options, subscription, stretch, inbound, progress) = asked;
            Reread::begin(&options, &subscription, &stretch, inbound, progress)
        });
        let reading = reading.await.map_err(|error| TransportError::Away(error.to_string()))??;
        self.spawn(name, None, &inbound, move || reading.run())?;
        Ok(Box::new(listener))
    }

    fn take_losses(&self) -> Vec<Loss> {
        self.lost.take()
    }

    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        if self.closed.load(Ordering::Acquire) {
            return vec![Err(PublishError::Unknown("the transport is closed".into())); rows.len()];
        }
        self.producer.publish(destination, rows).await
    }

    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        let known = self.known(subscription);
        let Known { subscription, .. } =
            known.ok_or_else(|| TransportError::Unfit(format!("no subscription `{subscription}` in this process")))?;
        let unacked = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = running.iter().filter(|member| member.subscription.as_ref() == Some(&subscription.name));
            let mut counted: Vec<&Arc<Inbound>> = Vec::new();
            for member in ours {
                if !counted.iter().any(|inbound| Arc::ptr_eq(inbound, &member.inbound)) {
                    counted.push(&member.inbound);
                }
            }
            counted.iter().map(|inbound| inbound.open()).sum::<u64>()
        };
        let options = self.options.clone();
        let asked = tokio::task::spawn_blocking(move || depth::depth(&options, &subscription, unacked));
        asked.await.map_err(|error| TransportError::Away(error.to_string()))?
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for member in &running {
            member.inbound.enter(Stage::Closing);
        }
        // A client that hangs in its own end is left to the end of the process.
        let all = futures::future::join_all(running.into_iter().map(|member| member.ended));
        let _ = tokio::time::timeout(END_LIMIT, all).await;
        self.producer.close(END_LIMIT).await;
    }
}

/// One subscription at work. Dropped, it hands back what nobody began; what runs may end, then its members leave their groups.
struct Listener(Arc<Inbound>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.enter(Stage::Stopping);
    }
}

#[async_trait]
impl Consumer for Listener {
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        self.0.receive(room).await
    }

    /// The members leave their groups at once: what is held comes again, here or to a neighbour.
    async fn hand_back(self: Box<Self>) {
        self.0.enter(Stage::Closing);
    }
}
