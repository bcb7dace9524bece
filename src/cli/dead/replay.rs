//! `dead replay`: some letters at once, many as a job that watches what becomes of them.

use super::{
    counted, duration, group_rows,
    job::Job,
    reasons,
    resolve::{Asked, Chosen, Decision, Which},
};
use crate::{
    Handlers,
    cli::{
        Globals,
        output::{self, Misuse},
    },
    clock,
    config::format_duration,
    dead_letter,
    store::{self, LetterState, ReplayState, Store},
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

/// A job stops when more than this share of what it sent failed.
const STOP_AT: f64 = 0.1;

/// Run letters again: the same id and time, the next attempt, no failure counted. Twice does nothing more.
#[derive(clap::Args)]
#[command(after_help = "\
With --all it is a job that watches what becomes of its letters. It sends ten,
and then up to a hundred ahead of what is done. It stops when, of ten or more,
a larger share than --stop-at died again or comes again after a failure. A
canary is awaited until each is done or dead. Ctrl-C pauses it. What a job has
sent carries its ID (pitcrew-replay); `dead replays` tells how it went.

Examples:
  {bin} dead replay 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77
  {bin} dead replay --all --reason exhausted --newer-than 1h
  {bin} dead replay --all --like ID --dry-run
  {bin} dead replay --all --like ID --canary 3 --rate 20/s
  {bin} dead replay --all --type {type} --stop-at 30% --yes
  {bin} dead replay --resume REPLAY_ID

The exit code is 1 if letters died again or were refused, or if it did not come
to its end.")]
pub(in crate::cli) struct Replay {
    /// IDs of messages, or their beginnings
    #[arg(value_name = "ID", required_unless_present_any = ["all", "resume"], conflicts_with_all = ["all", "resume"])]
    ids: Vec<String>,
    /// All open letters that the filters let through, as a job; asks first
    #[arg(long, conflicts_with = "resume")]
    all: bool,
    /// Go on with a job that was killed, paused or stopped
    #[arg(long, value_name = "REPLAY_ID", conflicts_with_all = ["dry_run", "yes", "note", "repeat_external"])]
    resume: Option<String>,
    /// With --all: so many go first; the others follow if these do not die again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    canary: Option<u32>,
    /// With --all: at most so many, e.g. 20/s, 30/m
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// With --all: stop when more than this share failed, e.g. 0.2, 20% [default: 10%]
    #[arg(long, value_name = "RATIO", value_parser = share)]
    stop_at: Option<f64>,
    /// With --all: await outcomes at the end for at most so long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    wait: Duration,
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

impl Replay {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !self.all && (self.canary.is_some() || self.rate.is_some() || self.stop_at.is_some()) {
            let text = "--canary, --rate and --stop-at are for a job: give --all; one that is resumed keeps its own";
            return Err(Misuse(text.into()).into());
        }
        self.asked().check()
    }

    fn asked(&self) -> Asked<'_> {
        Asked { ids: &self.ids, all: self.all, which: &self.which, reason: self.reason.as_deref() }
    }

    pub(super) async fn run(self, store: &dyn Store, handlers: &Handlers, globals: &Globals) -> anyhow::Result<bool> {
        if let Some(id) = &self.resume {
            return Job::resume(store, globals, id).await?.run(self.wait, &Chosen::default()).await;
        }
        let external = if self.repeat_external { BTreeMap::new() } else { handlers.contract().external };
        let decision = Decision { to: LetterState::Replayed, note: &self.note, external };
        if self.all {
            self.many(store, &decision, globals).await
        } else {
            decision.carry_out(store, &self.asked(), globals).await
        }
    }

    /// Chooses, asks, writes the plan down, and carries it out.
    async fn many(&self, store: &dyn Store, decision: &Decision<'_>, globals: &Globals) -> anyhow::Result<bool> {
        let asked = self.asked();
        let mut chosen = decision.choose(store, &asked).await?;
        refuse_what_is_no_message(&mut chosen);
        if self.which.dry_run {
            self.rehearse(&chosen, globals.json)?;
            return Ok(chosen.refused.is_empty());
        }
        if chosen.open.is_empty() {
            decision.report(0, &chosen, globals.json);
            return Ok(chosen.refused.is_empty());
        }
        if !asked.is_confirmed("replay", chosen.open.len())? {
            return Ok(false);
        }
        let replay = self.plan(globals);
        let keys: Vec<_> = chosen.open.iter().map(|letter| letter.key.clone()).collect();
        store.plan_replay(&replay, &keys).await?;
        Job::begin(store, globals, replay).await?.run(self.wait, &chosen).await
    }

    fn plan(&self, globals: &Globals) -> store::Replay {
        let now = clock::now();
        store::Replay {
            id: clock::uuid_v7(),
            actor: globals.audit("replay", "", "").actor,
            note: self.note.clone(),
            asked: self.which.filter.words(self.reason.as_deref()),
            canary: self.canary.unwrap_or_default(),
            rate: self.rate,
            stop_at: self.stop_at.unwrap_or(STOP_AT),
            state: ReplayState::Running,
            why: String::new(),
            judged: 0,
            began: now,
            changed: now,
        }
    }

    /// What the job would do, group by group.
    fn rehearse(&self, chosen: &Chosen, as_json: bool) -> anyhow::Result<()> {
        chosen.tell_refused();
        // The oldest goes first; groups want the newest first.
        let newest_first: Vec<_> = chosen.open.iter().rev().cloned().collect();
        let groups = dead_letter::groups(&newest_first);
        let stop_at = self.stop_at.unwrap_or(STOP_AT);
        if as_json {
            let ids: Vec<&str> = chosen.open.iter().map(|letter| &*letter.key.id).collect();
            let told = json!({
                "action": "replay", "dry_run": true, "groups": serde_json::to_value(&groups)?, "would": ids,
                "refused": chosen.refused_json(), "canary": self.canary, "rate": self.rate, "stop_at": stop_at,
            });
            output::line(told.to_string());
            return Ok(());
        }
        if !groups.is_empty() {
            group_rows(&groups).iter().for_each(output::line);
        }
        let mut how = counted(chosen.open.len());
        if let Some(canary) = self.canary {
            how += &format!(", {canary} of them first");
        }
        if let Some(rate) = self.rate {
            how += &format!(", at most {}", told_rate(rate));
        }
        let what = format!("replay {how}; it stops when more than {} failed", percent(stop_at));
        output::line(format!("a dry run: nothing was done; without --dry-run: {what}"));
        Ok(())
    }
}

