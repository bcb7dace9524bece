//! What the facts mean: a line each, and what to type where something is to be done. Pure.

mod queues;
mod work;

use super::look::{Answer, Broker, Facts, Tables};
use crate::{
    cli::{
        advice::{Advice, quoted},
        output::{Colour, short},
    },
    config::StoreUrl,
    store::{About, Connections},
    transport::{Finding, Inspection, Standing as Stands},
    worker::without_transaction,
};
use serde::Serialize;
use serde_json::{Value, json};

/// Things of one kind that are told one by one; of the others only how many.
const SHOWN: usize = 5;
/// The longest sentence, in characters.
const LONGEST: usize = 300;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    Ok,
    /// Somebody should look at it.
    Warn,
    /// Messages wait for it, or a start is refused.
    Bad,
}

impl Standing {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    pub(super) fn colour(self) -> Colour {
        match self {
            Self::Ok => Colour::Green,
            Self::Warn => Colour::Yellow,
            Self::Bad => Colour::Red,
        }
    }
}

/// One line of the screen.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// What it is about.
    pub(super) of: &'static str,
    pub(super) standing: Standing,
    pub(super) says: String,
    /// What to type; of whatever is not `ok` there always is something.
    pub(super) then: Option<String>,
    /// The same in numbers, for programs.
    pub(super) facts: Value,
}

impl Line {
    pub(super) fn ok(of: &'static str, says: impl AsRef<str>) -> Self {
        Self::of(of, Standing::Ok, says, None)
    }

    pub(super) fn warn(of: &'static str, says: impl AsRef<str>, then: String) -> Self {
        Self::of(of, Standing::Warn, says, Some(then))
    }

    pub(super) fn bad(of: &'static str, says: impl AsRef<str>, then: String) -> Self {
        Self::of(of, Standing::Bad, says, Some(then))
    }

    fn of(of: &'static str, standing: Standing, says: impl AsRef<str>, then: Option<String>) -> Self {
        Self { of, standing, says: short(says.as_ref(), LONGEST), then, facts: Value::Null }
    }

    fn with(self, facts: Value) -> Self {
        Self { facts, ..self }
    }
}

/// The whole screen, from what everything needs to what happened.
pub(super) fn judge(facts: &Facts, advice: &Advice) -> Vec<Line> {
    let mut lines = config(facts, advice);
    lines.extend(facts.brokers.iter().map(|seen| broker(seen, advice)));
    lines.extend(facts.brokers.iter().flat_map(|seen| topology(seen, advice)));
    lines.extend(store(facts, advice));
    lines.extend(work::lines(facts, advice));
    lines
}

/// What a start would refuse, or warn about, without a connection.
fn config(facts: &Facts, advice: &Advice) -> Vec<Line> {
    let plan = &facts.plan;
    let show = || advice.run("config show");
    let kind = if let StoreUrl::Postgres(_) = facts.config.store.url { "postgres" } else { "another" };
    let refused = without_transaction(&facts.contract, kind);
    let refusals = plan.refusals.iter().chain(&refused);
    let mut lines: Vec<Line> =
        refusals.map(|why| Line::bad("config", format!("a start is refused: {why}"), show())).collect();
    lines.extend(plan.warnings.iter().map(|why| Line::warn("config", why, show())));
    if let (true, Some(topology)) = (lines.is_empty(), &plan.topology) {
        let listens: Vec<_> = topology.subscriptions.iter().map(|planned| &*planned.subscription.name).collect();
        lines.push(Line::ok("config", format!("fine; a worker listens to {}", listens.join(", "))));
    }
    lines
}

fn broker(broker: &Broker, advice: &Advice) -> Line {
    let Broker { name, url, is_needed, promises, about, .. } = broker;
    let facts = json!({ "name": name, "url": url, "about": about.as_ref().ok(), "needed": is_needed });
    let line = match (about, promises) {
        (Ok(_), Some(promises)) if promises.keeps_rows => {
            return Line::ok("broker", "embedded: messages are rows of the store, in the process of each worker");
        }
        (Ok(about), _) => Line::ok("broker", broker.named(format!("{about}, at {url}"))),
        (Err(_), Some(_)) if !is_needed => {
            Line::ok("broker", broker.named(format!("{url}: nothing here needs it, so it was not asked")))
        }
        (Err(why), _) => Line::bad("broker", broker.named(format!("{url}: {why}")), advice.run("config show")),
    };
    line.with(facts)
}

impl Broker {
    /// What is said of it, with its name where there are several.
    fn named(&self, says: impl std::fmt::Display) -> String {
        match &self.name {
            Some(name) => format!("[transport.{name}] {says}"),
            None => says.to_string(),
        }
    }
}

