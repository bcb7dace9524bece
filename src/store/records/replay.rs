//! Dead letters that run again together: a job, and what becomes of each of its letters.

use super::{LetterKey, Seen};
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// A replay of many letters. Its ID travels with every message that it sends (`pitcrew-replay`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// A UUIDv7: its time is that of the decision.
    pub id: Uuid,
    /// Who.
    pub actor: String,
    /// Why.
    pub note: String,
    /// Which letters, as they were chosen.
    pub asked: String,
    /// So many letters go first, and their outcome is awaited.
    pub canary: u32,
    /// At most so many letters a second.
    pub rate: Option<f64>,
    /// It stops when more of what is known went wrong than this share, 0 to 1.
    pub stop_at: f64,
    /// Where it stands.
    pub state: ReplayState,
    /// Why it stands there; empty while it runs.
    pub why: String,
    /// The first place that counts: what was sent before a stop was judged by whoever resumed it.
    pub judged: u32,
    /// When it was decided.
    pub began: DateTime<Utc>,
    /// When it came to where it stands.
    pub changed: DateTime<Utc>,
}

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// A process sends its letters, or was killed while it did.
    Running,
    /// Somebody interrupted it, or no worker was there.
    Paused,
    /// Too much went wrong.
    Stopped,
    /// Every letter was sent or passed over.
    Ended,
}

impl ReplayState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Stopped, Self::Ended];

    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }

    /// The state with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// A letter of a replay.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayLetter {
    /// Its place in the order of the job, from 0.
    pub place: u32,
    /// The letter that was to run again.
    pub key: LetterKey,
    /// What became of it.
    pub outcome: ReplayOutcome,
    /// [`Reason::word`](super::Reason::word) of its new death.
    pub reason: Option<String>,
    /// The error of its new death, or why it was passed over.
    pub error: Option<String>,
    /// When it was sent.
    pub sent: Option<DateTime<Utc>>,
}

/// What became of a letter of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOutcome {
    /// Not sent yet.
    Planned,
    /// Not sent: somebody else had decided it, or it cannot run again.
    Passed,
    /// Sent; no attempt has ended yet.
    Waiting,
    /// An attempt failed, and it comes again.
    Retrying,
    /// Handled.
    Done,
    /// A message of ours that was unpublishable and has left now: what becomes of it is its receiver's to say.
    Left,
    /// Dead again.
    Dead,
    /// Its `expirytime` had passed.
    Expired,
}

impl ReplayOutcome {
    /// All of them, in the order of a letter's life.
    pub const ALL: [Self; 8] =
        [Self::Planned, Self::Passed, Self::Waiting, Self::Retrying, Self::Done, Self::Left, Self::Dead, Self::Expired];

    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Passed => "passed",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Done => "done",
            Self::Left => "left",
            Self::Dead => "dead",
            Self::Expired => "expired",
        }
    }

    /// The outcome with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }

    /// It was sent, and may still become something else.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Retrying)
    }
}

/// How many letters of a replay came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayTally {
    /// Not sent yet.
    pub planned: u32,
    /// Not sent, and never will be.
    pub passed: u32,
    /// Sent; no attempt has ended yet.
    pub waiting: u32,
    /// An attempt failed, and they come again.
    pub retrying: u32,
    /// Handled, or left for another receiver.
    pub done: u32,
    /// Dead again, or expired.
    pub dead: u32,
}

impl ReplayTally {
    /// Counts letters that came to the same.
    pub fn add(&mut self, outcome: ReplayOutcome, letters: u32) {
        *match outcome {
            ReplayOutcome::Planned => &mut self.planned,
            ReplayOutcome::Passed => &mut self.passed,
            ReplayOutcome::Waiting => &mut self.waiting,
            ReplayOutcome::Retrying => &mut self.retrying,
            ReplayOutcome::Done | ReplayOutcome::Left => &mut self.done,
            ReplayOutcome::Dead | ReplayOutcome::Expired => &mut self.dead,
        } += letters;
    }

    /// All of them.
    pub fn all(&self) -> u32 {
        self.planned + self.passed + self.sent()
    }

    /// Those that were sent.
    pub fn sent(&self) -> u32 {
        self.waiting + self.retrying + self.done + self.dead
    }
}

/// What a store found out about a letter that was sent.
pub(crate) struct Sent<'a> {
    pub(crate) key: &'a LetterKey,
    /// Its row of the inbox.
    pub(crate) seen: Option<&'a Seen>,
    /// Reason and error of the latest letter of a later attempt.
    pub(crate) died: Option<(String, String)>,
    /// The row that was to run it again is still in the outbox.
    pub(crate) in_outbox: bool,
}

impl Sent<'_> {
    /// What became of it, with the reason and the error of a new death.
    pub(crate) fn outcome(self) -> (ReplayOutcome, Option<String>, Option<String>) {
        let Self { key, seen, died, in_outbox } = self;
        // The row of another payload under the same ID says nothing of this one.
        let seen = seen.filter(|seen| seen.payload_hash == key.payload_hash);
        let fate = seen.filter(|seen| seen.fate == "done" || seen.attempt > key.attempt).map(|seen| &*seen.fate);
        match (fate, died) {
            (Some("done"), _) => (ReplayOutcome::Done, None, None),
            // It died after that again, or before anything was written about it.
            (_, Some((reason, error))) => (ReplayOutcome::Dead, Some(reason), Some(error)),
            (Some("retry"), None) => (ReplayOutcome::Retrying, None, None),
            (Some("expired"), None) => (ReplayOutcome::Expired, None, None),
            // Another message of its business key was done.
            (Some("duplicate"), None) => (ReplayOutcome::Done, None, None),
            // It died between two questions: the next look finds its letter.
            (Some(_), None) => (ReplayOutcome::Waiting, None, None),
            // The letter of what could not be published has a destination where others have a handler (`relay/lane/outcome.rs`).
            (None, None) if key.consumer.contains(':') && !in_outbox => (ReplayOutcome::Left, None, None),
            (None, None) => (ReplayOutcome::Waiting, None, None),
        }
    }
}

/// What a message was part of, for its history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The job.
    pub replay: Uuid,
    /// The handler of the letter.
    pub consumer: String,
    /// The attempt that had died.
    pub attempt: u32,
    /// What became of it, as far as somebody has looked.
    pub outcome: ReplayOutcome,
    /// When it was sent; `None` if it was not.
    pub sent: Option<DateTime<Utc>>,
}
