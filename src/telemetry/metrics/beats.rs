//! Heartbeat of the loops: which of them has something to do and does not move?
//!
//! A loop that waits for input rests, however long. One that works on something says when it moves on; if it does not for too
//! long it is stuck, and if it ended while the worker goes on, it is dead.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// A loop that must be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    pub(crate) name: String,
    /// It has not moved for so long.
    pub(crate) since: Duration,
    /// It is over, although its worker is not.
    pub(crate) ended: bool,
}

/// The loops of a worker. Time is what `now` says: since some beginning.
pub(crate) struct Beats {
    now: Box<dyn Fn() -> Duration + Send + Sync>,
    loops: Mutex<Vec<Arc<Pulse>>>,
}

impl std::fmt::Debug for Beats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.ages()).finish()
    }
}

struct Pulse {
    name: String,
    /// Things that it works on at once.
    busy: AtomicUsize,
    /// When it last moved, in milliseconds.
    moved: AtomicU64,
    ended: AtomicBool,
}

/// The loop's side. Dropped, the loop is over.
pub(crate) struct Beat {
    beats: Arc<Beats>,
    pulse: Arc<Pulse>,
}

/// While it lives the loop works on something.
pub(crate) struct Busy<'a>(&'a Beat);

impl Beats {
    pub(crate) fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { now: Box::new(now), loops: Mutex::default() })
    }

    /// A loop of this name begins.
    pub(crate) fn begin(self: &Arc<Self>, name: String) -> Beat {
        let pulse = Pulse {
            name,
            busy: AtomicUsize::new(0),
            moved: AtomicU64::new(self.millis()),
            ended: AtomicBool::new(false),
        };
        let pulse = Arc::new(pulse);
        self.loops.lock().unwrap_or_else(PoisonError::into_inner).push(pulse.clone());
        Beat { beats: self.clone(), pulse }
    }

    /// Each loop, and for how long it has not moved though it has something to do.
    pub(crate) fn ages(&self) -> Vec<(String, Duration)> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.iter().map(|pulse| (pulse.name.clone(), self.age(pulse))).collect()
    }

    /// Those that have not moved for longer than `limit`, and those that are over.
    pub(crate) fn stuck(&self, limit: Duration) -> Vec<Stuck> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let told = loops.iter().map(|pulse| Stuck {
            name: pulse.name.clone(),
            since: self.age(pulse),
            ended: pulse.ended.load(Relaxed),
        });
        told.filter(|told| told.ended || told.since > limit).collect()
    }

    fn age(&self, pulse: &Pulse) -> Duration {
        if pulse.busy.load(Relaxed) == 0 && !pulse.ended.load(Relaxed) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.millis().saturating_sub(pulse.moved.load(Relaxed)))
    }

    fn millis(&self) -> u64 {
        u64::try_from((self.now)().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Beat {
    /// It takes something up.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.moves();
        self.pulse.busy.fetch_add(1, Relaxed);
        Busy(self)
    }

    /// It goes on.
    pub(crate) fn moves(&self) {
        self.pulse.moved.store(self.beats.millis(), Relaxed);
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.moves();
        self.0.pulse.busy.fetch_sub(1, Relaxed);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.pulse.ended.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats() -> (Arc<Beats>, Arc<AtomicU64>) {
        let seconds = Arc::<AtomicU64>::default();
        let clock = seconds.clone();
        (Beats::new(move || Duration::from_secs(clock.load(Relaxed))), seconds)
    }

    #[test]
    fn a_loop_that_rests_is_never_stuck_and_one_that_works_must_move() {
        let (beats, seconds) = beats();
        let beat = beats.begin("commit".into());
        seconds.store(1_000, Relaxed);
        assert_eq!(beats.stuck(Duration::from_secs(60)), []);
        let busy = beat.busy();
        seconds.store(1_060, Relaxed);
        assert_eq!(beats.stuck(Duration::from_secs(60)), []);
        seconds.store(1_061, Relaxed);
        let found = beats.stuck(Duration::from_secs(60));
        assert_eq!(found, [Stuck { name: "commit".into(), since: Duration::from_secs(61), ended: false }]);
        beat.moves();
        assert_eq!(beats.stuck(Duration::from_secs(60)), []);
        drop(busy);
        seconds.store(9_000, Relaxed);
        assert_eq!(beats.stuck(Duration::from_secs(60)), []);
    }

    #[test]
    fn a_loop_that_is_over_is_found_at_once() {
        let (beats, _seconds) = beats();
        drop(beats.begin("receive:a".into()));
        assert_eq!(beats.stuck(Duration::from_secs(60)).len(), 1);
    }
}
