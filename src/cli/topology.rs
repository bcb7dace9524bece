//! `topology`: what the broker must have, and how it stands.

use super::{Globals, output};
use crate::{
    Handlers,
    config::BrokerUrl,
    transport::{Finding, Inspection, Standing},
    worker::{self, open_transport},
};
use anyhow::Context as _;
use serde_json::json;
use std::collections::BTreeSet;

#[derive(Clone, Copy, clap::Subcommand)]
#[command(after_help = "\
Examples:
  {bin} topology plan --broker amqp://app:secret@mq/cars
  {bin} topology plan --broker kafka://host:9092
  {bin} topology apply --broker amqp://operator:secret@mq/cars

Then workers may run with `declare = false`, as a user who may make nothing.
The last line of `plan` says how deep it could look. RabbitMQ shows bindings,
policies and strays by its management API only: see `management` in the
configuration. Strays stay where they are, above all a queue with messages.")]
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
            let used: BTreeSet<&str> = endpoints.channels.iter().map(|c| transport.carrier_of(&c.name)).collect();
            let brokers = config.transport.iter().filter(|(name, _)| used.contains(name.as_str()));
            let brokers = brokers.map(|(_, broker)| &broker.url);
            for url in brokers.filter(|url| !matches!(url, BrokerUrl::Embedded)) {
                globals.record_beside("declare", &url.to_string(), "topology apply").await;
            }
        }
        let Inspection { findings: found, reach, refusals } =
            transport.inspect(&endpoints).await.context("looking at the broker")?;
        transport.close().await;
        let fits = refusals.is_empty() && !found.iter().any(|finding| matches!(finding.standing, Standing::Differs(_)));
        if globals.json {
            let things: Vec<_> = found.iter().map(as_json).collect();
            output::line(
                json!({ "broker": transport.kind(), "fits": fits, "things": things, "reach": reach, "refusals": refusals })
                    .to_string(),
            );
            return Ok(fits);
        }
        if found.is_empty() {
            output::line(format!("the {} broker has nothing to declare", transport.kind()));
            return Ok(fits);
        }
        for finding in &found {
            as_lines(finding).into_iter().for_each(output::line);
        }
        output::line("");
        for (like, advice) in ADVICE {
            if found.iter().any(|finding| word(&finding.standing) == *like) {
                output::line(*advice);
            }
        }
        let all = "Everything that was looked for could be seen.";
        for refusal in &refusals {
            output::wrapped(&format!("A start is refused: {refusal}."), "").into_iter().for_each(output::line);
        }
        output::wrapped(if reach.is_empty() { all } else { &reach }, "").into_iter().for_each(output::line);
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

/// What to do about it, for each kind that does not say it itself.
const ADVICE: &[(&str, &str)] = &[
    ("missing", "Missing: `topology apply` makes it, and so does a worker that may (`declare = true`)."),
    ("differs", "Differs: a start is refused until it is changed."),
    ("stray", "Stray: nobody here wants it, and nothing here deletes it; do it by hand once it is empty."),
    ("danger", "Danger: a worker starts, but the broker may lose, delay or bury messages on its own."),
];

/// The thing, and below it what there is to say of it.
fn as_lines(Finding { thing, standing }: &Finding) -> Vec<String> {
    let first = format!("{:8} {thing}", word(standing));
    let below = match standing {
        Standing::Differs(how) | Standing::Endangered(how) => output::wrapped(how, "         "),
        _ => Vec::new(),
    };
    [vec![first], below].concat()
}

fn as_json(Finding { thing, standing }: &Finding) -> serde_json::Value {
    let how = match standing {
        Standing::Differs(how) | Standing::Endangered(how) => Some(how),
        _ => None,
    };
    json!({ "thing": thing, "standing": word(standing), "difference": how })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_there_is_to_say_stands_below_it() {
        let finding = |standing| Finding { thing: "queue `a`".into(), standing };
        assert_eq!(as_lines(&finding(Standing::Stray)), ["stray    queue `a`"]);
        let long = "word ".repeat(30);
        let lines = as_lines(&finding(Standing::Endangered(long.clone())));
        assert_eq!(lines[0], "danger   queue `a`");
        assert!(
            lines[1..].iter().all(|line| line.starts_with("         word") && line.len() <= output::WIDTH),
            "{lines:?}"
        );
        let words: Vec<_> = lines[1..].iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(words, long.split_whitespace().collect::<Vec<_>>());
    }
}
