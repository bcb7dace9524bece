//! `dead`: triage of dead letters.

mod edit;
mod job;
mod replay;
mod replays;
mod resolve;
mod show;

use super::{Globals, output};
use crate::{
    Handlers, clock,
    config::{format_duration, parse_duration},
    dead_letter,
    store::{DeadFilter, DeadLetter, LetterHead, LetterState, Reason, Store},
};
use clap::builder::PossibleValuesParser;
use edit::Edit;
use replay::Replay;
use replays::Replays;
use resolve::Discard;
use std::time::Duration;

/// Open letters: these wait for somebody.
const OPEN: [LetterState; 2] = [LetterState::Dead, LetterState::Quarantined];
/// So many letters are looked through for an ID.
pub(super) const MANY: usize = 100_000;

#[derive(clap::Subcommand)]
#[command(after_help = "\
Examples:
  {bin} dead groups
  {bin} dead list --reason exhausted --newer-than 1h
  {bin} dead show ID
  {bin} dead replay ID
  {bin} dead replay --all --type {type} --canary 1
  {bin} dead edit ID
  {bin} dead discard ID --reason \"the buyer cancelled\"")]
pub(super) enum Dead {
    /// Letters that died alike as one line, the most frequent first
    Groups(Groups),
    /// One line a letter, newest first
    List(List),
    /// A letter with its attributes and payload
    Show(show::Show),
    /// Run letters again; twice does nothing more
    Replay(Replay),
    /// What became of the letters of a replay of many
    Replays(Replays),
    /// Send a letter's payload, mended, as a new message in its place
    Edit(Edit),
    /// Give letters up; recorded with who and why
    Discard(Discard),
}

#[derive(clap::Args, Default)]
struct Filter {
    /// Of this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Of this message type
    #[arg(long = "type", value_name = "TYPE")]
    ty: Option<String>,
    /// Died longer ago than, e.g. 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Died since, e.g. 15m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    newer_than: Option<Duration>,
    /// Died like this one: same channel, type and reason, and the same error
    #[arg(long, value_name = "ID")]
    like: Option<String>,
}

/// Letters that died alike as one line, the most frequent first.
#[derive(clap::Args)]
#[command(after_help = "\
Alike are those of one channel and type that died of the same reason with the
same error, but for words with digits and what stands in quotes.

Examples:
  {bin} dead groups --newer-than 1h
  {bin} dead list --like ID
  {bin} dead replay --all --like ID --limit 1
  {bin} dead groups --json")]
pub(super) struct Groups {
    #[command(flatten)]
    filter: Filter,
    /// Died of this, e.g. permanent, exhausted, invalid_payload
    #[arg(long, visible_alias = "because", value_name = "REASON", hide_possible_values = true, value_parser = reasons())]
    reason: Option<String>,
}

/// One line a letter, newest first.
#[derive(clap::Args)]
#[command(after_help = "\
Reasons: undecodable, invalid_payload, unknown_type, permanent, exhausted, gave_up,
  too_old, from_the_future, id_reused, key_conflict, kills_worker, in_doubt,
  too_large, unstorable, unpublishable, buried, newer_version (quarantined)