/// What is missing there or otherwise: the same as `topology plan` tells.
fn topology(broker: &Broker, advice: &Advice) -> Vec<Line> {
    let plan = || advice.run("topology plan");
    let Inspection { findings, reach, refusals } = match &broker.inspection {
        None => return Vec::new(),
        Some(Err(why)) => {
            let says = broker.named(format!("cannot be looked at: {why}"));
            return vec![Line::bad("topology", says, plan())];
        }
        Some(Ok(inspection)) => inspection,
    };
    let things = |wanted: fn(&Stands) -> bool| -> Vec<&Finding> {
        findings.iter().filter(|finding| wanted(&finding.standing)).collect()
    };
    let refused = |says: String, then| Line::bad("topology", broker.named(format!("a start is refused: {says}")), then);
    let warned = |says: String, then| Line::warn("topology", broker.named(says), then);
    let mut lines: Vec<Line> = refusals.iter().map(|why| refused(why.clone(), advice.run("config show"))).collect();
    let each = |found: &[&Finding], line: &dyn Fn(String, String) -> Line, lines: &mut Vec<Line>| {
        for Finding { thing, standing } in found.iter().take(SHOWN) {
            let (Stands::Differs(how) | Stands::Endangered(how)) = standing else { continue };
            lines.push(line(format!("{thing}: {how}"), plan()));
        }
        if let Some(more) = found.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            lines.push(line(format!("{more} more things are like that"), plan()));
        }
    };
    each(&things(|standing| matches!(standing, Stands::Differs(_))), &refused, &mut lines);
    let missing = things(|standing| matches!(standing, Stands::Missing));
    if !missing.is_empty() {
        let (count, first) = (missing.len(), named(&missing));
        let apply = advice.run("topology apply");
        let line = match broker.declares {
            true => warned(format!("{count} missing: {first}; a start makes it, if it may"), apply),
            false => refused(format!("{count} missing, and declare = false: {first}"), apply),
        };
        lines.push(line.with(json!({ "broker": broker.name, "missing": count })));
    }
    each(&things(|standing| matches!(standing, Stands::Endangered(_))), &warned, &mut lines);
    if lines.is_empty() && !findings.is_empty() {
        let strays = things(|standing| matches!(standing, Stands::Stray)).len();
        let strays = if strays == 0 { String::new() } else { format!(", and {strays} that nobody here wants") };
        let says = format!("{} things as they should be{strays}. {reach}", findings.len());
        lines.push(Line::ok("topology", broker.named(says)));
    }
    lines
}

fn named(found: &[&Finding]) -> String {
    let first: Vec<&str> = found.iter().take(3).map(|finding| finding.thing.as_str()).collect();
    let more = if found.len() > first.len() { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

fn store(facts: &Facts, advice: &Advice) -> Vec<Line> {
    let Tables { url, is_absent, lacks, about, check, .. } = &facts.store;
    if let Some(folder) = lacks {
        let says = format!("a start is refused: there is no folder {} for the database {url}", folder.display());
        let then = quoted(&folder.to_string_lossy()).map(|folder| format!("mkdir -p {folder}"));
        return vec![Line::bad("store", says, then.unwrap_or_else(|| advice.run("config show")))];
    }
    if *is_absent {
        let says = format!("there is no database {url} yet: `run`, `send` and `migrate` make one");
        return vec![Line::warn("store", says, advice.run("migrate"))];
    }
    let show = || advice.run("config show");
    let About { server, schema, wanted, connections } = match about {
        Ok(about) => about,
        Err(why) => return vec![Line::bad("store", format!("{url}: {why}"), show()).with(json!({ "url": url }))],
    };
    let told = match (schema, connections) {
        (0, _) => {
            let says = format!("{server} at {url} has no tables yet; a start makes them");
            Line::warn("store", says, advice.run("migrate"))
        }
        (schema, _) if schema < wanted => {
            let says = format!("{server} at {url}: schema version {schema}, which a start brings to {wanted}");
            Line::warn("store", says, advice.run("migrate"))
        }
        (_, Some(Connections { all, most, .. })) if u64::from(*all) * 10 >= u64::from(*most) * 9 => {
            let says = format!(
                "{server} at {url}: {all} of its {most} connections are taken; [worker] commits of each worker"
            );
            Line::warn("store", says, show())
        }
        (schema, connections) => {
            let connections = connections.map(|Connections { ours, all, most }| {
                format!(", {all} of {most} connections, {ours} of them of this service")
            });
            let says = format!("{server} at {url}, schema version {schema}{}", connections.unwrap_or_default());
            Line::ok("store", says)
        }
    };
    let mut lines = vec![told.with(json!({ "about": about.as_ref().ok(), "url": url }))];
    match check {
        Ok(warnings) => lines.extend(warnings.iter().map(|why| Line::warn("store", why, show()))),
        // Own tables come with a release, often beside the migration.
        Err(why) => lines.push(Line::bad("store", format!("a start is refused: {why}"), show())),
    }
    lines
}

/// A line for an answer that did not come.
fn unknown<T>(of: &'static str, answer: &Answer<T>, advice: &Advice) -> Option<Line> {
    let why = answer.as_ref().err()?;
    Some(Line::bad(of, format!("not known: {why}"), advice.run("config show")))
}
