//! `send`: a message from the command line.

use super::{Globals, output};
use crate::{Envelope, Handlers, client::Outcome, clock, config};
use anyhow::{Context as _, bail};
use std::{io::Read, path::PathBuf, time::Duration};

/// Send a command or an event; durable when it returns.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  echo '{\"name\":\"Ada\"}' | car-worker send demo.Greet --data -
  car-worker send demo.Greet --data greet.json --wait 10s
  car-worker send demo.Greet --data greet.json --after 5m --key order-17")]
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
    /// Who asks
    #[arg(long)]
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
    /// Wait until it is done or dead, at most so long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "30s", value_parser = duration)]
    wait: Option<Duration>,
}

impl Send {
    pub(super) async fn run(self, globals: &Globals, handlers: Handlers) -> anyhow::Result<bool> {
        let data = self.payload()?;
        let contract = handlers.contract();
        if !contract.types.contains_key(self.ty.as_str()) {
            let known: Vec<&str> = contract.types.keys().copied().collect();
            let near = known.iter().max_by_key(|known| (strsim::jaro_winkler(known, &self.ty) * 1e6) as u64);
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            bail!("`{}` is no type of this build{near}\nknown: {}", self.ty, known.join(", "));
        }
        let (client, opened) = globals.client(&handlers).await?;
        let due = self.after.map(|after| clock::now() + after);
        let mut envelope = Envelope::new(self.ty.as_str(), "/cli", data);
        if let Some(due) = due {
            envelope.id = clock::uuid_v7_at(due).to_string();
        }
        if let Some(id) = self.id {
            envelope.id = id;
        }
        envelope.version = contract.types[self.ty.as_str()].version;
        envelope.subject = self.subject;
        envelope.actor = self.actor.or_else(|| std::env::var("USER").ok());
        envelope.idempotency_key = self.key;
        let id = envelope.id.clone();
        client.send_envelopes(vec![envelope], due).await?;
        let Some(patience) = self.wait else {
            output::line(if globals.json { serde_json::json!({ "id": id }).to_string() } else { id });
            opened.store.close().await;
            return Ok(true);
        };
        let outcome = client.outcome(&id, patience).await?;
        opened.store.close().await;
        let (word, reason) = match &outcome {
            Outcome::Done { .. } => ("done", None),
            Outcome::Dead { reason, error, .. } => ("dead", Some(format!("{reason}: {error}"))),
            Outcome::Other { fate, .. } => ("dead", Some(fate.clone())),
            Outcome::Waiting { .. } => ("waiting", Some("no worker has ended it yet".to_owned())),
        };
        output::line(match (globals.json, &reason) {
            (true, _) => serde_json::json!({ "id": id, "state": word, "reason": reason }).to_string(),
            (false, None) => format!("{id}  {word}"),
            (false, Some(reason)) => format!("{id}  {word}: {reason}"),
        });
        Ok(word == "done")
    }

    fn payload(&self) -> anyhow::Result<Vec<u8>> {
        let data = match &self.data {
            None => b"{}".to_vec(),
            Some(path) if path.as_os_str() == "-" => {
                let mut data = Vec::new();
                std::io::stdin().read_to_end(&mut data).context("reading standard input")?;
                data
            }
            Some(path) => std::fs::read(path).with_context(|| format!("reading {}", path.display()))?,
        };
        serde_json::from_slice::<serde::de::IgnoredAny>(&data).context("the payload is not JSON")?;
        Ok(data)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| format!("`{text}` is no duration; for example 30s, 5m, 2h"))
}
