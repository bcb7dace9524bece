//! `send`: a message from the command line.

use super::{
    Globals, block_on, did_you_mean,
    explain::four_words,
    output::{self, Misuse},
    push::Push,
};
use crate::{Envelope, Handlers, client::Outcome, clock, config};
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

/// Send a command or an event. It is durable when this returns; a running worker takes it, or the next one that starts.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} send {type} --data command.json
  {bin} send {type} --data command.json --wait 10s
  jq -c .[0] all.json | {bin} send {type} --data - --after 5m
  {bin} schema export        what a payload looks like

It prints the message's ID. With --wait the exit code is 0 only if it is done.")]
pub(super) struct Send {
    /// The message's type, e.g. car.GenerateRecommendationBrief
    #[arg(value_name = "TYPE")]
    ty: String,
    /// The payload: a file with JSON, or - for standard input [default: {}]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The aggregate it speaks about, and its ordering key
    #[arg(long)]
    subject: Option<String>,
    /// Who asks [default: $USER]
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Business operation key: the same key and payload again is a duplicate
    #[arg(long)]
    key: Option<String>,
    /// Its ID, 1–200 bytes [default: a new one]
    #[arg(long)]
    id: Option<String>,
    /// Not before so long from now, e.g. 30s, 5m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    after: Option<Duration>,
    /// Wait until it is done or dead, at most so long [without a value: 30s]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "30s", value_parser = duration)]
    wait: Option<Duration>,
    /// Send it even if this build could not read the payload
    #[arg(long)]
    unchecked: bool,
}

impl Send {
    pub(super) fn run(self, globals: &Globals, handlers: Handlers) -> anyhow::Result<bool> {
        let push = Push::begin(globals, &globals.config()?, "warn")?;
        let sent = block_on(self.send(globals, handlers));
        push.end();
        sent
    }

    async fn send(self, globals: &Globals, handlers: Handlers) -> anyhow::Result<bool> {
        let due = self.after.map(|after| clock::now() + after);
        let envelope = self.envelope(globals, &handlers, due)?;
        let id = envelope.id.clone();
        let (client, opened) = globals.client(&handlers).await?;
        client.send_envelopes(vec![envelope], due).await?;
        let Some(patience) = self.wait else {
            opened.store.close().await;
            output::line(if globals.json { json!({ "id": id }).to_string() } else { id });
            return Ok(true);
        };
        let outcome = client.outcome(&id, patience).await?;
        opened.store.close().await;
        let (word, reason) = told(&outcome, patience);
        output::line(match (globals.json, &reason) {
            (true, _) => json!({ "id": id, "state": word, "reason": reason }).to_string(),
            (false, None) => format!("{id}  {word}"),
            (false, Some(reason)) => format!("{id}  {word}: {reason}"),
        });
        Ok(word == "done")
    }

    /// The message, refused before anything is opened if no worker of this build could read it.
    fn envelope(
        &self,
        globals: &Globals,
        handlers: &Handlers,
        due: Option<chrono::DateTime<chrono::Utc>>,
    ) -> anyhow::Result<Envelope> {
        let contract = handlers.contract();
        let Some(info) = contract.types.get(self.ty.as_str()) else {
            let known: Vec<&str> = contract.types.keys().copied().collect();
            let hint = did_you_mean(&self.ty, known.iter().copied());
            let text = format!("`{}` is no type of this build{hint}\nknown: {}", self.ty, known.join(", "));
            return Err(Misuse(text).into());
        };
        let data = self.payload(globals.config()?.worker.payload_limit)?;
        let mut envelope = Envelope::new(self.ty.as_str(), "/cli", data);
        if let Some(due) = due {
            envelope.id = clock::uuid_v7_at(due).to_string();
        }
        if let Some(id) = &self.id {
            envelope.id.clone_from(id);
        }
        envelope.version = info.version;
        envelope.subject.clone_from(&self.subject);
        envelope.actor = self.actor.clone().or_else(|| std::env::var("USER").ok());
        envelope.idempotency_key.clone_from(&self.key);
        if !self.unchecked {
            handlers.check(&envelope).with_context(|| {
                format!("the payload is no {}; `schema export` prints what one looks like", self.ty)
            })?;
        }
        Ok(envelope)
    }

    fn payload(&self, limit: usize) -> anyhow::Result<Vec<u8>> {
        let data = match &self.data {
            None => b"{}".to_vec(),
            Some(path) if path == Path::new("-") => {
                at_most(std::io::stdin().lock(), limit).context("reading standard input")?
            }
            Some(path) => {
                let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
                at_most(file, limit).with_context(|| format!("reading {}", path.display()))?
            }
        };
        serde_json::from_slice::<serde::de::IgnoredAny>(&data).context("the payload is not JSON")?;
        Ok(data)
    }
}

pub(super) fn at_most(from: impl Read, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut data = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut data)?;
    ensure!(data.len() <= limit, "it has more than {} ([worker] payload_limit)", config::format_size(limit as u64));
    Ok(data)
}

/// One of the four words, and why.
fn told(outcome: &Outcome, patience: Duration) -> (&'static str, Option<String>) {
    match outcome {
        Outcome::Done { .. } => ("done", None),
        Outcome::Dead { reason, error, .. } => ("dead", Some(format!("{reason}: {error}"))),
        Outcome::Other { fate, .. } => (four_words(fate), Some(fate.clone())),
        Outcome::Waiting { .. } => {
            let patience = config::format_duration(patience);
            ("waiting", Some(format!("not done within {patience}; `explain` tells why")))
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| format!("`{text}` is no duration; for example 30s, 5m, 2h"))
}
