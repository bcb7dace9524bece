//! The states of a breaker: closed, open, and open with a probe under way. No clock, no lock.

use super::Outage;
use crate::{clock::Instant, storm::Recent};
use std::time::Duration;

/// So many of the latest calls are looked at.
const RECENT: u32 = 20;
/// How long the provider is left alone: twice as long after each probe that fails, between these.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Nobody may ask for more: a wrong `Retry-After` must not close a worker for a year.
const LONGEST: Duration = Duration::from_hours(1);

/// What people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    /// A probe did.
    Failed,
    Closed,
}

/// The right to one call, and which life of the breaker it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    life: u64,
    probe: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Counted up by each change, so that the late answer of a call from before it changes nothing.
    life: u64,
    recent: Recent<RECENT>,
    open: Option<Open>,
    /// A message is inside to probe.
    admitted: bool,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    /// A call is under way.
    probing: bool,
}

impl State {
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.until)
    }

    /// How long nobody should call; `None`: closed. Never nothing: what comes again at once would find a probe under way.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.open.as_ref().map(|open| open.until.saturating_duration_since(now).max(PAUSE.0))
    }

    /// A message wants to begin. `Ok(true)`: as the probe, until it says [`leave`](Self::leave).
    pub(super) fn admit(&mut self, now: Instant) -> Result<bool, Option<Instant>> {
        match &self.open {
            None => Ok(false),
            Some(open) if now < open.until => Err(Some(open.until)),
            Some(_) if self.admitted => Err(None),
            Some(_) => {
                self.admitted = true;
                Ok(true)
            }
        }
    }

    pub(super) fn leave(&mut self) {
        self.admitted = false;
    }

    /// A call wants to begin; or how long it should not.
    pub(super) fn begin(&mut self, now: Instant) -> Result<Visit, Duration> {
        let wait = self.wait(now);
        let probe = match &mut self.open {
            None => false,
            Some(open) if now < open.until || open.probing => return Err(wait.unwrap_or_default()),
            Some(open) => {
                open.probing = true;
                true
            }
        };
        Ok(Visit { life: self.life, probe })
    }

    /// A call has ended; without an outage the provider has answered.
    pub(super) fn end(&mut self, visit: Visit, outage: Option<Outage>, now: Instant) -> Option<Change> {
        if visit.life != self.life {
            return None;
        }
        let (change, pause) = match (&self.open, outage) {
            (Some(_), None) => return self.close(),
            (Some(open), Some(_)) => (Change::Failed, (open.pause * 2).min(PAUSE.1)),
            (None, Some(Outage::For(_))) => (Change::Opened, PAUSE.0),
            (None, outage) => {
                self.recent.push(outage.is_some());
                if !self.recent.mostly_bad() {
                    return None;
                }
                (Change::Opened, PAUSE.0)
            }
        };
        let asked = match outage {
            Some(Outage::For(asked)) => asked.min(LONGEST),
            _ => Duration::ZERO,
        };
        self.life += 1;
        self.open = Some(Open { until: now + pause.max(asked), pause, probing: false });
        Some(change)
    }

    fn close(&mut self) -> Option<Change> {
        *self = Self { life: self.life + 1, admitted: self.admitted, ..Self::default() };
        Some(Change::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(crate::clock::instant) + Duration::from_secs(seconds)
    }

    fn call(state: &mut State, now: u64, outage: Option<Outage>) -> Option<Change> {
        let visit = state.begin(at(now)).expect("a call may begin");
        state.end(visit, outage, at(now))
    }

    fn opened() -> State {
        let mut state = State::default();
        let changes: Vec<_> = (0..11).map(|_| call(&mut state, 0, Some(Outage::Failed))).collect();
        assert_eq!(changes[9..], [None, Some(Change::Opened)], "more than half of 20");
        state
    }

    #[test]
    fn a_provider_that_mostly_answers_is_called() {
        let mut state = State::default();
        for n in 0..1000 {
            let outage = (n % 2 == 0).then_some(Outage::Failed);
            assert_eq!(call(&mut state, 0, outage), None);
        }
    }

    #[test]
    fn open_nobody_calls_then_one_probe_does_and_each_that_fails_doubles_the_pause() {
        let mut state = opened();
        assert_eq!(state.begin(at(0)), Err(Duration::from_secs(1)));
        assert_eq!(state.admit(at(0)), Err(Some(at(1))));
        assert_eq!(state.admit(at(1)), Ok(true));
        assert_eq!(state.admit(at(1)), Err(None), "one at a time");
        let probe = state.begin(at(1)).unwrap();
        assert!(state.begin(at(1)).is_err(), "one at a time");
        assert_eq!(state.end(probe, Some(Outage::Failed), at(1)), Some(Change::Failed));
        state.leave();
        assert_eq!(state.admit(at(2)), Err(Some(at(3))));
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let until = state.open_until().unwrap();
            let probe = state.begin(until).unwrap();
            state.end(probe, Some(Outage::Failed), until);
            pauses.push((state.open_until().unwrap() - until).as_secs());
        }
        assert_eq!(pauses, [4, 8, 16, 30, 30]);
    }

    #[test]
    fn an_answer_closes_it_and_all_is_forgotten() {
        let mut state = opened();
        assert_eq!(state.admit(at(1)), Ok(true));
        assert_eq!(call(&mut state, 1, None), Some(Change::Closed));
        assert_eq!(state.admit(at(1)), Ok(false));
        for _ in 0..10 {
            assert_eq!(call(&mut state, 1, Some(Outage::Failed)), None);
        }
    }

    #[test]
    fn who_asks_to_be_left_alone_is_but_not_for_ever() {
        let mut state = State::default();
        assert_eq!(call(&mut state, 0, Some(Outage::For(Duration::from_secs(7)))), Some(Change::Opened));
        assert_eq!(state.open_until(), Some(at(7)));
        assert_eq!(call(&mut state, 7, Some(Outage::For(Duration::MAX))), Some(Change::Failed));
        assert_eq!(state.open_until(), Some(at(7 + 3600)));
        let mut state = State::default();
        call(&mut state, 0, Some(Outage::For(Duration::ZERO)));
        assert_eq!(state.open_until(), Some(at(1)), "no time at all is a second");
    }

    #[test]
    fn the_late_answer_of_an_earlier_life_changes_nothing() {
        let mut state = State::default();
        let (slow, slower) = (state.begin(at(0)).unwrap(), state.begin(at(0)).unwrap());
        call(&mut state, 0, Some(Outage::For(Duration::from_secs(5))));
        assert_eq!(state.end(slow, None, at(1)), None);
        assert_eq!(state.open_until(), Some(at(5)));
        assert_eq!(call(&mut state, 5, None), Some(Change::Closed));
        assert_eq!(state.end(slower, Some(Outage::For(Duration::from_secs(5))), at(6)), None);
        assert_eq!(state.open_until(), None);
    }

    proptest! {
        #[test]
        fn an_open_breaker_lets_one_in_at_a_time_and_always_one_in_the_end(
            script in proptest::collection::vec((0u8..4, 0u64..100), 1..200)
        ) {
            let (mut state, mut now, mut visits) = (State::default(), 0, Vec::new());
            for (what, step) in script {
                now += step;
                match what {
                    0 => visits.extend(state.begin(at(now)).ok()),
                    1 => if let Some(visit) = visits.pop() { state.end(visit, None, at(now)); },
                    2 => if let Some(visit) = visits.pop() { state.end(visit, Some(Outage::Failed), at(now)); },
                    _ => if let Some(visit) = visits.pop() { state.end(visit, Some(Outage::For(Duration::from_secs(step))), at(now)); },
                }
                let probes = visits.iter().filter(|v| v.life == state.life && v.probe).count();
                prop_assert!(probes <= 1);
                prop_assert!(probes == 1 || state.open.as_ref().is_none_or(|open| !open.probing));
            }
            for visit in visits { state.end(visit, Some(Outage::Failed), at(now)); }
            prop_assert!(state.begin(at(now + 3601)).is_ok());
        }
    }
}
