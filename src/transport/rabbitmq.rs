//! RabbitMQ, 3.10 and 4.x: quorum queues, no plugin.
//!
//! A connection to consume and one to publish, so that an alarm which blocks publishing never delays an ack. Commands go to a
//! direct exchange and events to a topic exchange of the channel's name; a retry waits in a queue of its delay, which buries it
//! back into where it came from. `docs/rabbitmq.md` tells operators the same.

mod convert;
mod danger;
mod declare;
mod depth;
mod greeting;
mod hosts;
mod inspect;
mod ledger;
mod life;
mod link;
mod listener;
mod login;
mod management;
mod prefetch;
mod publisher;
mod recovery;
mod strays;
mod tls;
mod topology;
mod trouble;

use super::{
    Consumer, Depth, Destination, Endpoints, Inspection, Promises, PublishError, Published, Sending, Subscription,
    Transport, TransportError,
};
use crate::{
    clock,
    config::{Hidden, ManagementUrl},
    message::wire::Prefix,
};
use async_trait::async_trait;
use lapin::uri::{AMQPScheme, AMQPUri};
use link::{Address, Link};
use listener::{Ground, Listener};
use login::Login;
use management::Management;
use publisher::{Publisher, Route};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tls::Tls;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

/// Without a sign of life for twice as long a connection is lost.
const HEARTBEAT: u16 = 10;

/// A worker that starts waits so long for its broker.
const AT_START: Duration = Duration::from_secs(10);

/// Whoever only asks whether it is there waits so long.
const ONCE: Duration = Duration::from_secs(3);

/// A subscription waits so long at a time.
const TO_CONSUME: Duration = Duration::from_secs(3_600);

/// Dead letters that are collected at once.
const DEAD_AT_ONCE: usize = 64;

/// Acks and the end of what is held may take so long at the end.
const TO_CLOSE: Duration = Duration::from_secs(5);

/// What is not in the URL.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the connections: the service.
    pub name: String,
    /// Makes what is missing. Without it the topology is verified only, and the user needs no `configure` permission.
    pub declare: bool,
    /// Who logs in, if the URL does not say.
    pub user: Option<String>,
    /// The password, if the URL has none.
    pub password: Option<Hidden>,
    /// Certificates that the broker's may be signed by (PEM), in place of the system's.
    pub ca: Option<String>,
    /// Who we are to a broker that asks for a certificate. Without a password it is the login too.
    pub identity: Option<Identity>,
    /// The management API, if it may be asked.
    pub management: Option<ManagementUrl>,
    /// What the names of attributes begin with in what is sent, by channel, where it is not `cloudEvents_`.
    pub prefixes: HashMap<String, Prefix>,
    /// Handlers that run at once, by channel.
    pub concurrency: HashMap<String, usize>,
    /// The same for every other channel.
    pub default_concurrency: usize,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and those between it and one that the broker knows (PEM).
    pub certificate: String,
    /// Its private key (PEM, not encrypted).
    pub key: Hidden,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "pitcrew".into(),
            declare: true,
            user: None,
            password: None,
            ca: None,
            identity: None,
            management: None,
            prefixes: HashMap::new(),
            concurrency: HashMap::new(),
            default_concurrency: 64,
        }
    }
}

/// The RabbitMQ transport. Connects when it is first asked for something.
pub struct RabbitMq {
    options: Options,
    consuming: Link,
    publishing: Link,
    publisher: Publisher,
    management: Option<Management>,
    known: RwLock<Known>,
    /// One task for each life of a channel that consumes.
    lives: TaskTracker,
    closing: CancellationToken,
}

/// What `declare` was told.
#[derive(Default)]
struct Known {
    subscriptions: HashMap<Arc<str>, Subscription>,
    /// Channels that are a queue: `replyto` names them.
    answers: HashSet<Arc<str>>,
}

impl std::fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitMq").field("options", &self.options).finish_non_exhaustive()
    }
}

