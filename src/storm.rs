//! Throttler: a handler that mostly fails runs less of itself, down to one probe, until it succeeds again.
//!
//! The states alone: no clock, no lock. Who asks and who waits is in `pipeline/gate.rs`.

use crate::clock::Instant;
use std::time::Duration;

/// So many of the latest attempts are looked at. More than half of them failed: a storm.
const RECENT: u32 = 100;
/// So many successes in a row double what may run at once.
const RAISE: u32 = 10;
/// A probe that fails is followed by a pause, twice as long each time, between these.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How an attempt ended, as far as a storm goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Done.
    Well,
    /// It failed and is tried again, or would be: failure, timeout, panic.
    Badly,
    /// It says nothing about the next one: a message that is wrong itself, a `retry_after`, a shutdown.
    Neither,
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// So many at once from now on.
    Fewer(usize),
    /// So many at once again.
    More(usize),
    /// As many as the configuration lets.
    Over,
}

/// One handler's state.
#[derive(Clone, Debug)]
pub(crate) struct Storm {
    /// What the configuration lets run at once.
    most: usize,
    /// What the storm lets run at once; `None`: there is none.
    limit: Option<usize>,
    recent: Recent<RECENT>,
    in_a_row: u32,
    pause: Duration,
    /// The next probe.
    not_before: Option<Instant>,
}

impl Storm {
    pub(crate) fn new(most: usize) -> Self {
        let (most, recent) = (most.max(1), Recent::default());
        Self { most, limit: None, recent, in_a_row: 0, pause: Duration::ZERO, not_before: None }
    }

    /// How many may run at once; `None`: no storm.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Whether one more may begin beside `running`; if not, when to ask again at the latest. `None` there: when one has ended.
    pub(crate) fn may_begin(&self, running: usize, now: Instant) -> Result<(), Option<Instant>> {
        match (self.limit, self.not_before) {
            (Some(_), Some(at)) if now < at => Err(Some(at)),
            (Some(limit), _) if running >= limit => Err(None),
            _ => Ok(()),
        }
    }

    /// The last probe failed.
    pub(crate) fn is_paused(&self) -> bool {
        self.not_before.is_some()
    }

    /// Nothing bad is remembered: a success need not be told.
    pub(crate) fn is_calm(&self) -> bool {
        self.limit.is_none() && self.recent.bad() == 0
    }

    /// An attempt has ended.
    pub(crate) fn next(&mut self, ended: Ended, now: Instant) -> Option<Change> {
        self.recent.push(ended == Ended::Badly);
        match ended {
            Ended::Neither => None,
            Ended::Badly => self.failed(now),
            Ended::Well => self.succeeded(),
        }
    }

    fn failed(&mut self, now: Instant) -> Option<Change> {
        self.in_a_row = 0;
        if self.limit == Some(1) {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
            self.not_before = Some(now + self.pause);
            return None;
        }
        if !self.recent.mostly_bad() {
            return None;
        }
        // What ran with twice as many says nothing about half of them.
        self.recent = Recent::default();
        let limit = (self.limit.unwrap_or(self.most) / 2).max(1);
        self.limit = Some(limit);
        Some(Change::Fewer(limit))
    }

    fn succeeded(&mut self) -> Option<Change> {
        let limit = self.limit?;
        (self.pause, self.not_before) = (Duration::ZERO, None);
        self.in_a_row += 1;
        if self.in_a_row < RAISE {
            return None;
        }
        self.in_a_row = 0;
        self.limit = Some(limit * 2).filter(|limit| *limit < self.most);
        Some(self.limit.map_or(Change::Over, Change::More))
    }
}

/// The latest `N` (at most 128) outcomes. What has not happened yet counts as good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recent<const N: u32> {
    bad: u128,
    next: u32,
}

impl<const N: u32> Recent<N> {
    pub(crate) fn push(&mut self, bad: bool) {
        self.bad = (self.bad & !(1 << self.next)) | (u128::from(bad) << self.next);
        self.next = (self.next + 1) % N;
    }

    pub(crate) fn bad(self) -> u32 {
        self.bad.count_ones()
    }

