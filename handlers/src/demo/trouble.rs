//! Auditor, the other half of the ledger: what went wrong for each worker, and why what is dead is dead.

use super::{
    account::{Database, Sent},
    kinds::Kind,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What went wrong for the commands of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Commands that were sent a second time.
    pub twice: usize,
    /// Attempts that were followed by another.
    pub retries: usize,
    /// Dead letters by their reason.
    pub dead: BTreeMap<String, usize>,
}

/// By worker; `retried`: the command of each attempt that was followed by another.
pub(super) async fn of<'a>(
    database: &Database,
    sent: &Sent,
    retried: impl Iterator<Item = &'a str>,
) -> anyhow::Result<BTreeMap<&'static str, Trouble>> {
    let whose = |id: &str| sent.commands.get(id).map(|target| target.kind.effects());
    let mut troubles: BTreeMap<_, Trouble> = BTreeMap::new();
    for target in sent.commands.values() {
        troubles.entry(target.kind.effects()).or_default();
    }
    for worker in sent.twice.iter().filter_map(|id| whose(id)) {
        troubles.entry(worker).or_default().twice += 1;
    }
    for worker in retried.filter_map(whose) {
        troubles.entry(worker).or_default().retries += 1;
    }
    let letters =
        format!("select id, reason from {{s}}.dead_letter where type in ({}) and state = 'dead'", Kind::types());
    for row in database.rows(&letters, 2).await? {
        if let Some(worker) = whose(&row[0]) {
            *troubles.entry(worker).or_default().dead.entry(row[1].clone()).or_default() += 1;
        }
    }
    Ok(troubles)
}
