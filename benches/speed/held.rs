//! The cell of a transaction that somebody else holds open on the same database: nothing that was deleted since can be removed.

use crate::{
    arguments::Size,
    arms::{self, Measured, Stopwatch, WARM_UP},
    broker::Broker,
    database::{Bed, Database, check_broker},
    report::{Report, Target},
    work::{self, Effect},
};
use anyhow::ensure;
use pitcrew::{
    clock,
    config::format_duration,
    sqlx::{self, Connection as _, PgConnection},
    store::Store,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

const EFFECT: Effect = Effect::Document;
/// While it is held, messages come at this pace: so many, and the time between two of them.
const PACE: (usize, Duration) = (50, Duration::from_millis(10));
/// Between two sweeps, as a relay makes them.
const SWEEP: Duration = Duration::from_millis(500);
/// As the relay's: rows of one, and how long a worker that says nothing is not yet lost.
const SWEPT: (usize, chrono::TimeDelta) = (512, chrono::TimeDelta::seconds(10));

/// The worker at full speed before a transaction is opened elsewhere, and when it has been open for so long.
pub(crate) async fn cell(database: &Database, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let (held, each) = (format_duration(size.lasting), PACE.0 * 100);
    report.cell(
        "held",
        &format!("`effect` before and after somebody held a transaction open for {held}, {each}/s meanwhile"),
    )?;
    let (mut kept, mut sweeps, mut wal) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let mut life = Life::begin(database).await?;
        let before = life.at_full_speed(size.messages).await?;
        report.arm(round, "worker, before", before);
        let foreign = open(database).await?;
        let sweep = life.steady(size.lasting).await?;
        let after = life.at_full_speed(size.messages).await?;
        report.arm(round, &format!("worker, held open for {held}"), after);
        println!("  {round:2}  {:<44} {sweep:8.1} ms", "the longest sweep of the outbox at the end");
        foreign.close().await?;
        life.end().await?;
        kept.push(after.rate / before.rate);
        wal.push(after.wal / before.wal);
        sweeps.push(sweep);
    }
    report.verdict(&format!("rate when a transaction was held for {held} / before"), &kept, "", Target::AtLeast(0.8));
    report.verdict("  the longest sweep of the outbox at the end", &sweeps, " ms", Target::AtMost(50.0));
    report.verdict("  bytes written ahead a message / before", &wal, "", Target::None);
    Ok(())
}

/// Somebody else's: it has a number and a snapshot, and does nothing.
async fn open(database: &Database) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(&database.url).await?;
    sqlx::raw_sql("begin isolation level repeatable read; select pg_current_xact_id()")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// A worker that is kept for a whole round.
struct Life<'a> {
    database: &'a Database,
    bed: Bed,
    broker: Arc<Broker>,
    running: pitcrew::Running,
    sent: usize,
}

impl<'a> Life<'a> {
    async fn begin(database: &'a Database) -> anyhow::Result<Self> {
        let (bed, broker) = (database.bed().await?, Arc::new(Broker::default()));
        let running = arms::start(bed.store.clone(), broker.clone(), EFFECT).await?;
        let mut life = Self { database, bed, broker, running, sent: 0 };
        life.send(WARM_UP);
        life.done().await;
        Ok(life)
    }

    fn send(&mut self, count: usize) {
        self.broker.push(work::messages(self.sent as u64, count));
        self.sent += count;
    }

    /// Returns when all of them are.
    async fn done(&self) {
        self.broker.moved(self.sent, self.sent * EFFECT.events()).await;
    }

    async fn at_full_speed(&mut self, n: usize) -> anyhow::Result<Measured> {
        self.database.checkpoint().await?;
        let seen = Some((self.database, self.bed.application_name.as_str()));
        let messages = work::messages(self.sent as u64, n);
        let watch = Stopwatch::start(seen).await?;
        self.broker.push(messages);
        self.sent += n;
        self.done().await;
        watch.stop(n).await
    }

    /// Messages at a steady pace, and sweeps beside the worker's own, as a second worker makes them. The answer: how long the
    /// longest sweep of the last tenth took, in milliseconds.
    async fn steady(&mut self, lasting: Duration) -> anyhow::Result<f64> {
        let (sweeper, began) = (self.database.again(&self.bed).await?, Instant::now());
        let (mut pace, mut sweep) = (tokio::time::interval(PACE.1), tokio::time::interval(SWEEP));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut longest = Duration::ZERO;
        let sweeps = async {
            while began.elapsed() < lasting {
                sweep.tick().await;
                let (asked, now) = (Instant::now(), clock::now());
                let swept = sweeper.store.sweep(Uuid::nil(), now, now - SWEPT.1, SWEPT.0).await?;
                ensure!(swept.is_empty(), "a sweep took {} rows of a worker that lives", swept.len());
                if began.elapsed() > lasting.mul_f64(0.9) {
                    longest = longest.max(asked.elapsed());
                }
            }
            Ok(())
        };
        let messages = async {
            while began.elapsed() < lasting {
                pace.tick().await;
                self.send(PACE.0);
            }
        };
        let (swept, ()) = tokio::join!(sweeps, messages);
        swept?;
        self.done().await;
        sweeper.store.close().await;
        Ok(longest.as_secs_f64() * 1e3)
    }

    /// Nothing lost, nothing double.
    async fn end(self) -> anyhow::Result<()> {
        self.running.shutdown().await;
        check_broker(self.broker.tally(), EFFECT, self.sent)?;
        let bed = self.database.again(&self.bed).await?;
        self.database.check(&bed, EFFECT, self.sent).await?;
        self.database.clear(bed).await
    }
}
