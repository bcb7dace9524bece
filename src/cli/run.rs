//! `run`: the worker itself.

use super::{Globals, push::Push};
use crate::{
    Handlers, Worker,
    config::Config,
    worker::{open_store, open_transport, patiently},
};
use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Work until SIGTERM or Ctrl-C. A second signal ends at once; nothing is lost then either, what was open comes again.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  {bin} run                         the database is ./pitcrew.db
  {bin} run --channel car.commands  this channel only
  {bin} run --broker amqp://app:secret@mq/cars
                                           RabbitMQ, vhost `cars`
  {bin} run --store postgres://app@db/cars
                                           several may run at once")]
pub(super) struct Run {
    /// Work this channel only; may be given several times
    #[arg(long = "channel", value_name = "NAME")]
    channels: Vec<String>,
}

impl Run {
    pub(super) fn run(self, globals: &Globals, handlers: Handlers) -> anyhow::Result<bool> {
        let config = globals.config()?;
        let push = Push::begin(globals, &config, "info")?;
        let ended = self.work(config, handlers, &push);
        push.end();
        ended
    }

    fn work(self, config: Config, handlers: Handlers, push: &Push) -> anyhow::Result<bool> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name(config.service.as_str())
            .enable_all()
            .build()
            .context("starting a runtime")?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
            let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
            let start = async {
                // Before all else: who probes it shall find somebody.
                #[cfg(feature = "http")]
                let door = crate::http::Door::open(&config, &handlers).await?;
                let patience = config.worker.start_timeout;
                let opened = patiently(patience, async || open_store(&config, true).await).await?;
                let transport = open_transport(&config)?;
                let worker = Worker::new(config, handlers).channels(self.channels).patience(patience);
                #[cfg(feature = "http")]
                let worker = match &door {
                    Some(door) => worker.read_by(door.readers()),
                    None => worker,
                };
                let running = push.measures(worker)?.start(opened.store.clone(), transport).await?;
                #[cfg(feature = "http")]
                let running = running.behind(door);
                anyhow::Ok((opened, running))
            };
            let (opened, running) = tokio::select! {
                started = start => started?,
                _ = terminate.recv() => return Ok(not_begun()),
                _ = interrupt.recv() => return Ok(not_begun()),
            };
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            info!("ending: what runs may finish; a second signal ends at once");
            tokio::select! {
                () = running.shutdown() => {}
                _ = terminate.recv() => at_once(),
                _ = interrupt.recv() => at_once(),
            }
            drop(opened.lock);
            Ok(true)
        })
    }
}

fn not_begun() -> bool {
    info!("told to end before it had begun");
    true
}

fn at_once() -> ! {
    warn!("ended at once; what was open comes again");
    std::process::exit(130)
}
