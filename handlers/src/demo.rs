//! The demo: thousands of real commands through a real worker that is killed on the way, and an account that adds up.
//!
//! The walk is in this file; `commands.rs` and `others.rs` make the commands of the workers in `kinds.rs`, `child.rs` runs and kills the worker, `chaos.rs` is what goes wrong
//! inside it on purpose, `account.rs` and `trouble.rs` count from the database alone, `report.rs` is what people see.

pub mod account;
mod chaos;
mod child;
pub mod commands;
mod input;
pub mod kinds;
mod others;
mod report;
pub mod trouble;

pub use chaos::work;

use crate::history::simulator::Simulator;
use account::{Account, Database, Sent};
use anyhow::{Context as _, bail};
use child::Child;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use kinds::Kind;
use pitcrew::{
    Client, Envelope, Globals, Handlers, Message,
    config::{Config, Overrides, Sources},
    worker::{open_store, open_transport},
};
use report::Progress;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The worker is killed when so much of the work is done.
const KILL_AT: [f64; 3] = [0.15, 0.35, 0.6];
/// One in so many commands is sent twice.
const TWICE: usize = 20;
/// Nothing moved for so long: the demo gives up and says so.
const PATIENCE: Duration = Duration::from_secs(20);

/// `demo` for the command line.
pub fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    Command::new("demo")
        .about("Show it: a worker that is killed on the way, and an account that adds up")
        .after_help(
            "\
Of all commands one in ten asks for a car's history, one in ten for a fraud
review, one in a hundred brings a photo, and the others ask for a recommendation.
What goes wrong is injected and labelled so: duplicates, attempts that fail,
panic or are slow, a provider with faults, commands that are dead on purpose,
three SIGKILLs. The exit code is 0 only if every command is accounted for and
has exactly one effect.

Examples:
  {bin} demo
  {bin} demo --commands 10000 --no-kill
  {bin} demo --only image,fraud
  {bin} demo --json --store postgres://postgres@127.0.0.1/postgres",
        )
        .arg(
            flag("commands", "Commands to send")
                .value_name("N")
                .default_value("2000")
                .value_parser(value_parser!(u32).range(1..=1_000_000)),
        )
        .arg(
            flag("seed", "The same seed sends the same commands")
                .value_name("N")
                .default_value("7")
                .value_parser(value_parser!(u64)),
        )
        .arg(
            flag("input", "Send these instead: one structured CloudEvent a line")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(["commands", "seed", "only"]),
        )
        .arg(
            flag("only", "Only commands of these workers, as many as there would be beside the others")
                .value_name("WORKER")
                .value_delimiter(',')
                .action(ArgAction::Append)
                .value_parser(Kind::ALL.map(Kind::name)),
        )
        .arg(
            flag("dir", "Where database and logs go [default: a new directory in /tmp]")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(flag("no-kill", "Do not kill the worker").action(ArgAction::SetTrue))
}

/// `demo-worker`: the worker that the demo starts and kills.
pub fn worker_command() -> Command {
    Command::new("demo-worker").hide(true)
}

/// What was asked for.
#[derive(Debug)]
struct Plan {
    commands: Vec<Envelope>,
    directory: PathBuf,
    config: PathBuf,
    kills: usize,
    /// The commands are made up, poison and all; otherwise they are somebody's own.
    made: bool,
    json: bool,
    /// The provider of histories; it ends with the demo.
    _provider: Simulator,
}

/// Runs the demo.
///
/// # Errors
/// It could not be set up, or the worker stood still.
pub fn run(globals: &Globals, matches: &ArgMatches, handlers: Handlers) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async {
        tokio::select! {
            done = demo(globals, matches, handlers) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; the worker was stopped with the demo"),
        }
    })
}

async fn demo(globals: &Globals, matches: &ArgMatches, handlers: Handlers) -> anyhow::Result<bool> {
    let began = Instant::now();
    let plan = prepare(globals, matches).await?;
    let config = load(&plan.config)?;
    let sent = send(&plan, &config, &handlers).await?;
    let database = Database::open(&config).await?;
    let progress = Progress::start(sent.len(), plan.json);
    let (kills, worked) = work_and_kill(&plan, &database, &sent, &progress).await?;
    progress.end();
    let account = Account::take(&database, &sent, kills).await?;
    database.close().await;
    if plan.json {
        report::print(&(account.line() + "\n"))?;
    } else {
        let whole = began.elapsed();
        report::print(&report::report(&account, &plan, worked, whole).await?)?;
    }
    Ok(account.adds_up())
}

