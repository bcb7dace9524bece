//! Someone's own commands: one structured CloudEvent a line.

use anyhow::{Context as _, anyhow, bail};
use pitcrew::{
    Envelope, Message,
    message::wire::{self, Properties, Raw},
};
use serde_json::Value;
use std::{collections::HashMap, path::Path};

use crate::recommendation::contract::GenerateRecommendationBrief;

/// All of them, or what is wrong with the first bad line: nothing is sent then.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Envelope>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut envelopes: Vec<Envelope> = Vec::new();
    let mut briefs: HashMap<String, String> = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("{}:{}", file.display(), number + 1);
        let properties = Properties { content_type: Some(wire::STRUCTURED.into()), ..Properties::default() };
        let raw = Raw { properties, body: line.as_bytes().to_vec().into(), ..Raw::default() };
        let envelope = wire::parse(&raw, "demo").map_err(|error| anyhow!("{}: {error}", at()))?;
        if envelope.ty != GenerateRecommendationBrief::TYPE {
            bail!("{}: the demo works `{}`, not `{}`", at(), GenerateRecommendationBrief::TYPE, envelope.ty);
        }
        // The account counts the effects of a command by its brief.
        let brief = serde_json::from_slice::<Value>(&envelope.data).unwrap_or_default();
        if let Some(brief) = brief["brief_id"].as_str() {
            let first = briefs.entry(brief.to_owned()).or_insert_with(|| envelope.id.clone());
            if *first != envelope.id {
                bail!("{}: the brief `{brief}` is asked for by the command {first} already", at());
            }
        }
        envelopes.push(envelope);
    }
    if envelopes.is_empty() {
        bail!("{} holds no command: one structured CloudEvent a line is expected", file.display());
    }
    Ok(envelopes)
}