impl RabbitMq {
    /// A transport to the broker of this `amqp://` or `amqps://` URL, or to the cluster whose nodes are its hosts, divided by
    /// commas. No connection is made yet.
    ///
    /// # Errors
    /// It is no such URL (which is not shown: it may hold a password), or what is in the options cannot be used.
    pub fn new(url: &str, options: Options) -> Result<Self, TransportError> {
        let mut hosts =
            hosts::each(url).iter().map(|url| url.parse()).collect::<Result<Vec<AMQPUri>, _>>().map_err(|_| {
                TransportError::Unfit("the url of the transport is no amqp://user:password@host:5672/vhost".into())
            })?;
        for uri in &mut hosts {
            // Without a path the broker's default vhost is meant, as every other client reads it.
            if uri.vhost.is_empty() {
                uri.vhost = "/".into();
            }
            uri.query.heartbeat.get_or_insert(HEARTBEAT);
        }
        let mut logins: Vec<Login> = hosts.iter_mut().map(|uri| Login::of(url, uri, &options)).collect();
        // They differ in their host alone.
        let (uri, login) = (hosts[0].clone(), logins.swap_remove(0));
        let (amqps, https) =
            (uri.scheme == AMQPScheme::AMQPS, options.management.as_ref().is_some_and(|m| m.is_encrypted()));
        let tls = (amqps || https).then(|| Tls::new(options.ca.as_deref(), options.identity.as_ref()));
        let tls = tls.transpose().map_err(TransportError::Unfit)?;
        let connector = tls.as_ref().map(Tls::connector).transpose().map_err(TransportError::Unfit)?.filter(|_| amqps);
        let ask = |url: &ManagementUrl| Management::new(url.expose(), &login, &uri.vhost, tls.as_ref());
        let management = options.management.as_ref().map(ask).transpose().map_err(TransportError::Unfit)?;
        let address = Arc::new(Address { hosts, login, tls: connector, name: options.name.clone() });
        let consuming = Link::new(address.clone(), "consume");
        let publishing = Link::new(address, "publish");
        Ok(Self {
            publisher: Publisher::new(publishing.clone()),
            options,
            management,
            consuming,
            publishing,
            known: RwLock::default(),
            lives: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Where a row goes: to the exchange of its channel, or through the default exchange into a queue.
    fn route(&self, to: &Destination, sending: &Sending) -> Result<Route, PublishError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let queue = |key: String| Route { exchange: String::new(), key };
        let envelope = &sending.row.envelope;
        Ok(match to {
            Destination::Channel(name) if known.answers.contains(name) => queue(name.to_string()),
            Destination::Channel(name) => Route { exchange: name.to_string(), key: envelope.ty.clone() },
            Destination::Dead(name) => match known.subscriptions.get(name) {
                Some(subscription) => {
                    Route { exchange: topology::dead_exchange(&subscription.channel), key: name.to_string() }
                }
                None => queue(topology::dead_queue(name)),
            },
            Destination::Subscription(name) => {
                let left = envelope.hop.due.map(|due| clock::between(clock::now(), due)).filter(|left| !left.is_zero());
                let Some(left) = left else { return Ok(queue(name.to_string())) };
                let delays = known.subscriptions.get(name).map(|subscription| subscription.delays.as_slice());
                let delays = delays.unwrap_or_default();
                match delays.iter().find(|delay| **delay >= left).or(delays.last()) {
                    Some(delay) => queue(topology::delay_queue(name, *delay)),
                    None => {
                        let why = format!("this process does not know the delay queues of `{name}`");
                        return Err(PublishError::Refused(why));
                    }
                }
            }
        })
    }

    /// How attributes are written there: as the channel wants it, in its retries and dead letters too.
    fn prefix(&self, to: &Destination) -> Prefix {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let channel = match to {
            Destination::Channel(name) => name,
            Destination::Dead(name) | Destination::Subscription(name) => {
                known.subscriptions.get(name).map_or(name, |subscription| &subscription.channel)
            }
        };
        self.options.prefixes.get(&**channel).copied().unwrap_or(Prefix::CloudEvents)
    }

    async fn listen(&self, to: &Subscription, queue: Arc<str>, least: usize) -> Result<Listener, TransportError> {
        let connection = self.consuming.connection(TO_CONSUME, false).await?;
        let dead = queue != to.name;
        let ground = || Ground { tasks: self.lives.clone(), closing: self.closing.clone(), dead };
        let listener = match Listener::open(&connection, queue.clone(), least, ground()).await {
            // Somebody deleted the queue: made again, with all that belongs to it.
            Err(error) if trouble::is_missing(&error) => {
                let endpoints = Endpoints { subscriptions: vec![to.clone()], channels: Vec::new() };
                self.make(&topology::items(&endpoints).map_err(TransportError::Unfit)?).await?;
                Listener::open(&connection, queue.clone(), least, ground()).await
            }
            opened => opened,
        };
        listener.map_err(|error| trouble::operating(&format!("consume from `{queue}`"), &error))
    }

    fn learn(&self, endpoints: &Endpoints) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for subscription in &endpoints.subscriptions {
            known.subscriptions.insert(subscription.name.clone(), subscription.clone());
        }
        let answers = endpoints.channels.iter().filter(|channel| channel.types.is_empty());
        known.answers.extend(answers.map(|channel| channel.name.clone()));
    }

    async fn make(&self, items: &[topology::Item]) -> Result<(), TransportError> {
        let connection = self.consuming.connection(AT_START, false).await?;
        declare::all(&connection, items, self.options.declare).await
    }
}

#[async_trait]
impl Transport for RabbitMq {
    fn kind(&self) -> &'static str {
        "rabbitmq"
    }

