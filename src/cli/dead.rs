//! `dead`: triage of dead letters.

use super::{Globals, output};
use crate::{
    clock,
    config::parse_duration,
    dead_letter::{self, Rerun},
    store::{Audit, DeadFilter, DeadLetter, LetterState, Store},
};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::{
    io::{BufRead, Write},
    time::Duration,
};

#[derive(clap::Subcommand)]
#[command(after_help = "\
Examples:
  car-worker dead list --reason exhausted --newer-than 1h
  car-worker dead replay 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77
  car-worker dead replay --all --type car.GenerateRecommendationBrief
  car-worker dead discard ID --reason \"the buyer cancelled\"")]
pub(super) enum Dead {
    /// One line a letter, newest first
    List(List),
    /// A letter with its attributes and payload
    Show(Show),
    /// Run letters again: the same id and time, the next attempt; twice does nothing more
    Replay(Replay),
    /// Give letters up; recorded with who and why
    Discard(Discard),
}

#[derive(clap::Args, Default)]
struct Filter {
    /// Of this channel
    #[arg(long)]
    channel: Option<String>,
    /// Of this message type
    #[arg(long = "type", value_name = "TYPE")]
    ty: Option<String>,
    /// Died of this, e.g. permanent, exhausted, invalid_payload
    #[arg(long = "because", alias = "why", value_name = "REASON")]
    because: Option<String>,
    /// Died longer ago than, e.g. 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Died since, e.g. 15m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    newer_than: Option<Duration>,
}

#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Of this state: dead, quarantined, replayed, discarded [default: dead and quarantined]
    #[arg(long, value_parser = state)]
    state: Option<LetterState>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(clap::Args)]
pub(super) struct Show {
    /// The message's ID
    id: String,
}

#[derive(clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    which: Which,
    /// Why; recorded
    #[arg(long, default_value = "replayed from the command line")]
    reason: String,
}

#[derive(clap::Args)]
pub(super) struct Discard {
    #[command(flatten)]
    which: Which,
    /// Why; recorded
    #[arg(long)]
    reason: String,
}

#[derive(clap::Args)]
struct Which {
    /// IDs of messages
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that the filters let through; asks first
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Who does it [default: $USER]
    #[arg(long)]
    actor: Option<String>,
}

impl Filter {
    fn of(&self, states: &[LetterState]) -> DeadFilter {
        let now = clock::now();
        DeadFilter {
            states: states.to_vec(),
            channel: self.channel.clone(),
            ty: self.ty.clone(),
            reason: self.because.clone(),
            until: self.older_than.map(|age| now - age),
            since: self.newer_than.map(|age| now - age),
            ..DeadFilter::default()
        }
    }
}

impl Dead {
    pub(super) async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let opened = globals.store().await?;
        let store = &*opened.store;
        let done = match self {
            Self::List(list) => list.run(store, globals.json).await,
            Self::Show(show) => show.run(store, globals.json).await,
            Self::Replay(replay) => {
                resolve(store, globals.json, &replay.which, &replay.reason, LetterState::Replayed).await
            }
            Self::Discard(discard) => {
                resolve(store, globals.json, &discard.which, &discard.reason, LetterState::Discarded).await
            }
        };
        store.close().await;
        done
    }
}

impl List {
    async fn run(self, store: &dyn Store, as_json: bool) -> anyhow::Result<bool> {
        let states = self.state.map_or(vec![LetterState::Dead, LetterState::Quarantined], |state| vec![state]);
        let letters = store.dead_letters(&self.filter.of(&states), self.limit).await?;
        if as_json {
            letters.iter().for_each(|letter| output::line(as_value(letter, false).to_string()));
            return Ok(true);
        }
        if letters.is_empty() {
            output::line("no dead letters");
            return Ok(true);
        }
        let now = clock::now();
        let rows: Vec<Vec<String>> = letters
            .iter()
            .map(|l| {
                let id = if l.key.id.starts_with("sha256:") { output::short(&l.key.id, 36) } else { l.key.id.clone() };
                vec![
                    id,
                    output::age(l.last_at, now),
                    l.state.word().into(),
                    l.reason.clone(),
                    l.ty.clone(),
                    l.key.attempt.to_string(),
                    output::short(&l.error, 80),
                ]
            })
            .collect();
        output::table(&["ID", "AGE", "STATE", "REASON", "TYPE", "ATTEMPT", "ERROR"], &rows)
            .iter()
            .for_each(output::line);
        if letters.len() == self.limit {
            output::line(format!("the newest {} are shown; --limit shows more", self.limit));
        }
        Ok(true)
    }
}

