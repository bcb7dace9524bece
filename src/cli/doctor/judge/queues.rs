//! What waits where, for how long, and whether anybody listens.

use super::work::{ROWS_LATE, seconds_in_words};
use crate::{
    cli::{
        advice::Advice,
        doctor::{
            judge::{Line, Standing},
            look::{Answer, Broker, Facts},
        },
    },
    store::OutboxEntry,
    telemetry::metrics::OTHER,
    transport::Depth,
    worker::{Lag, Lags},
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds that a queue may be late: from the second on it is red, as in deploy/prometheus/alerts.yml.
const QUEUE_LATE: [f64; 2] = [60.0, 300.0];
/// Messages in a queue of which nobody tells the age, likewise.
const DEEP: u64 = 1_000;

/// As a worker reckons them for metrics, but for what only it can know: how late that was which it received last.
pub(super) fn lags(facts: &Facts) -> Vec<(String, &'static str, Lag)> {
    let Some(topology) = &facts.plan.topology else { return Vec::new() };
    let Some(keeps_rows) = facts.keeps_rows() else { return Vec::new() };
    let mut lags = Lags::default();
    if let Some(Ok(gauges)) = facts.store.rows.as_ref().map(|rows| &rows.gauges) {
        let subscriptions = topology.subscriptions.iter().map(|planned| &planned.subscription);
        let names: Vec<&str> = subscriptions.flat_map(|s| [&*s.name, &*s.channel]).collect();
        lags.of_store(keeps_rows, &names, gauges, facts.now);
    }
    for (_, name, depth) in facts.depths() {
        if let Ok(depth) = depth {
            lags.of_broker(name, depth, None, facts.now);
        }
    }
    lags.all().collect()
}

/// A line for each subscription or channel, with all places in which something may wait for it.
pub(super) fn lines(facts: &Facts, lags: &[(String, &'static str, Lag)], advice: &Advice) -> Vec<Line> {
    let mut by_name: BTreeMap<&str, Vec<(&'static str, Lag)>> = BTreeMap::new();
    for (name, place, lag) in lags {
        by_name.entry(name).or_default().push((place, *lag));
    }
    let rows = facts.store.rows.as_ref();
    let stuck = rows.and_then(|rows| rows.waiting.as_ref().ok()?.first());
    let keeps_rows = facts.keeps_rows().unwrap_or_default();
    let subscriptions = facts.plan.topology.iter().flat_map(|topology| &topology.subscriptions);
    let subscriptions: BTreeSet<&str> = subscriptions.map(|planned| &*planned.subscription.name).collect();
    // A channel that is only sent to is told of if something waits to go there.
    by_name.retain(|name, places| subscriptions.contains(name) || places.iter().any(|(_, lag)| lag.messages > 0));
    let mut lines: Vec<Line> = by_name
        .into_iter()
        .map(|(name, places)| {
            let depth = facts.depths().find(|(_, known, _)| *known == name);
            let consumers = depth.and_then(|(.., depth)| depth.as_ref().ok()?.consumers);
            let queue = match depth {
                _ if places.iter().any(|(place, _)| *place == "queue") || !subscriptions.contains(name) => {
                    Queue::Counted
                }
                Some((broker, _, depth)) if broker.lacks(depth) => Queue::Absent,
                _ => Queue::Unknown,
            };
            channel(name, &places, &Known { consumers, queue, keeps_rows, stuck }, advice)
        })
        .collect();
    for (broker, name, depth) in facts.depths() {
        if let Some(why) = depth.as_ref().err().filter(|_| !broker.lacks(depth)) {
            let says = broker.named(format!("{name}: not counted: {why}"));
            lines.push(Line::warn("lag", says, advice.run("topology plan")));
        }
        let stuck = depth.as_ref().ok().and_then(|depth| depth.stuck).filter(|stuck| *stuck > 0);
        if let Some(stuck) = stuck {
            let says = format!("{name}: {stuck} messages do not get out of it into the dead letter exchange");
            lines.push(Line::warn("lag", says, advice.run("topology plan")));
        }
    }
    lines
}

impl Broker {
    /// Whether what waits there is not known of every subscription.
    pub(super) fn is_uncounted(&self) -> bool {
        let is_counted = |depth: &Answer<Depth>| depth.as_ref().is_ok_and(|depth| depth.ready.is_some());
        self.is_needed && (self.about.is_err() || !self.depths.iter().all(|(_, depth)| is_counted(depth)))
    }

    /// Whether the answer is that there is no such queue or topic, which the topology tells of.
    fn lacks(&self, depth: &Answer<Depth>) -> bool {
        let seen = matches!(&self.inspection, Some(Ok(seen)) if !seen.findings.is_empty());
        seen && match depth {
            Ok(depth) => depth.ready.is_none(),
            Err(why) => why.contains("NOT_FOUND"),
        }
    }
}

/// What is known of a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Counted,
    /// It is not there yet.
    Absent,
    /// Nobody told.
    Unknown,
}

/// What is known of a subscription or channel beside what waits for it.
pub(super) struct Known<'a> {
    pub(super) consumers: Option<u64>,
    pub(super) queue: Queue,
    /// Where a message is a row.
    pub(super) keeps_rows: bool,
    /// A row that could leave.
    pub(super) stuck: Option<&'a OutboxEntry>,
}

pub(super) fn channel(name: &str, places: &[(&'static str, Lag)], known: &Known<'_>, advice: &Advice) -> Line {
    let (mut worst, mut told, mut facts) = ((Standing::Ok, ""), Vec::new(), serde_json::Map::new());
    let is_deserted = known.consumers == Some(0);
    for (place, lag) in places {
        facts.insert((*place).to_owned(), json!({ "messages": lag.messages, "seconds": lag.seconds }));
        if lag.messages == 0 {
            continue;
        }
        let is_queue = *place == "queue";
        let [warn, bad] = if is_queue || known.keeps_rows { QUEUE_LATE } else { ROWS_LATE };
        let standing = match lag.seconds {
            Some(seconds) if seconds >= bad => Standing::Bad,
            Some(seconds) if seconds >= warn => Standing::Warn,
            None if is_queue && lag.messages > DEEP => Standing::Bad,
            _ if is_queue && is_deserted => Standing::Warn,
            _ => Standing::Ok,
        };
        if standing > worst.0 {
            worst = (standing, place);
        }
        let late = match lag.seconds {
            Some(seconds) => format!(", {} late", seconds_in_words(seconds)),
            None if is_queue => ", for how long the broker does not tell".into(),
            None => String::new(),
        };
        told.push(format!("{} in {place}{late}", lag.messages));
    }
    if is_deserted && worst.0 > Standing::Ok {
        told.push("nobody listens".into());
    }
    match known.queue {
        Queue::Counted => {}
        Queue::Absent => told.push("its queue or topic is not there yet".into()),
        Queue::Unknown => told.push("its queue is not known".into()),
    }
    let what = if told.is_empty() { "nothing waits".to_owned() } else { told.join("; ") };
    let says = match name {
        OTHER => format!("for what no handler here listens to: {what}"),
        name => format!("{name}: {what}"),
    };
    let then = || match worst.1 {
        "queue" => advice.run("config show"),
        _ => advice.about("explain", known.stuck.map(|entry| entry.row.envelope.id.as_str()), "topology plan"),
    };
    let line = match worst.0 {
        Standing::Ok => Line::ok("lag", says),
        Standing::Warn => Line::warn("lag", says, then()),
        Standing::Bad => Line::bad("lag", says, then()),
    };
    line.with(json!({ "name": name, "places": facts, "consumers": known.consumers }))
}
