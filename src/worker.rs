//! Polling Consumer's owner: one worker process, from its start with every check to its ordered end.

mod gather;
#[cfg(feature = "kafka")]
mod kafka;
mod lag;
mod losses;
mod open;
mod parts;
mod replay;
mod upkeep;
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "part of it is shown by the HTTP door alone"))]
mod view;

pub use crate::pipeline::HandlerStatus;
pub(crate) use lag::{Lag, Lags};
pub(crate) use losses::LOST;
pub(crate) use open::{Carrier, look_at_store, open_carriers, patiently};
pub use open::{Opened, open_store, open_transport};
pub(crate) use parts::{Plan, look, plan, without_transaction};
pub(crate) use replay::Replay;
pub(crate) use upkeep::BEAT;
pub(crate) use view::View;

use crate::{
    Handlers, clock,
    committer::{Committer, Counters, Limits},
    config::Config,
    pipeline::{Claims, Gate, Shared},
    relay::{Relay, Settings},
    store::{Store, WorkerRecord},
    telemetry::metrics::Readers,
    transport::{Subscription, Transport},
};
use anyhow::{Context as _, bail};
use losses::Losses;
use parts::{beats, first_seen, metrics, narrow, pipeline, place, retention};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use uuid::Uuid;

/// How long the relay and the last commits may take at the end; what is left stays rows.
const END_LIMIT: Duration = Duration::from_secs(5);

const MISSED: &str = "could not sign off; another worker takes over this one's outbox rows when it is missed";

/// The version of this build, as stored beside what it does.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// A worker before its start.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    handlers: Handlers,
    only_channels: Vec<String>,
    patience: Duration,
    readers: Option<Read>,
}

/// Who reads what is measured.
struct Read(Readers);

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readers")
    }
}

/// A worker at work. Dropped without [`shutdown`](Running::shutdown) it goes on until its runtime ends.
pub struct Running {
    id: Uuid,
    config: Config,
    shared: Arc<Shared>,
    relay: Relay,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    subscriptions: Vec<Subscription>,
    doors: Vec<(Arc<str>, Arc<Gate>)>,
    consumers: TaskTracker,
    committer: JoinHandle<()>,
    relay_stop: CancellationToken,
    give_up: CancellationToken,
    upkeep: TaskTracker,
    losses: Arc<Losses>,
    view: Arc<View>,
    #[cfg(feature = "http")]
    door: Option<crate::http::Door>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker of these handlers.
    pub fn new(config: Config, handlers: Handlers) -> Self {
        Self { config, handlers, only_channels: Vec::new(), patience: Duration::ZERO, readers: None }
    }

    /// Works these channels only.
    pub fn channels(mut self, channels: Vec<String>) -> Self {
        self.only_channels = channels;
        self
    }

    /// Waits so long for a broker that does not answer yet. Without it a start fails at once.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Who reads what is measured: a pull, a push, or both. Called once, at the start.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "the HTTP door reads"))]
    pub(crate) fn read_by(mut self, readers: Readers) -> Self {
        self.readers = Some(Read(match self.readers.take() {
            None => readers,
            Some(Read(before)) => Box::new(|builder| readers(before(builder))),
        }));
        self
    }

