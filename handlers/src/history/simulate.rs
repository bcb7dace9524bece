//! `simulate-provider`: the simulator as a process, to try the history worker by hand.

use super::{
    provider::SIMULATED,
    simulator::{Fault, Simulator, vin_of},
};
use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command, value_parser};
use pitcrew::{Globals, Handlers};
use std::io::Write;

/// `simulate-provider` for the command line.
pub fn command() -> Command {
    Command::new("simulate-provider")
        .about("Play a provider of vehicle histories, to try the worker without one")
        .after_help(
            "\
It runs until Ctrl-C. What it tells of a car follows from the VIN alone.

Examples:
  {bin} simulate-provider
  {bin} simulate-provider --fail 503",
        )
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("HOST:PORT")
                .default_value(SIMULATED.trim_start_matches("http://"))
                .help("Where it listens"),
        )
        .arg(
            Arg::new("fail")
                .long("fail")
                .value_name("STATUS")
                .value_parser(value_parser!(u16).range(400..600))
                .help("Answer every question with this status"),
        )
}

/// Runs it until Ctrl-C.
///
/// # Errors
/// The address is taken.
pub fn run(_: &Globals, matches: &ArgMatches, _: Handlers) -> anyhow::Result<bool> {
    let address = matches.get_one::<String>("listen").context("--listen")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async {
        let simulator = Simulator::listen(address).await.with_context(|| format!("listening on {address}"))?;
        simulator.always(matches.get_one("fail").copied().map(Fault::Status));
        let cars: Vec<String> = (0..4).map(vin_of).collect();
        let told = format!("a provider at {}; cars: {}\n", simulator.url(), cars.join(" "));
        let _ = std::io::stdout().lock().write_all(told.as_bytes()); // nobody may be reading
        tokio::signal::ctrl_c().await.context("listening for Ctrl-C")?;
        Ok(true)
    })
}