async fn prepare(globals: &Globals, matches: &ArgMatches) -> anyhow::Result<Plan> {
    if globals.config.is_some() || globals.profile.is_some() {
        bail!("the demo has a configuration of its own; --broker and --store choose where it runs, --dir its place");
    }
    let input = matches.get_one::<PathBuf>("input").map(|file| input::read(file)).transpose()?;
    let directory = match matches.get_one::<PathBuf>("dir") {
        Some(directory) => directory.clone(),
        None => {
            let new = tempfile::Builder::new().prefix("pitcrew-demo-").tempdir().context("making a directory")?;
            new.keep() // for whoever wants to look at it afterwards
        }
    };
    std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let directory = directory.canonicalize().with_context(|| format!("finding {}", directory.display()))?;
    let config = directory.join("pitcrew.toml");
    if config.exists() {
        bail!("{} holds a demo already; name another --dir or none", directory.display());
    }
    let provider = others::provider().await?;
    let settings = settings(globals, &directory, &provider.url())?;
    std::fs::write(&config, settings).context("writing the demo's configuration")?;
    let is_made = input.is_none();
    let commands = match input {
        Some(commands) => commands,
        None => made(matches, &directory)?,
    };
    let kills = if matches.get_flag("no-kill") { 0 } else { KILL_AT.len() };
    Ok(Plan { commands, directory, config, kills, made: is_made, json: globals.json, _provider: provider })
}

fn made(matches: &ArgMatches, directory: &Path) -> anyhow::Result<Vec<Envelope>> {
    let count = *matches.get_one::<u32>("commands").context("--commands")? as usize;
    let seed = *matches.get_one::<u64>("seed").context("--seed")?;
    let only: Vec<&str> = matches.get_many::<String>("only").unwrap_or_default().map(String::as_str).collect();
    let wants = |kind: Kind| only.is_empty() || only.contains(&kind.name());
    let share = |kind, of: usize| if wants(kind) { count.div_ceil(of) } else { 0 };
    let (photos, cars, offers) = (share(Kind::Image, 100), share(Kind::History, 10), share(Kind::Fraud, 10));
    let briefs = if wants(Kind::Recommendation) { count.saturating_sub(photos + cars + offers).max(1) } else { 0 };

    let photos = wrapped(others::images(photos, seed, &directory.join("photos"))?)?;
    let mut queues = [
        wrapped(commands::commands(briefs, seed))?,
        photos,
        wrapped(others::histories(cars))?,
        wrapped(others::reviews(offers, seed)?)?,
    ]
    .map(Vec::into_iter);
    // As they would come: mixed, each worker's over the whole time.
    let sizes: Vec<usize> = queues.iter().map(ExactSizeIterator::len).collect();
    let mut mixed = Vec::with_capacity(sizes.iter().sum());
    let longest = sizes.iter().copied().max().unwrap_or_default();
    for turn in 0..longest {
        for (queue, size) in queues.iter_mut().zip(&sizes) {
            let due = (turn + 1) * size / longest - turn * size / longest;
            mixed.extend(queue.take(due));
        }
    }
    Ok(mixed)
}

fn wrapped<M: Message>(commands: impl IntoIterator<Item = M>) -> anyhow::Result<Vec<Envelope>> {
    commands.into_iter().map(|command| Ok(Envelope::of(&command, "/demo")?)).collect()
}

