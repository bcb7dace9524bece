//! `explain`: where a message is, why, and what happens next.

use super::{Globals, output};
use crate::{
    clock,
    store::{History, InboxRow, LetterState, OutboxEntry, Purpose},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// Tell everything about a message, as a timeline.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  car-worker explain 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77")]
pub(super) struct Explain {
    /// The message's ID
    id: String,
}

impl Explain {
    pub(super) async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let opened = globals.store().await?;
        let history = opened.store.history(&self.id).await?;
        opened.store.close().await;
        let story = Story::of(&self.id, &history);
        if globals.json {
            output::line(story.json(&history).to_string());
        } else {
            story.lines(clock::now()).into_iter().for_each(output::line);
        }
        Ok(story.state != "unknown")
    }
}

/// What people are told: one of four words, a reason, and what happened when.
pub(super) struct Story {
    id: String,
    ty: String,
    pub(super) state: &'static str,
    reason: String,
    events: Vec<(DateTime<Utc>, String)>,
    next: Vec<String>,
}

impl Story {
    pub(super) fn of(id: &str, history: &History) -> Self {
        let mut events = Vec::new();
        for (consumer, attempt) in &history.attempts {
            let next = attempt.next.map(|at| format!(", next at {}", clock_time(at))).unwrap_or_default();
            let ran = attempt.duration.as_secs_f64() * 1e3;
            let text = format!(
                "attempt {} in {consumer} ended as {} after {ran:.1} ms: {}{next}",
                attempt.attempt,
                attempt.kind.word(),
                output::short(&attempt.error, 160)
            );
            events.push((attempt.at, text));
        }
        for row in &history.inbox {
            if row.fate == "done" {
                events.push((
                    row.at,
                    format!("attempt {} in {} done in {:.1} ms", row.attempt, row.consumer, row.duration_ms),
                ));
            } else if row.fate != "retry" {
                events.push((row.at, format!("{} in {}", row.fate, row.consumer)));
            }
        }
        for letter in &history.letters {
            let times = if letter.count > 1 { format!(", {} times", letter.count) } else { String::new() };
            let text =
                format!("{} ({}{times}): {}", letter.state.word(), letter.reason, output::short(&letter.error, 160));
            events.push((letter.last_at, text));
        }
        for audit in &history.audit {
            events.push((audit.at, format!("{} by {}: {}", audit.action, audit.actor, audit.reason)));
        }
        for caused in &history.caused {
            events.push((caused.at, format!("caused {} ({}): {}", caused.ty, caused.id, four_words(&caused.fate))));
        }
        events.sort();
        let next = history.outbox.iter().chain(&history.caused_outbox).map(|entry| waiting(id, entry)).collect();
        let (state, reason) = state(history);
        let ty = history.inbox.first().map(|row| row.ty.clone());
        let ty = ty.or_else(|| history.outbox.first().map(|entry| entry.row.envelope.ty.clone()));
        let ty = ty.or_else(|| history.letters.first().map(|letter| letter.ty.clone())).unwrap_or_default();
        Self { id: id.to_owned(), ty, state, reason, events, next }
    }

    pub(super) fn lines(&self, now: DateTime<Utc>) -> Vec<String> {
        if self.state == "unknown" {
            return vec![format!(
                "{} never arrived here: no inbox row, no attempt, no letter, nothing on its way.\n\
                 If it was sent to another store, name that one with --store.",
                self.id
            )];
        }
        let mut lines =
            vec![format!("{}  {}", self.id, self.ty), format!("{}: {}", self.state, self.reason), String::new()];
        for (at, text) in &self.events {
            lines.push(format!("  {}  {text}", clock_time(*at)));
        }
        for text in &self.next {
            lines.push(format!("  {:>12}  {text}", "next"));
        }
        if let Some((last, _)) = self.events.last() {
            lines.push(String::new());
            lines.push(format!("last change {} ago", output::age(*last, now)));
        }
        lines
    }

    fn json(&self, history: &History) -> Value {
        let letters: Vec<Value> = history
            .letters
            .iter()
            .map(|l| json!({ "state": l.state, "reason": l.reason, "error": l.error, "attempt": l.key.attempt, "count": l.count, "last_at": l.last_at }))
            .collect();
        let outbox = |entries: &[OutboxEntry]| -> Vec<Value> {
            let entry = |e: &OutboxEntry| json!({ "destination": e.row.destination.to_string(), "purpose": e.row.purpose, "due": e.row.due, "tries": e.tries, "problem": e.problem, "id": e.row.envelope.id, "type": e.row.envelope.ty });
            entries.iter().map(entry).collect()
        };
        json!({
            "id": self.id, "type": self.ty, "state": self.state, "reason": self.reason,
            "inbox": history.inbox, "attempts": history.attempts, "letters": letters, "audit": history.audit,
            "outbox": outbox(&history.outbox), "caused": history.caused, "caused_outbox": outbox(&history.caused_outbox),
        })
    }
}

/// The four words that people see, and why.
fn state(history: &History) -> (&'static str, String) {
    let open = history.letters.iter().find(|letter| letter.state == LetterState::Dead);
    let queued = history.outbox.first();
    if let Some(entry) = queued.filter(|entry| entry.row.purpose == Purpose::Retry) {
        let when = entry.row.due.map_or("now".into(), clock_time);
        let why = entry.row.envelope.hop.reason.clone().unwrap_or_default();
        return ("retrying", format!("attempt {} at {when} ({why})", entry.row.envelope.hop.attempt));
    }
    if let Some(entry) = queued {
        let why = match (&entry.problem, entry.row.due) {
            (Some(problem), _) => problem.clone(),
            (None, Some(due)) => format!("due at {}", clock_time(due)),
            (None, None) => format!("on its way to {}", entry.row.destination),
        };
        return ("waiting", why);
    }
    if let Some(letter) = open {
        return ("dead", format!("{}: {}", letter.reason, output::short(&letter.error, 200)));
    }
    if history.letters.iter().any(|letter| letter.state == LetterState::Quarantined) {
        return ("waiting", "for a build that knows its type and version".into());
    }
    if let Some(letter) = history.letters.iter().find(|letter| letter.state == LetterState::Discarded) {
        return ("dead", format!("discarded ({})", letter.reason));
    }
    match history.inbox.iter().find(|row| row.fate != "done") {
        Some(row) => (four_words(&row.fate), row.fate.clone()),
        None if history.inbox.is_empty() => ("unknown", "never arrived here".into()),
        None => ("done", handled_by(&history.inbox)),
    }
}

fn handled_by(inbox: &[InboxRow]) -> String {
    let by: Vec<&str> = inbox.iter().map(|row| row.consumer.as_str()).collect();
    format!("handled by {}", by.join(", "))
}

fn four_words(fate: &str) -> &'static str {
    match fate {
        "done" | "duplicate" => "done",
        "retry" => "retrying",
        "quarantined" | "open" => "waiting",
        _ => "dead",
    }
}

fn waiting(id: &str, entry: &OutboxEntry) -> String {
    let envelope = &entry.row.envelope;
    let what = if envelope.id == id { "this message".to_owned() } else { format!("{} ({})", envelope.ty, envelope.id) };
    let when = entry.row.due.map_or(String::new(), |due| format!(" at {}", clock_time(due)));
    let problem = entry.problem.as_ref().map(|p| format!(", tried {} times: {p}", entry.tries)).unwrap_or_default();
    format!("{what} goes to {} as {}{when}{problem}", entry.row.destination, entry.row.purpose.word())
}

fn clock_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
