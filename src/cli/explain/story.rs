//! Message History: the rows of one ID as a story that people can follow.

use crate::{
    cli::{binary_name, output},
    store::{
        Attempt, AttemptKind, DeadLetter, Hindered, History, InboxRow, LeftAlone, LetterState, OutboxEntry, Purpose,
        Told,
    },
};
use chrono::{DateTime, Utc};
use output::{clock_time, distance, short};
use serde_json::{Value, json};

/// What people are told: one of four words, a reason, what happened when, and what comes next.
pub(super) struct Story {
    id: String,
    ty: String,
    state: &'static str,
    reason: String,
    events: Vec<Happened>,
    next: Vec<String>,
    /// What its handler is hindered by, as the workers told.
    hindered: Vec<Told>,
}

struct Happened {
    at: DateTime<Utc>,
    what: String,
    why: Option<String>,
}

impl Story {
    pub(super) fn of(id: &str, history: &History, told: &[Told], now: DateTime<Utc>) -> Self {
        let (state, reason) = state(history, now);
        let ty = history.inbox.first().map(|row| row.ty.clone());
        let ty = ty.or_else(|| history.outbox.first().map(|entry| entry.row.envelope.ty.clone()));
        let ty = ty.or_else(|| history.letters.first().map(|letter| letter.ty.clone())).unwrap_or_default();
        let mut next = next(id, state, history, now);
        let hindered = if ["waiting", "retrying"].contains(&state) { of_type(told, &ty) } else { Vec::new() };
        next.extend(hindered.iter().flat_map(|told| told.hindered.iter().map(|what| paused(told, what, now))));
        Self { id: id.to_owned(), ty, state, reason, events: events(history), next, hindered }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.state == UNKNOWN
    }

    pub(super) fn lines(&self, near: &str) -> Vec<String> {
        if self.is_unknown() {
            return vec![
                format!("{} never arrived here{near}", self.id),
                "no inbox row, no attempt, no letter, nothing on its way; --store names another store".into(),
            ];
        }
        let mut lines = vec![
            format!("{}  {}", self.id, self.ty).trim_end().to_owned(),
            format!("{}: {}", self.state, self.reason),
            String::new(),
        ];
        let mut day = None;
        for Happened { at, what, why } in &self.events {
            if day != Some(at.date_naive()) {
                day = Some(at.date_naive());
                lines.push(format!("  {} (UTC)", at.date_naive()));
            }
            lines.push(format!("  {}  {what}", at.format("%H:%M:%S%.3f")));
            lines.extend(why.as_ref().map(|why| format!("  {:12}  {why}", "")));
        }
        for (n, text) in self.next.iter().enumerate() {
            lines.push(format!("  {:>12}  {text}", if n == 0 { "next" } else { "" }));
        }
        lines
    }

    pub(super) fn json(&self, history: &History) -> Value {
        let attempt = |(consumer, attempt): &(String, Attempt)| {
            let mut value = json!(attempt);
            value["consumer"] = consumer.as_str().into();
            value
        };
        let letter = |l: &DeadLetter| json!({ "consumer": l.key.consumer, "state": l.state, "reason": l.reason, "error": l.error, "attempt": l.key.attempt, "count": l.count, "last_at": l.last_at });
        let outbox = |entries: &[OutboxEntry]| -> Vec<Value> {
            let entry = |e: &OutboxEntry| json!({ "destination": e.row.destination.to_string(), "purpose": e.row.purpose, "due": not_before(e), "tries": e.tries, "problem": e.problem, "id": e.row.envelope.id, "type": e.row.envelope.ty, "attempt": e.row.envelope.hop.attempt, "replay": e.row.envelope.hop.replay });
            entries.iter().map(entry).collect()
        };
        json!({
            "id": self.id, "type": self.ty, "state": self.state, "reason": self.reason, "next": self.next,
            "inbox": history.inbox, "attempts": history.attempts.iter().map(attempt).collect::<Vec<_>>(),
            "letters": history.letters.iter().map(letter).collect::<Vec<_>>(), "audit": history.audit, "replays": history.replays,
            "outbox": outbox(&history.outbox), "caused": history.caused, "caused_outbox": outbox(&history.caused_outbox),
            "hindered": self.hindered,
            "events": self.events.iter().map(|e| json!({ "at": e.at, "what": e.what, "why": e.why })).collect::<Vec<_>>(),
        })
    }
}

const UNKNOWN: &str = "unknown";

