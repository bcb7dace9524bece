//! Cases: replays of many dead letters.

use super::{Subject, history::RETENTION, samples::*};
use crate::{clock, store::*};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub(super) fn replay() -> Replay {
    let now = clock::now();
    Replay {
        id: clock::uuid_v7(),
        actor: "ada".into(),
        note: "the oracle is awake again".into(),
        asked: "--type conformance.Do".into(),
        canary: 2,
        rate: Some(2.5),
        stop_at: 0.25,
        state: ReplayState::Running,
        why: String::new(),
        judged: 0,
        began: now,
        changed: now,
    }
}

/// Stores these messages, and plans to run their letters again.
pub(super) async fn planned(on: &Subject, messages: &[Finished]) -> Replay {
    on.commit(messages).await;
    let replay = replay();
    let keys: Vec<_> = messages.iter().map(|message| letter(message).key).collect();
    on.store.plan_replay(&replay, &keys).await.expect("it can be planned");
    replay
}

/// The row that runs a message again.
pub(super) fn again(message: &Finished) -> OutboxRow {
    row(copy_of(&message.envelope)).with(|r| r.purpose = Purpose::Replay)
}

async fn send(on: &Subject, replay: &Replay, place: u32, message: &Finished) -> bool {
    let said = audit("replay", &message.envelope.id);
    let sent = on.store.send_letter(replay.id, place, &letter(message).key, &again(message), &said).await;
    sent.expect("it can be asked")
}

async fn tally(on: &Subject, replay: &Replay) -> ReplayTally {
    on.store.settle_replay(replay.id).await.expect("it can be settled");
    on.store.tally_replay(replay.id, 0, u32::MAX).await.expect("it can be counted")
}

async fn set(on: &Subject, replay: &Replay, runner: Uuid, to: ReplayState, why: &str, at: DateTime<Utc>) -> bool {
    on.store.set_replay(replay.id, runner, to, why, 10, at).await.expect("it can be asked")
}

async fn letters(on: &Subject, replay: &Replay) -> Vec<ReplayLetter> {
    on.store.replay_letters(replay.id, false, 1_000).await.expect("letters can be read")
}

pub(super) async fn a_replay_comes_back_as_it_was_planned(on: Subject) {
    let messages: Vec<_> = (0..70).map(|_| dead(&command())).collect();
    let first = planned(&on, &messages).await;
    let second = Replay { rate: None, began: first.began + SECOND, ..replay() };
    on.store.plan_replay(&second, &[]).await.expect("it can be planned");
    let known = async |limit| on.store.replays(limit).await.expect("replays can be read");
    assert_eq!(known(9).await, [second.clone(), first.clone()], "newest first");
    assert_eq!(known(1).await, [second]);
    let planned: Vec<_> = letters(&on, &first).await;
    let keys: Vec<_> = planned.iter().map(|letter| (letter.place, letter.key.clone())).collect();
    assert_eq!(keys, (0..).zip(messages.iter().map(|m| letter(m).key)).collect::<Vec<_>>());
    assert!(planned.iter().all(|letter| letter.outcome == ReplayOutcome::Planned && letter.sent.is_none()));
    assert_eq!(on.store.replay_letters(first.id, true, 3).await.expect("letters can be read"), planned[..3]);
    assert_eq!(tally(&on, &first).await, ReplayTally { planned: 70, ..ReplayTally::default() });
    let part = on.store.tally_replay(first.id, 10, 15).await.expect("it can be counted");
    assert_eq!(part.planned, 5);
    let at = clock::now() + SECOND;
    let runner = clock::uuid_v7();
    assert!(!set(&on, &first, runner, ReplayState::Stopped, "nobody has it", at).await);
    assert!(on.store.hold_replay(first.id, runner, at, at).await.expect("it can be held"));
    assert!(set(&on, &first, runner, ReplayState::Stopped, "7 of 10 died", at).await);
    let stopped =
        Replay { state: ReplayState::Stopped, why: "7 of 10 died".into(), judged: 10, changed: at, ..first.clone() };
    assert_eq!(known(9).await[1], stopped);
    assert_eq!(on.letters(&DeadFilter::default()).await.len(), 70, "nothing was sent");
    assert!(on.letters(&DeadFilter::default()).await.iter().all(|letter| letter.state == LetterState::Dead));
}

