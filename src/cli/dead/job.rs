//! Process Manager of a replay: sends letters, looks at what became of them, and decides whether the others follow. Its state is in
//! the store: a process that dies leaves a job that another one goes on with.

use super::{
    replay::{percent, told_rate},
    replays::{self, Told as Shown},
    resolve::Chosen,
};
use crate::{
    cli::{
        Globals,
        advice::Advice,
        progress::{Signals, Told},
    },
    clock::{self, Instant},
    dead_letter::{self, Rerun},
    store::{DeadFilter, LetterKey, Replay, ReplayLetter, ReplayState, ReplayTally, Store},
    worker::BEAT,
};
use anyhow::{Context as _, bail};
use std::time::Duration;
use uuid::Uuid;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How often whoever runs a job says that it does, and tells of it.
const HEARD: Duration = Duration::from_secs(1);
/// Not heard of for so long, another may go on with its job.
const LOST: Duration = Duration::from_secs(5);
/// So long nobody works before a job that waits for outcomes pauses.
const ALONE: Duration = Duration::from_secs(5);
/// Of fewer outcomes no share is taken.
const ENOUGH: u32 = 10;
const TAKEN: &str = "another process runs this replay now";
/// So many letters are sent before anything is known of them, at first and at most.
const AHEAD: (u32, u32) = (10, 100);

/// A job that this process runs.
pub(super) struct Job<'a> {
    store: &'a dyn Store,
    globals: &'a Globals,
    replay: Replay,
    runner: Uuid,
    pace: Option<Pace>,
}

impl<'a> Job<'a> {
    /// A job that was planned just now.
    pub(super) async fn begin(store: &'a dyn Store, globals: &'a Globals, replay: Replay) -> anyhow::Result<Self> {
        let pace = replay.rate.map(Pace::of);
        let job = Self { store, globals, replay, runner: clock::uuid_v7(), pace };
        job.keep().await?;
        Ok(job)
    }

    /// A job that was begun before: killed, paused or stopped. What one that was stopped has sent is judged: whoever resumes it knows.
    pub(super) async fn resume(store: &'a dyn Store, globals: &'a Globals, id: &str) -> anyhow::Result<Self> {
        let mut replay = replays::find(store, id).await?;
        let (id, pace) = (replay.id, replay.rate.map(Pace::of));
        let stopped = replay.state == ReplayState::Stopped;
        let ended = replay.state == ReplayState::Ended;
        if stopped && let Some(next) = store.replay_letters(id, true, 1).await?.first() {
            replay.judged = next.place;
        }
        let job = Self { store, globals, replay, runner: clock::uuid_v7(), pace };
        if ended {
            return Ok(job);
        }
        let until = clock::instant() + LOST + HEARD;
        while !job.hold().await? {
            if clock::instant() > until {
                let look = Advice::of(globals).run(&format!("dead replays {id}"));
                bail!("another process runs this replay; `{look}` tells how it goes");
            }
            tokio::time::sleep(PAUSE).await;
        }
        job.set(ReplayState::Running, "").await?;
        Ok(job)
    }

    /// Until everything was sent and `wait` is over, or it cannot go on. Then the account.
    pub(super) async fn run(mut self, wait: Duration, chosen: &Chosen) -> anyhow::Result<bool> {
        let advice = Advice::of(self.globals);
        let again = format!("go on with: {}", advice.run(&format!("dead replay --resume {}", self.replay.id)));
        let mut told = Told::default();
        let ran = match self.replay.state {
            ReplayState::Ended => Ok((ReplayState::Ended, String::new())),
            _ => self.walk(wait, &mut told).await,
        };
        told.end();
        let (state, why) = ran.with_context(|| again.clone())?;
        if self.replay.state != ReplayState::Ended {
            self.set(state, &why).await.context(again)?;
        }
        let shown = Shown::of(self.store, &self.replay.id.to_string()).await?;
        shown.tell_end(chosen, self.globals.json, self.is_worked().await?, &advice);
        Ok(state == ReplayState::Ended && shown.tally.dead == 0 && chosen.refused.is_empty())
    }

    /// Whether a worker lives that could handle what is sent.
    async fn is_worked(&self) -> anyhow::Result<bool> {
        Ok(self.store.workers(clock::now()).await?.iter().any(|alive| alive.silent <= 5 * BEAT))
    }

