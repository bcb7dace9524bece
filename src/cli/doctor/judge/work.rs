//! The work itself: who does it, what waits for how long, what failed for good, and what was done about it.

use super::{Facts, Line, SHOWN, queues, unknown};
use crate::{
    cli::{
        advice::Advice,
        doctor::look::{Answer, Broker, LETTERS, RETRIES, Rows},
        explain::why_paused,
        output::{age, clock_time, distance, short},
    },
    clock, dead_letter,
    store::{Alive, Coming, Gauges, Hindered, LetterState, OutboxEntry},
    worker::BEAT,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use std::collections::BTreeSet;

/// Seconds that rows of the outbox may be late: from the second on it is red, as in deploy/prometheus/alerts.yml.
pub(super) const ROWS_LATE: [f64; 2] = [10.0, 60.0];
/// A loss is told for so long.
const RECENT: TimeDelta = TimeDelta::hours(24);

pub(super) fn lines(facts: &Facts, advice: &Advice) -> Vec<Line> {
    let lags = queues::lags(facts);
    let rows = facts.store.rows.as_ref();
    let waits = match lags.iter().any(|(.., lag)| lag.messages > 0) {
        true => Some(true),
        // Nothing that was counted; the rest may hold thousands.
        false if facts.plan.topology.is_none() || facts.brokers.iter().any(Broker::is_uncounted) => None,
        false => Some(false),
    };
    let mut lines = Vec::new();
    if let Some(rows) = rows {
        // What the configuration is refused for was told; asked again it is refused again.
        let check = if facts.plan.refusals.is_empty() { "config check" } else { "config show" };
        lines.extend(workers(&rows.workers, waits, check, facts.now, advice));
    }
    lines.extend(queues::lines(facts, &lags, advice));
    if let Some(rows) = rows {
        let keeps_rows = facts.keeps_rows().unwrap_or_default();
        lines.extend(outbox(rows, keeps_rows, facts.now, advice));
        lines.extend(retries(&rows.retries, facts.now, advice));
        lines.extend(letters(rows, facts.now, advice));
        lines.extend(handlers(rows, facts.now, advice));
        lines.extend(audit(rows, facts.now, advice));
    }
    lines
}

// ---- who works

/// `waits`: whether messages do; `None` where nobody tells.
fn workers(
    answer: &Answer<Vec<Alive>>,
    waits: Option<bool>,
    check: &str,
    now: DateTime<Utc>,
    advice: &Advice,
) -> Vec<Line> {
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
            (true, Some(true)) => "none is alive, and messages wait".into(),
            (true, Some(false)) => "none is alive, and nothing waits".into(),
            (true, None) => "none is alive, and whether messages wait is not known of all queues".into(),
        };
        match lost.is_empty() && waits != Some(true) {
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

pub(super) fn seconds_in_words(seconds: f64) -> String {
    let since = DateTime::UNIX_EPOCH;
    age(since, since + TimeDelta::milliseconds((seconds * 1e3) as i64))
}

// ---- what waits

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
