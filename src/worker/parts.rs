//! The parts of a worker, made from its config and its list of handlers.

use super::{BUILD, Read};
use crate::{
    Handlers, clock,
    config::{self, ChannelName, Config, Dedup, Ordering, Problem, TooOld},
    handler::{Contract, Registry},
    lanes::Lanes,
    pipeline::{Gate, InFlight, Pipeline, Policy, Runner, Shared},
    store::{Retention, Sink, Store},
    telemetry::metrics::{Beats, Identity, Listens, Metrics, OTHER, Readers, Sends},
    topology::{Planned, Topology},
    transport::{Channel, Room, Subscription, Transport},
};
use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::AtomicUsize},
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// How long the store keeps what, and where it goes then.
pub(super) fn retention(config: &Config) -> Retention {
    let config::Retention { inbox, dead_letters, audit } = config.store.retention;
    Retention { inbox, letters: dead_letters, audit, sink: config.audit.sink.as_ref().map(Sink::new) }
}

/// All labels are known here: what the worker listens to, and where it sends.
pub(super) fn metrics(
    config: &Config,
    transport: &dyn Transport,
    subscriptions: &[Subscription],
    channels: &[Channel],
    readers: Option<Read>,
) -> Metrics {
    let listens = subscriptions.iter().map(|s| Listens {
        system: transport.kind_of(&s.name),
        subscription: &s.name,
        channel: &s.channel,
        types: &s.types,
    });
    let to_channels = channels.iter().map(|channel| (channel.name.to_string(), transport.kind_of(&channel.name)));
    let to_subscriptions = subscriptions.iter().flat_map(|s| {
        let system = transport.kind_of(&s.name);
        [(s.name.to_string(), system), (format!("{}.dead", s.name), system)]
    });
    let sends: BTreeMap<String, &'static str> = to_channels.chain(to_subscriptions).collect();
    let sends = sends.iter().map(|(destination, system)| Sends { system, destination });
    let named = config.channel.keys().map(|channel| transport.kind_of(channel.as_str()));
    let systems: BTreeSet<_> = named.chain(sends.clone().map(|sends| sends.system)).collect();
    let default = transport.kind_of(OTHER);
    let systems: Vec<_> = std::iter::once(default).chain(systems.into_iter().filter(|kind| *kind != default)).collect();
    let identity = Identity { service: config.service.as_str(), version: BUILD, systems: &systems };
    let readers = readers.map_or_else(|| Box::new(|builder| builder) as Readers, |Read(readers)| readers);
    Metrics::new(identity, &listens.collect::<Vec<_>>(), &sends.collect::<Vec<_>>(), readers)
}

pub(super) fn beats() -> Arc<Beats> {
    let began = clock::instant();
    Beats::new(move || began.elapsed())
}

/// What a start finds in its handlers and its config: no connection is made.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `None`: it cannot be told before the mistakes are mended.
    pub(crate) topology: Option<Topology>,
    /// Why a start would be refused.
    pub(crate) refusals: Vec<String>,
    /// What it would only warn about.
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn look(handlers: &Handlers, config: &Config) -> Plan {
    let contract = handlers.contract();
    let consumers = contract.consumers();
    let names: Vec<&str> = consumers.iter().map(String::as_str).collect();
    let problems = config.check().into_iter().chain(config.check_handlers(&names));
    let (refusals, warnings): (Vec<_>, Vec<_>) = problems.partition(|problem| problem.refuses(config.guarantees));
    let words = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>();
    let (mut refusals, warnings) = (words(refusals), words(warnings));
    let topology = Topology::plan(&contract, config).map_err(|mistakes| refusals.extend(mistakes)).ok();
    Plan { topology, refusals, warnings }
}

