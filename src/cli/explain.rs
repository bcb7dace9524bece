//! `explain`: where a message is, why, and what happens next.

mod story;

use super::{Globals, dead, output};
use crate::{
    clock,
    store::{DeadFilter, History, Store},
};
use story::Story;
pub(super) use story::four_words;

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
        let story = Story::of(&id, &history, clock::now());
        let near = if story.is_unknown() { nearest(&*opened.store, &id).await? } else { String::new() };
        opened.store.close().await;
        if globals.json {
            output::line(story.json(&history).to_string());
        } else {
            story.lines(&near).into_iter().for_each(output::line);
        }
        Ok(!story.is_unknown())
    }
}

/// Letters are listed with their long IDs cut, so the beginning of one is enough.
async fn find(store: &dyn Store, id: String) -> anyhow::Result<(String, History)> {
    let history = store.history(&id).await?;
    if history.is_empty()
        && let Some(letter) = dead::letters_of(store, &id).await?.into_iter().next()
    {
        let history = store.history(&letter.key.id).await?;
        return Ok((letter.key.id, history));
    }
    Ok((id, history))
}

async fn nearest(store: &dyn Store, id: &str) -> anyhow::Result<String> {
    let letters = store.dead_letters(&DeadFilter::default(), dead::MANY).await?;
    Ok(super::did_you_mean_id(id, letters.iter().map(|letter| letter.key.id.as_str())))
}
