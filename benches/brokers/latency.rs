//! The cell of latency under load: messages are sent at the times at which they are meant to be, whether the worker keeps up or not,
//! and a message's latency counts from then on.
//!
//! An open loop: a sender that waits for an answer, or that counts from when it came to send, hides the stalls that it suffers from.

use crate::{
    arguments::Size,
    database::Database,
    effect,
    hand::Hand,
    idle::Steps,
    kafka,
    lives::{Arm, Doing, Who},
    rabbitmq,
    report::{Report, Target},
    site::{Broker, Kind, LIMIT, Site},
    work::FILLER,
};
use anyhow::{Context as _, ensure};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// What of all messages is told.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
/// Between two looks at what is due: tokio's tick.
const TICK: Duration = Duration::from_millis(1);
/// Of the load, before what counts: connections are open and statements prepared.
const WARM_UP: f64 = 0.1;

/// The worker and the batches by hand, at half of what the worker does from a full queue.
pub(crate) async fn cell(database: &Database, broker: &Broker, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let kind = broker.kind.name();
    report.cell(kind, "latency: half load, from when a message was meant to be sent to the arrival of its event")?;
    let arms = [("by hand, batches of 256", Who::Hand(Hand::Batches)), ("worker", Who::Worker(Doing::Saves))];
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let full = effect::worker(database, broker, size.messages, Doing::Saves).await?;
        report.arm(round, "worker, a full queue", full);
        let mut both = Vec::new();
        for (name, who) in arms {
            let late = run(database, broker, who, full.rate / 2.0, size.lasting).await?;
            let told = SHARES.map(|(share, of)| format!("{share} {:.1} ms", quantile(&late, of)));
            println!("  {round:2}  {name:<44} {:8.0}/s  {}", full.rate / 2.0, told.join(", "));
            both.push(SHARES.map(|(_, of)| quantile(&late, of)));
        }
        rounds.push(both);
    }
    for (place, (share, _)) in SHARES.into_iter().enumerate() {
        let mut verdict = |what: &str, of: &dyn Fn(f64, f64) -> f64, unit| {
            let values: Vec<f64> = rounds.iter().map(|both| of(both[1][place], both[0][place])).collect();
            report.verdict(what, &values, unit, Target::None);
        };
        verdict(&format!("{kind}: latency at half load, {share}"), &|worker, _| worker, " ms");
        verdict("  / by hand, batches of 256", &|worker, hand| worker / hand, "");
    }
    Ok(())
}

/// The latencies of one arm, in milliseconds.
async fn run(database: &Database, broker: &Broker, who: Who, rate: f64, lasting: Duration) -> anyhow::Result<Vec<f64>> {
    let n = (rate * lasting.as_secs_f64()) as usize;
    let arm = Arm::begin(who, database, broker).await?;
    let (meant, heard) = match broker.kind {
        Kind::RabbitMq => {
            let mut ear = rabbitmq::Hands::open(&arm.site, false).await?;
            tokio::try_join!(send(&arm.site, rate, n), hear(&mut ear, n))?
        }
        Kind::Kafka => {
            let mut ear = kafka::Hands::open(&arm.site, false).await?;
            let both = tokio::try_join!(send(&arm.site, rate, n), hear(&mut ear, n))?;
            ear.close().await?;
            both
        }
    };
    arm.end(database, n).await?.clear().await?;
    let late = |(place, heard): (usize, &Instant)| (*heard - meant(place)).as_secs_f64() * 1e3;
    Ok(heard.iter().enumerate().skip((n as f64 * WARM_UP) as usize).map(late).collect())
}

/// Sends each message when its time has come, beside those whose confirms are still awaited. The answer: when each was meant to be.
async fn send(site: &Site, rate: f64, n: usize) -> anyhow::Result<impl Fn(usize) -> Instant + use<>> {
    let sender = Arc::new(site.sender().await?);
    let began = Instant::now();
    let (mut tick, mut sends, mut sent) = (tokio::time::interval(TICK), JoinSet::new(), 0);
    while sent < n {
        tick.tick().await;
        let due = n.min(1 + (began.elapsed().as_secs_f64() * rate) as usize) - sent;
        if due > 0 {
            let (sender, from) = (sender.clone(), sent as u64);
            sends.spawn(async move { sender.send(from, due, FILLER).await });
            sent += due;
        }
    }
    for confirmed in sends.join_all().await {
        confirmed?;
    }
    Arc::into_inner(sender).context("a sender that sends no more")?.close().await;
    Ok(move |place: usize| began + Duration::from_secs_f64(place as f64 / rate))
}

/// When the event of each message came, each once.
async fn hear(ear: &mut impl Steps, n: usize) -> anyhow::Result<Vec<Instant>> {
    let mut heard = vec![None; n];
    for count in 0..n {
        let number = tokio::time::timeout(LIMIT, ear.hear()).await;
        let number = number.with_context(|| format!("{count} of {n} events came"))??;
        let place = heard.get_mut(usize::try_from(number)?).context("an event of no message")?;
        ensure!(place.replace(Instant::now()).is_none(), "event {number} came twice");
    }
    heard.into_iter().collect::<Option<_>>().context("an event is missing")
}

/// The value below which so large a share of them is.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len() as f64 * share) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
