//! Command line of a worker binary: `run` it, send to it, and see what became of a message.
//!
//! [`main`](crate::main) is all that a binary needs; [`App`] adds commands of its own.

mod advice;
mod audit;
mod dead;
mod doctor;
mod explain;
#[cfg(feature = "http")]
mod health;
mod output;
mod progress;
mod push;
mod replay;
mod run;
mod schema;
mod send;
mod setup;
mod topology;
mod volume;

#[cfg(feature = "http")]
pub(crate) use explain::{document, four_words};

use crate::{
    Client, Handlers,
    config::{Config, Overrides, Sources},
    message::Intent,
    transport::Transport,
    worker::{Opened, open_store, open_transport},
};
use anyhow::{Context as _, ensure};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{path::PathBuf, sync::Arc};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Runs a worker binary of these handlers: parses the command line, does what it says, and ends the process on failure.
///
/// # Errors
/// Never returns one that it has not printed; the process ends with 1 (failed) or 2 (wrong usage).
pub fn main(handlers: Handlers) -> anyhow::Result<()> {
    App::new(handlers).main()
}

type Extra = Box<dyn FnOnce(&Globals, &clap::ArgMatches, Handlers) -> anyhow::Result<bool>>;

/// A worker binary with commands of its own beside pitcrew's.
pub struct App {
    handlers: Handlers,
    about: &'static str,
    extra: Vec<(clap::Command, Extra)>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("handlers", &self.handlers).finish_non_exhaustive()
    }
}

const EVERYWHERE: &str = "Options of every command";

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// The configuration [default: config/pitcrew.toml or pitcrew.toml, if there]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read pitcrew.NAME.toml beside it as well
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "NAME")]
    pub profile: Option<String>,
    /// The broker: embedded, amqp://USER:PASSWORD@HOST:5672/VHOST or kafka://HOST:PORT,HOST:PORT
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL")]
    pub broker: Option<String>,
    /// The database: sqlite:PATH or postgres://USER@HOST/DATABASE
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL")]
    pub store: Option<String>,
    /// Print JSON: one document, or one a line
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// Who does it, for the audit [default: $USER]
    #[arg(long = "as", global = true, help_heading = EVERYWHERE, value_name = "NAME")]
    pub operator: Option<String>,
    /// Log more (-v: debug, -vv: trace)
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  {bin} run                       work; SQLite in ./pitcrew.db without services
  {bin} send {type} --data command.json --wait
  {bin} explain ID                where that message is, why, and what comes next
  {bin} doctor                    how all of it stands, and what to type

Every message is done, retrying, dead or waiting. The exit code is 0 if it went
well, 1 if not, 2 if the command line is wrong.")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work until SIGTERM or Ctrl-C
    Run(run::Run),
    /// Send a command or an event
    Send(send::Send),
    /// Say how all of it stands, and what to type where something is to be done
    Doctor(doctor::Doctor),
    /// Tell where a message is, why, and what comes next
    Explain(explain::Explain),
    /// Look at dead letters; run them again or give them up
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Look at what operators did
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Run old records of a log again
    Replay(replay::Replay),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(setup::ConfigCommand),
    /// Look at what the broker must have, and make it
    #[command(subcommand)]
    Topology(topology::Topology),
    /// Ask the worker on this machine how it is
    #[cfg(feature = "http")]
    Health(health::Health),
    /// Bring the database's schema up to this build
    Migrate(setup::Migrate),
    /// Print the contract of these handlers, and say what breaks it
    #[command(subcommand)]
    Schema(schema::Schema),
}

impl App {
    /// A binary of these handlers.
    pub fn new(handlers: Handlers) -> Self {
        Self { handlers, about: "A worker: run it, send to it, see what became of a message", extra: Vec::new() }
    }

    /// Says in one line what this worker is, for `--help`.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Adds a command. What it runs answers whether it succeeded: a `false` ends the process with 1.
    pub fn command(
        mut self,
        command: clap::Command,
        run: impl FnOnce(&Globals, &clap::ArgMatches, Handlers) -> anyhow::Result<bool> + 'static,
    ) -> Self {
        self.extra.push((command, Box::new(run)));
        self
    }

    /// Parses the command line and does what it says.
    ///
    /// # Errors
    /// See [`main`].
    pub fn main(self) -> anyhow::Result<()> {
        let mut command = Cli::command().about(self.about);
        for (extra, _) in &self.extra {
            command = command.subcommand(extra.clone());
        }
        let name = binary_name();
        let contract = self.handlers.contract();
        let ty = contract.types.iter().find(|(_, info)| info.intent == Intent::Command).map(|(ty, _)| *ty);
        let command = with_examples(command, &name, ty.unwrap_or("demo.Greet"));
        let matches = command.name(name.clone()).bin_name(name).get_matches();
        match self.dispatch(&matches) {
            Ok(true) => Ok(()),
            Ok(false) => std::process::exit(1),
            Err(error) => {
                output::error(&error);
                std::process::exit(if error.is::<output::Misuse>() { 2 } else { 1 })
            }
        }
    }

