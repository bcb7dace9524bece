//! `dead replay` and `dead discard`: what an operator decides, each letter once and in the audit.

use super::{Filter, MANY, OPEN, counted, letters_of, no_letter, reasons, rows};
use crate::{
    Handlers,
    cli::{
        Globals,
        output::{self, Misuse},
    },
    dead_letter::{self, Rerun},
    store::{DeadLetter, LetterState, Reason, Store},
};
use anyhow::Context as _;
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
};

/// Run letters again: the same id and time, the next attempt, no failure counted. Twice does nothing more.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} dead replay 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77
  {bin} dead replay --all --reason exhausted --newer-than 1h
  {bin} dead replay --all --like ID --dry-run
  {bin} dead replay --all --like ID --limit 1
  {bin} dead replay --all --type {type} --yes")]
pub(in crate::cli) struct Replay {
    #[command(flatten)]
    which: Which,
    /// With --all: died of this, e.g. exhausted, kills_worker
    #[arg(long, visible_alias = "because", value_name = "REASON", hide_possible_values = true, value_parser = reasons())]
    reason: Option<String>,
    /// Why; recorded
    #[arg(long, value_name = "TEXT", default_value = "replayed from the command line", hide_default_value = true)]
    note: String,
    /// Also what may have acted outside the database already, and would act again
    #[arg(long)]
    repeat_external: bool,
}

/// Give letters up: they are kept until their retention, recorded with who and why.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} dead discard 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77 --reason \"cancelled\"
  {bin} dead discard --all --because invalid_payload --reason \"the bug of May\"")]
pub(in crate::cli) struct Discard {
    #[command(flatten)]
    which: Which,
    /// With --all: died of this, e.g. permanent
    #[arg(long, value_name = "REASON", hide_possible_values = true, value_parser = reasons())]
    because: Option<String>,
    /// Why it is given up; recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(clap::Args)]
struct Which {
    /// IDs of messages, or their beginnings
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All open letters that the filters let through; asks first
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// With --all: at most so many, those that died first
    #[arg(long, value_name = "N", requires = "all")]
    limit: Option<usize>,
    /// Show which, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Replay {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.which.check(self.reason.is_some())
    }

    pub(super) async fn run(self, store: &dyn Store, handlers: &Handlers, globals: &Globals) -> anyhow::Result<bool> {
        let reason = self.reason.as_deref();
        let external = if self.repeat_external { BTreeMap::new() } else { handlers.contract().external };
        Decision { to: LetterState::Replayed, note: &self.note, external }
            .carry_out(store, &self.which, reason, globals)
            .await
    }
}

impl Discard {
    /// In `list` and `replay`, --reason is a filter. Whoever means one here would give up everything.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let word = self.reason.as_str();
        if Reason::ALL.iter().any(|reason| reason.word() == word) {
            let text =
                format!("--reason says why it is given up; letters that died of it are chosen by --because {word}");
            return Err(Misuse(text).into());
        }
        self.which.check(self.because.is_some())
    }

    pub(super) async fn run(self, store: &dyn Store, globals: &Globals) -> anyhow::Result<bool> {
        let because = self.because.as_deref();
        Decision { to: LetterState::Discarded, note: &self.reason, external: BTreeMap::new() }
            .carry_out(store, &self.which, because, globals)
            .await
    }
}

/// What is to become of letters, and why.
struct Decision<'a> {
    to: LetterState,
    note: &'a str,
    /// Letters of these consumers are passed over if their handler may have begun, each with what it would call again.
    external: BTreeMap<String, &'static str>,
}

/// Letters that are open, and IDs whose letters are not.
#[derive(Default)]
struct Chosen {
    open: Vec<DeadLetter>,
    /// Decided in this way before: nothing to do.
    already: usize,
    /// Each with the reason why nothing can be done.
    refused: Vec<(String, String)>,
}

impl Chosen {
    fn tell_refused(&self) {
        for (id, why) in &self.refused {
            let _ = writeln!(std::io::stderr(), "error: {id}: {why}");
        }
    }

    fn refused_json(&self) -> Vec<serde_json::Value> {
        self.refused.iter().map(|(id, why)| json!({ "id": id, "reason": why })).collect()
    }
}

