//! The cell of the full effect: inbox row, document, and an event that the broker confirmed, from a full queue.

use crate::{
    arguments::Size,
    arms::{self, Measured, Seen, Stopwatch, watch_connections},
    database::Database,
    hand::{Hand, Tables},
    kafka,
    lives::{Doing, Effector, handlers},
    machine, rabbitmq,
    report::{Report, Target},
    site::{Broker, Kind, LIMIT, LOOK, Site},
    work::{Effect, FILLER},
};
use anyhow::{bail, ensure};
use pitcrew::Worker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// As many as a worker commits on.
const CONNECTIONS: u32 = 4;
/// How long a handler of the second worker waits, in milliseconds.
const WAIT: u64 = 10;

/// One round.
struct Round {
    worker: Measured,
    waiting: Measured,
    hand: Measured,
    batches: Measured,
    bare: Measured,
    floor: Measured,
}

/// The worker against workers by hand and bare loops.
pub(crate) async fn cell(database: &Database, broker: &Broker, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let kind = broker.kind.name();
    report.cell(kind, "effect: a full queue; inbox row, document, event confirmed by the broker")?;
    let n = size.messages;
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let show = |name, measured| {
            report.arm(round, name, measured);
            measured
        };
        let hand = by_hand(database, broker, n / 4, Hand::Single).await?;
        let hand = show("by hand, one transaction a message", hand);
        let worker = show("worker", worker(database, broker, n, Doing::Saves).await?);
        // What Kafka's client has read ahead when the clock begins must not be all of it.
        let taken = if broker.kind == Kind::Kafka { 8 * n } else { n };
        let bare = show("bare client, takes and acks", bare(broker, taken).await?);
        let waiting = self::worker(database, broker, n, Doing::Waits(WAIT)).await?;
        let waiting = show("worker, handlers that wait 10 ms", waiting);
        let batches = show("by hand, batches of 256", by_hand(database, broker, n, Hand::Batches).await?);
        let floor = arms::bare(database, Effect::Document, n, CONNECTIONS, false).await?;
        let floor = show("no broker, batches of 256 on 4 connections", floor);
        rounds.push(Round { worker, waiting, hand, batches, bare, floor });
    }
    let mut verdict = |what: &str, ratio: fn(&Round) -> f64, unit, target| {
        let of: Vec<f64> = rounds.iter().map(ratio).collect();
        report.verdict(&format!("{kind}: {what}"), &of, unit, target);
    };
    let (hand, bare, floor) = match broker.kind {
        Kind::RabbitMq => (Target::AtLeast(3.0), Target::AtLeast(0.4), Target::None),
        Kind::Kafka => (Target::AtLeast(3.5), Target::None, Target::AtLeast(0.35)),
    };
    verdict("worker, messages a second", |r| r.worker.rate, "/s", Target::None);
    verdict("worker / by hand, one transaction a message", |r| r.worker.rate / r.hand.rate, "", hand);
    verdict("worker / by hand, batches of 256", |r| r.worker.rate / r.batches.rate, "", Target::None);
    verdict("worker / bare client", |r| r.worker.rate / r.bare.rate, "", bare);
    verdict("worker / batches of 256 without a broker", |r| r.worker.rate / r.floor.rate, "", floor);
    verdict("handlers that wait 10 ms / worker", |r| r.waiting.rate / r.worker.rate, "", Target::AtLeast(0.9));
    verdict("  connections to Postgres", |r| r.waiting.connections as f64, "", Target::AtMost(16.0));
    verdict("processor time a message: worker", |r| r.worker.client, " µs", Target::None);
    verdict("processor time a message: database", |r| r.worker.server, " µs", Target::None);
    verdict("processor time a message: broker", |r| r.worker.broker, " µs", Target::None);
    Ok(())
}

/// The worker's arm alone.
pub(crate) async fn worker_alone(
    database: &Database,
    broker: &Broker,
    size: Size,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.cell(broker.kind.name(), "the worker's arm of `effect` alone")?;
    for round in 1..=size.rounds {
        report.arm(round, "worker", worker(database, broker, size.messages, Doing::Saves).await?);
    }
    Ok(())
}

