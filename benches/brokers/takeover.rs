//! The cell of takeovers: a worker's process ends, and its neighbour goes on with what it held.

use crate::{
    database::Database,
    kafka,
    lives::{Doing, Life, done, until_done},
    report::{Report, Target},
    site::{Broker, Kind, Site},
    work::{Effect, FILLER},
};
use anyhow::ensure;
use pitcrew::{
    config::KafkaConfig,
    sqlx::{self, AssertSqlSafe},
};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Both workers get some of these.
const HELD: usize = 128;
/// Both are at the end of what they can do when nothing was done for so long.
const REST: Duration = Duration::from_secs(1);
/// The handlers of a default channel.
const SLOTS: usize = 64;

pub(crate) async fn cell(database: &Database, broker: &Broker, report: &mut Report) -> anyhow::Result<()> {
    let kind = broker.kind.name();
    report.cell(kind, "takeover: two workers, one of them ends; how soon the other does what it held")?;
    let (first, all) = killed(database, broker).await?;
    println!(
        "   1  killed: its neighbour had the first of what it held after {first:.0} ms, all of it after {all:.0} ms"
    );
    let most = match broker.kind {
        Kind::RabbitMq => 1_000.0,
        Kind::Kafka => 12_000.0,
    };
    report.verdict(
        &format!("{kind}: a worker is killed, its neighbour's next effect"),
        &[first],
        " ms",
        Target::AtMost(most),
    );
    if broker.kind == Kind::Kafka {
        let wait = stopped(database, broker).await?;
        println!("   1  stopped: no message of a steady stream waited longer than {wait:.0} ms");
        let what = format!("{kind}: a worker is stopped, the longest wait of a message");
        report.verdict(&what, &[wait], " ms", Target::AtMost(1_000.0));
    }
    Ok(())
}

async fn site(broker: &Broker) -> anyhow::Result<Site> {
    Site::open(broker, SLOTS, KafkaConfig::default().partitions).await
}

/// One worker hangs in all that it is given and is killed. The answer: milliseconds until the first of these was done by its
/// neighbour, and until all of them were.
async fn killed(database: &Database, broker: &Broker) -> anyhow::Result<(f64, f64)> {
    let (site, bed) = (site(broker).await?, database.bed().await?);
    let schema = &*bed.schema;
    let victim = Life::begin(&site, database, schema, Doing::Hangs).await?;
    let neighbour = Life::begin(&site, database, schema, Doing::Saves).await?;
    if broker.kind == Kind::Kafka {
        kafka::agreed(&site, 2).await?;
    }
    site.fill(0, HELD, FILLER).await?;
    let mut before = 0;
    let mut since = Instant::now();
    while before == 0 || since.elapsed() < REST {
        let now = done(database, schema).await?;
        if now != before {
            (before, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() < Duration::from_secs(20), "the neighbour was given nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(before < i64::try_from(HELD)?, "the worker that hangs was given nothing");
    victim.kill().await?;
    let began = Instant::now();
    until_done(database, schema, before + 1).await?;
    let first = began.elapsed();
    until_done(database, schema, i64::try_from(HELD)?).await?;
    let all = began.elapsed();
    neighbour.stop().await?.await?;
    site.check(HELD).await?;
    database.check(&bed, Effect::Document, HELD).await?;
    database.clear(bed).await?;
    site.clear().await?;
    Ok((first.as_secs_f64() * 1e3, all.as_secs_f64() * 1e3))
}

/// A worker is asked to end in the middle of a steady stream. The answer: the longest time from the making of a message to the end
/// of its handler, in milliseconds.
async fn stopped(database: &Database, broker: &Broker) -> anyhow::Result<f64> {
    let (site, bed) = (site(broker).await?, database.bed().await?);
    let leaver = Life::begin(&site, database, &bed.schema, Doing::Saves).await?;
    let neighbour = Life::begin(&site, database, &bed.schema, Doing::Saves).await?;
    kafka::agreed(&site, 2).await?;
    let sender = site.sender().await?;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut leaver, mut ending) = (Some(leaver), None);
    let (warm_up, count) = (200, 600);
    for n in 0..count {
        tick.tick().await;
        // From here on what is measured is the stop: partitions have moved by now.
        if n == warm_up
            && let Some(leaver) = leaver.take()
        {
            ending = Some(leaver.stop().await?);
        }
        sender.send(n, 1, FILLER).await?;
    }
    sender.close().await;
    site.heard_of(usize::try_from(count)?).await?;
    if let Some(ending) = ending {
        ending.await?;
    }
    neighbour.stop().await?.await?;
    let count = usize::try_from(count)?;
    site.check(count).await?;
    database.check(&bed, Effect::Document, count).await?;
    let wait = format!(
        "select max(extract(epoch from i.at - i.key_time) * 1000)::float8
         from {0}.inbox i join {0}.document d on d.collection = 'sheet' and i.subject = 's' || d.id where d.id::int8 >= $1",
        bed.schema
    );
    let wait: f64 =
        sqlx::query_scalar(AssertSqlSafe(wait)).bind(i64::try_from(warm_up)?).fetch_one(&database.admin).await?;
    database.clear(bed).await?;
    site.clear().await?;
    Ok(wait)
}