/// The topology of these handlers, or all refusals of a start at once.
pub(crate) fn plan(handlers: &Handlers, config: &Config) -> anyhow::Result<Topology> {
    let Plan { topology, refusals, warnings } = look(handlers, config);
    warnings.iter().for_each(|problem| warn!("{problem}"));
    match topology {
        Some(topology) if refusals.is_empty() => Ok(topology),
        _ => bail!("this start is refused:\n  - {}", refusals.join("\n  - ")),
    }
}

/// Handlers that ask for a transaction of a store that has none.
pub(crate) fn without_transaction(contract: &Contract, store: &str) -> Option<String> {
    (store != "postgres" && !contract.needs_postgres.is_empty()).then(|| {
        let handlers = contract.needs_postgres.join(", ");
        format!("the handlers of {handlers} use transaction(): start with --store postgres://…")
    })
}

pub(super) fn narrow(topology: &mut Topology, only: &[String]) -> anyhow::Result<()> {
    if only.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = topology.subscriptions.iter().map(|p| p.subscription.channel.to_string()).collect();
    for channel in only {
        if !known.contains(channel) {
            bail!("--channel {channel}: no handler of this build listens to it; known: {}", known.join(", "));
        }
    }
    topology.subscriptions.retain(|p| only.iter().any(|channel| **channel == *p.subscription.channel));
    Ok(())
}

pub(super) async fn first_seen(
    store: &dyn Store,
    registry: &Registry,
    now: DateTime<Utc>,
) -> anyhow::Result<HashMap<Arc<str>, DateTime<Utc>>> {
    let consumers: Vec<Arc<str>> = registry.consumers().map(|handler| handler.consumer.clone()).collect();
    let dates = store.register(&consumers, now).await.context("registering consumers")?;
    Ok(consumers.into_iter().zip(dates).collect())
}

pub(super) fn pipeline(
    config: &Config,
    registry: &Registry,
    first_seen: &HashMap<Arc<str>, DateTime<Utc>>,
    planned: Planned,
    shared: Arc<Shared>,
) -> anyhow::Result<Pipeline> {
    let Planned { subscription, handler_name } = planned;
    let name: ChannelName = subscription.channel.parse().context("the channel's name")?;
    let channel = config.channel(&name);
    let of_subscription: BTreeMap<_, _> = registry.of(handler_name.as_deref()).into_iter().collect();
    let wanted = of_subscription.into_iter().filter(|(ty, _)| subscription.types.iter().any(|t| t == ty));
    let runners = wanted.map(|(ty, registered)| {
        let section = config.handler(&registered.consumer);
        let runner = Runner {
            deadline: section.deadline.unwrap_or(channel.deadline),
            gate: Gate::new(
                registered.consumer.clone(),
                section.concurrency.unwrap_or(usize::MAX).min(channel.concurrency),
                registered.breakers.clone(),
            ),
            cap: section.concurrency.map(|cap| Arc::new(Semaphore::new(cap))),
            always_dedup: section.dedup == Dedup::Always || registered.external.is_some(),
            external: registered.external,
            first_seen: first_seen.get(&registered.consumer).copied().unwrap_or_default(),
            registered,
        };
        (ty, Arc::new(runner))
    });
    let runners = runners.collect();
    // Two budgets: slots for what runs, room for what waits or is finished and not yet committed.
    let room = Room { count: 2 * channel.concurrency + config.worker.finished, bytes: config.worker.in_flight_bytes };
    Ok(Pipeline {
        policy: Policy {
            ordered: channel.ordering == Ordering::Key,
            too_old_is_dead: channel.too_old == TooOld::Dead,
            retry: channel.retry,
            listed: channel.types,
        },
        slots: Arc::new(Semaphore::new(channel.concurrency)),
        outside: AtomicUsize::new(0),
        room: Arc::new(InFlight::new(room)),
        reception: Arc::default(),
        lanes: Arc::new(Lanes::default()),
        walks: TaskTracker::new(),
        subscription,
        runners,
        shared,
    })
}

/// Host and process, for people.
pub(super) fn place() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}:{}", if host.is_empty() { "localhost" } else { host }, std::process::id())
}
