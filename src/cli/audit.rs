//! `audit`: what operators did, and how the other commands write it down; what became of every message.

mod export;

use super::{Globals, output};
use crate::{
    clock,
    config::parse_duration,
    store::{Audit, AuditFilter},
    worker::open_store,
};
use chrono::{DateTime, Utc};
use std::os::unix::fs::MetadataExt;
use tracing::warn;

#[derive(clap::Subcommand)]
#[command(after_help = "\
Examples:
  {bin} audit list
  {bin} audit list --since 24h --who ada --json
  {bin} audit export --since 24h --format csv --out commands.csv")]
pub(super) enum AuditCommand {
    /// Who did what, when and why, newest first
    List(List),
    /// What became of every command and event
    Export(export::Export),
}

/// Who did what, when and why, newest first: dead replay, edit and discard, replay of a log, topology apply, migrate; and what
/// workers did on their own (redrive of what waited in quarantine, losses that a broker told of).
#[derive(clap::Args)]
#[command(after_help = "\
TIME is RFC 3339, or a duration: so long ago. WHO is the name given by --as,
else the user of the system. It is kept for [store.retention] audit (400d), then
it goes to [audit] sink, if that is set. With --json an edit has the payload
`before` and `after` it.

Examples:
  {bin} audit list --since 24h
  {bin} audit list --who ada --json")]
pub(super) struct List {
    /// Done since, e.g. 24h or 2026-05-03T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// By this one only
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl AuditCommand {
    pub(super) async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        match self {
            Self::List(list) => list.run(globals).await,
            Self::Export(export) => export.run(globals).await,
        }
    }
}

impl List {
    async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let opened = globals.store().await?;
        let filter = AuditFilter { since: self.since, actor: self.who.clone() };
        // One more than is shown tells whether there are more.
        let found = opened.store.audit_trail(&filter, self.limit.saturating_add(1)).await;
        opened.store.close().await;
        self.tell(&found?, globals.json)?;
        Ok(true)
    }

    fn tell(&self, found: &[Audit], as_json: bool) -> anyhow::Result<()> {
        let shown = &found[..found.len().min(self.limit)];
        if as_json {
            for audit in shown {
                output::line(serde_json::to_string(&audit.clone().whole())?);
            }
            return Ok(());
        }
        if found.is_empty() {
            let narrow = self.since.is_some() || self.who.is_some();
            output::line(if narrow { "nobody did anything like that" } else { "nobody did anything yet" });
            return Ok(());
        }
        let row = |audit: &Audit| {
            // Reasons are what people typed, targets what senders chose: one line each, whatever is in them.
            let word = |text: &str| output::short(text, 80);
            vec![
                output::clock_time(audit.at),
                word(&audit.actor),
                audit.action.clone(),
                word(&audit.target),
                word(&audit.reason),
            ]
        };
        let header = ["WHEN", "WHO", "ACTION", "TARGET", "WHY"];
        output::table(&header, &shown.iter().map(row).collect::<Vec<_>>()).iter().for_each(output::line);
        if found.len() > shown.len() {
            output::line(format!("only the newest {}; --limit shows more", self.limit));
        }
        Ok(())
    }
}

impl Globals {
    /// What is about to be done by whoever types.
    pub(super) fn audit(&self, action: &str, target: &str, reason: &str) -> Audit {
        Audit {
            actor: self.operator.clone().unwrap_or_else(system_user),
            action: action.into(),
            target: target.into(),
            reason: reason.into(),
            at: clock::now(),
            bodies: None,
        }
    }

    /// Writes down what was done elsewhere than in the store. It is done: that nobody can be told is a warning.
    pub(super) async fn record_beside(&self, action: &str, target: &str, reason: &str) {
        let written = async {
            let config = self.config()?;
            self.is_there(&config)?;
            // Whoever may act at the broker need not be one who changes the database: it is not migrated.
            let opened = open_store(&config, false).await?;
            let written = opened.store.record_action(&self.audit(action, target, reason)).await;
            opened.store.close().await;
            anyhow::Ok(written?)
        };
        if let Err(error) = written.await {
            warn!(error = %format!("{error:#}"), action, target, "done, and not written down in the audit");
        }
    }
}

/// A container has a number and often no name.
fn system_user() -> String {
    let named = std::env::var("USER").ok().filter(|name| !name.is_empty());
    let numbered = || std::fs::metadata("/proc/self").ok().map(|process| format!("uid {}", process.uid()));
    named.or_else(numbered).unwrap_or_else(|| "unknown".into())
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Some(time) =
        parse_duration(text).and_then(|ago| clock::now().checked_sub_signed(chrono::TimeDelta::from_std(ago).ok()?))
    {
        return Ok(time);
    }
    let time = DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc));
    time.map_err(|_| format!("`{text}` is no time; for example 24h (ago) or 2026-05-03T08:00:00Z"))
}
