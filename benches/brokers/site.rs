//! A broker as the bench sees it, and the channels of one arm on it: a full queue of commands in, a queue of events out.

use crate::{
    kafka, rabbitmq,
    work::{SLOTS, Work, Worked},
};
use anyhow::{Context as _, ensure};
use pitcrew::{
    Envelope, Message, clock,
    config::{ChannelConfig, Config, TransportConfig},
    message::Intent,
    store::{Destination, OutboxRow, Purpose},
    transport::{Channel, Endpoints, Published, Sending, Subscription, Transport},
    worker::open_transport,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// Nothing that an arm waits for takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Rows in one publish, as a worker's relay has them.
const BATCH: usize = 256;
/// Their bytes.
const BYTES: usize = 4 << 20;
/// How often it is asked whether an arm has ended.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    RabbitMq,
    Kafka,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
        }
    }
}

/// Where it is.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Broker {
    pub(crate) kind: Kind,
    pub(crate) url: String,
}

impl Broker {
    /// `None`, said so: there is none to be measured.
    pub(crate) fn given(kind: Kind) -> Option<Self> {
        let (name, variable) = match kind {
            Kind::RabbitMq => ("RabbitMQ", "PITCREW_RABBITMQ_URL"),
            Kind::Kafka => ("Kafka", "PITCREW_KAFKA_URL"),
        };
        let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
        if url.is_none() {
            println!("skipped: no {name} ({variable})");
        }
        Some(Self { kind, url: url? })
    }

    /// Without a scheme: what librdkafka calls bootstrap servers.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").map_or(&*self.url, |(_, address)| address)
    }

    /// Host and port of the first one, without user and password.
    pub(crate) fn host(&self) -> &str {
        let host = self.address().rsplit_once('@').map_or(self.address(), |(_, host)| host);
        host.split(['/', '?', ',']).next().unwrap_or_default()
    }

    /// For whoever looks for its process.
    pub(crate) fn port(&self) -> Option<u16> {
        self.host().rsplit_once(':')?.1.parse().ok()
    }
}

/// The channels of one arm. A worker in another process works on the same ones.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) broker: Broker,
    prefix: String,
    /// Handlers at once.
    slots: usize,
    /// Of each channel; Kafka's word.
    pub(crate) partitions: usize,
}

impl Site {
    /// Makes them.
    pub(crate) async fn open(broker: &Broker, slots: usize, partitions: usize) -> anyhow::Result<Self> {
        let id = clock::uuid_v7().simple().to_string();
        let prefix = format!("bench-{}", &id[20..]);
        let site = Self { broker: broker.clone(), prefix, slots, partitions };
        let transport = site.transport()?;
        transport.declare(&site.endpoints()).await?;
        transport.close().await;
        Ok(site)
    }

    /// With as many handlers at once as the benches have, and one partition.
    pub(crate) async fn narrow(broker: &Broker) -> anyhow::Result<Self> {
        Self::open(broker, SLOTS, 1).await
    }

