//! `doctor`: one screen that says how all of it stands, and what to type where something is to be done.

mod judge;
mod look;

use super::{Globals, advice::Advice, output};
use crate::{Handlers, clock};
use anyhow::Context as _;
use judge::{Line, Standing};
use look::Facts;
use serde_json::json;

/// Look at broker, store, workers and messages, and say what to do
#[derive(clap::Args)]
#[command(after_help = "\
Each line is ok, warn or bad. What is not ok ends in the command to type. It
asks the broker and the store at once, each for some seconds at most, and what
does not answer is one line. It changes nothing: nothing is declared, made or
migrated.

The exit code is 0 if nothing is bad, 1 if something is: messages wait for it,
or a start is refused.

Examples:
  {bin} doctor
  {bin} doctor --broker amqp://app@mq/cars --store postgres://app@db/cars
  {bin} doctor --json | jq '.lines[] | select(.standing != \"ok\")'")]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) fn run(self, globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
        let advice = Advice::of(globals);
        let lines = match globals.config() {
            Ok(config) => {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
                let facts = runtime.block_on(Facts::gather(config, handlers));
                // Whoever still asks a broker that does not answer is not waited for.
                runtime.shutdown_background();
                judge::judge(&facts, &advice)
            }
            // Without it nobody knows where anything is.
            Err(error) => {
                let text = format!("{error:#}");
                let problems = text.lines().skip(1).map(str::trim);
                problems.map(|why| Line::bad("config", why, advice.run("config check"))).collect()
            }
        };
        let worst = lines.iter().map(|line| line.standing).max().unwrap_or(Standing::Bad);
        if globals.json {
            output::line(json!({ "at": clock::now(), "standing": worst, "lines": lines }).to_string());
        } else {
            show(&lines);
        }
        Ok(worst != Standing::Bad)
    }
}

fn show(lines: &[Line]) {
    for Line { of, standing, says, then, .. } in lines {
        let mut text = output::wrapped(says, INDENT).into_iter();
        let first = text.next().unwrap_or_default();
        let word = output::coloured(&format!("{:<4}", standing.word()), standing.colour());
        output::line(format!("{word}  {of:<10}  {}", first.trim_start()));
        text.for_each(output::line);
        if let Some(then) = then {
            output::line(format!("{INDENT}→ {then}"));
        }
    }
    let count = |standing| lines.iter().filter(|line| line.standing == standing).count();
    output::line("");
    output::line(format!("{} bad, {} warn, {} ok", count(Standing::Bad), count(Standing::Warn), count(Standing::Ok)));
    if lines.iter().filter_map(|line| line.then.as_ref()).any(|then| then.contains("***")) {
        output::line(
            "*** stands for a password, which is never shown: type it there, or give the address by PITCREW_STORE",
        );
        output::line("and PITCREW_BROKER and leave the flag out.");
    }
}

/// Where the sentences stand.
const INDENT: &str = "                  ";