    /// Checks everything and begins to work. All refusals of the set-up at once.
    ///
    /// # Errors
    /// Config, handlers, store or transport cannot keep the promises; each line says what to do.
    pub async fn start(self, store: Arc<dyn Store>, transport: Arc<dyn Transport>) -> anyhow::Result<Running> {
        let Self { config, handlers, only_channels, patience, readers } = self;
        let contract = handlers.contract();
        let mut topology = plan(&handlers, &config)?;
        narrow(&mut topology, &only_channels)?;
        let migrated = store.migrate().await.context("migrating the store")?;
        if migrated.from != migrated.to {
            info!(from = migrated.from, to = migrated.to, store = store.kind(), "migrated the store");
        }
        for warning in store.check(&contract.rows).await.context("checking the store")? {
            warn!("{warning}");
        }
        if let Some(refusal) = without_transaction(&contract, store.kind()) {
            bail!(refusal);
        }
        let sections = config.handlers.iter().map(|(name, section)| (name.clone(), section.own.clone())).collect();
        let registry = handlers.build(sections, store.postgres_pool()).await?;

        let endpoints = topology.endpoints(&config);
        // Before it is entered as a worker: one that is refused here never was one.
        patiently(patience, async || transport.declare(&endpoints).await.context("preparing the broker")).await?;

        let (now, id) = (clock::now(), clock::uuid_v7());
        let record = WorkerRecord { id, service: config.service.as_str().into(), place: place(), build: BUILD.into() };
        store.start_worker(&record, now).await.context("entering the table of workers")?;
        let retention = retention(&config);
        store.maintain(&retention.at_start(), now).await.context("making room for today's messages")?;
        upkeep::redrive(&*store, &registry, id, now).await.context("re-driving what waited for this build")?;
        let first_seen = first_seen(&*store, &registry, now).await?;

        let subscriptions = endpoints.subscriptions;
        let router = Arc::new(topology.router(&contract, &config, &*transport));
        let (relay_stop, give_up, stop) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let metrics = Arc::new(metrics(&config, &*transport, &subscriptions, &endpoints.channels, readers));
        let beats = beats();
        let settings = Settings {
            router: router.clone(),
            metrics: metrics.clone(),
            beats: beats.clone(),
            ..Settings::new(id, BUILD.into())
        };
        let relay = Relay::start(store.clone(), transport.clone(), settings, relay_stop.clone());
        let limits = Limits {
            commits: config.worker.commits,
            messages: config.worker.batch,
            worth: (config.worker.batch / 2).max(1),
            finished: config.worker.finished,
            ..Limits::default()
        };
        let measured = (metrics.clone(), &beats);
        let (committer, committing) =
            Committer::start(store.clone(), relay.clone(), id, limits, give_up.clone(), measured);
        let shared = Arc::new(Shared {
            worker: id,
            build: BUILD.into(),
            store: store.clone(),
            transport: transport.clone(),
            committer,
            metrics: metrics.clone(),
            beats: beats.clone(),
            router,
            payload_limit: config.worker.payload_limit,
            inbox_retention: config.store.retention.inbox,
            ack_timeout: config.worker.ack_timeout,
            claims: Claims::default(),
            solo: Arc::default(),
            stop,
            cancelled: CancellationToken::new(),
            drop_running: CancellationToken::new(),
        });
        let (consumers, mut doors, mut watched) = (TaskTracker::new(), upkeep::Doors::new(), Vec::new());
        for planned in topology.subscriptions {
            let pipeline = Arc::new(pipeline(&config, &registry, &first_seen, planned, shared.clone())?);
            watched.push(view::Watched::of(&pipeline));
            let name = &pipeline.subscription.name;
            doors.extend(pipeline.runners.iter().map(|(ty, runner)| (*ty, name.clone(), runner.gate.clone())));
            consumers.spawn(pipeline.clone().collect());
            consumers.spawn(pipeline.consume());
        }
        let upkeep = TaskTracker::new();
        let losses = Arc::new(Losses::new(store.clone(), transport.clone(), id));
        let told = doors.clone();
        upkeep.spawn(upkeep::run(
            store.clone(),
            record,
            retention,
            metrics.clone(),
            losses.clone(),
            told,
            relay_stop.clone(),
        ));
        let doors: Vec<_> = doors.into_iter().map(|(_, subscription, gate)| (subscription, gate)).collect();
        let view = Arc::new(View {
            store: store.clone(),
            transport: transport.clone(),
            subscriptions: watched,
            doors: doors.clone(),
            metrics: metrics.clone(),
            worker: id,
            relay: relay.clone(),
            router: shared.router.clone(),
            beats,
            absence: shared.committer.absence.clone(),
            stop: shared.stop.clone(),
            latest: Default::default(),
        });
        view.clone().watch();
        upkeep.spawn(gather::run(view.clone(), relay_stop.clone()));
        let (brokers, subscribed) = (view.systems().join(" + "), subscriptions.len());
        info!(worker = %id, store = store.kind(), transport = brokers, subscriptions = subscribed, "at work");
        Ok(Running {
            id,
            config,
            shared,
            relay,
            store,
            transport,
            subscriptions,
            doors,
            consumers,
            committer: committing,
            relay_stop,
            give_up,
            upkeep,
            losses,
            view,
            #[cfg(feature = "http")]
            door: None,
        })
    }
}

