//! Topology: which subscriptions and routes follow from the list of handlers and the config. Pure: no connection is made.

use crate::{
    config::{Config, Unrouted},
    handler::Contract,
    message::Intent,
    route::{self, Route, Router},
    transport::{Channel, Endpoints, Subscription, Transport},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// One subscription and the name of its handlers (`None`: those that share the service's).
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) subscription: Subscription,
    pub(crate) handler_name: Option<String>,
}

/// All that a start needs to know, or all that is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) subscriptions: Vec<Planned>,
    pub(crate) routes: BTreeMap<String, Route>,
}

impl Topology {
    /// Every mistake at once.
    pub(crate) fn plan(contract: &Contract, config: &Config) -> Result<Self, Vec<String>> {
        let mut mistakes = contract.mistakes.clone();
        let mut planned: BTreeMap<String, Planned> = BTreeMap::new();
        let mut routes = BTreeMap::new();
        for (ty, info) in &contract.types {
            let channel = match config.channel_of(ty, info.intent) {
                Ok(channel) => channel,
                Err(error) => {
                    mistakes.push(error.to_string());
                    continue;
                }
            };
            let settings = config.channel(&channel);
            let unrouted = match settings.unrouted {
                Unrouted::Hold => route::Unrouted::Hold,
                Unrouted::Drop => route::Unrouted::Drop,
            };
            let channel: Arc<str> = channel.as_str().into();
            routes.insert((*ty).to_owned(), Route { channel: channel.clone(), intent: info.intent, unrouted });
            for handler_name in &info.subscribers {
                let name = subscription_name(&channel, info.intent, handler_name.as_deref(), config.service.as_str());
                let entry = planned.entry(name.clone()).or_insert_with(|| Planned {
                    subscription: Subscription {
                        name: name.as_str().into(),
                        channel: channel.clone(),
                        intent: info.intent,
                        types: Vec::new(),
                        delays: settings.retry.tiers.clone(),
                    },
                    handler_name: handler_name.clone(),
                });
                if entry.subscription.intent != info.intent {
                    mistakes.push(format!("channel `{channel}` carries commands and events; give them a channel each"));
                }
                entry.subscription.types.push((*ty).to_owned());
            }
        }
        if mistakes.is_empty() {
            Ok(Self { subscriptions: planned.into_values().collect(), routes })
        } else {
            Err(mistakes)
        }
    }

    /// What a transport has to make or verify.
    pub(crate) fn endpoints(&self, config: &Config) -> Endpoints {
        let mut channels: BTreeMap<Arc<str>, Channel> = BTreeMap::new();
        for (ty, route) in &self.routes {
            let empty = || Channel { name: route.channel.clone(), intent: route.intent, types: Vec::new() };
            channels.entry(route.channel.clone()).or_insert_with(empty).types.push(ty.clone());
        }
        for name in &config.replyto_allowed {
            let name: Arc<str> = name.as_str().into();
            // An answer is for whoever asked: it waits in one queue.
            let answers = || Channel { name: name.clone(), intent: Intent::Command, types: Vec::new() };
            channels.entry(name.clone()).or_insert_with(answers);
        }
        Endpoints {
            subscriptions: self.subscriptions.iter().map(|p| p.subscription.clone()).collect(),
            channels: channels.into_values().collect(),
        }
    }

    /// The channels whose broker takes less than the config lets through.
    fn narrow(&self, config: &Config, transport: &dyn Transport) -> HashMap<Arc<str>, usize> {
        let limits = self.routes.values().map(|r| (r.channel.clone(), transport.promises_of(&r.channel).max_bytes));
        limits.filter(|(_, limit)| *limit < config.worker.payload_limit).collect()
    }

    /// The routing table over these routes.
    pub(crate) fn router(&self, contract: &Contract, config: &Config, transport: &dyn Transport) -> Router {
        let promises = transport.promises();
        let subscribers = promises.row_per_subscription.then(|| {
            let mut by_channel: HashMap<Arc<str>, Vec<Subscription>> = HashMap::new();
            for Planned { subscription, .. } in &self.subscriptions {
                by_channel.entry(subscription.channel.clone()).or_default().push(subscription.clone());
            }
            by_channel
        });
        Router {
            source: format!("/{}", config.service.as_str()),
            systems: self.routes.values().map(|r| (r.channel.clone(), transport.kind_of(&r.channel))).collect(),
            routes: self.routes.clone(),
            declared: contract.types.iter().filter(|(_, info)| info.emitted).map(|(ty, _)| (*ty).to_owned()).collect(),
            rows: contract.rows.clone(),
            subscribers,
            narrow: self.narrow(config, transport),
            max_bytes: config.worker.payload_limit,
            replyto_allowed: config.replyto_allowed.iter().map(|name| name.as_str().to_owned()).collect(),
        }
    }
}

/// Commands of a channel share its queue; every service has its own queue or group of an event channel, and so has a named handler.
fn subscription_name(channel: &str, intent: Intent, handler_name: Option<&str>, service: &str) -> String {
    match (handler_name, intent) {
        (Some(name), _) => format!("{channel}.{name}"),
        (None, Intent::Command) => channel.to_owned(),
        (None, Intent::Event) => format!("{channel}.{service}"),
    }
}