    fn promises(&self) -> Promises {
        Promises {
            order_per_key: true,
            row_per_subscription: false,
            keeps_unheard: false,
            keeps_rows: false,
            longest_delay: Duration::from_secs(365 * 86_400),
            dead_letter_channel: true,
            max_bytes: publisher::MOST_BYTES,
            // Measured: a hundredth of that. Thousands that come due at once are moved one after another.
            delay_accuracy: Duration::from_secs(1),
        }
    }

    async fn about(&self) -> Result<String, TransportError> {
        let connection = self.consuming.first_answer(ONCE).await?;
        let (user, vhost) = (connection.status().username(), connection.status().vhost());
        // Behind TLS it would be a second handshake, for one word.
        let place = self.consuming.plain();
        let asked = tokio::task::spawn_blocking(move || place.and_then(|(host, port)| greeting::version(&host, port)));
        let version = asked.await.ok().flatten().map(|version| format!(" {version}")).unwrap_or_default();
        Ok(format!("RabbitMQ{version}, user {user}, vhost {vhost}"))
    }

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        let items = topology::items(endpoints).map_err(TransportError::Unfit)?;
        self.make(&items).await?;
        self.learn(endpoints);
        Ok(())
    }

    async fn inspect(&self, endpoints: &Endpoints) -> Result<Inspection, TransportError> {
        let items = topology::items(endpoints).map_err(TransportError::Unfit)?;
        let connection = self.consuming.connection(AT_START, false).await?;
        self.learn(endpoints);
        inspect::inspect(&connection, endpoints, &items, self.management.as_ref()).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        let concurrency = self.options.concurrency.get(&*subscription.channel);
        let least = 2 * concurrency.copied().unwrap_or(self.options.default_concurrency);
        Ok(Box::new(self.listen(subscription, subscription.name.clone(), least).await?))
    }

    async fn buried(&self, subscription: &Subscription) -> Result<Option<Box<dyn Consumer>>, TransportError> {
        let dead = topology::dead_queue(&subscription.name).into();
        Ok(Some(Box::new(self.listen(subscription, dead, DEAD_AT_ONCE).await?)))
    }

    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let prefix = self.prefix(destination);
        self.publisher.publish(destination, rows, prefix, |sending| self.route(destination, sending)).await
    }

    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        let connection = self.consuming.connection(AT_START, false).await?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).subscriptions.get(subscription).cloned();
        depth::depth(&connection, self.management.as_ref(), subscription, known.as_ref()).await
    }

    async fn close(&self) {
        self.closing.cancel();
        // Consumers were dropped before; what they still hold is given back by the end of its channel.
        self.lives.close();
        if tokio::time::timeout(TO_CLOSE, self.lives.wait()).await.is_err() {
            warn!("the last acks did not end in time; their messages come again");
        }
        tokio::join!(self.publishing.close(), self.consuming.close());
    }
}