/// A quick ladder, so that retries fit into a demo, and no door, whose port may be somebody else's; all else is the default.
fn settings(globals: &Globals, directory: &Path, provider: &str) -> anyhow::Result<String> {
    let quoted = |text: &str| serde_json::to_string(text).context("quoting");
    let (store, schema) = match &globals.store {
        Some(url) => (quoted(url)?, format!("demo_{}", pitcrew::clock::uuid_v7().simple())),
        None => (quoted(&format!("sqlite:{}", directory.join("demo.db").display()))?, "pitcrew".to_owned()),
    };
    let broker = quoted(globals.broker.as_deref().unwrap_or("embedded"))?;
    let place = |name: &str| quoted(&directory.join(name).display().to_string());
    let (file, provider) = (place("notifications.log")?, quoted(provider)?);
    let (photos, images) = (place("photos")?, place("images")?);
    let told: String =
        ["RecommendationBriefGenerated", "ListingImageProcessed", "VehicleHistoryFetched", "FraudReviewScored"]
            .map(|event| format!("[handlers.\"car.{event}\"]\npath = {file}\n\n"))
            .concat();
    Ok(format!(
        "service = \"car-worker\"\n\n[http]\nlisten = \"\"\n\n[transport.default]\nurl = {broker}\n\n[store]\nurl = {store}\nschema = \"{schema}\"\n\n\
         [channel.\"car.commands\".retry]\nfirst = \"200ms\"\nmax = \"1s\"\ntiers = [\"100ms\", \"200ms\", \"500ms\", \"1s\"]\n\n\
         {told}[handlers.\"car.ProcessListingImage\"]\noriginals = {photos}\noutput = {images}\n\n\
         [handlers.\"car.FetchVehicleHistory\"]\nurl = {provider}\n"
    ))
}

fn load(file: &Path) -> anyhow::Result<Config> {
    let sources = Sources {
        service: "car-worker".into(),
        file: Some(file.into()),
        overrides: Overrides::default(),
        ..Sources::default()
    };
    Ok(Config::load(&sources)?)
}

/// Puts all commands into the outbox, some of them twice: a producer that was not sure repeats itself.
async fn send(plan: &Plan, config: &Config, handlers: &Handlers) -> anyhow::Result<Sent> {
    let opened = open_store(config, false).await?;
    opened.store.migrate().await.context("migrating the store")?;
    let client = Client::new(opened.store.clone(), &*open_transport(config)?, handlers, config)?;
    let mut sent = Sent { made: plan.made, ..Sent::default() };
    for page in plan.commands.chunks(500) {
        let mut envelopes = Vec::with_capacity(page.len() + page.len() / TWICE + 1);
        for envelope in page {
            envelopes.push(envelope.clone());
            if sent.commands.contains_key(&envelope.id) {
                sent.duplicates += 1; // in somebody's own file
            } else if sent.note(envelope).is_multiple_of(TWICE) {
                envelopes.push(envelope.clone());
                sent.duplicates += 1;
                sent.twice.insert(envelope.id.clone());
            }
        }
        client.send_envelopes(envelopes, None).await?;
    }
    opened.store.close().await;
    Ok(sent)
}

/// Starts the worker, kills it at its marks, starts it again at once, and waits until everything is accounted for.
async fn work_and_kill(
    plan: &Plan,
    database: &Database,
    sent: &Sent,
    progress: &Progress,
) -> anyhow::Result<(u32, Duration)> {
    let began = Instant::now();
    let mut child = Child::start(&plan.directory, &plan.config)?;
    let (mut kills, mut last, mut moved) = (0, (0, 0), Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(15)).await;
        if let Some(status) = child.ended()? {
            bail!("the worker ended by itself ({status}); its log ends with:\n{}", child.log_tail());
        }
        let state = database.state(sent).await?;
        progress.show(state.ended, state.notified);
        if (state.ended, state.notified) != last {
            (last, moved) = ((state.ended, state.notified), Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            bail!(
                "nothing moved for {} s: {} of {} commands ended; the worker's log ends with:\n{}",
                PATIENCE.as_secs(),
                state.ended,
                sent.len(),
                child.log_tail()
            );
        }
        let due = plan.kills > kills && state.ended as f64 >= KILL_AT[kills] * sent.len() as f64;
        if due {
            child.kill().await?;
            kills += 1;
            progress.killed(kills, state.ended);
            child = Child::start(&plan.directory, &plan.config)?;
        } else if state.ended >= sent.len() && state.notified >= state.done && state.waiting == 0 {
            break;
        }
    }
    let worked = began.elapsed();
    child.stop().await?;
    Ok((u32::try_from(kills)?, worked))
}
