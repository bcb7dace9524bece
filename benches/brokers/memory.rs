//! The cell of memory: a worker's process with a long backlog of small and of large records.

use crate::{
    database::Database,
    lives::{Doing, Life, until_done},
    report::{Report, Target},
    site::{Broker, Site},
};
use pitcrew::config::WorkerConfig;

/// The handlers of a default channel.
const SLOTS: usize = 64;
/// Beside the payloads that the config lets it hold.
const REST: f64 = 64.0;

pub(crate) async fn cell(database: &Database, broker: &Broker, report: &mut Report) -> anyhow::Result<()> {
    let kind = broker.kind.name();
    report.cell(kind, "memory: the most that a worker's process held, with a long backlog")?;
    let most = WorkerConfig::default().in_flight_bytes as f64 / 1e6 + REST;
    // Each backlog is some times what the worker may hold.
    for (name, bytes, backlog, handled) in [("1 KB", 1_000, 120_000, 20_000), ("1 MB", 990_000, 250, 150)] {
        let (site, bed) = (Site::open(broker, SLOTS, 1).await?, database.bed().await?);
        site.fill(0, backlog, bytes).await?;
        let life = Life::begin(&site, database, &bed.schema, Doing::Takes(10)).await?;
        until_done(database, &bed.schema, handled).await?;
        let held = life.most_memory()? as f64 / 1e6;
        life.kill().await?;
        println!("   1  {backlog} records of {name}, {handled} of them handled: {held:.0} MB");
        let what = format!("{kind}: most memory with records of {name}");
        report.verdict(&what, &[held], " MB", Target::AtMost(most));
        database.clear(bed).await?;
        site.clear().await?;
    }
    Ok(())
}