    /// Says that this process has the job, if it does.
    async fn hold(&self) -> anyhow::Result<bool> {
        let now = clock::now();
        Ok(self.store.hold_replay(self.replay.id, self.runner, now, now - LOST).await?)
    }

    async fn set(&self, state: ReplayState, why: &str) -> anyhow::Result<()> {
        let Replay { id, judged, .. } = self.replay;
        match self.store.set_replay(id, self.runner, state, why, judged, clock::now()).await? {
            true => Ok(()),
            false => bail!(TAKEN),
        }
    }

    async fn keep(&self) -> anyhow::Result<()> {
        if !self.hold().await? {
            bail!(TAKEN);
        }
        Ok(())
    }

    async fn walk(&mut self, wait: Duration, told: &mut Told) -> anyhow::Result<(ReplayState, String)> {
        let mut signals = Signals::listen()?;
        let (mut heard, mut alone, mut sent_all) = (clock::instant(), None, None);
        loop {
            let now = clock::instant();
            let view = self.look(&mut alone, &mut sent_all, wait).await?;
            if now - heard >= HEARD {
                heard = now;
                self.keep().await?;
                told.tell(&view.progress(&self.replay));
            }
            // A look at many letters takes its time: the database has others to serve.
            let mut pause = PAUSE.max(2 * now.elapsed());
            match view.next(&self.replay) {
                Next::End(state, why) => return Ok((state, why)),
                Next::Wait => {}
                Next::Send(letters) => {
                    self.send(letters).await?;
                    if self.pace.is_none() {
                        pause = Duration::ZERO;
                    }
                }
            }
            if tokio::time::timeout(pause, signals.next()).await.is_ok() {
                let all = self.store.tally_replay(self.replay.id, 0, u32::MAX).await?;
                return Ok(match all.planned {
                    // Nothing is left to go on with: what becomes of what was sent needs nobody who waits for it.
                    0 => (ReplayState::Ended, String::new()),
                    _ => (ReplayState::Paused, "interrupted".into()),
                });
            }
        }
    }

    async fn look(
        &self,
        alone: &mut Option<Instant>,
        sent_all: &mut Option<Instant>,
        wait: Duration,
    ) -> anyhow::Result<View> {
        let (id, judged, now) = (self.replay.id, self.replay.judged, clock::instant());
        self.store.settle_replay(id).await?;
        let all = self.store.tally_replay(id, 0, u32::MAX).await?;
        let since = if judged == 0 { all } else { self.store.tally_replay(id, judged, u32::MAX).await? };
        let canary = self.store.tally_replay(id, judged, judged.saturating_add(self.replay.canary)).await?;
        *alone = if self.is_worked().await? { None } else { alone.or(Some(now)) };
        if all.planned == 0 {
            *sent_all = sent_all.or(Some(now));
        }
        let waited = sent_all.is_some_and(|since| now - since >= wait);
        Ok(View { all, since, canary, alone: alone.map(|since| now - since), waited })
    }

    /// Sends the next letters, as many as the rate allows by now, until it is time to look again.
    async fn send(&mut self, letters: u32) -> anyhow::Result<()> {
        let until = clock::instant() + HEARD / 2;
        let letters = self.pace.as_mut().map_or(letters, |pace| pace.take(letters));
        for letter in self.store.replay_letters(self.replay.id, true, letters as usize).await? {
            if clock::instant() > until {
                break;
            }
            self.send_one(&letter).await?;
        }
        Ok(())
    }

