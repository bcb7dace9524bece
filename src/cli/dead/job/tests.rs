//! What a job decides, number by number.

use super::*;
use crate::store::ReplayState::{Ended, Paused, Stopped};

fn replay(canary: u32, stop_at: f64) -> Replay {
    let now = clock::now();
    Replay {
        id: Uuid::nil(),
        actor: "ada".into(),
        note: String::new(),
        asked: String::new(),
        canary,
        rate: None,
        stop_at,
        state: ReplayState::Running,
        why: String::new(),
        judged: 0,
        began: now,
        changed: now,
    }
}

/// Planned, waiting, retrying, done, dead.
fn tally([planned, waiting, retrying, done, dead]: [u32; 5]) -> ReplayTally {
    ReplayTally { planned, waiting, retrying, done, dead, ..ReplayTally::default() }
}

fn without_canary(numbers: [u32; 5]) -> View {
    View { all: tally(numbers), since: tally(numbers), ..View::default() }
}

fn with_canary(numbers: [u32; 5], canary: [u32; 5]) -> View {
    View { canary: tally(canary), ..without_canary(numbers) }
}

#[test]
fn the_first_go_ten_ahead_and_later_ones_a_hundred() {
    let next = |numbers| without_canary(numbers).next(&replay(0, 0.1));
    assert_eq!(next([1_000, 0, 0, 0, 0]), Next::Send(10));
    assert_eq!(next([990, 10, 0, 0, 0]), Next::Wait);
    assert_eq!(next([990, 5, 0, 5, 0]), Next::Send(10));
    assert_eq!(next([500, 20, 0, 480, 0]), Next::Send(80));
    assert_eq!(next([3, 20, 0, 480, 0]), Next::Send(3));
    assert_eq!(next([0, 20, 0, 480, 0]), Next::Wait);
    assert_eq!(next([0, 0, 1, 480, 0]), Next::Wait);
    assert_eq!(next([0, 0, 0, 480, 0]), Next::End(Ended, String::new()));
}

#[test]
fn a_canary_is_awaited_and_judged_by_its_deaths() {
    let next = |numbers, canary| with_canary(numbers, canary).next(&replay(3, 0.1));
    assert_eq!(next([100, 0, 0, 0, 0], [3, 0, 0, 0, 0]), Next::Send(3));
    assert_eq!(next([97, 3, 0, 0, 0], [0, 3, 0, 0, 0]), Next::Wait);
    assert_eq!(next([97, 0, 1, 2, 0], [0, 0, 1, 2, 0]), Next::Wait, "it comes again");
    assert_eq!(next([97, 0, 0, 3, 0], [0, 0, 0, 3, 0]), Next::Send(13));
    let Next::End(Stopped, why) = next([97, 2, 0, 0, 1], [0, 2, 0, 0, 1]) else { panic!("it must stop") };
    assert_eq!(why, "1 of the 3 that went first died again, more than 10%");
    let view = with_canary([97, 0, 0, 2, 1], [0, 0, 0, 2, 1]);
    assert_eq!(view.next(&replay(3, 0.5)), Next::Send(12), "one of three is no half");
}

#[test]
fn it_stops_when_too_large_a_share_of_enough_has_failed() {
    let next = |numbers, stop_at| without_canary(numbers).next(&replay(0, stop_at));
    assert_eq!(next([90, 1, 0, 4, 5], 0.1), Next::Send(13), "nine are no share yet");
    let Next::End(Stopped, why) = next([90, 0, 3, 6, 1], 0.1) else { panic!("it must stop") };
    assert_eq!(why, "4 of 10 failed (1 died again, 3 come again), more than 10%");
    assert_eq!(next([90, 0, 3, 6, 1], 0.4), Next::Send(16), "not more than that");
    assert_eq!(next([90, 0, 5, 0, 5], 1.0), Next::Send(10), "told to go on whatever happens");
    let Next::End(Stopped, _) = next([90, 0, 0, 9, 1], 0.0) else { panic!("it must stop") };
    assert_eq!(next([0, 0, 0, 0, 10], 0.1), Next::End(Ended, String::new()), "there is nothing left to stop");
    // What was sent before a stop was judged by whoever resumed it.
    let all = tally([80, 0, 0, 5, 15]);
    let view = View { all, since: tally([80, 0, 0, 0, 0]), ..View::default() };
    assert_eq!(view.next(&replay(0, 0.1)), Next::Send(10));
}

#[test]
fn without_a_worker_it_does_not_wait_for_ever() {
    let alone = |numbers, seconds| {
        let view = View { alone: Some(Duration::from_secs(seconds)), ..without_canary(numbers) };
        view.next(&replay(0, 0.1))
    };
    assert_eq!(alone([90, 10, 0, 0, 0], 1), Next::Wait, "it may only be restarted");
    assert_eq!(alone([90, 10, 0, 0, 0], 5), Next::End(Paused, "no worker is running".into()));
    assert_eq!(alone([0, 10, 0, 0, 0], 0), Next::End(Ended, String::new()), "what was sent waits for one");
    let waited = View { waited: true, ..without_canary([0, 0, 4, 6, 0]) };
    assert_eq!(waited.next(&replay(0, 0.1)), Next::End(Ended, String::new()));
}

#[tokio::test(start_paused = true)]
async fn letters_go_at_their_rate() {
    let mut pace = Pace::of(20.0);
    let mut sent = pace.take(100);
    assert_eq!(sent, 1);
    for _ in 0..100 {
        tokio::time::advance(Duration::from_millis(100)).await;
        sent += pace.take(100);
    }
    assert!((198..=201).contains(&sent), "{sent} in ten seconds");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(pace.take(100), 5, "what was not sent is not made up for");
    let mut pace = Pace::of(0.5);
    assert_eq!((pace.take(9), pace.take(9)), (1, 0));
    tokio::time::advance(Duration::from_millis(2_010)).await;
    assert_eq!(pace.take(9), 1);
}
