//! Message Router over brokers: each channel on the one that carries it.

use super::{
    Consumer, Depth, Endpoints, Finding, Inspection, Loss, Progress, Promises, PublishError, Published, Sending,
    Stretch, Subscription, Transport, TransportError,
};
use crate::store::Destination;
use async_trait::async_trait;
use futures::future::join_all;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Several brokers as one, for a worker that listens to one and sends to another.
///
/// All of them keep messages themselves: with one whose outbox rows are the messages ([`Promises::keeps_rows`]) a row of another
/// would be taken for its own.
pub struct ByChannel {
    /// The first carries what nothing is said of.
    brokers: Vec<Broker>,
    /// By channel, and by subscription once it was declared: the place of its broker in that list.
    carriers: RwLock<HashMap<Arc<str>, usize>>,
}

/// A broker by its name in the config.
struct Broker {
    name: String,
    transport: Arc<dyn Transport>,
}

impl std::fmt::Debug for ByChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.brokers.iter().map(|broker| &broker.name)).finish()
    }
}

impl ByChannel {
    /// Of a broker that carries every channel.
    pub fn new(name: impl Into<String>, transport: Arc<dyn Transport>) -> Self {
        Self { brokers: vec![Broker { name: name.into(), transport }], carriers: RwLock::default() }
    }

    /// These channels are carried by this one instead.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        transport: Arc<dyn Transport>,
        channels: impl IntoIterator<Item = Arc<str>>,
    ) -> Self {
        let at = self.brokers.len();
        self.brokers.push(Broker { name: name.into(), transport });
        self.carriers.get_mut().unwrap_or_else(PoisonError::into_inner).extend(channels.into_iter().map(|c| (c, at)));
        self
    }

    fn place(&self, channel: &str) -> usize {
        self.carriers.read().unwrap_or_else(PoisonError::into_inner).get(channel).copied().unwrap_or_default()
    }

    /// Of a channel or a subscription. Whoever sweeps sends also what is for subscriptions that it did not declare (of a worker of other
    /// channels): their names begin with that of their channel.
    fn place_of(&self, name: &str) -> usize {
        let carriers = self.carriers.read().unwrap_or_else(PoisonError::into_inner);
        let mut names = std::iter::successors(Some(name), |name| Some(name.rsplit_once('.')?.0));
        names.find_map(|name| carriers.get(name).copied()).unwrap_or_default()
    }

    fn broker(&self, name: &str) -> &Broker {
        &self.brokers[self.place_of(name)]
    }

    fn carrier(&self, name: &str) -> &dyn Transport {
        &*self.broker(name).transport
    }

    fn learn(&self, name: &Arc<str>, at: usize) {
        self.carriers.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), at);
    }

    /// What each of them is asked for; those that are asked for nothing need not be there.
    fn shares(&self, endpoints: &Endpoints) -> Vec<(&Broker, Endpoints)> {
        self.know(endpoints);
        let mut shares = vec![Endpoints::default(); self.brokers.len()];
        for channel in &endpoints.channels {
            shares[self.place(&channel.name)].channels.push(channel.clone());
        }
        for subscription in &endpoints.subscriptions {
            shares[self.place(&subscription.channel)].subscriptions.push(subscription.clone());
        }
        self.brokers.iter().zip(shares).filter(|(_, share)| *share != Endpoints::default()).collect()
    }
}

impl Broker {
    fn told(&self, error: TransportError) -> TransportError {
        match error {
            TransportError::Away(why) => TransportError::Away(format!("[transport.{}] {why}", self.name)),
            TransportError::Unfit(why) => TransportError::Unfit(format!("[transport.{}] {why}", self.name)),
            TransportError::Closed => TransportError::Closed,
        }
    }
}