/// The four words that people see, and why.
fn state(history: &History, now: DateTime<Utc>) -> (&'static str, String) {
    let letter = |state| history.letters.iter().rev().find(|letter| letter.state == state);
    let on_its_way = |purpose| history.outbox.iter().find(|entry| entry.row.purpose == purpose);
    if let Some(entry) = on_its_way(Purpose::Retry) {
        let why = entry.row.envelope.hop.reason.as_ref().map(|why| format!(", after {why}")).unwrap_or_default();
        return (
            "retrying",
            format!("attempt {} {}{why}", entry.row.envelope.hop.attempt, due(not_before(entry), now)),
        );
    }
    if on_its_way(Purpose::Replay).is_some() {
        return ("waiting", "to run again".into());
    }
    // The copy of a letter is no sign of life.
    if let Some(entry) = history.outbox.iter().find(|entry| entry.row.purpose != Purpose::Dead) {
        return ("waiting", waits_for(entry, now));
    }
    if let Some(letter) = letter(LetterState::Dead) {
        return ("dead", format!("{}: {}", letter.reason, short(&letter.error, 200)));
    }
    if let Some(letter) = letter(LetterState::Quarantined) {
        return ("waiting", format!("for a build that knows it: {}", short(&letter.error, 200)));
    }
    let last = |letter: &DeadLetter| history.inbox.iter().all(|row| row.attempt <= letter.key.attempt);
    if letter(LetterState::Replayed).is_some_and(last) && history.inbox.iter().any(|row| row.fate != "done") {
        return ("waiting", "to run again: its replay is with the broker".into());
    }
    if let Some(letter) = letter(LetterState::Discarded) {
        let by = history.audit.iter().rev().find(|audit| matches!(audit.action.as_str(), "discard" | "edit"));
        let by = by.map(|audit| format!(" by {}: {}", audit.actor, audit.reason)).unwrap_or_default();
        return ("dead", format!("discarded{by} ({})", letter.reason));
    }
    match history.inbox.iter().find(|row| row.fate != "done") {
        Some(row) if row.fate == "retry" => {
            let at = history.attempts.last().and_then(|(_, attempt)| attempt.next);
            ("retrying", format!("attempt {} {}", row.attempt + 1, due(at, now)))
        }
        Some(row) => (four_words(&row.fate), row.fate.clone()),
        None if history.inbox.is_empty() => (UNKNOWN, "never arrived here".into()),
        None => ("done", format!("by {}", names(&history.inbox))),
    }
}

fn names(inbox: &[InboxRow]) -> String {
    inbox.iter().map(|row| row.consumer.as_str()).collect::<Vec<_>>().join(", ")
}

pub(crate) fn four_words(fate: &str) -> &'static str {
    match fate {
        "done" | "duplicate" => "done",
        "retry" => "retrying",
        "quarantined" => "waiting",
        _ => "dead",
    }
}

fn due(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    match at {
        Some(at) if at > now => format!("at {} ({})", clock_time(at), distance(at, now)),
        _ => "is due".into(),
    }
}

/// The row waits in the outbox until then, or the broker keeps the message.
fn not_before(entry: &OutboxEntry) -> Option<DateTime<Utc>> {
    entry.row.due.or(entry.row.envelope.hop.due)
}

fn waits_for(entry: &OutboxEntry, now: DateTime<Utc>) -> String {
    match (&entry.problem, not_before(entry)) {
        (Some(problem), _) => format!("tried {} times: {problem}", entry.tries),
        (None, Some(at)) if at > now => format!("until {} ({})", clock_time(at), distance(at, now)),
        _ => "for a worker".into(),
    }
}

/// Everything that has happened, in the order in which it did.
fn events(history: &History) -> Vec<Happened> {
    let mut events = Vec::new();
    let mut happened = |at, what, why: Option<&str>| {
        events.push(Happened { at, what, why: why.filter(|why| !why.is_empty()).map(|why| short(why, 400)) });
    };
    let ours = |consumer: &str| {
        let alone = history.inbox.iter().all(|row| row.consumer == consumer && row.ty == consumer);
        if alone { String::new() } else { format!(" in {consumer}") }
    };
    for (consumer, attempt) in &history.attempts {
        let ended = match attempt.kind {
            AttemptKind::Rejected => continue, // its letter says the same
            kind => format!(
                "attempt {}{} ended as {} after {:.1} ms {}",
                attempt.attempt,
                ours(consumer),
                kind.word(),
                attempt.duration.as_secs_f64() * 1e3,
                by(&attempt.worker),
            ),
        };
        happened(attempt.at, ended, Some(&attempt.error));
    }
    for row in &history.inbox {
        let told = |letter: &DeadLetter| letter.key.consumer == row.consumer && letter.key.attempt == row.attempt;
        match row.fate.as_str() {
            "done" => {
                let (attempt, took, by) = (row.attempt, row.duration_ms, by(&row.worker));
                happened(row.at, format!("attempt {attempt}{} done in {took:.1} ms {by}", ours(&row.consumer)), None);
            }
            "retry" => {}
            _ if history.letters.iter().any(told) => {}
            fate => happened(row.at, format!("{fate}{}", ours(&row.consumer)), None),
        }
    }
    for letter in &history.letters {
        let times = if letter.count > 1 { format!(", {} times", letter.count) } else { String::new() };
        // What has become of the letter since is in the audit.
        let fate = if letter.reason == "newer_version" { "quarantined" } else { "dead" };
        let told = history.attempts.iter().any(|(_, attempt)| {
            attempt.attempt == letter.key.attempt
                && attempt.error == letter.error
                && attempt.kind != AttemptKind::Rejected
        });
        happened(
            letter.last_at,
            format!("{fate}: {}{times}", letter.reason),
            Some(letter.error.as_str()).filter(|_| !told),
        );
    }
    for audit in &history.audit {
        happened(audit.at, format!("{} by {}", audit.action, audit.actor), Some(&audit.reason));
    }
    for replayed in &history.replays {
        if let Some(sent) = replayed.sent {
            let what =
                format!("attempt {}{} is part of a replay of many", replayed.attempt + 1, ours(&replayed.consumer));
            happened(sent, what, Some(&replayed.replay.to_string()));
        }
    }
    for caused in &history.caused {
        happened(caused.at, format!("its {} is {}", caused.ty, four_words(&caused.fate)), Some(&caused.id));
    }
    // Stable: a try comes before the fate that it led to in the same moment.
    events.sort_by_key(|event| event.at);
    events
}