    fn dispatch(self, matches: &clap::ArgMatches) -> anyhow::Result<bool> {
        let Self { handlers, extra, about: _ } = self;
        if let Some((name, sub)) = matches.subcommand()
            && let Some((_, run)) = extra.into_iter().find(|(command, _)| command.get_name() == name)
        {
            let globals = Globals::from_arg_matches(matches)?;
            log_to_stderr(&globals, "warn", None);
            return run(&globals, sub, handlers);
        }
        let Cli { globals, command } = Cli::from_arg_matches(matches)?;
        // These two push what they do to a collector, and begin their log with that.
        if !matches!(command, Command::Run(_) | Command::Send(_)) {
            // What it finds on its way is on its screen.
            let level = if let Command::Doctor(_) = command { "error" } else { "warn" };
            log_to_stderr(&globals, level, None);
        }
        match command {
            Command::Run(run) => run.run(&globals, handlers),
            Command::Send(send) => send.run(&globals, handlers),
            Command::Doctor(doctor) => doctor.run(&globals, &handlers),
            Command::Explain(explain) => block_on(explain.run(&globals)),
            Command::Dead(dead) => block_on(dead.run(&globals, &handlers)),
            Command::Audit(audit) => block_on(audit.run(&globals)),
            Command::Replay(replay) => replay.run(&globals, handlers),
            Command::Config(config) => config.run(&globals, &handlers),
            Command::Topology(topology) => block_on(topology.run(&globals, &handlers)),
            #[cfg(feature = "http")]
            Command::Health(health) => health.run(&globals),
            Command::Migrate(migrate) => block_on(migrate.run(&globals)),
            Command::Schema(schema) => schema.run(&globals, &handlers),
        }
    }
}

impl Globals {
    /// The configuration from file, profile, environment and flags.
    ///
    /// # Errors
    /// Everything that is wrong in it, at once, each with its place.
    pub fn config(&self) -> anyhow::Result<Config> {
        let mut sources = Sources::of_process(&binary_name());
        sources.file.clone_from(&self.config);
        sources.profile.clone_from(&self.profile);
        sources.overrides = Overrides { broker: self.broker.clone(), store: self.store.clone() };
        Config::load(&sources).map_err(|error| {
            let lines: String = error.findings.iter().map(|finding| format!("\n  {finding}")).collect();
            anyhow::anyhow!("the configuration cannot be used:{lines}")
        })
    }

    /// The store of a command beside a worker; it must exist already.
    async fn store(&self) -> anyhow::Result<Opened> {
        let config = self.config()?;
        self.is_there(&config)?;
        let opened = open_store(&config, false).await?;
        opened.store.migrate().await.context("migrating the store")?;
        Ok(opened)
    }

    fn is_there(&self, config: &Config) -> anyhow::Result<()> {
        if let crate::config::StoreUrl::Sqlite(path) = &config.store.url {
            let there = path.try_exists().with_context(|| format!("looking for the database {}", path.display()))?;
            let path = path.display();
            ensure!(there, "there is no database {path}: `run` and `send` make one, --store names another");
        }
        Ok(())
    }

    /// A client, its store and the configuration.
    async fn client(&self, handlers: &Handlers) -> anyhow::Result<(Client, Opened)> {
        let config = self.config()?;
        let transport: Arc<dyn Transport> = open_transport(&config)?;
        let opened = open_store(&config, false).await?;
        opened.store.migrate().await.context("migrating the store")?;
        let client = Client::new(opened.store.clone(), &*transport, handlers, &config)?;
        Ok((client.publishing(transport), opened))
    }
}

/// The nearest of the known names, as a hint: empty if none is near.
fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known.into_iter().map(|name| (strsim::jaro_winkler(name, word), name));
    let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|(one, _), (other, _)| one.total_cmp(other));
    near.map(|(_, name)| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The same for IDs, of which two that were made at the same time begin alike: a slip of the pen, no more.
fn did_you_mean_id<'a>(id: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(known, id), known));
    let near = near.filter(|(slips, _)| *slips <= 3).min();
    near.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default()
}

/// Examples in the words of this binary: its name and a command that it handles.
fn with_examples(mut command: clap::Command, name: &str, ty: &str) -> clap::Command {
    if let Some(help) = command.get_after_help().map(ToString::to_string) {
        command = command.after_help(help.replace("{bin}", name).replace("{type}", ty));
    }
    let below: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    below.iter().fold(command, |command, sub| command.mut_subcommand(sub, |sub| with_examples(sub, name, ty)))
}

/// The file name of this binary: the default name of the service.
fn binary_name() -> String {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    path.file_stem().map_or_else(|| "worker".into(), |name| name.to_string_lossy().into_owned())
}

/// What sees spans and events beside the log.
type Beside = Box<dyn Layer<Registry> + Send + Sync>;

fn log_to_stderr(globals: &Globals, default: &str, beside: Option<Beside>) {
    let level = match globals.verbose {
        0 => default,
        1 => "debug",
        _ => "trace",
    };
    // What the RabbitMQ client calls errors (a queue that is not there yet) is an answer to us; what is one, we say ourselves.
    let filter = std::env::var("PITCREW_LOG").unwrap_or_else(|_| format!("{level},sqlx=warn,lapin=off"));
    // One filter for both: where each layer has its own, a log loses lines after somebody asked `tracing::enabled!`, as sqlx does.
    let filter = if beside.is_some() { format!("{filter},pitcrew::trace=debug") } else { filter };
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = tracing_subscriber::registry().with(beside).with(log).with(EnvFilter::new(filter)).try_init();
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(work)
}