Examples:
  {bin} dead list --reason exhausted --newer-than 1h
  {bin} dead list --state discarded --json")]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Died of this, e.g. permanent, exhausted, invalid_payload
    #[arg(long, visible_alias = "because", value_name = "REASON", hide_possible_values = true, value_parser = reasons())]
    reason: Option<String>,
    /// dead, quarantined, replayed, discarded [default: the first two]
    #[arg(long, value_name = "STATE", hide_possible_values = true, value_parser = states())]
    state: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl Filter {
    fn is_any(&self) -> bool {
        self.channel.is_some()
            || self.ty.is_some()
            || self.older_than.is_some()
            || self.newer_than.is_some()
            || self.like.is_some()
    }

    /// The letters that it lets through, newest first.
    async fn letters(
        &self,
        store: &dyn Store,
        reason: Option<&str>,
        states: &[LetterState],
        limit: usize,
    ) -> anyhow::Result<Vec<LetterHead>> {
        let filter = self.of(reason, states);
        let Some(id) = &self.like else { return Ok(store.letter_heads(&filter, limit).await?) };
        let models = heads_of(store, id).await?;
        let Some(model) = models.first() else { anyhow::bail!("{}", no_letter(store, id).await?) };
        let mut letters = store.letter_heads(&filter, MANY).await?;
        letters.retain(|letter| dead_letter::alike(letter, model));
        letters.truncate(limit);
        Ok(letters)
    }

    /// As it was given, for whoever asks later which letters were meant.
    fn words(&self, reason: Option<&str>) -> String {
        let duration = |age: Option<Duration>| age.map(format_duration);
        let given = [
            ("--channel", self.channel.clone()),
            ("--type", self.ty.clone()),
            ("--reason", reason.map(str::to_owned)),
            ("--older-than", duration(self.older_than)),
            ("--newer-than", duration(self.newer_than)),
            ("--like", self.like.clone()),
        ];
        let words: Vec<String> =
            given.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect();
        words.join(" ")
    }

    fn of(&self, reason: Option<&str>, states: &[LetterState]) -> DeadFilter {
        let now = clock::now();
        DeadFilter {
            states: states.to_vec(),
            channel: self.channel.clone(),
            ty: self.ty.clone(),
            reason: reason.map(str::to_owned),
            until: self.older_than.map(|age| now - age),
            since: self.newer_than.map(|age| now - age),
            ..DeadFilter::default()
        }
    }
}

impl Dead {
    pub(super) async fn run(self, globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
        match &self {
            Self::Replay(replay) => replay.check()?,
            Self::Discard(discard) => discard.check()?,
            Self::Groups(_) | Self::List(_) | Self::Show(_) | Self::Replays(_) | Self::Edit(_) => {}
        }
        let opened = globals.store().await?;
        let store = &*opened.store;
        let done = match self {
            Self::Groups(groups) => groups.run(store, globals.json).await,
            Self::List(list) => list.run(store, globals.json).await,
            Self::Show(show) => show.run(store, globals.json).await,
            Self::Replay(replay) => replay.run(store, handlers, globals).await,
            Self::Replays(replays) => replays.run(store, globals).await,
            Self::Edit(edit) => edit.run(store, handlers, globals).await,
            Self::Discard(discard) => discard.run(store, globals).await,
        };
        store.close().await;
        done
    }
}

impl Groups {
    async fn run(self, store: &dyn Store, as_json: bool) -> anyhow::Result<bool> {
        let letters = self.filter.letters(store, self.reason.as_deref(), &OPEN, MANY).await?;
        let groups = dead_letter::groups(&letters);
        if as_json {
            for group in &groups {
                output::line(serde_json::to_string(group)?);
            }
            return Ok(true);
        }
        if groups.is_empty() {
            output::line(if self.filter.is_any() || self.reason.is_some() {
                "no letter is like that"
            } else {
                "no dead letters"
            });
            return Ok(true);
        }
        group_rows(&groups).iter().for_each(output::line);
        Ok(true)
    }
}

fn group_rows(groups: &[dead_letter::Group<'_>]) -> Vec<String> {
    let now = clock::now();
    let row = |group: &dead_letter::Group<'_>| {
        vec![
            group.count.to_string(),
            output::age(group.first, now),
            output::age(group.last, now),
            group.reason.to_owned(),
            group.ty.to_owned(),
            group.example.chars().take(36).collect(),
            output::short(group.error, 80),
        ]
    };
    let header = ["COUNT", "FIRST", "LAST", "REASON", "TYPE", "EXAMPLE", "ERROR"];
    output::table(&header, &groups.iter().map(row).collect::<Vec<_>>())
}

