//! Capacity: what so many commands a second weigh in Postgres and in the sink.
//!
//! The bytes are measured, by `handlers/tests/volume.rs` on a real Postgres, which fails when they are no longer true.

use crate::config::{Config, format_duration};
use serde_json::{Value, json};
use std::time::Duration;

/// A row of the inbox with its share of the index: an ID of 36 characters, an actor, a subject, a correlation ID, a trace.
const INBOX: f64 = 508.0;
/// A row of the outbox with its indexes: a payload of 500 B and its attributes.
const OUTBOX: f64 = 1_451.0;
/// Write-ahead log of a command that is done and sends one event, which the broker confirms.
const WAL: f64 = 2_140.0;
/// A row for an attempt that did not end done, with its indexes and an error of 60 characters.
const ATTEMPT: f64 = 298.0;
/// A line of `audit export`, and of the sink.
const LINE: f64 = 541.0;

const DAY: f64 = 86_400.0;
/// How much longer the inbox keeps a row than messages are admitted.
const GRACE: Duration = Duration::from_secs(2 * 86_400);
/// The share that fails, for an example.
const FAILING: f64 = 0.01;

/// A table of it, or what else grows.
struct Part {
    name: &'static str,
    /// Bytes of one, and of what.
    each: f64,
    of: &'static str,
    a_day: f64,
    /// For how long it is kept; `None`: it does not stay.
    kept: Option<Duration>,
    note: String,
}

fn parts(rate: u32, config: &Config) -> Vec<Part> {
    let commands = f64::from(rate) * DAY;
    let retention = &config.store.retention;
    let (inbox, attempts) = (retention.inbox.saturating_add(GRACE), retention.dead_letters);
    let sink = match &config.audit.sink {
        Some(folder) => format!("to {}, where nothing deletes it", folder.display()),
        None => "not set: dropped with the inbox".into(),
    };
    let part = |name, each, of, share: f64, kept: Option<Duration>, note: String| Part {
        name,
        each,
        of,
        a_day: each * commands * share,
        kept,
        note,
    };
    let for_so_long = |kept| format!("for {}", format_duration(kept));
    vec![
        part("inbox", INBOX, "a command", 1.0, Some(inbox), for_so_long(inbox)),
        part(
            "attempts",
            ATTEMPT,
            "a failure",
            FAILING,
            Some(attempts),
            format!("for {}, if 1 in 100 fails", format_duration(attempts)),
        ),
        part("outbox", OUTBOX, "an event", 1.0, None, "written and deleted; what waits stays".into()),
        part(
            "WAL",
            WAL,
            "a command",
            1.0,
            None,
            "for standbys and backups; whole pages after a checkpoint come on top".into(),
        ),
        part("audit.sink", LINE, "a line", 1.0, None, sink),
    ]
}

fn kept(part: &Part) -> Option<f64> {
    part.kept.map(|kept| part.a_day * kept.as_secs_f64() / DAY)
}

pub(super) fn lines(rate: u32, config: &Config) -> Vec<String> {
    let parts = parts(rate, config);
    let gb = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
    let rows: Vec<Vec<String>> = parts
        .iter()
        .map(|part| {
            let each = format!("{:.0} B {}", part.each, part.of);
            vec![part.name.to_owned(), each, gb(part.a_day), kept(part).map(gb).unwrap_or_default(), part.note.clone()]
        })
        .collect();
    let whole: f64 = parts.iter().filter_map(kept).sum();
    let mut lines =
        vec![format!("{rate} commands a second, each with one event of 500 B, need on Postgres (measured):")];
    lines.extend(super::output::table(&["WHAT", "EACH", "A DAY", "KEPT", ""], &rows));
    lines.push(format!("in all {} are kept, and {:.0} million commands a day", gb(whole), f64::from(rate) * DAY / 1e6));
    lines
}

pub(super) fn document(rate: u32, config: &Config) -> Value {
    let parts = parts(rate, config);
    let part = |part: &Part| {
        let told = json!({ "bytes_each": part.each, "bytes_a_day": part.a_day, "bytes_kept": kept(part) });
        (part.name.to_owned(), told)
    };
    json!({ "commands_a_second": rate, "parts": parts.iter().map(part).collect::<serde_json::Map<_, _>>() })
}