    pub(crate) fn commands(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    pub(crate) fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// The queue that hears the events; on Kafka nobody needs to.
    pub(crate) fn heard(&self) -> String {
        format!("{}.events.heard", self.prefix)
    }

    /// A worker's: the defaults, but for the names, the slots and the partitions.
    pub(crate) fn config(&self) -> Config {
        let mut transport = TransportConfig { url: self.broker.url.parse().expect("an address"), ..Default::default() };
        transport.kind = transport.url.kind();
        transport.kafka.partitions = self.partitions;
        let mut config = Config::default();
        config.transport.insert("default".parse().expect("a name"), transport);
        for (channel, ty) in [(self.commands(), Work::TYPE), (self.events(), Worked::TYPE)] {
            let settings = ChannelConfig { types: vec![ty.into()], concurrency: self.slots, ..Default::default() };
            config.channel.insert(channel.parse().expect("a channel's name"), settings);
        }
        config
    }

    pub(crate) fn transport(&self) -> anyhow::Result<Arc<dyn Transport>> {
        open_transport(&self.config())
    }

    fn endpoints(&self) -> Endpoints {
        let (commands, events): (Arc<str>, Arc<str>) = (self.commands().into(), self.events().into());
        let work = Subscription {
            name: commands.clone(),
            channel: commands.clone(),
            intent: Intent::Command,
            types: vec![Work::TYPE.into()],
            delays: ChannelConfig::default().retry.tiers,
        };
        let heard = Subscription {
            name: self.heard().into(),
            channel: events.clone(),
            intent: Intent::Event,
            types: vec![Worked::TYPE.into()],
            delays: Vec::new(),
        };
        let channels = vec![
            Channel { name: commands, intent: Intent::Command, types: vec![Work::TYPE.into()] },
            Channel { name: events, intent: Intent::Event, types: vec![Worked::TYPE.into()] },
        ];
        Endpoints { subscriptions: vec![work, heard], channels }
    }

    /// Puts so many commands there, counted from `from`, and waits for the confirms.
    pub(crate) async fn fill(&self, from: u64, count: usize, filler: usize) -> anyhow::Result<()> {
        let sender = self.sender().await?;
        sender.send(from, count, filler).await?;
        sender.close().await;
        Ok(())
    }

    pub(crate) async fn sender(&self) -> anyhow::Result<Sender> {
        let transport = self.transport()?;
        transport.declare(&self.endpoints()).await?;
        Ok(Sender { transport, destination: Destination::Channel(self.commands().into()) })
    }

    /// Returns when so many events are there.
    pub(crate) async fn heard_of(&self, count: usize) -> anyhow::Result<()> {
        self.heard_within(count, LIMIT).await
    }

    pub(crate) async fn heard_within(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut ear = Ear::open(self).await?;
        loop {
            let heard = ear.count().await?;
            if heard >= count {
                return Ok(());
            }
            ensure!(began.elapsed() < limit, "{heard} of {count} events came in {} s", limit.as_secs());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Every command is settled and each of `count` has its event, once. For an arm that has ended.
    pub(crate) async fn check(&self, count: usize) -> anyhow::Result<()> {
        self.check_settled().await?;
        let ids = match self.broker.kind {
            Kind::RabbitMq => rabbitmq::events(self, count).await?,
            Kind::Kafka => kafka::events(self).await?,
        };
        let distinct: HashSet<&String> = ids.iter().collect();
        ensure!(
            (ids.len(), distinct.len()) == (count, count),
            "{count} events were to be there once each: {} are, {} of them distinct",
            ids.len(),
            distinct.len()
        );
        Ok(())
    }

    /// Nothing is left that would be delivered again.
    pub(crate) async fn check_settled(&self) -> anyhow::Result<()> {
        let transport = self.transport()?;
        transport.declare(&self.endpoints()).await?;
        let began = Instant::now();
        loop {
            // What a broker takes back it counts a moment later.
            let left = transport.depth(&self.commands()).await?.ready;
            if left == Some(0) {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(5), "{left:?} commands were not settled");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        transport.close().await;
        Ok(())
    }

    /// Takes all of it away.
    pub(crate) async fn clear(self) -> anyhow::Result<()> {
        match self.broker.kind {
            Kind::RabbitMq => rabbitmq::clear(&self).await,
            Kind::Kafka => kafka::clear(&self).await,
        }
        .context("clearing the broker")
    }

    /// The delay queues or retry topics of the commands.
    pub(crate) fn delayed(&self) -> Vec<String> {
        let name = |delay: &Duration| format!("{}.retry.{}", self.commands(), pitcrew::config::format_duration(*delay));
        ChannelConfig::default().retry.tiers.iter().map(name).collect()
    }

    /// Is this one of ours?
    pub(crate) fn owns(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
    }
}

/// Whoever sends the commands.
pub(crate) struct Sender {
    transport: Arc<dyn Transport>,
    destination: Destination,
}

impl Sender {
    pub(crate) async fn send(&self, from: u64, count: usize, filler: usize) -> anyhow::Result<()> {
        // Of many letters, as payloads are: what a broker's client packs to nothing says nothing of the memory that it needs.
        let filler: String = std::iter::repeat_with(fastrand::alphanumeric).take(filler).collect();
        let numbers: Vec<u64> = (from..).take(count).collect();
        for batch in numbers.chunks((BYTES / (filler.len() + 1_024)).clamp(1, BATCH)) {
            let sending = |n: &u64| -> anyhow::Result<Sending> {
                let envelope = Arc::new(Envelope::of(&Work { n: *n, filler: filler.clone() }, "/shop")?);
                let (seq, destination) = (clock::uuid_v7(), self.destination.clone());
                let row = OutboxRow { seq, destination, due: None, key: None, purpose: Purpose::Message, envelope };
                Ok(Sending { row, begun: false })
            };
            let rows: Vec<Sending> = batch.iter().map(sending).collect::<Result<_, _>>()?;
            for answer in self.transport.publish(&self.destination, &rows).await {
                ensure!(answer.as_ref().is_ok_and(|sent| *sent == Published::Confirmed), "not sent: {answer:?}");
            }
        }
        Ok(())
    }

    pub(crate) async fn close(self) {
        self.transport.close().await;
    }
}

/// Counts the events that are there.
enum Ear {
    RabbitMq(Box<rabbitmq::Ear>),
    Kafka(kafka::Ear),
}

impl Ear {
    async fn open(site: &Site) -> anyhow::Result<Self> {
        Ok(match site.broker.kind {
            Kind::RabbitMq => Self::RabbitMq(Box::new(rabbitmq::Ear::open(site).await?)),
            Kind::Kafka => Self::Kafka(kafka::Ear::open(site)?),
        })
    }

    async fn count(&mut self) -> anyhow::Result<usize> {
        match self {
            Self::RabbitMq(ear) => ear.count().await,
            Self::Kafka(ear) => ear.count().await,
        }
    }
}
