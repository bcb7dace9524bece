//! Fault injection: what goes wrong inside the demo's worker, on purpose and repeatably.

use crate::recommendation::{Recommender, contract::GenerateRecommendationBrief};
use anyhow::Context as _;
use clap::ArgMatches;
use pitcrew::{
    Context, Globals, Handler, Handlers, Worker,
    worker::{open_store, open_transport},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// The recommender on a bad day: in a thousand first attempts 30 fail, 10 are slow, 5 panic.
struct Chaos(Recommender);

impl Handler<GenerateRecommendationBrief> for Chaos {
    async fn handle(&self, command: GenerateRecommendationBrief, cx: &mut Context) -> pitcrew::Result {
        let mut hash = DefaultHasher::new();
        cx.meta().id.hash(&mut hash);
        match hash.finish() % 1_000 {
            0..30 if cx.attempt() == 1 => return Err(anyhow::anyhow!("injected: the first attempt fails").into()),
            30..40 if cx.attempt() == 1 => tokio::time::sleep(Duration::from_millis(250)).await,
            40..45 if cx.attempt() == 1 => std::panic::panic_any("injected: the first attempt panics"),
            _ => {}
        }
        self.0.handle(command, cx).await
    }
}

fn handlers() -> Handlers {
    crate::beside(Handlers::new().handle_with(async |setup| anyhow::Ok(Chaos(Recommender::build(setup).await?))))
}

/// `demo-worker`: as `run`, with chaos inside.
///
/// # Errors
/// As `run`.
pub fn work(globals: &Globals, _: &ArgMatches, _: Handlers) -> anyhow::Result<bool> {
    let config = globals.config()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let opened = open_store(&config, true).await?;
        let transport = open_transport(&config)?;
        let running = Worker::new(config, handlers()).start(opened.store.clone(), transport).await?;
        terminate.recv().await;
        running.shutdown().await;
        drop(opened.lock);
        Ok(true)
    })
}