#[async_trait]
impl Transport for ByChannel {
    fn kind(&self) -> &'static str {
        let first = self.brokers[0].transport.kind();
        if self.brokers.iter().all(|broker| broker.transport.kind() == first) { first } else { "several" }
    }

    fn kind_of(&self, name: &str) -> &'static str {
        self.carrier(name).kind()
    }

    fn know(&self, endpoints: &Endpoints) {
        // Also what the first carries: `car.events` need not be where `car` is.
        endpoints.channels.iter().for_each(|channel| self.learn(&channel.name, self.place(&channel.name)));
        for subscription in &endpoints.subscriptions {
            // Its name alone need not tell its channel: `car.events.audit` may be a channel, or a handler's part of one.
            self.learn(&subscription.name, self.place(&subscription.channel));
        }
    }

    /// What all of them promise.
    fn promises(&self) -> Promises {
        let all = self.brokers.iter().map(|broker| broker.transport.promises());
        let both = |one: Promises, other: Promises| Promises {
            order_per_key: one.order_per_key && other.order_per_key,
            row_per_subscription: one.row_per_subscription || other.row_per_subscription,
            keeps_unheard: one.keeps_unheard && other.keeps_unheard,
            keeps_rows: one.keeps_rows && other.keeps_rows,
            longest_delay: one.longest_delay.min(other.longest_delay),
            dead_letter_channel: one.dead_letter_channel && other.dead_letter_channel,
            max_bytes: one.max_bytes.min(other.max_bytes),
            delay_accuracy: one.delay_accuracy.max(other.delay_accuracy),
        };
        let first = self.brokers[0].transport.promises();
        all.fold(first, both)
    }

    fn promises_of(&self, name: &str) -> Promises {
        self.carrier(name).promises()
    }

    fn carrier_of(&self, name: &str) -> &str {
        &self.broker(name).name
    }

    async fn about(&self) -> Result<String, TransportError> {
        let asked = join_all(self.brokers.iter().map(|broker| broker.transport.about())).await;
        let told = self.brokers.iter().zip(asked).map(|(broker, about)| match about {
            Ok(about) => Ok(format!("{}: {about}", broker.name)),
            Err(error) => Err(broker.told(error)),
        });
        Ok(told.collect::<Result<Vec<_>, _>>()?.join("; "))
    }

    async fn declare(&self, endpoints: &Endpoints) -> Result<(), TransportError> {
        let shares = self.shares(endpoints);
        let made = join_all(shares.iter().map(|(broker, share)| broker.transport.declare(share))).await;
        let told = shares.iter().zip(made).map(|((broker, _), made)| made.map_err(|error| broker.told(error)));
        told.collect()
    }

    async fn inspect(&self, endpoints: &Endpoints) -> Result<Inspection, TransportError> {
        let shares = self.shares(endpoints);
        let seen = join_all(shares.iter().map(|(broker, share)| broker.transport.inspect(share))).await;
        let mut whole = Inspection::default();
        for ((broker, _), seen) in shares.iter().zip(seen) {
            let Inspection { findings, reach, refusals } = seen.map_err(|error| broker.told(error))?;
            let named = |finding: Finding| Finding { thing: format!("{}: {}", broker.name, finding.thing), ..finding };
            whole.findings.extend(findings.into_iter().map(named));
            whole.refusals.extend(refusals.into_iter().map(|refusal| format!("[transport.{}] {refusal}", broker.name)));
            if !reach.is_empty() {
                let gap = if whole.reach.is_empty() { "" } else { " " };
                whole.reach += &format!("{gap}{}: {reach}", broker.name);
            }
        }
        Ok(whole)
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        let broker = self.broker(&subscription.channel);
        broker.transport.subscribe(subscription).await.map_err(|error| broker.told(error))
    }

    async fn publish(&self, destination: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let at = match destination {
            Destination::Channel(name) => self.place(name),
            Destination::Subscription(name) | Destination::Dead(name) => self.place_of(name),
        };
        self.brokers[at].transport.publish(destination, rows).await
    }

    async fn depth(&self, subscription: &str) -> Result<Depth, TransportError> {
        let broker = self.broker(subscription);
        broker.transport.depth(subscription).await.map_err(|error| broker.told(error))
    }

    async fn buried(&self, subscription: &Subscription) -> Result<Option<Box<dyn Consumer>>, TransportError> {
        self.carrier(&subscription.channel).buried(subscription).await
    }

    async fn reread(
        &self,
        subscription: &Subscription,
        stretch: &Stretch,
        progress: &Arc<Progress>,
    ) -> Result<Box<dyn Consumer>, TransportError> {
        self.carrier(&subscription.channel).reread(subscription, stretch, progress).await
    }

    fn take_losses(&self) -> Vec<Loss> {
        self.brokers.iter().flat_map(|broker| broker.transport.take_losses()).collect()
    }

    async fn close(&self) {
        join_all(self.brokers.iter().map(|broker| broker.transport.close())).await;
    }
}
