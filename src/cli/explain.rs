//! `explain`: where a message is, why, and what happens next.

mod story;

use super::{Globals, dead, output};
use crate::{
    clock,
    store::{Audit, DeadFilter, History, Store, Told},
    worker::{BEAT, LOST},
};
use serde_json::json;
use story::Story;
pub(crate) use story::four_words;
pub(super) use story::why_paused;

/// So many losses are told, the newest.
const SHOWN: usize = 20;

/// Tell where a message is, why, what happened to it, and what comes next.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} explain 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77
  {bin} explain ID --json | jq .state

The exit code is 1 if it never arrived here.")]
pub(super) struct Explain {
    /// The message's ID
    id: String,
}

impl Explain {
    pub(super) async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let opened = globals.store().await?;
        let (id, history) = find(&*opened.store, self.id).await?;
        let story = Story::of(&id, &history, &hindered(&*opened.store).await?, clock::now());
        let near = if story.is_unknown() { nearest(&*opened.store, &id).await? } else { String::new() };
        let lost = if story.is_unknown() { opened.store.recorded(LOST, SHOWN).await? } else { Vec::new() };
        opened.store.close().await;
        if globals.json {
            let mut told = story.json(&history);
            if story.is_unknown() {
                told["lost"] = json!(lost);
            }
            output::line(told.to_string());
        } else {
            story.lines(&near).into_iter().chain(among(&lost)).for_each(output::line);
        }
        Ok(!story.is_unknown())
    }
}

/// The document of a message, for whoever asks over the network: what `explain --json` prints. `None`: it never arrived.
#[cfg(feature = "http")]
pub(crate) async fn document(store: &dyn Store, id: &str) -> crate::store::StoreResult<Option<serde_json::Value>> {
    let history = store.history(id).await?;
    let story = Story::of(id, &history, &hindered(store).await?, clock::now());
    Ok((!story.is_unknown()).then(|| story.json(&history)))
}

/// By the workers that live.
async fn hindered(store: &dyn Store) -> crate::store::StoreResult<Vec<Told>> {
    store.hindered(clock::now() - 5 * BEAT).await
}

/// Of an ID that never arrived nobody can say whether it was among the records that are gone; that there are some, one can.
fn among(lost: &[Audit]) -> Vec<String> {
    let told = lost.iter().map(|loss| format!("  {}  {} ({})", output::clock_time(loss.at), loss.reason, loss.target));
    let head = (!lost.is_empty()).then(|| "it may have been among records that the broker lost:".to_owned());
    head.into_iter().chain(told).collect()
}

/// Letters are listed with their long IDs cut, so the beginning of one is enough.
async fn find(store: &dyn Store, id: String) -> anyhow::Result<(String, History)> {
    let history = store.history(&id).await?;
    if history.is_empty()
        && let Some(letter) = dead::heads_of(store, &id).await?.into_iter().next()
    {
        let history = store.history(&letter.key.id).await?;
        return Ok((letter.key.id, history));
    }
    Ok((id, history))
}

async fn nearest(store: &dyn Store, id: &str) -> anyhow::Result<String> {
    let letters = store.letter_heads(&DeadFilter::default(), dead::MANY).await?;
    Ok(super::did_you_mean_id(id, letters.iter().map(|letter| letter.key.id.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_lost_is_told_and_nothing_if_it_lost_nothing() {
        assert!(among(&[]).is_empty());
        let loss = Audit {
            actor: "worker 1".into(),
            action: LOST.into(),
            target: "car.commands".into(),
            reason: "records 10–30 of p3 are gone: they were deleted before this group handled them".into(),
            at: chrono::DateTime::UNIX_EPOCH,
            bodies: None,
        };
        let lines = [
            "it may have been among records that the broker lost:",
            "  1970-01-01T00:00:00.000Z  records 10–30 of p3 are gone: they were deleted before this group handled them (car.commands)",
        ];
        assert_eq!(among(&[loss]), lines);
    }
}