impl Running {
    /// This worker's ID: new at each start.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What it listens to.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// How the handlers stand: storms, breakers, and what waits because of them. A snapshot, for metrics and health checks.
    pub fn handlers(&self) -> Vec<HandlerStatus> {
        self.doors.iter().map(|(subscription, gate)| gate.status(subscription)).collect()
    }

    /// Lets requests in through this door, and closes it in the order of the end.
    #[cfg(feature = "http")]
    pub(crate) fn behind(mut self, door: Option<crate::http::Door>) -> Self {
        if let Some(door) = &door {
            door.begin(&self);
        }
        self.door = door;
        self
    }

    /// For those who watch it from outside.
    #[cfg(feature = "http")]
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Commits and messages committed so far: what the budget of round trips is counted by.
    pub fn committed(&self) -> (u64, u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = &self.shared.committer.counters;
        (counters.commits.load(Relaxed), counters.messages.load(Relaxed))
    }

    /// The most commits that were under way at once.
    pub fn commits_at_once(&self) -> usize {
        self.shared.committer.counters.at_once.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What is counted; it outlives the worker.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.shared.committer.counters.clone()
    }

    /// Returns when every subscription has come to its end, and what it delivered is settled: a stretch of a log does, a queue
    /// never.
    pub(crate) async fn through(&self) {
        self.consumers.close();
        self.consumers.wait().await;
    }

    /// Ends in order: stop receiving and hand back the unbegun; tell handlers; wait for them, at most `drain_timeout`; drop
    /// what still runs; commit and ack what ended; publish what is in memory; close.
    pub async fn shutdown(self) {
        let Self {
            id,
            config,
            shared,
            relay,
            store,
            transport,
            consumers,
            committer,
            relay_stop,
            give_up,
            upkeep,
            losses,
            view,
            #[cfg(feature = "http")]
            door,
            ..
        } = self;
        shared.stop.cancel();
        shared.cancelled.cancel();
        consumers.close();
        let drain = config.worker.drain_timeout;
        if tokio::time::timeout(drain, consumers.wait()).await.is_err() {
            warn!(
                seconds = drain.as_secs_f64(),
                "handlers outlived the drain timeout; they are dropped and come again"
            );
            shared.drop_running.cancel();
            if tokio::time::timeout(END_LIMIT, consumers.wait()).await.is_err() {
                give_up.cancel(); // the store is away; what is held goes back to the broker
                let _ = tokio::time::timeout(END_LIMIT, consumers.wait()).await;
            }
        }
        drop(shared); // the committer ends with the last way in
        if tokio::time::timeout(END_LIMIT, committer).await.is_err() {
            warn!("the last commits did not end in time; their messages come again");
        }
        #[cfg(feature = "http")]
        if let Some(door) = door {
            door.close().await;
        }
        relay.drain(END_LIMIT).await;
        relay_stop.cancel();
        transport.close().await;
        upkeep.close();
        let _ = tokio::time::timeout(END_LIMIT, upkeep.wait()).await;
        let _ = tokio::time::timeout(END_LIMIT, losses.write_down()).await;
        match tokio::time::timeout(END_LIMIT, store.end_worker(id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "{MISSED}"),
            Err(_) => warn!("{MISSED}"),
        }
        let _ = tokio::time::timeout(END_LIMIT, store.close()).await;
        // Whoever pushes waits for its network: not a task of this runtime's.
        let ended = tokio::task::spawn_blocking(move || view.metrics.end());
        let _ = tokio::time::timeout(END_LIMIT, ended).await;
        info!(worker = %id, "ended");
    }
}