    async fn send_one(&self, planned: &ReplayLetter) -> anyhow::Result<()> {
        let (id, place, key) = (self.replay.id, planned.place, &planned.key);
        // Twice: between a look and the sending somebody else may decide it.
        for _ in 0..2 {
            let letter = dead_letter::find(self.store, key).await?;
            let row = match letter.filter(|letter| super::OPEN.contains(&letter.state)) {
                None => break,
                Some(letter) => dead_letter::rerun(&letter, Rerun::Replay(Some(id))),
            };
            match row {
                Err(error) => return Ok(self.store.pass_letter(id, place, &format!("cannot {error}")).await?),
                Ok(row) => {
                    let audit = self.globals.audit("replay", &key.id, &self.replay.note);
                    if self.store.send_letter(id, place, key, &row, &audit).await? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(self.store.pass_letter(id, place, &self.why_closed(key).await?).await?)
    }

    /// Why a letter is not open, in the words of its state.
    async fn why_closed(&self, key: &LetterKey) -> anyhow::Result<String> {
        let filter = DeadFilter { id: Some(key.id.clone()), ..DeadFilter::default() };
        let letters = self.store.letter_heads(&filter, usize::MAX).await?;
        let letter = letters.into_iter().find(|letter| letter.key == *key);
        Ok(letter.map_or_else(|| "it is gone".into(), |letter| format!("it is {} already", letter.state.word())))
    }
}

/// What is known at a look.
#[derive(Clone, Copy, Debug, Default)]
struct View {
    all: ReplayTally,
    /// Of those that count.
    since: ReplayTally,
    /// Of the first of them.
    canary: ReplayTally,
    /// For how long nobody has worked.
    alone: Option<Duration>,
    /// Everything was sent, and outcomes were awaited long enough.
    waited: bool,
}

#[derive(Debug, PartialEq)]
enum Next {
    Send(u32),
    Wait,
    End(ReplayState, String),
}

impl View {
    /// What to do now. Everything that a job decides is decided here.
    fn next(&self, replay: &Replay) -> Next {
        let Self { all, since, canary, .. } = self;
        if all.planned == 0 {
            let open = all.waiting + all.retrying;
            let is_over = open == 0 || self.waited || self.alone.is_some();
            return if is_over { Next::End(ReplayState::Ended, String::new()) } else { Next::Wait };
        }
        if let Some(why) = self.too_much(replay) {
            return Next::End(ReplayState::Stopped, why);
        }
        let ahead = AHEAD.0.saturating_add(since.done).min(AHEAD.1).saturating_sub(since.waiting);
        let may_go = match self.is_of_canary() {
            true => canary.planned.min(AHEAD.1),
            false => ahead.min(all.planned),
        };
        match may_go {
            0 if self.alone.is_some_and(|alone| alone >= ALONE) => {
                Next::End(ReplayState::Paused, "no worker is running".into())
            }
            0 => Next::Wait,
            letters => Next::Send(letters),
        }
    }

    /// The canary is still awaited.
    fn is_of_canary(&self) -> bool {
        self.canary.planned + self.canary.waiting + self.canary.retrying > 0
    }

    /// Why the others must not follow. A canary is judged by its deaths, as it is awaited; later a letter that comes again after a
    /// failure counts too, or a provider that is down would fill the retries before the first letter has died of it.
    fn too_much(&self, replay: &Replay) -> Option<String> {
        let (stop_at, canary, since) = (replay.stop_at, &self.canary, &self.since);
        let limit = percent(stop_at);
        if f64::from(canary.dead) > stop_at * f64::from(canary.all()) {
            return Some(format!(
                "{} of the {} that went first died again, more than {limit}",
                canary.dead,
                canary.all()
            ));
        }
        let (failed, known) = (since.dead + since.retrying, since.done + since.dead + since.retrying);
        if !self.is_of_canary() && known >= ENOUGH && f64::from(failed) > stop_at * f64::from(known) {
            let of_them = format!("{} died again, {} come again", since.dead, since.retrying);
            return Some(format!("{failed} of {known} failed ({of_them}), more than {limit}"));
        }
        None
    }

    fn progress(&self, replay: &Replay) -> String {
        let Self { all, .. } = self;
        let mut text = format!("{} of {} sent: {}", all.sent(), all.all(), replays::counts(all));
        if all.planned > 0 && self.is_of_canary() {
            text += &format!("; {} go first and are awaited", self.canary.all());
        } else if let Some(rate) = replay.rate {
            text += &format!("; at most {}", told_rate(rate));
        }
        if self.alone.is_some() {
            text += "; no worker is running";
        }
        text
    }
}

/// Token Bucket: a quarter of a second's letters at once at most.
struct Pace {
    rate: f64,
    saved: f64,
    at: Instant,
}

impl Pace {
    fn of(rate: f64) -> Self {
        Self { rate, saved: 1.0, at: clock::instant() }
    }

    fn take(&mut self, wanted: u32) -> u32 {
        let now = clock::instant();
        let most = (self.rate / 4.0).max(1.0);
        self.saved = (self.saved + (now - self.at).as_secs_f64() * self.rate).min(most);
        self.at = now;
        // The share is small and positive: the cast cuts it down to whole letters.
        let taken = wanted.min(self.saved as u32);
        self.saved -= f64::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests;
