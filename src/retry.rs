//! Retry policy: when a message that was not done comes again, computed once, above the transports.

use crate::{
    config::RetryPolicy,
    message::Hop,
    store::{AttemptKind, Reason},
};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// What follows from a try that did not end done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// A copy, due then.
    At(DateTime<Utc>),
    /// A dead letter.
    Dead(Reason),
    /// It would come too late to be wanted.
    Expired,
}

/// A try that did not end done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) kind: AttemptKind,
    /// What the handler asked for with `retry_after`.
    pub(crate) asked: Option<Duration>,
    pub(crate) now: DateTime<Utc>,
    /// In `0.0..=1.0`: the jitter.
    pub(crate) random: f64,
}

impl RetryPolicy {
    /// `hop` is that of the delivery which was tried, `expires` its `expirytime`.
    pub(crate) fn next(&self, hop: &Hop, expires: Option<DateTime<Utc>>, tried: Tried) -> Next {
        let failures = hop.failures + u32::from(counts(tried.kind));
        if failures >= self.attempts && counts(tried.kind) {
            return Next::Dead(Reason::Exhausted);
        }
        let since = hop.first_failure.unwrap_or(tried.now);
        let delay = self.round_up(tried.asked.unwrap_or_else(|| self.backoff(failures, tried.random)));
        // A provider may ask for any delay, also for one beyond the calendar.
        let delay = chrono::TimeDelta::from_std(delay).ok();
        let Some(at) = delay.and_then(|delay| tried.now.checked_add_signed(delay)) else {
            return Next::Dead(Reason::GaveUp);
        };
        if crate::clock::between(since, at) > self.give_up_after {
            return Next::Dead(Reason::GaveUp);
        }
        if expires.is_some_and(|expires| at > expires) {
            return Next::Expired;
        }
        Next::At(at)
    }

    /// Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").
    fn backoff(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let bound = self.first.saturating_mul(1 << doublings).min(self.max);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    fn round_up(&self, delay: Duration) -> Duration {
        self.tiers.iter().copied().find(|tier| *tier >= delay).unwrap_or(delay)
    }
}

/// Whether a try of this kind is a failure.
pub(crate) fn counts(kind: AttemptKind) -> bool {
    !matches!(kind, AttemptKind::Later | AttemptKind::Conflict | AttemptKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn tried(kind: AttemptKind, random: f64) -> Tried {
        Tried { kind, asked: None, now: at(0), random }
    }

    #[test]
    fn a_delay_is_rounded_up_to_a_tier() {
        let policy = RetryPolicy::default();
        let hop = Hop { failures: 3, ..Hop::default() };
        // The fourth failure: bound 8 s, half of it is 4 s, the tier above is 5 s.
        assert_eq!(policy.next(&hop, None, tried(AttemptKind::Failure, 0.5)), Next::At(at(5)));
    }

    #[test]
    fn above_the_last_tier_a_delay_is_exact() {
        let policy = RetryPolicy::default();
        let asked = Some(Duration::from_secs(4000));
        let later = Tried { asked, ..tried(AttemptKind::Later, 0.0) };
        assert_eq!(policy.next(&Hop::default(), None, later), Next::At(at(4000)));
    }

    #[test]
    fn the_last_attempt_is_dead_and_what_is_no_failure_does_not_count() {
        let policy = RetryPolicy::default();
        let hop = Hop { failures: 7, ..Hop::default() };
        assert_eq!(policy.next(&hop, None, tried(AttemptKind::Timeout, 0.0)), Next::Dead(Reason::Exhausted));
        assert!(matches!(policy.next(&hop, None, tried(AttemptKind::Later, 0.0)), Next::At(_)));
        assert!(matches!(policy.next(&hop, None, tried(AttemptKind::Conflict, 0.0)), Next::At(_)));
    }

    #[test]
    fn an_old_failure_is_given_up_and_a_late_one_expires() {
        let policy = RetryPolicy::default();
        let old = Hop { first_failure: Some(at(-24 * 3600)), ..Hop::default() };
        assert_eq!(policy.next(&old, None, tried(AttemptKind::Later, 0.0)), Next::Dead(Reason::GaveUp));
        assert_eq!(policy.next(&Hop::default(), Some(at(0)), tried(AttemptKind::Failure, 0.5)), Next::Expired);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_above_the_tier_over_its_bound(failures in 0u32..7, random in 0.0f64..=1.0) {
            let policy = RetryPolicy::default();
            let hop = Hop { failures, ..Hop::default() };
            let Next::At(due) = policy.next(&hop, None, tried(AttemptKind::Failure, random)) else { panic!("not dead yet") };
            let bound = Duration::from_secs(1 << failures).min(policy.max);
            prop_assert!(due > at(0));
            prop_assert!((due - at(0)).to_std().unwrap() <= policy.round_up(bound));
        }
    }
}
