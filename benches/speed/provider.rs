//! Whom the handlers of the cell `waiting` ask: somebody outside the worker, who answers every question after exactly so long.
//!
//! A thread with a list, and not tokio's timer: that one has a tick of 1 ms, so that 10 ms are 11.

use std::{
    collections::VecDeque,
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long an answer takes.
pub(crate) const WAIT: Duration = Duration::from_millis(10);

/// Questions under way, oldest first: all take equally long.
#[derive(Default)]
struct Provider {
    open: Mutex<VecDeque<(Instant, oneshot::Sender<()>)>>,
    asked: Condvar,
}

static PROVIDER: LazyLock<&Provider> = LazyLock::new(|| {
    let provider: &Provider = Box::leak(Box::default());
    thread::Builder::new().name("provider".into()).spawn(|| provider.answer()).expect("a thread");
    provider
});

/// Returns with the answer.
pub(crate) async fn ask() {
    let (question, answer) = oneshot::channel();
    {
        let mut open = PROVIDER.lock();
        open.push_back((Instant::now() + WAIT, question));
        if open.len() == 1 {
            PROVIDER.asked.notify_one();
        }
    }
    answer.await.expect("the provider answers everything");
}

impl Provider {
    fn answer(&self) {
        let mut open = self.lock();
        loop {
            let now = Instant::now();
            let due = open.partition_point(|(due, _)| *due <= now);
            let answers: Vec<_> = open.drain(..due).collect();
            open = if !answers.is_empty() {
                drop(open);
                for (_, answer) in answers {
                    let _ = answer.send(()); // who asked may have been dropped
                }
                self.lock()
            } else if let Some((next, _)) = open.front() {
                let left = *next - now;
                self.asked.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.asked.wait(open).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, oneshot::Sender<()>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
