//! `topology`: what the broker must have, and how it stands.

use super::{Globals, output};
use crate::{
    Handlers,
    config::{BrokerUrl, Config},
    transport::{Endpoints, Finding, Inspection, Standing},
    worker::{self, Carrier, open_transport},
};
use anyhow::Context as _;
use futures::future::join_all;
use serde_json::json;

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
        let kind = open_transport(&config)?.kind();
        let Seen { things: found, reach, refusals, made, unseen } = Seen::look(&config, &endpoints, self).await;
        for url in made.iter().filter(|url| !matches!(url, BrokerUrl::Embedded)) {
            globals.record_beside("declare", &url.to_string(), "topology apply").await;
        }
        let differs = |thing: &Thing| matches!(thing.standing, Standing::Differs(_));
        let fits = refusals.is_empty() && unseen.is_empty() && !found.iter().any(differs);
        if globals.json && (unseen.is_empty() || !found.is_empty()) {
            let things: Vec<_> = found.iter().map(as_json).collect();
            let unseen: Vec<_> = unseen.iter().map(|why| format!("{why:#}")).collect();
            output::line(
                json!({
                    "broker": kind, "fits": fits, "things": things, "reach": reach, "refusals": refusals, "unseen": unseen,
                })
                .to_string(),
            );
            return Ok(fits);
        }
        if found.is_empty() && unseen.is_empty() {
            output::line(format!("the {kind} broker has nothing to declare"));
            return Ok(fits);
        }
        for thing in &found {
            as_lines(thing).into_iter().for_each(output::line);
        }
        output::line("");
        for (like, advice) in ADVICE {
            if found.iter().any(|thing| word(&thing.standing) == *like) {
                output::line(*advice);
            }
        }
        let all = "Everything that was looked for could be seen.";
        for refusal in &refusals {
            output::wrapped(&format!("A start is refused: {refusal}."), "").into_iter().for_each(output::line);
        }
        if unseen.is_empty() || !reach.is_empty() {
            output::wrapped(if reach.is_empty() { all } else { &reach }, "").into_iter().for_each(output::line);
        }
        // What is known of one broker is shown without the other.
        match unseen.into_iter().next() {
            Some(why) => Err(why),
            None => Ok(fits),
        }
    }
}

/// A thing, and whose it is.
struct Thing {
    /// The broker's name in the configuration.
    broker: String,
    /// With that name before it, where there are several.
    thing: String,
    standing: Standing,
}

/// All brokers, looked at.
#[derive(Default)]
struct Seen {
    things: Vec<Thing>,
    reach: String,
    refusals: Vec<String>,
    /// Where everything that was missing was made.
    made: Vec<BrokerUrl>,
    /// Why one could not be looked at.
    unseen: Vec<anyhow::Error>,
}

impl Seen {
    async fn look(config: &Config, endpoints: &Endpoints, what: Topology) -> Self {
        let carriers = worker::open_carriers(config, endpoints);
        let several = carriers.len() > 1;
        let needed = carriers.into_iter().filter(|carrier| carrier.share != Endpoints::default());
        let looked = join_all(needed.map(async |carrier| {
            let name = carrier.name.to_string();
            let of = if several { format!(" of [transport.{name}]") } else { String::new() };
            (look(carrier, what, &of).await, name)
        }));
        let mut all = Self::default();
        for (looked, broker) in looked.await {
            let Inspection { findings, reach, refusals } = match looked {
                Ok(seen) => seen,
                Err(why) => {
                    all.unseen.push(why);
                    continue;
                }
            };
            if let Topology::Apply = what {
                let known = config.transport.iter().find(|(name, _)| name.as_str() == broker);
                all.made.extend(known.map(|(_, transport)| transport.url.clone()));
            }
            let named = |what: String| if several { format!("{broker}: {what}") } else { what };
            let said = |why| if several { format!("[transport.{broker}] {why}") } else { why };
            all.refusals.extend(refusals.into_iter().map(said));
            if !reach.is_empty() {
                let gap = if all.reach.is_empty() { "" } else { " " };
                all.reach += &format!("{gap}{}", named(reach));
            }
            let thing = |Finding { thing, standing }| Thing { broker: broker.clone(), thing: named(thing), standing };
            all.things.extend(findings.into_iter().map(thing));
        }
        all
    }
}

/// One broker: all that this makes of it, and then how it stands.
async fn look(Carrier { transport, share, .. }: Carrier, what: Topology, of: &str) -> anyhow::Result<Inspection> {
    let transport = transport?;
    let looked = async {
        if let Topology::Apply = what {
            transport.declare(&share).await.with_context(|| format!("making the topology{of}"))?;
        }
        transport.inspect(&share).await.with_context(|| format!("looking at the broker{of}"))
    };
    let looked = looked.await;
    transport.close().await;
    looked
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
fn as_lines(Thing { thing, standing, .. }: &Thing) -> Vec<String> {
    let first = format!("{:8} {thing}", word(standing));
    let below = match standing {
        Standing::Differs(how) | Standing::Endangered(how) => output::wrapped(how, "         "),
        _ => Vec::new(),
    };
    [vec![first], below].concat()
}

fn as_json(Thing { broker, thing, standing }: &Thing) -> serde_json::Value {
    let how = match standing {
        Standing::Differs(how) | Standing::Endangered(how) => Some(how),
        _ => None,
    };
    json!({ "broker": broker, "thing": thing, "standing": word(standing), "difference": how })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_there_is_to_say_stands_below_it() {
        let finding = |standing| Thing { broker: "default".into(), thing: "queue `a`".into(), standing };
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