/// The worker, by the end of its ID, which differs where its beginning is the time of its start.
fn by(worker: &uuid::Uuid) -> String {
    let id = worker.simple().to_string();
    format!("(worker …{})", &id[id.len() - 6..])
}

/// What comes next, and when; or what a person could do.
fn next(id: &str, state: &str, history: &History, now: DateTime<Utc>) -> Vec<String> {
    let mut next: Vec<String> =
        history.outbox.iter().chain(&history.caused_outbox).map(|entry| leaves(id, entry, now)).collect();
    let (bin, open) = (binary_name(), history.letters.iter().any(|letter| letter.state == LetterState::Dead));
    if state == "dead" && open {
        next.push(format!("nothing by itself; {bin} dead replay ID runs it again,"));
        next.push(format!("{bin} dead discard ID --reason WHY gives it up"));
    } else if next.is_empty()
        && state == "waiting"
        && history.letters.iter().any(|l| l.state == LetterState::Quarantined)
    {
        next.push("a build that knows it takes it at its start".into());
    } else if next.is_empty() && state != UNKNOWN {
        next.push("nothing: this is how it ended".into());
    }
    next
}

/// What was told of the handlers of a type.
fn of_type(told: &[Told], ty: &str) -> Vec<Told> {
    let of_it = |told: &Told| {
        let hindered: Vec<_> = told.hindered.iter().filter(|hindered| hindered.ty == ty).cloned().collect();
        (!hindered.is_empty()).then(|| Told { hindered, ..told.clone() })
    };
    told.iter().filter_map(of_it).collect()
}

/// Why a handler runs less than it could, or not at all.
fn paused(told: &Told, what: &Hindered, now: DateTime<Utc>) -> String {
    format!("paused {} because {}", by(&told.worker), why_paused(what, now))
}

/// The reasons, one behind the other.
pub(crate) fn why_paused(what: &Hindered, now: DateTime<Utc>) -> String {
    let alone = what.left_alone.iter().map(|LeftAlone { breaker, until }| match *until > now {
        true => format!("`{breaker}` is left alone until {} ({})", clock_time(*until), distance(*until, now)),
        false => format!("`{breaker}` is left alone until a probe succeeds"),
    });
    let storm = what.at_once.map(|n| format!("most of its last attempts failed, so it runs {n} at once"));
    alone.chain(storm).collect::<Vec<_>>().join(", and ")
}

fn leaves(id: &str, entry: &OutboxEntry, now: DateTime<Utc>) -> String {
    let envelope = &entry.row.envelope;
    let what = match entry.row.purpose {
        _ if envelope.id != id => format!("its {} ({}) goes", envelope.ty, envelope.id),
        Purpose::Retry | Purpose::Replay => format!("attempt {} goes", envelope.hop.attempt),
        Purpose::Message | Purpose::Reply => "it goes".into(),
        Purpose::Dead => "a copy of it goes".into(),
    };
    let to = entry.row.destination.to_string().replacen(':', " ", 1);
    let when = match not_before(entry) {
        Some(at) if at > now => format!(" at {} ({})", clock_time(at), distance(at, now)),
        _ => ", as soon as a worker takes it".into(),
    };
    let problem = entry.problem.as_ref().map(|why| format!("; tried {} times: {why}", entry.tries)).unwrap_or_default();
    format!("{what} to {to}{when}{problem}")
}
