//! `dead discard`, and what all that an operator decides has in common: each letter once and in the audit.

use super::{Filter, MANY, OPEN, counted, heads_of, no_letter, reasons, rows};
use crate::{
    cli::{
        Globals,
        output::{self, Misuse},
    },
    dead_letter::{self, Rerun},
    store::{LetterHead, LetterState, OutboxRow, Reason, Store},
};
use serde_json::json;
use std::{collections::BTreeMap, io::Write};

/// Give letters up: they are kept until their retention, recorded with who and why.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} dead discard 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77 --reason \"cancelled\"
  {bin} dead discard --all --because invalid_payload --reason \"the bug of May\"")]
pub(in crate::cli) struct Discard {
    /// IDs of messages, or their beginnings
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All open letters that the filters let through; asks first
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
    /// With --all: died of this, e.g. permanent
    #[arg(long, value_name = "REASON", hide_possible_values = true, value_parser = reasons())]
    because: Option<String>,
    /// Why it is given up; recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Beside IDs or --all.
#[derive(clap::Args)]
pub(super) struct Which {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// With --all: at most so many, those that died first
    #[arg(long, value_name = "N", requires = "all")]
    limit: Option<usize>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
}

/// Which letters are meant.
pub(super) struct Asked<'a> {
    pub(super) ids: &'a [String],
    pub(super) all: bool,
    pub(super) which: &'a Which,
    pub(super) reason: Option<&'a str>,
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
        self.asked().check()
    }

    fn asked(&self) -> Asked<'_> {
        Asked { ids: &self.ids, all: self.all, which: &self.which, reason: self.because.as_deref() }
    }

    pub(super) async fn run(self, store: &dyn Store, globals: &Globals) -> anyhow::Result<bool> {
        Decision { to: LetterState::Discarded, note: &self.reason, external: BTreeMap::new() }
            .carry_out(store, &self.asked(), globals)
            .await
    }
}

/// Why it would ask an external system again what was asked once, if it would. `external`: what handlers call, by consumer.
pub(super) fn would_repeat(letter: &LetterHead, external: &BTreeMap<String, &'static str>) -> Option<String> {
    let may_have_begun = Reason::ALL.iter().any(|r| r.word() == letter.reason && r.may_have_begun());
    let system = external.get(&letter.key.consumer).filter(|_| may_have_begun)?;
    let (reason, error) = (&letter.reason, output::short(&letter.error, 80));
    Some(format!("died of {reason} ({error}); its handler may have asked `{system}` already and would ask again"))
}

/// What is to become of letters, and why.
pub(super) struct Decision<'a> {
    pub(super) to: LetterState,
    pub(super) note: &'a str,
    /// Letters of these consumers are passed over if their handler may have begun, each with what it would call again.
    pub(super) external: BTreeMap<String, &'static str>,
}

/// Letters that are open, and IDs whose letters are not.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) open: Vec<LetterHead>,
    /// Decided in this way before: nothing to do.
    already: usize,
    /// Each with the reason why nothing can be done.
    pub(super) refused: Vec<(String, String)>,
}

impl Chosen {
    pub(super) fn tell_refused(&self) {
        for (id, why) in &self.refused {
            let _ = writeln!(std::io::stderr(), "error: {id}: {why}");
        }
    }

    pub(super) fn refused_json(&self) -> Vec<serde_json::Value> {
        self.refused.iter().map(|(id, why)| json!({ "id": id, "reason": why })).collect()
    }
}

impl Decision<'_> {
    pub(super) async fn carry_out(
        &self,
        store: &dyn Store,
        asked: &Asked<'_>,
        globals: &Globals,
    ) -> anyhow::Result<bool> {
        let as_json = globals.json;
        let mut chosen = self.choose(store, asked).await?;
        if asked.which.dry_run {
            self.rehearse(&chosen, as_json);
            return Ok(chosen.refused.is_empty());
        }
        if asked.all && !asked.is_confirmed(self.verb(), chosen.open.len())? {
            return Ok(false);
        }
        let mut done = 0;
        for letter in std::mem::take(&mut chosen.open) {
            match self.rows(store, &letter).await? {
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

    pub(super) async fn choose(&self, store: &dyn Store, asked: &Asked<'_>) -> anyhow::Result<Chosen> {
        let mut chosen = Chosen::default();
        if asked.all {
            chosen.open = asked.which.filter.letters(store, asked.reason, &OPEN, MANY).await?;
            // The newest of more would be the wrong ones, and without a word.
            anyhow::ensure!(
                chosen.open.len() < MANY,
                "there are {MANY} open letters or more: narrow them by --type, --reason, --channel or --older-than"
            );
            chosen.open.reverse(); // newest first is for reading; what runs again goes in the order in which it died
        }
        for id in asked.ids {
            let letters = heads_of(store, id).await?;
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
        self.pass_over_repeats(&mut chosen);
        chosen.open.truncate(asked.which.limit.unwrap_or(MANY));
        Ok(chosen)
    }

    /// What an external system was asked once is not asked again unless somebody says so.
    fn pass_over_repeats(&self, chosen: &mut Chosen) {
        for letter in std::mem::take(&mut chosen.open) {
            match would_repeat(&letter, &self.external) {
                Some(why) => {
                    let why = format!("{why}: --repeat-external replays it all the same");
                    chosen.refused.push((letter.key.id, why));
                }
                None => chosen.open.push(letter),
            }
        }
    }

    /// What runs it again; nothing does if it is given up.
    async fn rows(
        &self,
        store: &dyn Store,
        letter: &LetterHead,
    ) -> anyhow::Result<Result<Vec<OutboxRow>, dead_letter::RerunError>> {
        if self.to != LetterState::Replayed {
            return Ok(Ok(Vec::new()));
        }
        // One payload at a time.
        Ok(match dead_letter::find(store, &letter.key).await? {
            Some(letter) => dead_letter::rerun(&letter, Rerun::Replay(None)).map(|row| vec![row]),
            None => Ok(Vec::new()), // then it cannot be resolved either
        })
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

    pub(super) fn report(&self, done: usize, chosen: &Chosen, as_json: bool) {
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

impl Asked<'_> {
    /// A filter beside IDs would be passed over in silence.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !self.all && (self.reason.is_some() || self.which.filter.is_any()) {
            return Err(Misuse("filters choose among all letters: give --all, or IDs without filters".into()).into());
        }
        Ok(())
    }

    /// Whether whoever types wants it, with so many letters. `false` is said.
    pub(super) fn is_confirmed(&self, verb: &str, count: usize) -> anyhow::Result<bool> {
        if self.which.yes || count == 0 {
            return Ok(true);
        }
        let what = format!("{verb} {}", counted(count));
        output::confirmed(&what, &format!("{verb} --all asks before it touches {}", counted(count)))
    }
}
