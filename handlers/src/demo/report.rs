//! What people see of a demo.

use super::account::Account;
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::{path::Path, time::Duration};

/// A bar on a terminal, lines elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn start(total: usize, quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} commands  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    pub(super) fn show(&self, ended: usize, notified: usize) {
        self.bar.set_position(ended as u64);
        self.bar.set_message(format!("{notified} notified"));
    }

    pub(super) fn killed(&self, times: usize) {
        if self.bar.is_hidden() {
            eprintln!("killed the worker with SIGKILL ({times}), and started it again");
        } else {
            self.bar.println(format!("  ⚡ killed the worker with SIGKILL ({times}), and started it again (injected)"));
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// The account, a brief, an explanation, and what to try next.
pub(super) async fn print(
    account: &Account,
    directory: &Path,
    config: &Path,
    worked: Duration,
    whole: Duration,
) -> anyhow::Result<()> {
    println!("Who did what:");
    for (worker, what, count) in &account.by_worker {
        println!("  worker …{}  {count:>6}  {what}", &worker[worker.len().saturating_sub(6)..]);
    }
    if let Some(brief) = &account.a_brief {
        println!("\nOne of the briefs:");
        print_brief(brief);
    }
    if let Some(id) = &account.interesting {
        println!("\nOne command that failed at first (injected), explained:");
        let exe = std::env::current_exe().context("finding this program")?;
        let told = tokio::process::Command::new(exe).args(["explain", id, "--config"]).arg(config).output().await;
        print!("{}", indented(&String::from_utf8_lossy(&told.context("explaining")?.stdout)));
    }
    let rate = account.sent as f64 / worked.as_secs_f64();
    println!("\nThe account, counted from the database:");
    println!("  {:>6} commands sent, and {} of them a second time (injected)", account.sent, account.duplicates);
    println!("  {:>6} done", account.done);
    println!("  {:>6} dead: poison, dead on purpose", account.dead);
    println!("  {:>6} attempts failed (injected) and were retried", account.retries);
    println!("  {:>6} SIGKILLs of the worker", account.kills);
    println!("  {:>6} effects: every brief counts its own writes", account.effects);
    println!("  {:>6} lost", account.lost);
    println!("  {:>6} double", account.double);
    let verdict = if account.adds_up() { "It adds up" } else { "It does NOT add up" };
    println!(
        "{verdict}: {:.1} s in all, {:.1} s of work with kills and retries ({rate:.0} commands/s).",
        whole.as_secs_f64(),
        worked.as_secs_f64()
    );
    println!("\nEverything is in {} (database, worker.log, notifications.log). Try next:", directory.display());
    let at = format!("--config {}", config.display());
    for id in [&account.interesting, &account.a_dead_one].into_iter().flatten().take(1) {
        println!("  cargo run --release -- explain {id} {at}");
    }
    println!("  cargo run --release -- dead list {at}");
    match &account.a_dead_one {
        Some(id) => println!("  cargo run --release -- dead replay {id} {at}    (then: run {at})"),
        None => println!("  cargo run --release -- run {at}"),
    }
    Ok(())
}

fn print_brief(brief: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    println!("  {} for {}: {}", text(&brief["id"]), text(&brief["buyer"]["name"]), text(&brief["headline"]));
    for pick in brief["picks"].as_array().into_iter().flatten() {
        let score = pick["score"].as_f64().unwrap_or_default();
        println!("  {score:.2}  {} {} {}", pick["year"], text(&pick["make"]), text(&pick["model"]));
        for reason in pick["reasons"].as_array().into_iter().flatten() {
            println!("        - {}", text(reason));
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
