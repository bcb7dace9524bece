//! `dead show`: a letter with everything that is kept of it.

use super::{letters_of, no_letter};
use crate::{
    cli::output,
    store::{DeadLetter, LetterHead, Store},
};
use anyhow::bail;
use serde_json::{Value, json};

/// A letter with its attributes and payload.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} dead show 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77
  {bin} dead show ID --json | jq .payload")]
pub(in crate::cli) struct Show {
    /// The message's ID, or its beginning
    id: String,
}

impl Show {
    pub(super) async fn run(self, store: &dyn Store, as_json: bool) -> anyhow::Result<bool> {
        let letters = letters_of(store, &self.id).await?;
        if letters.is_empty() {
            bail!("{}; `dead list` shows what there is", no_letter(store, &self.id).await?);
        }
        for (n, letter) in letters.iter().enumerate() {
            if as_json {
                output::line(whole(letter).to_string());
            } else {
                output::line(if n > 0 { "\n" } else { "" }.to_owned() + &text(letter));
            }
        }
        Ok(true)
    }
}

fn text(letter: &DeadLetter) -> String {
    let l = letter;
    let mut text = format!("{}  {}\n{}: {}: {}\n", l.key.id, l.ty, l.state.word(), l.reason, l.error);
    let times = if l.count > 1 { format!(", {} times", l.count) } else { String::new() };
    let at = output::clock_time(l.last_at);
    text += &format!("attempt {} in {}, at {at}{times}\n\n", l.key.attempt, l.key.consumer);
    if let Value::Object(attributes) = attributes(letter) {
        let nested = attributes.get("headers").and_then(Value::as_object);
        for (name, value) in nested.unwrap_or(&attributes) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text += &format!("  {name}: {value}\n");
        }
    }
    text.push('\n');
    text + &match payload(letter) {
        Value::String(raw) => raw,
        json => serde_json::to_string_pretty(&json).unwrap_or_default(),
    }
}

pub(super) fn as_value(letter: &LetterHead) -> Value {
    json!({
        "id": letter.key.id, "source": letter.key.source, "consumer": letter.key.consumer, "attempt": letter.key.attempt,
        "state": letter.state, "reason": letter.reason, "error": letter.error, "type": letter.ty, "version": letter.version,
        "channel": letter.channel, "subscription": letter.subscription, "count": letter.count,
        "first_at": letter.first_at, "last_at": letter.last_at, "worker": letter.worker, "build": letter.build,
    })
}

fn whole(letter: &DeadLetter) -> Value {
    let mut value = as_value(&letter.head());
    value["attributes"] = attributes(letter);
    value["payload"] = payload(letter);
    value
}

fn attributes(letter: &DeadLetter) -> Value {
    serde_json::from_str(&letter.attributes).unwrap_or_else(|_| Value::String(letter.attributes.clone()))
}

fn payload(letter: &DeadLetter) -> Value {
    let text = || Value::String(String::from_utf8_lossy(&letter.payload).into_owned());
    serde_json::from_slice(&letter.payload).unwrap_or_else(|_| text())
}
