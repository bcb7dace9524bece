//! Prefetch: how many unacked deliveries the broker may have here. Few enough that slow jobs are not hoarded and a second worker
//! really helps, many enough that fast ones never wait for the network.

use crate::clock::Instant;
use std::time::Duration;

/// Measured over at least so long.
const WINDOW: Duration = Duration::from_millis(250);

/// What is held should be done within this time.
const WORTH: Duration = Duration::from_secs(1);

/// Decides from counts alone.
#[derive(Debug)]
pub(super) struct Prefetch {
    now: usize,
    least: usize,
    since: Instant,
    settled: u64,
    peak: usize,
}

impl Prefetch {
    /// Starts at `least`, which is twice the handlers that run at once.
    pub(super) fn new(least: usize, at: Instant) -> Self {
        let least = least.clamp(1, usize::from(u16::MAX));
        Self { now: least, least, since: at, settled: 0, peak: 0 }
    }

    pub(super) fn now(&self) -> u16 {
        u16::try_from(self.now).unwrap_or(u16::MAX)
    }

    /// `unsettled`: deliveries here; `settled`: ever; `most`: what this process can hold. The answer is a new prefetch.
    ///
    /// It changes only while it is what limits: a queue that is empty says nothing of the handlers.
    pub(super) fn look(&mut self, at: Instant, unsettled: usize, settled: u64, most: usize) -> Option<u16> {
        self.peak = self.peak.max(unsettled);
        let elapsed = at - self.since;
        if elapsed < WINDOW {
            return None;
        }
        let rate = (settled - self.settled) as f64 / elapsed.as_secs_f64();
        let limits = self.peak * 10 >= self.now * 9;
        (self.since, self.settled, self.peak) = (at, settled, unsettled);
        if !limits {
            return None;
        }
        let within = rate * WORTH.as_secs_f64();
        let wanted = if within > 2.0 * self.now as f64 {
            (2 * self.now).min(most.min(usize::from(u16::MAX)))
        } else if within < 0.5 * self.now as f64 {
            within as usize
        } else {
            self.now
        };
        let wanted = wanted.max(self.least);
        let changed = wanted != self.now;
        self.now = wanted;
        changed.then(|| self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The prefetch after `windows` windows of handlers that settle `rate` a second while the queue is never empty.
    fn after(windows: u32, rate: f64) -> usize {
        let start = crate::clock::instant();
        let mut prefetch = Prefetch::new(128, start);
        for n in 1..=windows {
            let elapsed = WINDOW * n;
            prefetch.look(start + elapsed, prefetch.now, (rate * elapsed.as_secs_f64()) as u64, 1_152);
        }
        prefetch.now
    }

    #[test]
    fn slow_jobs_are_not_hoarded() {
        assert_eq!(after(40, 64.0), 128, "64 handlers of a second each");
    }

    #[test]
    fn fast_jobs_get_as_much_as_fits() {
        assert_eq!(after(40, 20_000.0), 1_152);
    }

    #[test]
    fn between_them_a_second_of_work_is_held() {
        let held = after(40, 640.0);
        assert!((320..=640).contains(&held), "{held}");
    }

    #[test]
    fn it_shrinks_when_jobs_become_slow_and_an_idle_queue_changes_nothing() {
        let start = crate::clock::instant();
        let mut prefetch = Prefetch::new(128, start);
        prefetch.now = 1_024;
        assert_eq!(prefetch.look(start + WINDOW, 3, 1, 2_000), None);
        assert_eq!(prefetch.look(start + 2 * WINDOW, 1_024, 61, 2_000), Some(240));
    }
}
