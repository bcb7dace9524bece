//! One life of one worker, on a thread and a runtime of its own: it ends in order, or it stops in the middle of everything.

use super::bed::{Bed, LIMIT};
use pitcrew::{
    Handlers, Worker,
    config::Config,
    fault::{self, Plan},
    transport::embedded::Embedded,
};
use std::{sync::Arc, thread::JoinHandle, time::Instant};
use tokio::sync::oneshot;

pub(crate) struct Life {
    pub(crate) name: String,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Life {
    /// `plan`: where it dies.
    pub(crate) fn begin(bed: &Bed, name: &str, handlers: Handlers, config: Config, plan: Option<Plan>) -> Self {
        let (name, place) = (bed.name(name), bed.place.clone());
        if let Some(plan) = plan {
            fault::arm(&name, plan);
        }
        let (stop, stopped) = oneshot::channel();
        let worker = name.clone();
        let life = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let store = place.open(&worker).await;
                let worker = Worker::new(config, handlers).start(store, Arc::new(Embedded::default())).await;
                let worker = worker.expect("it starts");
                let _ = stopped.await;
                worker.shutdown().await;
            });
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(life).expect("a thread");
        Self { name, stop, thread }
    }

    /// Waits until it has stopped in the middle of everything. The thread stays where it is for good.
    pub(crate) async fn stops(self, stopped: impl Fn() -> bool) {
        let until = Instant::now() + LIMIT;
        while !stopped() {
            assert!(!self.thread.is_finished(), "{} ended by itself", self.name);
            assert!(Instant::now() < until, "{} did not stop", self.name);
            pitcrew::testing::poll_pause().await;
        }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn end(self) {
        let _ = self.stop.send(());
        let until = Instant::now() + LIMIT;
        while !self.thread.is_finished() {
            assert!(Instant::now() < until, "{} does not end", self.name);
            pitcrew::testing::poll_pause().await;
        }
        self.thread.join().expect("it does not panic");
    }
}
