//! Command line of a worker binary: `run` it, send to it, and see what became of a message.
//!
//! [`main`](crate::main) is all that a binary needs; [`App`] adds commands of its own.

mod dead;
mod explain;
mod output;
mod run;
mod send;
mod setup;

use crate::{
    Client, Handlers,
    config::{Config, Overrides, Sources},
    transport::Transport,
    worker::{Opened, open_store, open_transport},
};
use anyhow::Context as _;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{path::PathBuf, sync::Arc};

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
    extra: Vec<(clap::Command, Extra)>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("handlers", &self.handlers).finish_non_exhaustive()
    }
}

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// The configuration file [default: config/pitcrew.toml or pitcrew.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also read pitcrew.PROFILE.toml beside it
    #[arg(long, global = true)]
    pub profile: Option<String>,
    /// The broker: embedded or amqp://USER:PASSWORD@HOST:5672/VHOST
    #[arg(long, global = true, value_name = "URL")]
    pub broker: Option<String>,
    /// The store: sqlite:PATH or postgres://USER@HOST/DATABASE
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more (-v: debug, -vv: trace)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Parser)]
#[command(version, about, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work: receive, handle, commit, until SIGTERM or Ctrl-C
    Run(run::Run),
    /// Send a command or an event
    Send(send::Send),
    /// Tell everything about a message: its fates, its attempts, what comes next and when
    Explain(explain::Explain),
    /// Look at dead letters; send them again or give them up
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(setup::ConfigCommand),
    /// Bring the store's schema up to this build
    Migrate(setup::Migrate),
    /// The contract of these handlers
    #[command(subcommand)]
    Schema(setup::Schema),
}

impl App {
    /// A binary of these handlers.
    pub fn new(handlers: Handlers) -> Self {
        Self { handlers, extra: Vec::new() }
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
        let mut command = Cli::command();
        for (extra, _) in &self.extra {
            command = command.subcommand(extra.clone());
        }
        let name = binary_name();
        let matches = command.name(name.clone()).bin_name(name).get_matches();
        match self.dispatch(&matches) {
            Ok(true) => Ok(()),
            Ok(false) => std::process::exit(1),
            Err(error) => {
                output::error(&error);
                std::process::exit(1)
            }
        }
    }

    fn dispatch(self, matches: &clap::ArgMatches) -> anyhow::Result<bool> {
        let Self { handlers, extra } = self;
        if let Some((name, sub)) = matches.subcommand()
            && let Some((_, run)) = extra.into_iter().find(|(command, _)| command.get_name() == name)
        {
            let globals = Globals::from_arg_matches(matches)?;
            log_to_stderr(&globals, "warn");
            return run(&globals, sub, handlers);
        }
        let Cli { globals, command } = Cli::from_arg_matches(matches)?;
        log_to_stderr(&globals, if matches!(command, Command::Run(_)) { "info" } else { "warn" });
        match command {
            Command::Run(run) => run.run(&globals, handlers),
            Command::Send(send) => block_on(send.run(&globals, handlers)),
            Command::Explain(explain) => block_on(explain.run(&globals)),
            Command::Dead(dead) => block_on(dead.run(&globals)),
            Command::Config(config) => config.run(&globals, &handlers),
            Command::Migrate(migrate) => block_on(migrate.run(&globals)),
            Command::Schema(schema) => schema.run(&handlers),
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
        Ok(Config::load(&sources)?)
    }

    /// The store of a command beside a worker; it must exist already.
    async fn store(&self) -> anyhow::Result<Opened> {
        let config = self.config()?;
        if let crate::config::StoreUrl::Sqlite(path) = &config.store.url {
            let missing = || format!("there is no database {}; name one with --store sqlite:PATH", path.display());
            std::fs::metadata(path).with_context(missing)?;
        }
        let opened = open_store(&config, false).await?;
        opened.store.migrate().await.context("migrating the store")?;
        Ok(opened)
    }

    /// A client, its store and the configuration.
    async fn client(&self, handlers: &Handlers) -> anyhow::Result<(Client, Opened)> {
        let config = self.config()?;
        let transport: Arc<dyn Transport> = open_transport(&config)?;
        let opened = open_store(&config, false).await?;
        opened.store.migrate().await.context("migrating the store")?;
        Ok((Client::new(opened.store.clone(), &*transport, handlers, &config)?, opened))
    }
}

/// The file name of this binary: the default name of the service.
fn binary_name() -> String {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    path.file_stem().map_or_else(|| "worker".into(), |name| name.to_string_lossy().into_owned())
}

fn log_to_stderr(globals: &Globals, default: &str) {
    let level = match globals.verbose {
        0 => default,
        1 => "debug",
        _ => "trace",
    };
    let filter = std::env::var("PITCREW_LOG").unwrap_or_else(|_| format!("{level},sqlx=warn,lapin=error"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(work)
}
