//! State machine of one connection: what follows from what, with no clock and no I/O.

use std::time::Duration;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has asked for it yet.
    Idle,
    /// Gone, or never there; tried again after a pause that grows with the failures in a row.
    Down { failures: u32 },
    /// Being opened.
    Opening { failures: u32 },
    /// Usable.
    Up,
    /// Usable for consuming; the broker takes no publish until its alarm is over.
    Blocked,
    /// Ended by us, for good.
    Closed,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody needs it.
    Wanted,
    /// The pause is over.
    PauseOver,
    /// The broker answered the handshake.
    Opened,
    /// It did not, or it refused us.
    Refused,
    /// Reset, without heartbeat, or closed by the broker or an operator.
    Lost,
    /// The broker's resource alarm.
    Blocked,
    /// The end of it.
    Unblocked,
    /// We end it.
    Close,
}

/// The one place where a connection changes its state. Total: an event that says nothing in a state (the late news of an earlier
/// connection, most of all) leaves it as it is.
pub(super) fn next(state: State, event: Event) -> State {
    match (state, event) {
        (State::Closed, _) | (_, Event::Close) => State::Closed,
        (State::Idle, Event::Wanted) => State::Opening { failures: 0 },
        (State::Down { failures }, Event::PauseOver) => State::Opening { failures },
        (State::Opening { .. }, Event::Opened) => State::Up,
        (State::Opening { failures }, Event::Refused | Event::Lost) => {
            State::Down { failures: failures.saturating_add(1) }
        }
        // The first attempt comes almost at once: most losses are a restart of something in between.
        (State::Up | State::Blocked, Event::Lost) => State::Down { failures: 0 },
        (State::Up, Event::Blocked) => State::Blocked,
        (State::Blocked, Event::Unblocked) => State::Up,
        (unchanged, _) => unchanged,
    }
}

/// How long to leave the broker alone. `random` in `0.0..=1.0` spreads a herd of workers; the bound is short, because a broker
/// that is back should find its workers within a second.
pub(super) fn pause(failures: u32, random: f64) -> Duration {
    let bound = Duration::from_millis(50 << failures.min(5)).min(Duration::from_secs(1));
    bound.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        use Event::*;
        prop::sample::select(vec![Wanted, PauseOver, Opened, Refused, Lost, Blocked, Unblocked, Close])
    }

    proptest! {
        #[test]
        fn closed_is_final(events in prop::collection::vec(any_event(), 0..20)) {
            let closed = next(events.iter().fold(State::Idle, |state, event| next(state, *event)), Event::Close);
            prop_assert_eq!(events.iter().fold(closed, |state, event| next(state, *event)), State::Closed);
        }

        #[test]
        fn only_an_opened_connection_is_up(events in prop::collection::vec(any_event(), 0..40)) {
            let mut state = State::Idle;
            for event in events {
                let after = next(state, event);
                if matches!(after, State::Up | State::Blocked) && !matches!(state, State::Up | State::Blocked) {
                    prop_assert_eq!((state, event), (State::Opening { failures: failures(state) }, Event::Opened));
                }
                state = after;
            }
        }

        #[test]
        fn from_everywhere_but_closed_a_connection_comes_up_again(events in prop::collection::vec(any_event(), 0..40)) {
            let state = events.into_iter().filter(|e| *e != Event::Close).fold(State::Idle, next);
            let way_up = [Event::Wanted, Event::PauseOver, Event::Opened, Event::Unblocked];
            prop_assert_eq!(way_up.into_iter().fold(state, next), State::Up);
        }

        #[test]
        fn a_pause_grows_and_has_a_bound(failures in 0u32..100, random in 0.0f64..=1.0) {
            let (pause, longer) = (pause(failures, random), super::pause(failures + 1, random));
            prop_assert!(!pause.is_zero() && pause <= longer && longer <= Duration::from_secs(1));
        }
    }

    fn failures(state: State) -> u32 {
        match state {
            State::Down { failures } | State::Opening { failures } => failures,
            _ => 0,
        }
    }
}
