//! `config`, `migrate`: what can be known and prepared without working.

use super::{Globals, output, volume};
use crate::{
    Handlers,
    config::ChannelName,
    topology::Topology,
    worker::{self, open_store},
};
use anyhow::Context as _;
use serde_json::json;

#[derive(clap::Subcommand)]
#[command(after_help = "\
Examples:
  {bin} config check --config config/pitcrew.toml
  {bin} config check --rate 500
  {bin} config show --profile production
  PITCREW_STORE=postgres://app@db/cars {bin} config show")]
pub(super) enum ConfigCommand {
    /// Say everything that a start would refuse; opens no connection
    Check(Check),
    /// Print what is in force, without secrets
    Show,
}

/// Say everything that a start would refuse; opens no connection
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} config check --config config/pitcrew.toml
  {bin} config check --rate 500   # what 500 commands a second need")]
pub(super) struct Check {
    /// Say how much so many commands a second write and keep
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
}

/// Bring the database's schema up to this build; safe beside running workers. `run` does it as well.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} migrate
  {bin} migrate --store postgres://app@db/cars")]
pub(super) struct Migrate {}

impl ConfigCommand {
    pub(super) fn run(self, globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
        match self {
            Self::Show => show(globals, handlers),
            Self::Check(Check { rate }) => check(globals, handlers, rate),
        }
    }
}

/// The settings with those of every channel that a worker would listen to, defaults and all.
fn show(globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
    let mut config = globals.config()?;
    if let Ok(topology) = worker::plan(handlers, &config) {
        for planned in topology.subscriptions {
            let name: ChannelName = planned.subscription.channel.parse().context("the name of a channel")?;
            let channel = config.channel(&name);
            config.channel.insert(name, channel);
        }
    }
    output::line(if globals.json { config.show_json().to_string() } else { config.show().trim_end().to_owned() });
    Ok(true)
}

fn check(globals: &Globals, handlers: &Handlers, rate: Option<u32>) -> anyhow::Result<bool> {
    let config = globals.config();
    let volume = config.as_ref().ok().zip(rate).map(|(config, rate)| (rate, config.clone()));
    let planned = config.and_then(|config| worker::plan(handlers, &config));
    if !globals.json {
        let listens = listens(&planned?).join(", ");
        output::line(format!("the configuration is fine; a worker would listen to {listens}"));
        if let Some((rate, config)) = volume {
            volume::lines(rate, &config).into_iter().for_each(output::line);
        }
        return Ok(true);
    }
    let mut told = match &planned {
        Ok(topology) => json!({ "ok": true, "subscriptions": listens(topology), "problems": [] }),
        Err(error) => {
            // The heading, and below it one line a problem.
            let text = format!("{error:#}");
            let problems: Vec<&str> = text.lines().skip(1).map(|line| line.trim_start_matches([' ', '-'])).collect();
            json!({ "ok": false, "subscriptions": [], "problems": problems })
        }
    };
    if let Some((rate, config)) = volume {
        told["volume"] = volume::document(rate, &config);
    }
    output::line(told.to_string());
    Ok(planned.is_ok())
}

fn listens(topology: &Topology) -> Vec<String> {
    topology.subscriptions.iter().map(|planned| planned.subscription.name.to_string()).collect()
}

impl Migrate {
    pub(super) async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let config = globals.config()?;
        let (opened, url) = (open_store(&config, false).await?, &config.store.url);
        let migrated = opened.store.migrate().await?;
        if migrated.from != migrated.to {
            let what = format!("schema version {} to {}", migrated.from, migrated.to);
            let audit = globals.audit("migrate", &url.to_string(), &what);
            opened.store.record_action(&audit).await.context("writing down who migrated")?;
        }
        opened.store.close().await;
        output::line(if globals.json {
            json!({ "store": opened.store.kind(), "from": migrated.from, "to": migrated.to }).to_string()
        } else if migrated.from == migrated.to {
            format!("{url} is at schema version {} already", migrated.to)
        } else if migrated.from == 0 {
            format!("{url} has tables now, of schema version {}", migrated.to)
        } else {
            format!("{url} went from schema version {} to {}", migrated.from, migrated.to)
        });
        Ok(true)
    }
}
