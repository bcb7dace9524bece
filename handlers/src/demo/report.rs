//! Console: what people see of a demo.

use super::{
    Plan,
    account::{Account, Count, Worked},
    trouble::Trouble,
};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{ErrorKind, Write as _},
    path::Path,
    time::Duration,
};

/// A bar on a terminal, lines elsewhere, nothing beside JSON.
pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    pub(super) fn start(total: usize, quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = ProgressStyle::with_template("  {bar:30.green/dim} {pos:>5} of {len} ended, {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─"));
        Self { bar, quiet }
    }

    pub(super) fn show(&self, ended: usize, notified: usize) {
        self.bar.set_position(ended as u64);
        self.bar.set_message(format!("{notified} users told"));
    }

    pub(super) fn killed(&self, times: usize, ended: usize) {
        let text = format!("  SIGKILL {times}: the worker was killed at {ended}, and another one goes on");
        if !self.bar.is_hidden() {
            self.bar.println(text);
        } else if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Prints; a reader that has gone (`| head`) is no failure.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("printing"),
        _ => Ok(()),
    }
}

/// Who did what, a brief, an explanation, the account, and what to try next.
pub(super) async fn report(
    account: &Account,
    plan: &Plan,
    worked: Duration,
    whole: Duration,
) -> anyhow::Result<String> {
    let mut text = String::new();
    processes(&mut text, &account.processes);
    if let Some(brief) = &account.a_brief {
        a_brief(&mut text, brief);
    }
    if let Some(id) = &account.a_dead_one {
        let purpose = if plan.made { " on purpose" } else { "" };
        write!(text, "\nA command that is dead{purpose}:\n{}", explained(id, plan, Part::State).await?)?;
    }
    what_went_wrong(&mut text, account);
    if let Some((id, what)) = &account.interesting {
        write!(text, "\nOne command, {what}:\n{}", explained(id, plan, Part::Timeline).await?)?;
    }
    the_account(&mut text, account, plan.made, worked, whole);
    next(&mut text, account, &plan.directory, &plan.config);
    Ok(text)
}

/// What `explain` prints, of which all three would not fit on a screen.
#[derive(Clone, Copy)]
enum Part {
    /// Which message, its state and why.
    State,
    /// What happened to it when.
    Timeline,
}

/// As `explain` tells it.
async fn explained(id: &str, plan: &Plan, part: Part) -> anyhow::Result<String> {
    let exe = std::env::current_exe().context("finding this program")?;
    let told = tokio::process::Command::new(exe).args(["explain", id, "--config"]).arg(&plan.config).output().await;
    let told = told.context("explaining")?.stdout;
    let told = String::from_utf8_lossy(&told);
    let (state, story) = told.split_once("\n\n").unwrap_or((&told, ""));
    if let Part::State = part {
        return Ok(indented(state));
    }
    let is_next = |line: &&str| line.trim_start().starts_with("next  ");
    let happened = story.lines().take_while(|line| !is_next(line)).filter(|line| !line.ends_with("(UTC)"));
    Ok(indented(&happened.collect::<Vec<_>>().join("\n")))
}

fn processes(text: &mut String, processes: &[Worked]) {
    *text += "Who did what               done  dead  notifications\n";
    for (n, worker) in processes.iter().enumerate() {
        let id = &worker.id[worker.id.len().saturating_sub(6)..];
        // Another one began only because this one was gone.
        let end = if n + 1 < processes.len() { "  killed (injected)" } else { "" };
        let Worked { done, dead, notifications, .. } = worker;
        *text += &format!("  worker {} (…{id})   {done:>8} {dead:>5} {notifications:>14}{end}\n", n + 1);
    }
}

