//! The cell of retries: how long after its tier a message that failed is tried again.

use crate::{
    database::Database,
    latency::quantile,
    report::{Report, Target},
    site::{Broker, Kind, LIMIT, Site},
    work::{Effect, FILLER, Sheet, Work, Worked},
};
use anyhow::ensure;
use pitcrew::{Context, Handler, Handlers, Worker};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// The first delay of the defaults, with any jitter.
const TIER: Duration = Duration::from_secs(1);
/// At a steady pace: messages, and the time between two of them.
const STEADY: (usize, Duration) = (1_000, Duration::from_millis(10));
/// Sent in one go.
const BURST: usize = 10_000;

/// When each message was tried first, and then again.
type Times = Arc<Mutex<Vec<(Option<Instant>, Option<Instant>)>>>;

/// The first attempt fails.
struct Fails(Times);

impl Handler<Work> for Fails {
    async fn handle(&self, m: Work, cx: &mut Context) -> pitcrew::Result {
        let now = Instant::now();
        {
            let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = usize::try_from(m.n).ok().and_then(|n| times.get_mut(n));
            let Some((first, second)) = slot else { return Ok(()) };
            let attempt = if first.is_none() { first } else { second };
            *attempt = Some(now);
        }
        if cx.attempt() == 1 {
            return Err(anyhow::anyhow!("not yet").into());
        }
        cx.save(&Sheet { n: m.n, filler: m.filler.clone() })?;
        cx.emit(&Worked { n: m.n, filler: m.filler })?;
        Ok(())
    }
}

/// What of a run counts, in milliseconds.
struct Lateness {
    /// Late by so much.
    late: Vec<f64>,
    /// From the first failure to the last.
    failing: f64,
    /// From the first second attempt to the last.
    trying: f64,
}

pub(crate) async fn cell(database: &Database, broker: &Broker, report: &mut Report) -> anyhow::Result<()> {
    let kind = broker.kind.name();
    report.cell(kind, "retry: the first attempt fails; how long after its tier of 1 s comes the second")?;
    let most = match broker.kind {
        Kind::RabbitMq => 250.0,
        Kind::Kafka => 1_200.0,
    };
    let (count, pace) = STEADY;
    let steady = run(database, broker, count, Some(pace)).await?;
    println!("   1  {count} at a steady pace: late by p50 {:.0} ms, p99 {:.0} ms", steady.at(0.5), steady.at(0.99));
    let what = format!("{kind}: retry at a steady pace, p99 of its lateness");
    report.verdict(&what, &[steady.at(0.99)], " ms", Target::AtMost(most));
    let burst = run(database, broker, BURST, None).await?;
    println!(
        "   1  {BURST} at once: they failed within {:.0} ms and came again within {:.0} ms; late by p50 {:.0} ms, p99 {:.0} ms",
        burst.failing,
        burst.trying,
        burst.at(0.5),
        burst.at(0.99)
    );
    report.verdict(
        &format!("{kind}: 10,000 that failed together came again within"),
        &[burst.trying],
        " ms",
        Target::None,
    );
    report.verdict("  of them late, p99", &[burst.at(0.99)], " ms", Target::None);
    Ok(())
}

impl Lateness {
    fn at(&self, share: f64) -> f64 {
        quantile(&self.late, share)
    }
}

/// `pace`: between two messages; without one all of them are there before the worker begins.
async fn run(database: &Database, broker: &Broker, n: usize, pace: Option<Duration>) -> anyhow::Result<Lateness> {
    let (site, bed) = (Site::narrow(broker).await?, database.bed().await?);
    if pace.is_none() {
        site.fill(0, n, FILLER).await?;
    }
    let times: Times = Arc::new(Mutex::new(vec![(None, None); n]));
    let handlers = Handlers::new().handle(Fails(times.clone())).emits::<Worked>();
    let running = Worker::new(site.config(), handlers).start(bed.store.clone(), site.transport()?).await?;
    if let Some(pace) = pace {
        let sender = site.sender().await?;
        let mut tick = tokio::time::interval(pace);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for from in 0..n as u64 {
            tick.tick().await;
            sender.send(from, 1, FILLER).await?;
        }
        sender.close().await;
    }
    tokio::time::timeout(LIMIT, site.heard_of(n)).await??;
    running.shutdown().await;
    site.check(n).await?;
    let bed = database.again(&bed).await?;
    database.check(&bed, Effect::Document, n).await?;
    database.clear(bed).await?;
    site.clear().await?;
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let tried: Vec<(Instant, Instant)> =
        times.iter().filter_map(|(first, second)| Some(((*first)?, (*second)?))).collect();
    ensure!(tried.len() == n, "{} of {n} were tried twice", tried.len());
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let span = |of: fn(&(Instant, Instant)) -> Instant| {
        let (first, last) = (tried.iter().map(of).min(), tried.iter().map(of).max());
        first.zip(last).map_or(0.0, |(first, last)| millis(last - first))
    };
    let late: Vec<f64> = tried.iter().map(|(first, second)| millis(*second - *first) - millis(TIER)).collect();
    Ok(Lateness { late, failing: span(|tried| tried.0), trying: span(|tried| tried.1) })
}