/// There is nothing to hand to a handler, whatever one does: said before anything is sent.
fn refuse_what_is_no_message(chosen: &mut Chosen) {
    for letter in std::mem::take(&mut chosen.open) {
        match dead_letter::may_rerun(&letter) {
            Ok(()) => chosen.open.push(letter),
            Err(error) => chosen.refused.push((letter.key.id, format!("cannot {error}"))),
        }
    }
}

/// `20/s`, or so long between two.
pub(super) fn told_rate(rate: f64) -> String {
    match rate {
        rate if rate >= 1.0 && rate.fract() == 0.0 => format!("{rate:.0}/s"),
        rate if rate >= 1.0 => format!("{:.0}/m", rate * 60.0),
        rate => format!("one in {}", format_duration(between(rate))),
    }
}

fn between(rate: f64) -> Duration {
    Duration::from_millis(
        Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default().as_millis().try_into().unwrap_or(0),
    )
}

pub(super) fn percent(share: f64) -> String {
    format!("{}%", (share * 1000.0).round() / 10.0)
}

/// Letters a second.
fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => 0.0,
    };
    match number.trim().parse::<u32>() {
        Ok(number) if number > 0 && seconds > 0.0 => Ok(f64::from(number) / seconds),
        _ => Err(format!("`{text}` is no rate; for example 20/s or 30/m")),
    }
}

/// A share of 0 to 1, or of 0% to 100%.
fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is no share of what was sent; for example 0.2 or 20%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_shares_are_read_as_people_write_them() {
        assert_eq!([rate("20/s"), rate("20"), rate("30/m")], [Ok(20.0), Ok(20.0), Ok(0.5)]);
        for wrong in ["", "0/s", "-1/s", "1/h", "fast", "1.5/s"] {
            assert!(rate(wrong).unwrap_err().contains("no rate"), "{wrong}");
        }
        assert_eq!([share("0.2"), share("20%"), share("0"), share("100%")], [Ok(0.2), Ok(0.2), Ok(0.0), Ok(1.0)]);
        for wrong in ["", "2", "-0.1", "101%", "NaN", "half"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        assert_eq!([percent(0.1), percent(0.125), percent(1.0)], ["10%", "12.5%", "100%"]);
        assert_eq!([told_rate(20.0), told_rate(0.5)], ["20/s", "one in 2s"]);
    }
}