pub(super) async fn a_letter_of_a_replay_is_sent_once_with_its_row_and_its_audit(on: Subject) {
    let messages = [dead(&command()), quarantined(&command_of("17"))];
    let replay = planned(&on, &messages).await;
    for (place, message) in (0..).zip(&messages) {
        assert!(send(&on, &replay, place, message).await);
        assert!(!send(&on, &replay, place, message).await, "twice does nothing more");
        let history = on.history(&message.envelope.id).await;
        assert_eq!(history.letters[0].state, LetterState::Replayed);
        assert_eq!((history.audit.len(), history.outbox.len()), (1, 1));
        assert_eq!(history.outbox[0].owner, None, "a sweep takes it");
    }
    let sent = letters(&on, &replay).await;
    assert!(sent.iter().all(|letter| letter.outcome == ReplayOutcome::Waiting && letter.sent.is_some()), "{sent:?}");
    assert_eq!(on.store.replay_letters(replay.id, true, 9).await.expect("letters can be read"), []);
    on.store.pass_letter(replay.id, 0, "too late").await.expect("it can be asked");
    assert_eq!(letters(&on, &replay).await, sent, "what was sent is not passed over");
    assert_eq!(tally(&on, &replay).await, ReplayTally { waiting: 2, ..ReplayTally::default() });
}

pub(super) async fn a_letter_that_somebody_else_decided_is_not_sent(on: Subject) {
    let message = dead(&command());
    let replay = planned(&on, std::slice::from_ref(&message)).await;
    let said = audit("discard", &message.envelope.id);
    let discarded = on.store.resolve_letter(&letter(&message).key, LetterState::Discarded, &[], &said).await;
    assert!(discarded.expect("it can be discarded"));
    assert!(!send(&on, &replay, 0, &message).await);
    assert_eq!(letters(&on, &replay).await[0].outcome, ReplayOutcome::Planned, "and not noted as sent");
    let history = on.history(&message.envelope.id).await;
    assert_eq!((history.letters[0].state, history.outbox.len()), (LetterState::Discarded, 0));
    assert_eq!(history.audit, [said]);
    on.store.pass_letter(replay.id, 0, "it is discarded already").await.expect("it can be noted");
    let passed = letters(&on, &replay).await;
    assert_eq!(passed[0].outcome, ReplayOutcome::Passed);
    assert_eq!(passed[0].error.as_deref(), Some("it is discarded already"));
    assert_eq!(tally(&on, &replay).await, ReplayTally { passed: 1, ..ReplayTally::default() });
}

pub(super) async fn what_became_of_the_letters_of_a_replay_is_found_and_kept(on: Subject) {
    let unpublishable = dead(&command()).with(|m| {
        m.consumer = "channel:conformance.events".into();
        (m.fenced, m.attempt) = (false, None);
        m.letter = Some(letter(m).into());
    });
    // Another payload under the ID of a message that was done.
    let taken = command();
    let reused = dead(&taken.clone().with(|e| e.data = r#"{"n":2}"#.into())).with(|m| {
        (m.fenced, m.attempt) = (false, None);
    });
    let messages = [
        dead(&command()),
        dead(&command()),
        dead(&command()),
        dead(&command()),
        dead(&command()),
        unpublishable,
        reused,
        quarantined(&command_of("17")),
    ];
    on.store(&done(&taken)).await;
    let replay = planned(&on, &messages).await;
    for (place, message) in (0..).zip(&messages) {
        assert!(send(&on, &replay, place, message).await);
    }
    assert_eq!(tally(&on, &replay).await, ReplayTally { waiting: 8, ..ReplayTally::default() });
    let copy = |n: usize| copy_of(&messages[n].envelope);
    on.store(&done(&copy(0))).await;
    on.store(&retry(&copy(1))).await;
    on.store(&dead(&copy(2))).await;
    on.store(&done(&copy(3)).with(|m| m.fate = Fate::Expired)).await;
    let row = on.history(&messages[5].envelope.id).await.outbox[0].row.seq;
    on.store.confirm(&[row]).await.expect("it can leave");
    let outcomes = async || letters(&on, &replay).await.iter().map(|letter| letter.outcome).collect::<Vec<_>>();
    let found = tally(&on, &replay).await;
    assert_eq!(found, ReplayTally { waiting: 3, retrying: 1, done: 2, dead: 2, ..ReplayTally::default() });
    use ReplayOutcome::{Dead, Done, Expired, Left, Retrying, Waiting};
    assert_eq!(outcomes().await, [Done, Retrying, Dead, Expired, Waiting, Left, Waiting, Waiting]);
    let again = &letters(&on, &replay).await[2];
    assert_eq!(again.reason.as_deref(), Some(Reason::Permanent.word()));
    assert_eq!(again.error.as_deref(), Some("read the order: no such car"));
    on.store(&done(&copy_of(&copy(1)))).await;
    on.store(&dead(&copy(6)).with(|m| (m.fenced, m.attempt) = (false, None))).await;
    assert_eq!(tally(&on, &replay).await, ReplayTally { waiting: 2, done: 3, dead: 3, ..ReplayTally::default() });
    // What is known is kept, whatever is forgotten or happens later.
    on.store(&done(&copy_of(&copy(2)))).await;
    assert_eq!(tally(&on, &replay).await.dead, 3);
}