impl Show {
    async fn run(self, store: &dyn Store, as_json: bool) -> anyhow::Result<bool> {
        let filter = DeadFilter { id: Some(self.id.clone()), ..DeadFilter::default() };
        let letters = store.dead_letters(&filter, 100).await?;
        if letters.is_empty() {
            bail!(
                "no letter has the ID `{}`; `dead list` shows what there is, `explain` what became of any message",
                self.id
            );
        }
        for letter in &letters {
            let value = as_value(letter, true);
            output::line(if as_json { value.to_string() } else { serde_json::to_string_pretty(&value)? });
        }
        Ok(true)
    }
}

async fn resolve(
    store: &dyn Store,
    as_json: bool,
    which: &Which,
    reason: &str,
    to: LetterState,
) -> anyhow::Result<bool> {
    let open = [LetterState::Dead, LetterState::Quarantined];
    let (mut letters, mut unknown) = (Vec::new(), Vec::new());
    if which.all {
        letters = store.dead_letters(&which.filter.of(&open), 100_000).await?;
    }
    for id in &which.ids {
        let filter = DeadFilter { id: Some(id.clone()), ..which.filter.of(&open) };
        let found = store.dead_letters(&filter, 1_000).await?;
        if found.is_empty() {
            unknown.push(id);
        }
        letters.extend(found);
    }
    let verb = if to == LetterState::Replayed { "replay" } else { "discard" };
    if which.all && !which.yes && !letters.is_empty() && !confirmed(verb, letters.len())? {
        output::line("nothing was done");
        return Ok(false);
    }
    let actor = which.actor.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "unknown".into());
    let (mut done, mut failed) = (0, 0);
    for letter in &letters {
        let rows = match to {
            LetterState::Replayed => match dead_letter::rerun(letter, Rerun::Replay) {
                Ok(row) => vec![row],
                Err(error) => {
                    failed += 1;
                    eprintln!("{}: cannot {error}", letter.key.id);
                    continue;
                }
            },
            _ => Vec::new(),
        };
        let audit = Audit {
            actor: actor.clone(),
            action: verb.into(),
            target: letter.key.id.clone(),
            reason: reason.to_owned(),
            at: clock::now(),
        };
        // False: somebody else was faster.
        done += u32::from(store.resolve_letter(&letter.key, to, &rows, &audit).await?);
    }
    for id in &unknown {
        eprintln!("{id}: no open letter has this ID (replayed or discarded already, or never dead)");
    }
    if as_json {
        output::line(json!({ "action": verb, "done": done, "failed": failed, "unknown": unknown }).to_string());
    } else {
        output::line(format!("{} {done} of {}", to.word(), letters.len()));
    }
    Ok(failed == 0 && unknown.is_empty())
}

fn confirmed(verb: &str, count: usize) -> anyhow::Result<bool> {
    if !output::is_terminal() {
        bail!("{verb} --all wants to ask, and there is no terminal; add --yes");
    }
    eprint!("{verb} {count} letters? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn as_value(letter: &DeadLetter, whole: bool) -> Value {
    let mut value = json!({
        "id": letter.key.id, "source": letter.key.source, "consumer": letter.key.consumer, "attempt": letter.key.attempt,
        "state": letter.state, "reason": letter.reason, "error": letter.error, "type": letter.ty, "version": letter.version,
        "channel": letter.channel, "subscription": letter.subscription, "count": letter.count,
        "first_at": letter.first_at, "last_at": letter.last_at, "worker": letter.worker, "build": letter.build,
    });
    if whole {
        let attributes = serde_json::from_str(&letter.attributes).unwrap_or(Value::String(letter.attributes.clone()));
        value["attributes"] = attributes;
        value["payload"] = serde_json::from_slice(&letter.payload)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&letter.payload).into_owned()));
    }
    value
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("`{text}` is no duration; for example 90s, 15m, 2h, 7d"))
}

fn state(text: &str) -> Result<LetterState, String> {
    LetterState::of_word(text).ok_or_else(|| format!("`{text}` is no state; dead, quarantined, replayed or discarded"))
}
