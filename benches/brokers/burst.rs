//! The cell of a burst: how soon an idle worker has worked it off, and what of processor and memory that took.

use crate::{
    arguments::Size,
    arms::Measured,
    database::Database,
    effect::timed,
    hand::Hand,
    lives::{Arm, Doing, Who},
    report::{Report, Target},
    site::{Broker, LIMIT},
    work::FILLER,
};
use tokio_util::sync::CancellationToken;

/// What one arm took.
struct Taken {
    measured: Measured,
    /// Most that its process held, in MB.
    memory: f64,
}

impl Taken {
    fn seconds(&self, messages: usize) -> f64 {
        messages as f64 / self.measured.rate
    }
}

/// The worker and the batches by hand, each in a process of its own that is at work and has nothing to do when the burst comes.
pub(crate) async fn cell(database: &Database, broker: &Broker, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let (kind, n) = (broker.kind.name(), size.many / 10);
    report.cell(kind, &format!("burst: {n} commands for an idle worker, from the first publish to the last event"))?;
    let arms = [("by hand, batches of 256", Who::Hand(Hand::Batches)), ("worker", Who::Worker(Doing::Saves))];
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let mut both = Vec::new();
        for (name, who) in arms {
            let taken = drain(database, broker, who, n).await?;
            report.arm(round, name, taken.measured);
            println!("      {name}: {:.1} s, {:.0} MB", taken.seconds(n), taken.memory);
            both.push(taken);
        }
        rounds.push(both);
    }
    let mut verdict = |what: &str, of: &dyn Fn(&Taken, &Taken) -> f64, unit| {
        let values: Vec<f64> = rounds.iter().map(|both| of(&both[1], &both[0])).collect();
        report.verdict(&format!("{kind}: {what}"), &values, unit, Target::None);
    };
    // As many µs a message as a tenth of them are seconds for 100,000.
    verdict(&format!("{n} at once are done within"), &|worker, _| worker.seconds(n), " s");
    verdict("  rate / by hand, batches of 256", &|worker, hand| worker.measured.rate / hand.measured.rate, "");
    verdict("CPU-seconds per 100,000 effects: worker", &|worker, _| worker.measured.client / 10.0, " s");
    verdict("  by hand, batches of 256", &|_, hand| hand.measured.client / 10.0, " s");
    verdict("  database of the worker", &|worker, _| worker.measured.server / 10.0, " s");
    verdict("  database of the batches by hand", &|_, hand| hand.measured.server / 10.0, " s");
    verdict("  broker of the worker, with the burst's arrival", &|worker, _| worker.measured.broker / 10.0, " s");
    verdict("most memory: worker", &|worker, _| worker.memory, " MB");
    verdict("  by hand, batches of 256", &|_, hand| hand.memory, " MB");
    Ok(())
}

async fn drain(database: &Database, broker: &Broker, who: Who, n: usize) -> anyhow::Result<Taken> {
    let arm = Arm::begin(who, database, broker).await?;
    let at_once = CancellationToken::new();
    at_once.cancel();
    let before = arm.life.time()?;
    let burst = async {
        arm.site.fill(0, n, FILLER).await?;
        arm.site.heard_within(n, 2 * LIMIT).await
    };
    let measured = timed(broker, arm.seen(database), &at_once, n, burst).await?;
    // The sender's time is not its own.
    let client = (arm.life.time()? - before).as_secs_f64() * 1e6 / n as f64;
    let memory = arm.life.most_memory()? as f64 / 1e6;
    let site = arm.end(database, n).await?;
    site.check(n).await?;
    site.clear().await?;
    Ok(Taken { measured: Measured { client, ..measured }, memory })
}