pub(super) async fn a_replay_has_one_runner_until_it_is_lost(on: Subject) {
    let replay = planned(&on, &[dead(&command())]).await;
    let (one, other, now) = (clock::uuid_v7(), clock::uuid_v7(), clock::now());
    let hold = async |runner: Uuid, at: DateTime<Utc>, lost_before: DateTime<Utc>| {
        on.store.hold_replay(replay.id, runner, at, lost_before).await.expect("it can be asked")
    };
    assert!(hold(one, now, now - 5 * SECOND).await);
    assert!(hold(one, now, now - 5 * SECOND).await, "it has it already");
    assert!(!hold(other, now, now - 5 * SECOND).await);
    assert!(hold(one, now - 60 * SECOND, now - 5 * SECOND).await, "and then is not heard of");
    assert!(hold(other, now, now - 5 * SECOND).await);
    assert!(!hold(one, now, now - 5 * SECOND).await, "it is told so");
    assert!(set(&on, &replay, other, ReplayState::Running, "", now).await, "it runs");
    assert!(!hold(one, now, now - 5 * SECOND).await);
    // Whoever stalled and was taken for lost writes nothing over what his successor has written.
    assert!(!set(&on, &replay, one, ReplayState::Ended, "too late", now + SECOND).await);
    let known = on.store.replays(1).await.expect("replays can be read");
    assert_eq!((known[0].state, &*known[0].why, known[0].judged), (ReplayState::Running, "", 10));
    assert!(!hold(one, now, now - 5 * SECOND).await, "nor does he take it away");
    assert!(set(&on, &replay, other, ReplayState::Paused, "interrupted", now).await, "it pauses");
    assert!(!set(&on, &replay, other, ReplayState::Ended, "too late", now).await, "and then nobody has it");
    assert!(hold(one, now, now - 5 * SECOND).await, "whoever resumes it");
    let unknown = on.store.hold_replay(clock::uuid_v7(), one, now, now).await;
    assert!(!unknown.expect("it can be asked"));
}

pub(super) async fn the_history_of_a_message_names_its_replays(on: Subject) {
    let message = dead(&command());
    let replay = planned(&on, &[dead(&command()), message.clone()]).await;
    assert!(send(&on, &replay, 1, &message).await);
    let told = on.history(&message.envelope.id).await.replays;
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!((told.replay, told.consumer.as_str(), told.attempt), (replay.id, CONSUMER, 1));
    assert!(told.outcome == ReplayOutcome::Waiting && told.sent.is_some(), "{told:?}");
    assert_eq!(on.history("another").await.replays, []);
}

pub(super) async fn the_living_are_counted(on: Subject) {
    let now = clock::now();
    let living = async |since: DateTime<Utc>| {
        let workers = on.store.workers(now).await.expect("they can be counted");
        workers.iter().filter(|alive| alive.silent <= clock::between(since, now)).count()
    };
    on.store.end_worker(on.worker).await.expect("it ends");
    assert_eq!(living(now - 10 * SECOND).await, 0);
    on.start_at(on.worker, now - 60 * SECOND).await;
    assert_eq!(living(now - 10 * SECOND).await, 0, "who was not seen since is not alive");
    assert!(on.store.beat(on.worker, &[], now).await.expect("it beats"));
    assert_eq!(living(now - 10 * SECOND).await, 1);
}

pub(super) async fn housekeeping_drops_replays_that_are_older_than_letters_are_kept(on: Subject) {
    let now = clock::now();
    let messages = [dead(&command()), dead(&command())];
    on.commit(&messages).await;
    let keys: Vec<_> = messages.iter().map(|message| letter(message).key).collect();
    let [young, old] = [now - DAY, now - 100 * DAY].map(|began| Replay { began, ..replay() });
    for replay in [&young, &old] {
        on.store.plan_replay(replay, &keys).await.expect("it can be planned");
    }
    let retention = RETENTION;
    let done = on.store.maintain(&retention, now).await.expect("housekeeping is done");
    assert_eq!(done.trimmed, 3, "the job and its letters");
    assert_eq!(on.store.replays(9).await.expect("replays can be read"), std::slice::from_ref(&young));
    assert_eq!((letters(&on, &young).await.len(), letters(&on, &old).await.len()), (2, 0));
}