    /// More than half of them.
    pub(crate) fn mostly_bad(self) -> bool {
        self.bad() * 2 > N
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(crate::clock::instant) + Duration::from_millis(ms)
    }

    fn after(storm: &mut Storm, ended: Ended, times: u32) -> Vec<Change> {
        (0..times).filter_map(|_| storm.next(ended, at(0))).collect()
    }

    #[test]
    fn more_than_half_of_the_last_hundred_halves_it() {
        let mut storm = Storm::new(64);
        assert_eq!(after(&mut storm, Ended::Badly, 50), [], "half is not more than half");
        assert_eq!(after(&mut storm, Ended::Well, 50), []);
        // The first of the bad ones leaves the window with each new one.
        assert_eq!(after(&mut storm, Ended::Badly, 50), []);
        assert_eq!(after(&mut storm, Ended::Badly, 1), [Change::Fewer(32)]);
        assert_eq!(storm.may_begin(31, at(0)), Ok(()));
        assert_eq!(storm.may_begin(32, at(0)), Err(None));
    }

    #[test]
    fn it_goes_down_to_one_probe_and_each_that_fails_makes_the_next_one_wait_longer() {
        let mut storm = Storm::new(64);
        let fewer: Vec<Change> = [32, 16, 8, 4, 2, 1].map(Change::Fewer).into();
        assert_eq!(after(&mut storm, Ended::Badly, 6 * 51), fewer);
        assert_eq!(storm.may_begin(0, at(0)), Ok(()), "a probe");
        assert_eq!(storm.may_begin(1, at(0)), Err(None), "one at a time");
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(storm.next(Ended::Badly, at(0)), None);
            let Err(Some(until)) = storm.may_begin(0, at(0)) else { panic!("no pause") };
            assert_eq!(storm.may_begin(0, until), Ok(()));
            waits.push((until - at(0)).as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(storm.next(Ended::Well, at(0)), None);
        assert_eq!(storm.may_begin(0, at(0)), Ok(()), "a success ends the pause");
    }

    #[test]
    fn ten_successes_in_a_row_double_it_until_the_storm_is_over() {
        let mut storm = Storm::new(6);
        after(&mut storm, Ended::Badly, 2 * 51);
        assert_eq!(storm.limit(), Some(1));
        assert_eq!(after(&mut storm, Ended::Well, 9), []);
        after(&mut storm, Ended::Badly, 1);
        assert_eq!(after(&mut storm, Ended::Well, 9), [], "in a row");
        assert_eq!(after(&mut storm, Ended::Well, 1), [Change::More(2)]);
        assert_eq!(after(&mut storm, Ended::Well, 20), [Change::More(4), Change::Over]);
        assert_eq!(storm.limit(), None);
        after(&mut storm, Ended::Well, 100);
        assert!(storm.is_calm());
    }

    #[test]
    fn a_handler_that_runs_alone_anyway_is_paced() {
        let mut storm = Storm::new(1);
        assert_eq!(after(&mut storm, Ended::Badly, 51), [Change::Fewer(1)]);
        after(&mut storm, Ended::Badly, 1);
        assert!(storm.may_begin(0, at(0)).is_err());
        assert_eq!(after(&mut storm, Ended::Well, 10), [Change::Over]);
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        let mut storm = Storm::new(64);
        assert_eq!(after(&mut storm, Ended::Neither, 1000), []);
        assert!(storm.is_calm());
    }

    proptest! {
        #[test]
        fn something_may_always_run_in_the_end_and_never_more_than_the_most(
            most in 1usize..200, script in proptest::collection::vec(0u8..3, 0..2000)
        ) {
            let mut storm = Storm::new(most);
            for step in script {
                let ended = [Ended::Well, Ended::Badly, Ended::Neither][usize::from(step)];
                storm.next(ended, at(0));
                let limit = storm.limit().unwrap_or(most);
                prop_assert!((1..=most).contains(&limit));
                prop_assert!(storm.may_begin(0, at(5_000)).is_ok());
            }
        }
    }
}
