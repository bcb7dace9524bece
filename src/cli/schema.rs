//! `schema`: the contract of these handlers, and whether it still keeps what an earlier one promised.

mod alternatives;
mod judge;
#[cfg(test)]
mod tests;
mod verdict;

use super::{Globals, output};
use crate::Handlers;
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use verdict::{ABOUT, About, Judged, Told, Verdict};

#[derive(clap::Subcommand)]
#[command(after_help = "\
Examples:
  {bin} schema export > contracts.json
  {bin} schema export | jq '.[\"{type}\"]'
  {bin} schema check --against contracts.json")]
pub(super) enum Schema {
    /// JSON Schemas of all messages, handled and sent
    Export(Export),
    /// Say what breaks the contract that was exported before; 1 if anything does
    Check(Check),
}

/// JSON Schemas of all messages, handled and sent. Each says of its message, as `x-pitcrew`, its kind, its version, and
/// whether it is handled and sent here.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} schema export > contracts.json
  {bin} schema export --dir contract")]
pub(super) struct Export {
    /// One file a type into this directory, in place of one document to standard output
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Say what breaks the contract that was exported before; 1 if anything does
#[derive(clap::Args)]
#[command(after_help = "\
What is handled here must still be read as FILE has it: by senders that have
not changed, on its way, kept, dead. What is sent from here must still be
readable by FILE: by listeners that have not changed. So a break is

  handled   a property that is new and required, or gone and was required;
            a type, value, bound, pattern or format that allows less
  sent      a property that was required and is optional or gone;
            a type, value, bound, pattern or format that allows more
  both      either, for a type that is handled and sent here
  any       a type that is gone, another kind, a lower VERSION; and where
            unknown properties are refused, each that comes or goes

A higher VERSION makes it none: `upcast` reads what is older, and a listener
keeps what is newer until it knows it. Write FILE anew with each release, and
not to silence a break.

Examples:
  {bin} schema export > contracts.json
  {bin} schema check --against contracts.json
  {bin} schema check --against contracts.json --json")]
pub(super) struct Check {
    /// What an earlier `schema export` printed
    #[arg(long, value_name = "FILE")]
    against: PathBuf,
}

impl Schema {
    pub(super) fn run(self, globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
        match self {
            Self::Export(export) => export.run(handlers),
            Self::Check(check) => check.run(globals, handlers),
        }
    }
}

impl Export {
    fn run(self, handlers: &Handlers) -> anyhow::Result<bool> {
        let schemas = exported(handlers)?;
        let Some(dir) = self.dir else {
            output::line(serde_json::to_string_pretty(&schemas)?);
            return Ok(true);
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        for (ty, schema) in schemas {
            let file = dir.join(format!("{ty}.json"));
            let text = serde_json::to_string_pretty(&schema)?;
            std::fs::write(&file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
            output::line(file.display().to_string());
        }
        Ok(true)
    }
}

/// Each type with its schema, which says of the message what is no matter of its payload.
fn exported(handlers: &Handlers) -> anyhow::Result<Map<String, Value>> {
    let contract = handlers.contract();
    let mut all = Map::new();
    for (ty, schema) in handlers.schemas() {
        let mut schema = schema.to_value();
        if let (Some(keywords), Some(info)) = (schema.as_object_mut(), contract.types.get(ty)) {
            keywords.insert(ABOUT.into(), serde_json::to_value(About::of(info))?);
        }
        all.insert(ty.to_owned(), schema);
    }
    Ok(all)
}

impl Check {
    fn run(self, globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
        let old = read(&self.against)?;
        let judged = verdict::judge(&old, &exported(handlers)?, &handlers.contract());
        let ok = judged.iter().all(|judged| judged.verdict != Verdict::Broken);
        if globals.json {
            output::line(json!({ "ok": ok, "types": judged }).to_string());
            return Ok(ok);
        }
        for judged in judged.iter().filter(|judged| judged.verdict != Verdict::Unchanged) {
            tell(judged);
        }
        output::line(summary(&judged));
        Ok(ok)
    }
}

fn read(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let name = file.display();
    let text = std::fs::read(file).with_context(|| format!("reading {name}"))?;
    let all: Value = serde_json::from_slice(&text).with_context(|| format!("reading {name} as JSON"))?;
    match all {
        // The schema of one type, of `schema export --dir`, has keywords and no types.
        Value::Object(all) if all.values().all(|schema| schema.is_object()) => Ok(all),
        _ => anyhow::bail!("{name} has no schemas by type; `schema export > FILE` writes such a file"),
    }
}

/// A contract may be anybody's file: what it says is one line each, whatever is in it.
fn tell(judged: &Judged) {
    let word = match judged.verdict {
        Verdict::Unchanged => "unchanged",
        Verdict::New => "new",
        Verdict::Compatible => "compatible",
        Verdict::Raised => "the higher version tells of every break",
        Verdict::Broken => "BROKEN",
    };
    let title = if judged.title.is_empty() { String::new() } else { format!(" ({})", judged.title) };
    output::line(output::short(&format!("{}{title}: {word}", judged.ty), 200));
    let lines = |label: &str, changes: &[Told]| {
        for told in changes {
            let pointer = if told.pointer.is_empty() { String::new() } else { format!("{}: ", told.pointer) };
            output::line(output::short(&format!("  {label:<10}  {pointer}{}", told.what), 400));
        }
    };
    lines("break", &judged.breaks);
    lines("compatible", &judged.compatible);
    for way_out in &judged.ways_out {
        output::line(format!("  {:<10}  {way_out}", "way out"));
    }
}

fn summary(judged: &[Judged]) -> String {
    let count = |verdict| judged.iter().filter(|judged| judged.verdict == verdict).count();
    let words = [
        (Verdict::Broken, "broken"),
        (Verdict::Raised, "of a higher version"),
        (Verdict::Compatible, "compatible"),
        (Verdict::New, "new"),
        (Verdict::Unchanged, "unchanged"),
    ];
    let counted = words.map(|(verdict, word)| (count(verdict), word));
    let told: Vec<_> = counted.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    format!("{} types: {}", judged.len(), told.join(", "))
}
