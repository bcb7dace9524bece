//! The work itself: who does it, what waits for how long, what failed for good, and what was done about it.

use super::{Facts, Line, SHOWN, Standing, unknown};
use crate::{
    cli::{
        doctor::{
            advice::Advice,
            look::{Answer, LETTERS, RETRIES, Rows},
        },
        explain::why_paused,
        output::{age, clock_time, distance, short},
    },
    clock, dead_letter,
    store::{Alive, Coming, Gauges, Hindered, LetterState, OutboxEntry},
    telemetry::metrics::OTHER,
    worker::{BEAT, Lag, Lags},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds that a queue may be late, and rows of the outbox: from the second on it is red, as in deploy/prometheus/alerts.yml.
const QUEUE_LATE: [f64; 2] = [60.0, 300.0];
const ROWS_LATE: [f64; 2] = [10.0, 60.0];
/// Messages in a queue of which nobody tells the age, likewise.
const DEEP: u64 = 1_000;
/// A loss is told for so long.
const RECENT: TimeDelta = TimeDelta::hours(24);

pub(super) fn lines(facts: &Facts, advice: &Advice) -> Vec<Line> {
    let lags = lags(facts);
    let rows = facts.store.rows.as_ref();
    let waits = lags.iter().map(|(.., lag)| lag.messages).sum::<u64>() > 0;
    let mut lines = Vec::new();
    if let Some(rows) = rows {
        // What the configuration is refused for was told; asked again it is refused again.
        let check = if facts.plan.refusals.is_empty() { "config check" } else { "config show" };
        lines.extend(workers(&rows.workers, waits, check, facts.now, advice));
    }
    lines.extend(channels(facts, &lags, advice));
    if let Some(rows) = rows {
        let keeps_rows = facts.broker.promises.is_some_and(|promises| promises.keeps_rows);
        lines.extend(outbox(rows, keeps_rows, facts.now, advice));
        lines.extend(retries(&rows.retries, facts.now, advice));
        lines.extend(letters(rows, facts.now, advice));
        lines.extend(handlers(rows, facts.now, advice));
        lines.extend(audit(rows, facts.now, advice));
    }
    lines
}

// ---- who works

fn workers(answer: &Answer<Vec<Alive>>, waits: bool, check: &str, now: DateTime<Utc>, advice: &Advice) -> Vec<Line> {
    let Ok(all) = answer else { return unknown("workers", answer, advice).into_iter().collect() };
    let (living, lost): (Vec<&Alive>, Vec<&Alive>) = all.iter().partition(|alive| alive.silent < 5 * BEAT);
    let facts = json!(all.iter().map(|alive| json!({
        "id": alive.worker.id, "service": alive.worker.service, "place": alive.worker.place, "build": alive.worker.build,
        "started": alive.started, "silent_seconds": alive.silent.as_secs_f64(), "alive": alive.silent < 5 * BEAT,
    })).collect::<Vec<_>>());
    let check = || advice.run(check);
    let named = |workers: &[&Alive], how: &dyn Fn(&Alive) -> String| {
        let more = workers.len().saturating_sub(SHOWN);
        let first = workers.iter().take(SHOWN).map(|alive| format!("{} {}", alive.worker.place, how(alive)));
        let more = (more > 0).then(|| format!("{more} more"));
        first.chain(more).collect::<Vec<_>>().join(", ")
    };
    let seen = |alive: &Alive| match TimeDelta::from_std(alive.silent) {
        Ok(silent) => format!("was last seen {} ago and has not signed off", age(now - silent, now)),
        Err(_) => "has not signed off".into(),
    };
    let line = if living.is_empty() {
        let says = match (lost.is_empty(), waits) {
            (false, _) => format!("none is alive: {}", named(&lost, &seen)),
            (true, true) => "none is alive, and messages wait".into(),
            (true, false) => "none is alive, and nothing waits".into(),
        };
        match lost.is_empty() && !waits {
            true => Line::warn("workers", says, check()),
            false => Line::bad("workers", says, check()),
        }
    } else {
        let since = |alive: &Alive| format!("(build {}, for {})", alive.worker.build, age(alive.started, now));
        let alive = format!("{} alive: {}", living.len(), named(&living, &since));
        let builds: BTreeSet<&str> = living.iter().map(|alive| alive.worker.build.as_str()).collect();
        match (builds.len(), lost.is_empty()) {
            (2.., _) => {
                let says = format!("{alive}; builds differ, so what only one of them knows may wait in quarantine");
                Line::warn("workers", says, advice.run("dead list --state quarantined"))
            }
            (_, false) => {
                let says = format!("{alive}; {}: its rows are taken over", named(&lost, &seen));
                Line::warn("workers", says, advice.run("audit list --since 24h"))
            }
            _ => Line::ok("workers", alive),
        }
    };
    vec![line.with(facts)]
}

// ---- what waits

/// As a worker reckons them for metrics, but for what only it can know: how late that was which it received last.
fn lags(facts: &Facts) -> Vec<(String, &'static str, Lag)> {
    let Some(topology) = &facts.plan.topology else { return Vec::new() };
    let Some(promises) = facts.broker.promises else { return Vec::new() };
    let mut lags = Lags::default();
    if let Some(Ok(gauges)) = facts.store.rows.as_ref().map(|rows| &rows.gauges) {
        let subscriptions = topology.subscriptions.iter().map(|planned| &planned.subscription);
        let names: Vec<&str> = subscriptions.flat_map(|s| [&*s.name, &*s.channel]).collect();
        lags.of_store(promises.keeps_rows, &names, gauges, facts.now);
    }
    for (name, depth) in &facts.broker.depths {
        if let Ok(depth) = depth {
            lags.of_broker(name, depth, None, facts.now);
        }
    }
    lags.all().collect()
}

/// A line for each subscription or channel, with all places in which something may wait for it.
fn channels(facts: &Facts, lags: &[(String, &'static str, Lag)], advice: &Advice) -> Vec<Line> {
    let mut by_name: BTreeMap<&str, Vec<(&'static str, Lag)>> = BTreeMap::new();
    for (name, place, lag) in lags {
        by_name.entry(name).or_default().push((place, *lag));
    }
    let rows = facts.store.rows.as_ref();
    let stuck = rows.and_then(|rows| rows.waiting.as_ref().ok()?.first());
    let keeps_rows = facts.broker.promises.is_some_and(|promises| promises.keeps_rows);
    let missing = |why: &str| {
        let seen = matches!(&facts.broker.inspection, Some(Ok(seen)) if !seen.findings.is_empty());
        // What is not there is told as such.
        !(seen && why.contains("NOT_FOUND"))
    };
    let subscriptions = facts.plan.topology.iter().flat_map(|topology| &topology.subscriptions);
    let subscriptions: BTreeSet<&str> = subscriptions.map(|planned| &*planned.subscription.name).collect();
    // A channel that is only sent to is told of if something waits to go there.
    by_name.retain(|name, places| subscriptions.contains(name) || places.iter().any(|(_, lag)| lag.messages > 0));
    let mut lines: Vec<Line> = by_name
        .into_iter()
        .map(|(name, places)| {
            let depth = facts.broker.depths.iter().find(|(known, _)| **known == *name);
            let consumers = depth.and_then(|(_, depth)| depth.as_ref().ok()?.consumers);
            let is_counted = places.iter().any(|(place, _)| *place == "queue") || !subscriptions.contains(name);
            channel(name, &places, &Known { consumers, is_counted, keeps_rows, stuck }, advice)
        })
        .collect();
    for (name, depth) in &facts.broker.depths {
        if let Some(why) = depth.as_ref().err().filter(|why| missing(why)) {
            lines.push(Line::warn("lag", format!("{name}: not counted: {why}"), advice.run("topology plan")));
        }
        let stuck = depth.as_ref().ok().and_then(|depth| depth.stuck).filter(|stuck| *stuck > 0);
        if let Some(stuck) = stuck {
            let says = format!("{name}: {stuck} messages do not get out of it into the dead letter exchange");
            lines.push(Line::warn("lag", says, advice.run("topology plan")));
        }
    }
    lines
}

/// What is known of a subscription or channel beside what waits for it.
struct Known<'a> {
    consumers: Option<u64>,
    /// Whether its queue could be counted.
    is_counted: bool,
    /// Where a message is a row.
    keeps_rows: bool,
    /// A row that could leave.
    stuck: Option<&'a OutboxEntry>,
}

fn channel(name: &str, places: &[(&'static str, Lag)], known: &Known<'_>, advice: &Advice) -> Line {
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
    if !known.is_counted {
        told.push("its queue is not known".into());
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

fn seconds_in_words(seconds: f64) -> String {
    let since = DateTime::UNIX_EPOCH;
    age(since, since + TimeDelta::milliseconds((seconds * 1e3) as i64))
}

/// Rows that could leave and do not, or that were refused.
fn outbox(rows: &Rows, keeps_rows: bool, now: DateTime<Utc>, advice: &Advice) -> Vec<Line> {
    let gauges = match &rows.gauges {
        Ok(gauges) => gauges,
        answer => return unknown("outbox", answer, advice).into_iter().collect(),
    };
    let ready = gauges.outbox.iter().map(|row| row.ready).sum::<u64>();
    let later = gauges.outbox.iter().map(|row| row.rows - row.ready.min(row.rows)).sum::<u64>();
    let late = late(gauges, now);
    let first = rows.waiting.as_ref().ok().and_then(|waiting| waiting.first());
    let problem = first.and_then(|entry| Some((entry, entry.problem.as_ref()?)));
    let facts = json!({ "ready": ready, "later": later, "oldest_seconds": late });
    let line = match problem {
        Some((OutboxEntry { row, tries, .. }, why)) => {
            let says = format!(
                "{ready} could leave, the first {} ago; one to {} was tried {tries} times: {why}",
                seconds_in_words(late),
                row.destination.to_string().replacen(':', " ", 1)
            );
            let then = advice.about("explain", Some(&row.envelope.id), "topology plan");
            match late >= ROWS_LATE[1] {
                true => Line::bad("outbox", says, then),
                false => Line::warn("outbox", says, then),
            }
        }
        // Where a message is a row, its queue was told above.
        None if keeps_rows || late < ROWS_LATE[0] => Line::ok(
            "outbox",
            match (ready, later) {
                (0, 0) => "empty".to_owned(),
                _ if keeps_rows => format!("{ready} are in queues, {later} wait for their time"),
                _ => format!("{ready} could leave, {later} wait for their time"),
            },
        ),
        None => {
            let says = format!("{ready} could leave, the first {} ago, and nobody has tried", seconds_in_words(late));
            let then = advice.about("explain", first.map(|entry| entry.row.envelope.id.as_str()), "topology plan");
            match late >= ROWS_LATE[1] {
                true => Line::bad("outbox", says, then),
                false => Line::warn("outbox", says, then),
            }
        }
    };
    vec![line.with(facts)]
}

fn late(gauges: &Gauges, now: DateTime<Utc>) -> f64 {
    let oldest = gauges.outbox.iter().filter_map(|row| row.oldest).min();
    oldest.map(|oldest| clock::between(oldest, now).as_secs_f64()).unwrap_or_default()
}

fn retries(answer: &Answer<Vec<Coming>>, now: DateTime<Utc>, advice: &Advice) -> Vec<Line> {
    let Ok(coming) = answer else { return unknown("retries", answer, advice).into_iter().collect() };
    let Some(Coming { id, consumer, attempt, error, at }) = coming.first() else {
        return vec![Line::ok("retries", "nothing waits for another attempt")];
    };
    let count = if coming.len() < RETRIES { coming.len().to_string() } else { format!("{RETRIES} and more") };
    let says = format!(
        "{count} to come; the next is {id} of {consumer}, {}, after attempt {attempt}: {}",
        distance(*at, now),
        short(error, 100)
    );
    vec![Line::ok("retries", says).with(json!({ "coming": coming.len(), "next": coming.first() }))]
}

// ---- what failed for good

fn letters(rows: &Rows, now: DateTime<Utc>, advice: &Advice) -> Vec<Line> {
    let Ok(letters) = &rows.letters else { return unknown("dead", &rows.letters, advice).into_iter().collect() };
    let count = |state: LetterState| letters.iter().filter(|letter| letter.state == state).count();
    let dead: Vec<_> = letters.iter().filter(|letter| letter.state == LetterState::Dead).cloned().collect();
    let groups = dead_letter::groups(&dead);
    let mut lines: Vec<Line> = groups
        .iter()
        .take(SHOWN)
        .map(|group| {
            let (what, since) = (if group.ty.is_empty() { group.channel } else { group.ty }, age(group.last, now));
            let says =
                format!("{} of {what}: {}, last {since} ago: {}", group.count, group.reason, short(group.error, 120));
            let then = advice.about("explain", Some(group.example), "dead groups");
            Line::warn("dead", says, then).with(json!(group))
        })
        .collect();
    if groups.len() > SHOWN || letters.len() == LETTERS {
        let more = groups.len().saturating_sub(SHOWN);
        let says = match (more, letters.len() == LETTERS) {
            (0, _) => format!("only the newest {LETTERS} letters were looked at"),
            (more, true) => format!("{more} more groups among the newest {LETTERS} letters"),
            (more, false) => format!("{more} more groups"),
        };
        lines.push(Line::warn("dead", says, advice.run("dead groups")));
    }
    if lines.is_empty() {
        lines.push(Line::ok("dead", "no letter waits for a person"));
    }
    let quarantined = count(LetterState::Quarantined);
    if quarantined > 0 {
        let says = format!("{quarantined} wait for a build that knows their version");
        lines.push(Line::warn("quarantine", says, advice.run("dead list --state quarantined")));
    }
    lines
}

// ---- what hinders it, and what was done

fn handlers(rows: &Rows, now: DateTime<Utc>, advice: &Advice) -> Vec<Line> {
    let Ok(told) = &rows.hindered else { return unknown("handlers", &rows.hindered, advice).into_iter().collect() };
    // One that failed, or one that waits in front of it.
    let example = |what: &Hindered| {
        let failed = rows.retries.iter().flatten().find(|coming| coming.consumer == what.consumer);
        let waits = || rows.waiting.iter().flatten().find(|entry| entry.row.envelope.ty == what.ty);
        failed.map(|coming| coming.id.as_str()).or_else(|| Some(waits()?.row.envelope.id.as_str()))
    };
    let hindered = told.iter().flat_map(|told| told.hindered.iter().map(move |what| (told, what)));
    let mut lines: Vec<Line> = hindered
        .map(|(told, what)| {
            let says = format!(
                "{} on {} is paused, {} wait before it: {}",
                what.consumer,
                told.place,
                what.waiting,
                why_paused(what, now)
            );
            let then = advice.about("explain", example(what), "dead groups");
            Line::warn("handlers", says, then).with(json!({ "place": told.place, "hindered": what }))
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::ok("handlers", "no handler is paused, and no breaker open"));
    }
    lines
}

fn audit(rows: &Rows, now: DateTime<Utc>, advice: &Advice) -> Vec<Line> {
    let mut lines = Vec::new();
    let since = now - RECENT;
    for loss in rows.losses.iter().flatten().filter(|loss| loss.at >= since).take(SHOWN) {
        let says = format!("{} lost messages at {}: {}", loss.target, clock_time(loss.at), loss.reason);
        lines.push(Line::warn("losses", says, advice.run("audit list --since 24h")));
    }
    lines.extend(unknown("losses", &rows.losses, advice));
    match &rows.audit {
        Ok(trail) => {
            let last = trail.first().map(|audit| {
                let ago = age(audit.at, now);
                format!("last, {ago} ago: {} by {}: {}", audit.action, audit.actor, short(&audit.reason, 100))
            });
            lines.push(Line::ok("audit", last.unwrap_or_else(|| "nobody did anything yet".into())));
        }
        answer => lines.extend(unknown("audit", answer, advice)),
    }
    lines
}

#[cfg(test)]
mod tests;
