//! `dead replays`: what became of the letters of a job.

use super::resolve::Chosen;
use crate::{
    cli::{Globals, advice::Advice, output},
    clock,
    store::{Replay, ReplayLetter, ReplayOutcome, ReplayState, ReplayTally, Store},
};
use anyhow::bail;
use serde_json::{Value, json};

/// So many letters that are not done are named at the end of a job.
const NAMED: usize = 20;
/// So many jobs are looked through for an ID.
const MANY: usize = 10_000;

/// What became of the letters of a replay of many; without an ID, all such jobs.
#[derive(clap::Args)]
#[command(after_help = "\
A job is running (or was killed while it did), paused, stopped or ended. Its
letters are planned (not sent), passed (not sent: somebody else decided them),
waiting, retrying, done, left (for another receiver), dead (again) or expired.

Examples:
  {bin} dead replays
  {bin} dead replays REPLAY_ID
  {bin} dead replays REPLAY_ID --json | jq -c '.letters[]'
  {bin} dead replay --resume REPLAY_ID")]
pub(in crate::cli) struct Replays {
    /// The ID of a job, or its beginning
    #[arg(value_name = "REPLAY_ID")]
    id: Option<String>,
    /// At most so many jobs
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "id")]
    limit: usize,
}

impl Replays {
    pub(super) async fn run(self, store: &dyn Store, globals: &Globals) -> anyhow::Result<bool> {
        let as_json = globals.json;
        if let Some(id) = &self.id {
            let told = Told::of(store, id).await?;
            if as_json {
                output::line(told.json().to_string());
            } else {
                told.head().into_iter().chain(told.table(|_| true, usize::MAX)).for_each(output::line);
                told.hints(&Advice::of(globals)).into_iter().for_each(output::line);
            }
            return Ok(true);
        }
        let (mut rows, now) = (Vec::new(), clock::now());
        for replay in store.replays(self.limit).await? {
            store.settle_replay(replay.id).await?;
            let tally = store.tally_replay(replay.id, 0, u32::MAX).await?;
            if as_json {
                output::line(document(&replay, &tally)?.to_string());
                continue;
            }
            rows.push(vec![
                replay.id.to_string(),
                output::age(replay.began, now),
                replay.state.word().to_owned(),
                format!("{}/{}", tally.sent(), tally.all()),
                counts(&tally),
                output::short(&replay.actor, 40),
                output::short(&replay.note, 80),
            ]);
        }
        if rows.is_empty() && !as_json {
            output::line("many letters were never replayed at once");
        } else if !as_json {
            let header = ["REPLAY", "AGE", "STATE", "SENT", "OUTCOMES", "WHO", "WHY"];
            output::table(&header, &rows).iter().for_each(output::line);
        }
        Ok(true)
    }
}

/// A job with all that is known of it now.
pub(super) struct Told {
    replay: Replay,
    pub(super) tally: ReplayTally,
    letters: Vec<ReplayLetter>,
}

impl Told {
    pub(super) async fn of(store: &dyn Store, id: &str) -> anyhow::Result<Self> {
        let id = find(store, id).await?.id;
        store.settle_replay(id).await?;
        Ok(Self {
            replay: find(store, &id.to_string()).await?,
            tally: store.tally_replay(id, 0, u32::MAX).await?,
            letters: store.replay_letters(id, false, usize::MAX).await?,
        })
    }

    /// What is said when a process has ended its part of the job.
    pub(super) fn tell_end(&self, chosen: &Chosen, as_json: bool, is_worked: bool, advice: &Advice) {
        chosen.tell_refused();
        if as_json {
            let mut told = self.json();
            told["action"] = "replay".into();
            told["refused"] = json!(chosen.refused_json());
            return output::line(told.to_string());
        }
        self.head().into_iter().for_each(output::line);
        let is_named = |outcome| !matches!(outcome, ReplayOutcome::Done | ReplayOutcome::Planned);
        self.table(is_named, NAMED).into_iter().for_each(output::line);
        self.hints(advice).into_iter().for_each(output::line);
        if self.tally.waiting > 0 && !is_worked {
            output::line("no worker is running: what was sent waits for one");
        }
    }