/// Times an arm from the moment at which it has `begun` until `done` returns.
pub(crate) async fn timed(
    broker: &Broker,
    seen: Seen<'_>,
    begun: &CancellationToken,
    n: usize,
    done: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Measured> {
    let process = broker.port().and_then(machine::listener);
    let spent = || process.as_deref().and_then(machine::of_process).unwrap_or_default();
    tokio::time::timeout(LIMIT, begun.cancelled()).await?;
    let (watch, before) = (Stopwatch::start(seen).await?, spent());
    done.await?;
    let measured = watch.stop(n).await?;
    let broker = spent().saturating_sub(before).as_secs_f64() * 1e6 / n as f64;
    Ok(Measured { broker, ..measured })
}

/// The worker on fresh channels and a fresh schema: from its first message to the last event.
pub(crate) async fn worker(database: &Database, broker: &Broker, n: usize, doing: Doing) -> anyhow::Result<Measured> {
    let (site, bed) = (Site::narrow(broker).await?, database.bed().await?);
    site.fill(0, n, FILLER).await?;
    let begun = CancellationToken::new();
    let handlers = handlers(Effector { doing, begun: begun.clone() });
    let running = Worker::new(site.config(), handlers).start(bed.store.clone(), site.transport()?).await?;
    let seen = Some((database, bed.application_name.as_str()));
    let (stop, stopped) = watch::channel(());
    let work = async {
        let measured = timed(broker, seen, &begun, n, site.heard_of(n)).await;
        drop(stop);
        measured
    };
    let (measured, connections) = tokio::join!(work, watch_connections(seen, stopped));
    let (commits, messages) = running.committed();
    running.shutdown().await;
    let measured = measured?;
    site.check(n).await?;
    let bed = database.again(&bed).await?;
    database.check(&bed, Effect::Document, n).await?;
    database.clear(bed).await?;
    site.clear().await?;
    Ok(Measured { batch: messages as f64 / commits as f64, connections: connections?, ..measured })
}

async fn by_hand(database: &Database, broker: &Broker, n: usize, hand: Hand) -> anyhow::Result<Measured> {
    let connections = hand.connections();
    let (site, tables) = (Site::narrow(broker).await?, Tables::make(database, connections).await?);
    site.fill(0, n, FILLER).await?;
    let (begun, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut arm = tokio::spawn(hand.work(site.clone(), tables.clone(), begun.clone(), stop.clone()));
    let seen = Some((database, &*tables.schema));
    let measured = tokio::select! {
        measured = timed(broker, seen, &begun, n, site.heard_of(n)) => measured?,
        ended = &mut arm => bail!("the worker by hand has ended: {ended:?}"),
    };
    stop.cancel();
    arm.await??;
    site.check(n).await?;
    tables.check(database, n).await?;
    tables.clear(database).await?;
    site.clear().await?;
    Ok(Measured { connections: i64::try_from(connections)?, ..measured })
}

/// The bare client. No database: nothing but settled messages can be checked.
async fn bare(broker: &Broker, n: usize) -> anyhow::Result<Measured> {
    let site = Site::narrow(broker).await?;
    site.fill(0, n, FILLER).await?;
    let (begun, stop, seen) = (CancellationToken::new(), CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let mut arm = match broker.kind {
        Kind::RabbitMq => tokio::spawn(rabbitmq::bare(site.clone(), n, seen.clone(), begun.clone(), stop.clone())),
        Kind::Kafka => tokio::spawn(kafka::bare(site.clone(), seen.clone(), begun.clone(), stop.clone())),
    };
    let done = async {
        let began = Instant::now();
        while seen.load(Relaxed) < n {
            ensure!(began.elapsed() < LIMIT, "the bare client does not come to its end");
            tokio::time::sleep(LOOK.min(Duration::from_millis(1))).await;
        }
        Ok(())
    };
    let measured = tokio::select! {
        measured = timed(broker, None, &begun, n, done) => measured?,
        ended = &mut arm => bail!("the bare client has ended: {ended:?}"),
    };
    // What the client has sent the broker has not read yet: a channel that is closed now would take acks with it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.cancel();
    arm.await??;
    ensure!(seen.load(Relaxed) == n, "the bare client has seen {} of {n}", seen.load(Relaxed));
    site.check_settled().await?;
    site.clear().await?;
    Ok(measured)
}
