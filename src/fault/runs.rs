//! Runs of handlers that are under way: whose is a call that somebody outside has just seen?

use super::armed::ARMED;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// One run of a handler, begun on one thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Unique in the process.
    pub(crate) nth: u64,
    pub(crate) worker: String,
    pub(crate) consumer: String,
    pub(crate) id: String,
}

tokio::task_local! {
    static CURRENT: Arc<Run>;
}

static UNDER_WAY: Mutex<Vec<Arc<Run>>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn under_way() -> MutexGuard<'static, Vec<Arc<Run>>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// It ends with the future, also with one that is dropped.
struct Entry(Arc<Run>);

impl Drop for Entry {
    fn drop(&mut self) {
        under_way().retain(|run| run.nth != self.0.nth);
    }
}

/// A run of a handler, which calls from inside it find by [`current`].
pub(crate) async fn handling<F: Future>(consumer: &str, id: &str, running: F) -> F::Output {
    if !ARMED.load(Relaxed) {
        return running.await;
    }
    let run = Arc::new(Run {
        nth: NEXT.fetch_add(1, Relaxed),
        worker: std::thread::current().name().unwrap_or_default().to_owned(),
        consumer: consumer.to_owned(),
        id: id.to_owned(),
    });
    under_way().push(run.clone());
    let entry = Entry(run.clone());
    let output = CURRENT.scope(run, running).await;
    drop(entry);
    output
}

/// The run that this code is part of; else, for a task or a server that knows of none, the only one that this worker has under way.
pub(crate) fn current(worker: &str) -> Option<Arc<Run>> {
    CURRENT.try_with(Arc::clone).ok().or_else(|| {
        let all = under_way();
        let mut of_worker = all.iter().filter(|run| run.worker == worker);
        of_worker.next().filter(|_| of_worker.next().is_none()).cloned()
    })
}
