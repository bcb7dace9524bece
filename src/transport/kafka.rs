//! Kafka: topics and consumer groups as channels and subscriptions.
//!
//! A partition's messages run side by side; what is committed is the offset below which all are finished. The group's records
//! and its retry topics are read by a member each, every member on a thread of its own, and both come to one pipeline.

mod declare;
mod group;
mod inbound;
mod member;
mod partition;
mod produce;
mod record;
mod start;
mod topics;
mod waiting;
mod watermark;

use super::{
    Consumer, Delivery, Depth, Destination, Endpoints, Promises, PublishError, Published, Room, Sending, Subscription,
    Transport, TransportError,
};
use async_trait::async_trait;
use group::Notes;
use inbound::{Inbound, Stage, Wake};
use member::{Member, Role};
use produce::Producer;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
};
use start::Lost;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// Members hear of a change in their group with the answer to a heartbeat: the partitions of one that stops move so soon.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How long the end of the members, and then of the producer, may take.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How the brokers are reached and what is made there.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port,host:port`: any of them tells of the others.
    pub brokers: String,
    /// Topics that are missing are made; else a start without them is refused.
    pub declare: bool,
    /// Partitions of a channel that is made.
    pub partitions: usize,
    /// Partitions of each retry topic that is made.
    pub retry_partitions: usize,
    /// Replicas of what is made; -1: as many as the broker's own default.
    pub replication: i32,
    /// How long what is made keeps its records.
    pub retention: Duration,
    /// How members agree on who reads what.
    pub protocol: GroupProtocol,
    /// Silent for so long, a member is taken for dead. With the protocol `consumer` the broker's setting counts.
    pub session_timeout: Duration,
    /// A worker that does not ask for records for so long is taken for stuck.
    pub max_poll_interval: Duration,
    /// What to do when records are gone that were never handled.
    pub on_lost: OnLost,
    /// A topic that could lose messages is only told of.
    pub warn_only: bool,
    /// Further settings of the client, by its own names: TLS and SASL.
    pub properties: BTreeMap<String, String>,
}

/// How members of a group agree on who reads what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The clients agree among themselves, `cooperative-sticky`.
    #[default]
    Classic,
    /// The broker decides (KIP-848).
    Consumer,
}

/// What to do when records are gone that were never handled. It is told loudly and counted either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLost {
    /// Go on with what is there.
    #[default]
    Continue,
    /// Stop the subscription until a person has decided.
    Stop,
}

impl Options {
    /// The defaults, for these brokers.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            declare: true,
            partitions: 6,
            retry_partitions: 1,
            replication: -1,
            retention: Duration::from_secs(7 * 86_400),
            protocol: GroupProtocol::default(),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
            on_lost: OnLost::default(),
            warn_only: false,
            properties: BTreeMap::new(),
        }
    }

    /// What all clients have in common.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "pitcrew")
            .set("allow.auto.create.topics", "false")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// A member of a group.
    fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("max.poll.interval.ms", self.max_poll_interval.as_millis().to_string())
            .set("auto.offset.reset", "error")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "100")
            // What the client reads ahead is beside what the worker holds.
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384");
        match self.protocol {
            GroupProtocol::Classic => config
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
                .set("heartbeat.interval.ms", (self.session_timeout / 4).min(HEARTBEAT).as_millis().to_string()),
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        config
    }
}

/// The Kafka transport. Nothing is connected before it is used.
pub struct Kafka {
    options: Arc<Options>,
    producer: Producer,
    running: Mutex<Vec<Running>>,
    /// The channel of each subscription, for its depth.
    channels: Mutex<HashMap<Arc<str>, Arc<str>>>,
    lost: Arc<Lost>,
    closed: AtomicBool,
}

/// A member's thread.
struct Running {
    subscription: Arc<str>,
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
            channels: Mutex::default(),
            lost: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Records that were deleted before this process' groups handled them.
    pub fn lost_records(&self) -> u64 {
        self.lost.records()
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
        let (ended, end) = oneshot::channel();
        let guarded = inbound.clone();
        let thread = std::thread::Builder::new().name(format!("kafka {group}")).spawn(move || {
            let _ended = ended; // dropped last, and by a panic, too
            let _over = Over(guarded);
            member.run();
        });
        thread.map_err(|error| TransportError::Away(format!("no thread for a member: {error}")))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain_mut(|member| matches!(member.ended.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        running.push(Running { subscription: subscription.name.clone(), inbound: inbound.clone(), ended: end });
        Ok(())
    }

    fn lag(&self, group: &str, topic: &str) -> KafkaResult<u64> {
        let consumer: BaseConsumer = self.options.client().set("group.id", group).create()?;
        let metadata = consumer.fetch_metadata(Some(topic), start::PATIENCE)?;
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            list.add_partition(topic, partition.id());
        }
        let mut lag = 0;
        for element in consumer.committed_offsets(list, start::PATIENCE)?.elements() {
            let (first, end) = consumer.fetch_watermarks(topic, element.partition(), start::PATIENCE)?;
            let begin = match element.offset() {
                Offset::Offset(offset) => offset.max(first),
                _ => first,
            };
            lag += u64::try_from(end - begin).unwrap_or_default();
        }
        Ok(lag)
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

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        let topics = declare::declare(&self.options, endpoints).await?;
        self.producer.learn(&endpoints.subscriptions, topics);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.extend(endpoints.subscriptions.iter().map(|s| (s.name.clone(), s.channel.clone())));
        Ok(())
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(TransportError::Closed);
        }
        let inbound = Arc::new(Inbound::default());
        let listener = Listener(inbound.clone());
        let (name, channel) = (&subscription.name, &subscription.channel);
        self.start(subscription, Role::Channel, &[channel], name, &inbound)?;
        let retries: Vec<String> = subscription.delays.iter().map(|delay| topics::retry(name, *delay)).collect();
        if !retries.is_empty() {
            let retries: Vec<&str> = retries.iter().map(String::as_str).collect();
            self.start(subscription, Role::Retry, &retries, &topics::retry_group(name), &inbound)?;
        }
        Ok(Box::new(listener))
    }

    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        if self.closed.load(Ordering::Acquire) {
            return vec![Err(PublishError::Unknown("the transport is closed".into())); rows.len()];
        }
        self.producer.publish(destination, rows).await
    }

    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        let channel = self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(subscription).cloned();
        let channel = channel
            .ok_or_else(|| TransportError::Unfit(format!("no subscription `{subscription}` in this process")))?;
        let unacked = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = running.iter().filter(|member| *member.subscription == *subscription);
            let mut counted: Vec<&Arc<Inbound>> = Vec::new();
            for member in ours {
                if !counted.iter().any(|inbound| Arc::ptr_eq(inbound, &member.inbound)) {
                    counted.push(&member.inbound);
                }
            }
            counted.iter().map(|inbound| inbound.open()).sum::<u64>()
        };
        let (group, this) = (subscription.to_owned(), Self::new((*self.options).clone()));
        let lag = tokio::task::spawn_blocking(move || this.lag(&group, &channel));
        let away = |error: KafkaError| TransportError::Away(error.to_string());
        let lag = lag.await.map_err(|error| TransportError::Away(error.to_string()))?.map_err(away)?;
        Ok(Depth { ready: Some(lag.saturating_sub(unacked)), unacked: Some(unacked), ..Depth::default() })
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
