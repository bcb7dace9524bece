//! The cells: what is compared with what, and what must come of it.

use crate::{
    arguments::Size,
    arms::{self, Measured, WARM_UP},
    bare::{self, Rows, Texts},
    broker::Broker,
    database::Database,
    provider::{self, WAIT},
    report::{Report, Target, median},
    work::{self, Effect, SLOTS},
};
use anyhow::{Context as _, ensure};
use pitcrew::{
    sqlx::{self, AssertSqlSafe, SqlitePool, sqlite::SqliteConnectOptions},
    store::sqlite::SqliteStore,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// As many as a worker commits on.
const CONNECTIONS: u32 = 4;
/// Enough for one transaction a message: more gain nothing.
const SINGLES: u32 = 16;

/// One round of [`effect`].
struct Round {
    bare: Measured,
    hand: Measured,
    single: Measured,
    documents: Measured,
    rows: Measured,
}

/// A message with one write and one event: the worker against bare loops.
pub(crate) async fn effect(database: &Database, size: Size, report: &mut Report) -> anyhow::Result<()> {
    report.cell("effect", "inbox row, one document or own row, one event; Postgres, the broker in memory")?;
    let n = size.messages;
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let show = |name, measured| {
            report.arm(round, name, measured);
            measured
        };
        let bare = arms::bare(database, Effect::Document, n, CONNECTIONS, true).await?;
        let bare = show("bare loop, batches of 256, rows made beforehand", bare);
        let documents = show("worker, documents", arms::worker(database, Effect::Document, n).await?);
        let hand = arms::bare(database, Effect::Document, n, CONNECTIONS, false).await?;
        let hand = show("bare loop, batches of 256", hand);
        let rows = show("worker, rows of an own table", arms::worker(database, Effect::Row, n).await?);
        let single = arms::single(database, Effect::Document, n / 10, SINGLES).await?;
        let single = show("bare loop, one transaction a message", single);
        rounds.push(Round { bare, hand, single, documents, rows });
    }
    let of = |ratio: fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(ratio).collect() };
    let mut verdict = |what, ratio, unit, target| report.verdict(what, &of(ratio), unit, target);
    verdict("worker, messages a second", |r| r.documents.rate, "/s", Target::None);
    verdict("worker / bare loop", |r| r.documents.rate / r.hand.rate, "", Target::AtLeast(0.75));
    verdict("  / bare loop of rows made beforehand", |r| r.documents.rate / r.bare.rate, "", Target::None);
    verdict("worker / one transaction a message", |r| r.documents.rate / r.single.rate, "", Target::AtLeast(6.0));
    verdict("own rows / documents", |r| r.rows.rate / r.documents.rate, "", Target::AtLeast(0.9));
    verdict("worker's processor time a message", |r| r.documents.client, " µs", Target::None);
    verdict("  / bare loop", |r| r.documents.client / r.hand.client, "", Target::AtMost(1.5));
    verdict("  / bare loop of rows made beforehand", |r| r.documents.client / r.bare.client, "", Target::None);
    verdict("database's processor time a message", |r| r.documents.server, " µs", Target::None);
    verdict("  / bare loop", |r| r.documents.server / r.hand.server, "", Target::None);
    Ok(())
}

/// The worker's arm of [`effect`] alone.
pub(crate) async fn worker(database: &Database, size: Size, report: &mut Report) -> anyhow::Result<()> {
    report.cell("worker", "the worker's arm of `effect` alone")?;
    for round in 1..=size.rounds {
        report.arm(round, "worker, documents", arms::worker(database, Effect::Document, size.messages).await?);
    }
    Ok(())
}

