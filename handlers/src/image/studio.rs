//! Competing Consumers on threads: work that takes a processor and not a wait, away from those that wait.

use super::{
    decode::PhotoError,
    develop::{Developed, Stop, develop},
    recipe::Recipe,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Makes photos on a bounded number of threads.
#[derive(Debug)]
pub struct Studio {
    recipe: Arc<Recipe>,
    threads: Arc<Semaphore>,
}

impl Studio {
    /// On so many threads at most; 0: as many as there are processors.
    pub fn new(recipe: Recipe, threads: usize) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors() } else { threads };
        Self { recipe: Arc::new(recipe), threads: Arc::new(Semaphore::new(threads.min(Semaphore::MAX_PERMITS))) }
    }

    /// Everything that the recipe asks for. Dropped, as at a deadline, it makes the thread end at its next step.
    ///
    /// # Errors
    /// See [`PhotoError`]. A decoder that panics is a damaged photo as well: it would panic tomorrow.
    pub async fn develop(&self, bytes: Bytes) -> Result<Developed, PhotoError> {
        // Held by the thread and not by this future: who gives up waiting does not make a processor free.
        let threads = self.threads.clone();
        let Ok(place) = threads.acquire_owned().await else { return Err(PhotoError::Stopped) };
        let recipe = self.recipe.clone();
        let stop = StopOnDrop(Arc::default());
        let stopped = stop.0.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            develop(&bytes, &recipe, &stopped)
        });
        match work.await {
            Ok(developed) => developed,
            Err(e) if e.is_panic() => Err(PhotoError::Internal("the decoder panicked".into())),
            Err(_) => Err(PhotoError::Stopped),
        }
    }
}

struct StopOnDrop(Arc<Stop>);
impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.now();
    }
}