fn a_brief(text: &mut String, brief: &Value) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, name) = (word(&brief["id"]), word(&brief["buyer"]["name"]));
    *text += &format!("\nOne of the briefs, {id} for {name}:\n  {}\n", word(&brief["headline"]));
    // The one that leads, and the first of its reasons; the others are in the database.
    let pick = &brief["picks"][0];
    let score = pick["score"].as_f64().unwrap_or_default();
    *text += &format!("  {score:.2}  {} {} {}\n", pick["year"], word(&pick["make"]), word(&pick["model"]));
    for reason in pick["reasons"].as_array().into_iter().flatten().take(1) {
        *text += &format!("        {}\n", word(reason));
    }
}

fn what_went_wrong(text: &mut String, account: &Account) {
    *text += "\nWhat went wrong, worker by worker:\n              twice  came again  dead, and why\n";
    for (worker, Trouble { twice, retries, dead }) in &account.troubles {
        let reasons: Vec<String> = dead.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let reasons = if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") };
        *text += &format!("  {worker:<10}{twice:>7} {retries:>11}  {reasons}\n");
    }
}

fn the_account(text: &mut String, account: &Account, made: bool, worked: Duration, whole: Duration) {
    let a = account;
    *text += "\nThe account, counted from the database:\n";
    *text += "              sent   done   dead  effects   lost  double  users told\n";
    for (worker, c) in &account.workers {
        let Count { sent, done, dead, effects, lost, double, told } = c;
        *text +=
            &format!("  {worker:<10}{sent:>6} {done:>6} {dead:>6} {effects:>8} {lost:>6} {double:>7} {told:>11}\n");
    }
    *text += "\n";
    let mut line = |count: usize, what: &str| *text += &format!("  {count:>6}  {what}\n");
    line(a.sent, &format!("commands sent, {} of them twice (injected)", a.duplicates));
    line(a.done, "done");
    line(a.dead, if made { "dead: poison, dead on purpose, and nothing else" } else { "dead" });
    line(a.retries, "attempts failed (injected) and came again");
    line(a.kills as usize, "SIGKILLs of the worker");
    line(a.effects, "effects: each document counts its own writes");
    line(a.lost, "lost");
    line(a.double, "double");
    let verdict = if a.adds_up() { "It adds up" } else { "It does NOT add up" };
    let (whole, work) = (whole.as_secs_f64(), worked.as_secs_f64());
    let rate = a.sent as f64 / work;
    *text += &format!("{verdict}: {whole:.1} s in all, {work:.1} s of work with kills and retries ({rate:.0}/s).\n");
}

/// Lines to paste, as whoever reads them has started this program.
fn next(text: &mut String, account: &Account, directory: &Path, config: &Path) {
    let from_source =
        std::env::current_exe().is_ok_and(|exe| exe.components().any(|part| part.as_os_str() == "target"));
    let program = if from_source { "cargo run --release --" } else { "car-worker" };
    let (directory, at) = (directory.display(), format!("--config {}", config.display()));
    *text += &format!("\nDatabase, worker.log and notifications.log are in {directory}.\nTry next:\n");
    if let Some((id, _)) = &account.interesting {
        *text += &format!("  {program} explain {id} {at}\n");
    }
    *text += &format!("  {program} dead list {at}\n");
    if let Some(id) = &account.a_dead_one {
        *text += &format!("  {program} dead replay {id} {at}\n");
    }
}

/// As it was, two columns in and folded at 80, each line at its own margin.
fn indented(text: &str) -> String {
    let folded = |line: &str| {
        let margin = " ".repeat(2 + line.len() - line.trim_start().len());
        let options = textwrap::Options::new(80).initial_indent(&margin).subsequent_indent(&margin);
        let folded = textwrap::fill(line.trim(), options.word_splitter(textwrap::WordSplitter::NoHyphenation));
        folded.trim_end().to_owned() + "\n"
    };
    text.lines().map(folded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_folded_at_its_own_margin() {
        let told = format!("1 failed\n\n   {} {}\n", "x".repeat(71), "word ".repeat(3));
        let folded = format!("  1 failed\n\n     {}\n     word word word\n", "x".repeat(71));
        assert_eq!(indented(&told), folded);
    }
}