impl List {
    async fn run(self, store: &dyn Store, as_json: bool) -> anyhow::Result<bool> {
        let states = self.state.as_deref().and_then(LetterState::of_word).map_or(OPEN.to_vec(), |state| vec![state]);
        let letters = self.filter.letters(store, self.reason.as_deref(), &states, self.limit).await?;
        if as_json {
            letters.iter().for_each(|letter| output::line(show::as_value(letter).to_string()));
            return Ok(true);
        }
        if letters.is_empty() {
            let all = store.letter_heads(&Filter::default().of(None, &states), MANY).await?;
            output::line(self.nothing(&all));
            return Ok(true);
        }
        rows(&letters).iter().for_each(output::line);
        if letters.len() == self.limit {
            output::line(format!("only the newest {}; --limit shows more", self.limit));
        }
        Ok(true)
    }

    /// What is said when nothing is found: whether there is nothing, or the filter was narrow.
    fn nothing(&self, all: &[LetterHead]) -> String {
        if all.is_empty() {
            return format!("no {} letters", self.state.as_deref().unwrap_or("dead"));
        }
        let hint = |asked: &Option<String>, of: fn(&LetterHead) -> &str| match asked {
            Some(word) if all.iter().all(|letter| of(letter) != word) => {
                super::did_you_mean(word, all.iter().map(of).filter(|known| !known.is_empty()))
            }
            _ => String::new(),
        };
        let hints = hint(&self.filter.ty, |letter| &letter.ty) + &hint(&self.filter.channel, |letter| &letter.channel);
        format!("no letter is like that, of {} in all{hints}", all.len())
    }
}

fn rows(letters: &[LetterHead]) -> Vec<String> {
    let now = clock::now();
    let all_dead = letters.iter().all(|letter| letter.state == LetterState::Dead);
    let row = |l: &LetterHead| {
        let id = if l.key.id.starts_with("sha256:") { l.key.id.chars().take(36).collect() } else { l.key.id.clone() };
        let mut row = vec![id, output::age(l.last_at, now)];
        if !all_dead {
            row.push(l.state.word().into());
        }
        row.extend([l.reason.clone(), l.ty.clone(), output::short(&l.error, 80)]);
        row
    };
    let header: &[&str] = match all_dead {
        true => &["ID", "AGE", "REASON", "TYPE", "ERROR"],
        false => &["ID", "AGE", "STATE", "REASON", "TYPE", "ERROR"],
    };
    output::table(header, &letters.iter().map(row).collect::<Vec<_>>())
}

/// The letters of an ID, which may be cut short where it is unmistakable: `dead list` cuts `sha256:…`.
pub(super) async fn heads_of(store: &dyn Store, id: &str) -> anyhow::Result<Vec<LetterHead>> {
    let exact = DeadFilter { id: Some(id.to_owned()), ..DeadFilter::default() };
    let letters = store.letter_heads(&exact, MANY).await?;
    if !letters.is_empty() || id.len() < 8 {
        return Ok(letters);
    }
    let mut like = store.letter_heads(&DeadFilter::default(), MANY).await?;
    like.retain(|letter| letter.key.id.starts_with(id));
    if like.iter().any(|letter| letter.key.id != like[0].key.id) {
        like.clear();
    }
    Ok(like)
}

/// The same with their payloads.
async fn letters_of(store: &dyn Store, id: &str) -> anyhow::Result<Vec<DeadLetter>> {
    let heads = heads_of(store, id).await?;
    let Some(first) = heads.first() else { return Ok(Vec::new()) };
    let exact = DeadFilter { id: Some(first.key.id.clone()), ..DeadFilter::default() };
    Ok(store.dead_letters(&exact, MANY).await?)
}

/// Why there is no such letter.
async fn no_letter(store: &dyn Store, id: &str) -> anyhow::Result<String> {
    let all = store.letter_heads(&DeadFilter::default(), MANY).await?;
    let hint = super::did_you_mean_id(id, all.iter().map(|letter| letter.key.id.as_str()));
    Ok(format!("no letter has the ID `{id}`{hint}"))
}

fn counted(letters: usize) -> String {
    format!("{letters} {}", if letters == 1 { "letter" } else { "letters" })
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.word()).chain(["newer_version"]))
}

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(LetterState::ALL.map(LetterState::word))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("`{text}` is no duration; for example 90s, 15m, 2h, 7d"))
}
