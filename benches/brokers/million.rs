//! The cell of a million messages: what a worker's process holds after the first ones and at the end.

use crate::{
    arguments::Size,
    database::Database,
    lives::{Arm, Doing, Who},
    report::{Report, Target, median},
    site::{Broker, LIMIT},
    work::FILLER,
};
use anyhow::ensure;
use std::time::Duration;

/// Between two looks at its memory.
const LOOK: Duration = Duration::from_millis(100);
/// A million of them take minutes.
const PATIENCE: u32 = 10;

/// One worker process that lives for all of them.
pub(crate) async fn cell(database: &Database, broker: &Broker, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let (kind, n) = (broker.kind.name(), size.many);
    report.cell(kind, &format!("million: the memory of a worker's process, {n} messages long"))?;
    let (mut growth, mut most) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let samples = life(database, broker, n).await?;
        // A fifth for each: what a worker needs for its work it has by the end of the first.
        let fifth = samples.len() / 5;
        ensure!(fifth > 0, "{n} messages are too few to be sampled every {} ms", LOOK.as_millis());
        let (early, late) = (median(&samples[fifth..2 * fifth]), median(&samples[4 * fifth..]));
        let highest = samples.iter().copied().fold(0.0, f64::max);
        println!(
            "  {round:2}  {} samples: {early:.1} MB in the second fifth, {late:.1} MB in the last, {highest:.1} MB at most",
            samples.len()
        );
        growth.push(late / early);
        most.push(highest);
    }
    report.verdict(
        &format!("{kind}: memory in the last fifth of {n} messages / second"),
        &growth,
        "",
        Target::AtMost(1.1),
    );
    report.verdict("  at most", &most, " MB", Target::None);
    Ok(())
}

/// What it held, sample by sample, in MB. The messages are sent while it works.
async fn life(database: &Database, broker: &Broker, n: usize) -> anyhow::Result<Vec<f64>> {
    let arm = Arm::begin(Who::Worker(Doing::Saves), database, broker).await?;
    let mut samples = Vec::new();
    {
        let done = async { tokio::try_join!(arm.site.fill(0, n, FILLER), arm.site.heard_within(n, PATIENCE * LIMIT)) };
        tokio::pin!(done);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                done = &mut done => break done.map(drop)?,
                _ = look.tick() => samples.push(arm.life.memory()? as f64 / 1e6),
            }
        }
    }
    let site = arm.end(database, n).await?;
    site.check(n).await?;
    site.clear().await?;
    Ok(samples)
}
