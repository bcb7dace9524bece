//! `topology`: what the broker must have, and how it stands.

use super::{Globals, output};
use crate::{
    Handlers,
    transport::{Finding, Inspection, Standing},
    worker::{self, open_transport},
};
use anyhow::Context as _;
use serde_json::json;

#[derive(Clone, Copy, clap::Subcommand)]
#[command(after_help = "\
Examples:
  {bin} topology plan --broker amqp://app:secret@mq/cars
  {bin} topology apply --broker amqp://operator:secret@mq/cars

Then workers may run with `declare = false`, as a user who may make nothing.")]
pub(super) enum Topology {
    /// Say what is there, what would be made and what is in the way; changes nothing
    Plan,
    /// Make what is missing; never changes or deletes what is there
    Apply,
}

impl Topology {
    pub(super) async fn run(self, globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
        let mut config = globals.config()?;
        // Asked for by name, it is done, whatever workers are told.
        config.transport.values_mut().for_each(|transport| transport.declare = true);
        let endpoints = worker::plan(handlers, &config)?.endpoints(&config);
        let transport = open_transport(&config)?;
        if let Self::Apply = self {
            transport.declare(&endpoints).await.context("making the topology")?;
        }
        let Inspection { findings: found, reach } =
            transport.inspect(&endpoints).await.context("looking at the broker")?;
        transport.close().await;
        let fits = !found.iter().any(|finding| matches!(finding.standing, Standing::Differs(_)));
        if globals.json {
            let things: Vec<_> = found.iter().map(as_json).collect();
            output::line(
                json!({ "broker": transport.kind(), "fits": fits, "things": things, "reach": reach }).to_string(),
            );
            return Ok(fits);
        }
        for line in &found {
            output::line(as_line(line));
        }
        output::line(match (found.is_empty(), fits) {
            (true, _) => format!("the {} broker has nothing to declare", transport.kind()),
            (false, true) => reach,
            (false, false) => "A start is refused until what differs is changed.".to_owned(),
        });
        Ok(fits)
    }
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Fits => "there",
        Standing::Missing => "missing",
        Standing::Differs(_) => "differs",
        Standing::Unseen => "unseen",
        Standing::Stray => "stray",
        Standing::Endangered(_) => "danger",
    }
}

fn as_line(Finding { thing, standing }: &Finding) -> String {
    match standing {
        Standing::Differs(how) | Standing::Endangered(how) => format!("{:8} {thing}: {how}", word(standing)),
        _ => format!("{:8} {thing}", word(standing)),
    }
}

fn as_json(Finding { thing, standing }: &Finding) -> serde_json::Value {
    let how = match standing {
        Standing::Differs(how) | Standing::Endangered(how) => Some(how),
        _ => None,
    };
    json!({ "thing": thing, "standing": word(standing), "difference": how })
}