    fn head(&self) -> Vec<String> {
        let Self { replay, tally, .. } = self;
        let why = if replay.why.is_empty() { String::new() } else { format!(": {}", replay.why) };
        vec![
            format!("replay {}  {}{why}", replay.id, replay.state.word()),
            format!("{} of {} sent: {}", tally.sent(), tally.all(), counts(tally)),
        ]
    }

    fn table(&self, wanted: impl Fn(ReplayOutcome) -> bool, most: usize) -> Vec<String> {
        let wanted: Vec<_> = self.letters.iter().filter(|letter| wanted(letter.outcome)).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let row = |letter: &&ReplayLetter| {
            let attempt = if letter.sent.is_some() { (letter.key.attempt + 1).to_string() } else { "-".into() };
            vec![
                letter.key.id.chars().take(36).collect(),
                attempt,
                letter.outcome.word().into(),
                letter.reason.clone().unwrap_or_default(),
                output::short(letter.error.as_deref().unwrap_or_default(), 80),
            ]
        };
        let rows: Vec<_> = wanted.iter().take(most).map(row).collect();
        let mut lines = output::table(&["ID", "ATTEMPT", "OUTCOME", "REASON", "ERROR"], &rows);
        if wanted.len() > most {
            lines.push(format!("and {} more", wanted.len() - most));
        }
        lines
    }

    /// What a person may want to type next.
    fn hints(&self, advice: &Advice) -> Vec<String> {
        let id = self.replay.id;
        let mut hints = Vec::new();
        if self.replay.state != ReplayState::Ended {
            hints.push(format!("go on with: {}", advice.run(&format!("dead replay --resume {id}"))));
        }
        if self.tally.waiting + self.tally.retrying > 0 {
            let look = advice.run(&format!("dead replays {id}"));
            hints.push(format!("what becomes of those still going: {look}"));
        }
        hints
    }

    fn json(&self) -> Value {
        let letter = |l: &ReplayLetter| {
            json!({
                "id": l.key.id, "source": l.key.source, "consumer": l.key.consumer, "attempt": l.sent.map(|_| l.key.attempt + 1),
                "outcome": l.outcome, "reason": l.reason, "error": l.error, "sent": l.sent,
            })
        };
        let mut told = document(&self.replay, &self.tally).unwrap_or_default();
        told["letters"] = self.letters.iter().map(letter).collect();
        told
    }
}

/// A job as one document.
fn document(replay: &Replay, tally: &ReplayTally) -> serde_json::Result<Value> {
    let mut told = serde_json::to_value(replay)?;
    if let Some(fields) = told.as_object_mut() {
        let id = fields.remove("id").unwrap_or_default();
        fields.insert("replay".into(), id);
    }
    told["tally"] = serde_json::to_value(tally)?;
    Ok(told)
}

/// `10 done, 1 dead again`, without what there is none of.
pub(super) fn counts(tally: &ReplayTally) -> String {
    let ReplayTally { planned, passed, waiting, retrying, done, dead } = *tally;
    let all = [
        (done, "done"),
        (dead, "dead again"),
        (retrying, "retrying"),
        (waiting, "waiting"),
        (passed, "passed over"),
        (planned, "not sent"),
    ];
    let some: Vec<String> = all.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    some.join(", ")
}

/// The job with this ID, which may be cut short where it is unmistakable.
pub(super) async fn find(store: &dyn Store, id: &str) -> anyhow::Result<Replay> {
    let known = store.replays(MANY).await?;
    let mut like = known.iter().filter(|replay| replay.id.to_string().starts_with(id) && !id.is_empty());
    match (like.next(), like.next()) {
        (Some(replay), None) => Ok(replay.clone()),
        (Some(_), Some(_)) => bail!("more than one replay begins with `{id}`; `dead replays` shows them"),
        (None, _) => bail!("no replay has the ID `{id}`; `dead replays` shows what there is"),
    }
}