impl Decision<'_> {
    async fn carry_out(
        &self,
        store: &dyn Store,
        which: &Which,
        reason: Option<&str>,
        globals: &Globals,
    ) -> anyhow::Result<bool> {
        let as_json = globals.json;
        let mut chosen = self.choose(store, which, reason).await?;
        self.pass_over_repeats(&mut chosen);
        chosen.open.truncate(which.limit.unwrap_or(MANY));
        let count = chosen.open.len();
        if which.dry_run {
            self.rehearse(&chosen, as_json);
            return Ok(chosen.refused.is_empty());
        }
        if which.all && !which.yes && count > 0 && !confirmed(self.verb(), count)? {
            output::line("nothing was done");
            return Ok(false);
        }
        let mut done = 0;
        for letter in std::mem::take(&mut chosen.open) {
            match self.row(&letter) {
                Ok(rows) => {
                    let audit = globals.audit(self.verb(), &letter.key.id, self.note);
                    match store.resolve_letter(&letter.key, self.to, &rows, &audit).await? {
                        true => done += 1,
                        false => chosen.already += 1, // somebody else was faster
                    }
                }
                Err(error) => chosen.refused.push((letter.key.id, format!("cannot {error}"))),
            }
        }
        self.report(done, &chosen, as_json);
        Ok(chosen.refused.is_empty())
    }

    async fn choose(&self, store: &dyn Store, which: &Which, reason: Option<&str>) -> anyhow::Result<Chosen> {
        let mut chosen = Chosen::default();
        if which.all {
            chosen.open = which.filter.letters(store, reason, &OPEN, MANY).await?;
            chosen.open.reverse(); // newest first is for reading; what runs again goes in the order in which it died
        }
        for id in &which.ids {
            let letters = letters_of(store, id).await?;
            let states: Vec<LetterState> = letters.iter().map(|letter| letter.state).collect();
            if states.iter().any(|state| OPEN.contains(state)) {
                chosen.open.extend(letters.into_iter().filter(|letter| OPEN.contains(&letter.state)));
            } else if states.contains(&self.to) {
                chosen.already += 1;
            } else if let Some(state) = states.first() {
                chosen.refused.push((id.clone(), format!("it is {} already", state.word())));
            } else {
                chosen.refused.push((id.clone(), no_letter(store, id).await?));
            }
        }
        Ok(chosen)
    }

    /// What an external system was asked once is not asked again unless somebody says so.
    fn pass_over_repeats(&self, chosen: &mut Chosen) {
        let all = std::mem::take(&mut chosen.open);
        for letter in all {
            let may_have_begun = Reason::ALL.iter().any(|r| r.word() == letter.reason && r.may_have_begun());
            match self.external.get(&letter.key.consumer).filter(|_| may_have_begun) {
                Some(system) => {
                    let why = format!(
                        "died of {} ({}); its handler may have asked `{system}` already and would ask again: \
                         --repeat-external replays it all the same",
                        letter.reason,
                        output::short(&letter.error, 80)
                    );
                    chosen.refused.push((letter.key.id, why));
                }
                None => chosen.open.push(letter),
            }
        }
    }

    /// What runs it again; nothing does if it is given up.
    fn row(&self, letter: &DeadLetter) -> Result<Vec<crate::store::OutboxRow>, dead_letter::RerunError> {
        match self.to {
            LetterState::Replayed => Ok(vec![dead_letter::rerun(letter, Rerun::Replay(None))?]),
            _ => Ok(Vec::new()),
        }
    }

    /// What would be done.
    fn rehearse(&self, chosen: &Chosen, as_json: bool) {
        chosen.tell_refused();
        if as_json {
            let ids: Vec<&str> = chosen.open.iter().map(|letter| &*letter.key.id).collect();
            let told =
                json!({ "action": self.verb(), "dry_run": true, "would": ids, "refused": chosen.refused_json() });
            return output::line(told.to_string());
        }
        if !chosen.open.is_empty() {
            rows(&chosen.open).iter().for_each(output::line);
        }
        output::line(format!(
            "a dry run: nothing was done; without --dry-run: {} {}",
            self.verb(),
            counted(chosen.open.len())
        ));
    }

    fn report(&self, done: usize, chosen: &Chosen, as_json: bool) {
        chosen.tell_refused();
        if as_json {
            let refused = chosen.refused_json();
            let told = json!({ "action": self.verb(), "done": done, "already": chosen.already, "refused": refused });
            return output::line(told.to_string());
        }
        let (word, letters) = (self.to.word(), counted(done));
        match chosen.already {
            0 => output::line(format!("{word} {letters}")),
            already => output::line(format!("{word} {letters}; {already} {word} before")),
        }
        if done > 0 && self.to == LetterState::Replayed {
            output::line("a running worker takes what is replayed at once, any other at its start");
        }
    }

    fn verb(&self) -> &'static str {
        if self.to == LetterState::Replayed { "replay" } else { "discard" }
    }
}

impl Which {
    /// A filter beside IDs would be passed over in silence.
    fn check(&self, by_reason: bool) -> anyhow::Result<()> {
        if !self.all && (by_reason || self.filter.is_any()) {
            return Err(Misuse("filters choose among all letters: give --all, or IDs without filters".into()).into());
        }
        Ok(())
    }
}

fn confirmed(verb: &str, count: usize) -> anyhow::Result<bool> {
    if !output::is_terminal() {
        let text =
            format!("{verb} --all asks before it touches {}, and there is no terminal; add --yes", counted(count));
        return Err(Misuse(text).into());
    }
    eprint!("{verb} {}? [y/N] ", counted(count));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