/// One message at a time on an idle system, against one bare transaction of the same rows, in turn.
pub(crate) async fn lone(database: &Database, size: Size, report: &mut Report) -> anyhow::Result<()> {
    report.cell("lone", "one message alone on an idle worker, from receipt to ack, against one bare transaction")?;
    let effect = Effect::Document;
    let mut ratios = Vec::new();
    let (warm_up, samples) = (50, 400);
    for round in 1..=size.rounds {
        let (bed, twin) = (database.bed().await?, database.bed().await?);
        let broker = Arc::new(Broker::default());
        let running = arms::start(bed.store.clone(), broker.clone(), effect).await?;
        let pool = bare::pool(&database.url, &twin, 1).await?;
        let (mut connection, texts) = (pool.acquire().await?, Texts::of(&twin.schema, effect));
        let (mut worker, mut bare, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for (n, message) in (1..).zip(work::messages(0, warm_up + samples)) {
            let began = Instant::now();
            broker.push([message.clone()]);
            broker.moved(n, 0).await;
            worker.push(began.elapsed().as_secs_f64() * 1e3);
            broker.moved(n, n).await; // the event has left, too: nothing is under way when the other's turn begins
            let began = Instant::now();
            let rows = Rows::of(&[message], effect)?;
            rows.commit(&mut connection, &texts, &sent).await?;
            sent = rows.sent().to_vec();
            bare.push(began.elapsed().as_secs_f64() * 1e3);
        }
        bare::delete(&mut connection, &texts, &sent).await?;
        drop(connection);
        pool.close().await;
        running.shutdown().await;
        for bed in [bed, twin] {
            database.check(&bed, effect, warm_up + samples).await?;
            database.clear(bed).await?;
        }
        let (worker, bare) = (median(&worker[warm_up..]), median(&bare[warm_up..]));
        println!("  {round:2}  p50 of {samples}: worker {worker:.2} ms, bare transaction {bare:.2} ms");
        ratios.push(worker / bare);
    }
    report.verdict("one message alone, p50 / one bare transaction", &ratios, "", Target::AtMost(1.3));
    Ok(())
}

/// 256 handlers that each ask somebody who takes 10 ms to answer.
pub(crate) async fn waiting(database: &Database, size: Size, report: &mut Report) -> anyhow::Result<()> {
    report.cell("waiting", "256 handlers that each wait 10 ms for an answer and leave an inbox row")?;
    let ideal = SLOTS as f64 / WAIT.as_secs_f64();
    let (mut of_ideal, mut of_waiting, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let waiting = only_waiting(size.messages).await;
        report.arm(round, "256 tasks that only wait", waiting);
        let worker = arms::worker(database, Effect::Wait, size.messages).await?;
        report.arm(round, "worker, Postgres", worker);
        of_ideal.push(worker.rate / ideal);
        of_waiting.push(worker.rate / waiting.rate);
        connections.push(worker.connections as f64);
    }
    report.verdict("waiting handlers / 25,600 a second", &of_ideal, "", Target::AtLeast(0.9));
    report.verdict("  / 256 tasks that only wait", &of_waiting, "", Target::None);
    report.verdict("  connections to Postgres", &connections, "", Target::AtMost(16.0));
    Ok(())
}

/// What this machine allows: it wakes up a little late.
async fn only_waiting(n: usize) -> Measured {
    let began = Instant::now();
    let left = Arc::new(AtomicUsize::new(n));
    let task = || {
        let left = left.clone();
        tokio::spawn(async move {
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                provider::ask().await;
            }
        })
    };
    futures::future::join_all((0..SLOTS).map(|_| task()).collect::<Vec<_>>()).await;
    Measured { rate: n as f64 / began.elapsed().as_secs_f64(), ..Measured::default() }
}

/// The same work on SQLite. Nothing to be compared with: stated.
pub(crate) async fn sqlite(size: Size, report: &mut Report) -> anyhow::Result<()> {
    report.cell("sqlite", "the work of `effect` and of `waiting` on a SQLite file")?;
    let (mut documents, mut waiting) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        for (effect, name, rates) in [
            (Effect::Document, "worker, documents, SQLite", &mut documents),
            (Effect::Wait, "worker, 256 handlers that wait 10 ms, SQLite", &mut waiting),
        ] {
            let measured = on_sqlite(effect, size.messages).await.context(name)?;
            report.arm(round, name, measured);
            rates.push(measured.rate);
        }
    }
    report.verdict("SQLite: documents and events", &documents, "/s", Target::None);
    report.verdict("SQLite: handlers that wait", &waiting, "/s", Target::None);
    Ok(())
}

async fn on_sqlite(effect: Effect, n: usize) -> anyhow::Result<Measured> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bench.db");
    let store = SqliteStore::open(path.to_str().context("a path in UTF-8")?, Default::default()).await?;
    let measured = arms::run(Arc::new(store), None, effect, work::messages(0, WARM_UP + n)).await?;
    let file = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path)).await?;
    let once = if effect == Effect::Document { "document where version = 1" } else { "inbox" };
    let counts: (i64, i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "select (select count(*) from inbox where fate = 'done'), (select count(*) from outbox), (select count(*) from {once})"
    )))
    .fetch_one(&file)
    .await?;
    file.close().await;
    let n = i64::try_from(n + WARM_UP)?;
    ensure!(counts == (n, 0, n), "{n} were to be done and there once, with an empty outbox: {counts:?}");
    Ok(measured)
}
