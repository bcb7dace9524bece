//! Cases: what people ask, and housekeeping.

use super::{Subject, samples::*};
use crate::{clock, store::*};
use chrono::{DateTime, Utc};
use std::time::Duration;

pub(super) const RETENTION: Retention = Retention {
    inbox: Duration::from_secs(14 * 86_400),
    letters: Duration::from_secs(90 * 86_400),
    audit: Duration::from_secs(400 * 86_400),
    sink: None,
};

pub(super) async fn attempts_are_kept_in_order(on: Subject) {
    let kinds =
        [AttemptKind::Failure, AttemptKind::Timeout, AttemptKind::Panic, AttemptKind::Later, AttemptKind::Crash];
    let mut envelope = command();
    let mut expected = Vec::new();
    let start = clock::now();
    for (i, kind) in (0..).zip(kinds) {
        let message = retry(&envelope).with(|m| {
            m.at = start + i * SECOND;
            if let Some(attempt) = &mut m.attempt {
                attempt.kind = kind;
                attempt.at = m.at;
                attempt.error = format!("outer {i}: inner Škoda");
                attempt.next = (i != 4).then(|| m.at + SECOND);
            }
        });
        on.store(&message).await;
        expected.extend(message.attempt.map(|attempt| (CONSUMER.to_owned(), *attempt)));
        envelope = copy_of(&envelope);
    }
    on.store(&retry(&command())).await;
    assert_eq!(on.history(&envelope.id).await.attempts, expected);
}

pub(super) async fn history_finds_everything_of_an_id(on: Subject) {
    let envelope = command();
    let twin = dead(&envelope).with(|m| {
        m.consumer = "analytics".into();
        m.letter = Some(letter(m).into());
    });
    let first = retry(&envelope).with(|m| m.effects.outbox.push(event(&envelope)));
    let follower = done(&command().with(|e| e.causation_id = Some(envelope.id.clone())));
    let stranger = dead(&command()).with(|m| m.effects.outbox.push(event(&m.envelope)));
    on.commit(&[first.clone(), twin.clone(), follower.clone(), stranger]).await;
    let said = audit("discard", &envelope.id);
    on.store.resolve_letter(&letter(&twin).key, LetterState::Discarded, &[], &said).await.expect("it can be discarded");

    let history = on.history(&envelope.id).await;
    let mut consumers: Vec<_> = history.inbox.iter().map(|row| (row.consumer.as_str(), row.fate.as_str())).collect();
    consumers.sort_unstable();
    assert_eq!(consumers, [("analytics", "dead"), (CONSUMER, "retry")]);
    assert_eq!(history.attempts.len(), 2);
    assert_eq!(seqs(history.outbox.iter().map(|e| &e.row)), [first.effects.outbox[0].seq], "the copy");
    assert_eq!(history.letters.len(), 1);
    assert_eq!(history.audit, [said]);
    let caused: Vec<_> = history.caused.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(caused, [follower.envelope.id.as_str()]);
    assert_eq!(seqs(history.caused_outbox.iter().map(|e| &e.row)), [first.effects.outbox[1].seq], "the event");
}

pub(super) async fn history_of_an_unknown_id_is_empty(on: Subject) {
    on.store(&retry(&command())).await;
    for id in ["17", "", "a'b\"c", &clock::uuid_v7().to_string()] {
        let history = on.history(id).await;
        let rows = history.inbox.len() + history.attempts.len() + history.outbox.len() + history.letters.len();
        assert_eq!(rows + history.audit.len() + history.caused.len() + history.caused_outbox.len(), 0, "{id}");
    }
}

pub(super) async fn what_is_recorded_is_written_once_and_found_by_its_action(on: Subject) {
    let audit = |action: &str, target: &str, reason: &str, second: i64| Audit {
        actor: format!("worker {second}"),
        action: action.into(),
        target: target.into(),
        reason: reason.into(),
        at: DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second),
        bodies: None,
    };
    let first = audit("lost", "shop", "records 1–2 are gone", 1);
    let again = audit("lost", "shop", "records 1–2 are gone", 2);
    let other = audit("lost", "shop", "records 7–9 are gone", 3);
    let elsewhere = audit("lost", "cars", "records 1–2 are gone", 4);
    let another = audit("reread", "shop", "records 1–2 are gone", 5);
    for audit in [&first, &again, &other, &elsewhere, &another] {
        on.store.record(audit).await.unwrap();
    }
    assert_eq!(on.store.recorded("lost", 10).await.unwrap(), [elsewhere.clone(), other, first], "newest first");
    assert_eq!(on.store.recorded("lost", 1).await.unwrap(), [elsewhere]);
    assert_eq!(on.store.recorded("reread", 10).await.unwrap(), [another]);
    assert_eq!(on.store.recorded("kept", 10).await.unwrap(), []);
}

pub(super) async fn every_action_is_in_the_trail_by_time_and_actor(on: Subject) {
    let at = |second: i64| DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second);
    let by = |actor: &str, second: i64| Audit { actor: actor.into(), at: at(second), ..audit("declare", "mq/cars") };
    let (first, again, other) = (by("ada", 1), by("ada", 2), by("ada's", 3));
    for audit in [&first, &again, &other] {
        on.store.record_action(audit).await.unwrap();
    }
    let died = dead(&command());
    on.store(&died).await;
    let said = Audit { at: at(4), ..audit("discard", &died.envelope.id) };
    let resolved = on.store.resolve_letter(&letter(&died).key, LetterState::Discarded, &[], &said).await;
    assert!(resolved.expect("it can be discarded"));
    let trail = async |since: Option<i64>, actor: Option<&str>, limit| {
        let filter = AuditFilter { since: since.map(at), actor: actor.map(str::to_owned) };
        on.store.audit_trail(&filter, limit).await.expect("the store answers")
    };
    assert_eq!(
        trail(None, None, 9).await,
        [&said, &other, &again, &first].map(Clone::clone),
        "each time, newest first"
    );
    assert_eq!(trail(Some(3), None, 9).await, [&said, &other].map(Clone::clone), "at or after");
    assert_eq!(trail(None, Some("ada"), 9).await, [&said, &again, &first].map(Clone::clone));
    assert_eq!(trail(Some(2), Some("ada"), 1).await, [said]);
    assert_eq!(trail(None, Some("nobody"), 9).await, []);
}

pub(super) async fn history_shows_who_did_what_when(on: Subject) {
    let envelope = command().with(|e| {
        e.version = 3;
        e.subject = Some("car/17".into());
        e.actor = Some("ada".into());
        e.correlation_id = Some("all of it".into());
        e.causation_id = Some("the first".into());
        e.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
        e.hop.attempt = 2;
    });
    let message = done(&envelope).with(|m| m.duration = Duration::from_micros(12_500));
    on.store(&message).await;
    let expected = InboxRow {
        consumer: CONSUMER.into(),
        source: envelope.source.clone(),
        id: envelope.id.clone(),
        ty: envelope.ty.clone(),
        version: 3,
        attempt: 2,
        fate: "done".into(),
        actor: envelope.actor.clone(),
        subject: envelope.subject.clone(),
        correlation: envelope.correlation_id.clone(),
        causation: envelope.causation_id.clone(),
        trace: envelope.traceparent.clone(),
        at: message.at,
        duration_ms: 12.5,
        worker: on.worker,
        build: build_id().into(),
    };
    assert_eq!(on.history(&envelope.id).await.inbox, [expected]);
}

pub(super) async fn counts_are_by_fate(on: Subject) {
    assert_eq!(on.counts().await, Counts::default());
    let mut batch: Vec<_> = (0..4).map(|_| done(&command())).collect();
    batch.extend((0..3).map(|_| retry(&command())));
    batch.extend((0..2).map(|_| dead(&command())));
    batch.push(quarantined(&command_of("17")));
    batch.push(done(&command()).with(|m| m.fate = Fate::Expired));
    on.commit(&batch).await;
    on.enqueue(None, &rows(2)).await;
    assert_eq!(on.counts().await, Counts { done: 4, retrying: 3, dead: 2, quarantined: 1, outbox: 5 });
    let said = audit("discard", &batch[7].envelope.id);
    let key = letter(&batch[7]).key;
    on.store.resolve_letter(&key, LetterState::Discarded, &[], &said).await.expect("it can be discarded");
    assert_eq!(on.counts().await.dead, 1);
}

pub(super) async fn gauges_tell_what_waits_and_since_when(on: Subject) {
    let now = clock::now();
    let gauges = async || on.store.gauges(now + SECOND).await.expect("the store answers");
    let none = gauges().await;
    assert_eq!((none.outbox.len(), none.letters.len(), none.inbox_oldest), (0, 0, None));
    let first = dead(&command()).with(|m| m.effects.outbox.clear());
    let second = dead(&command()).with(|m| m.effects.outbox.clear());
    on.commit(&[first.clone(), second.clone(), done(&command())]).await;
    let waits = rows(2);
    let later = OutboxRow { due: Some(now + DAY), ..row(command()) };
    on.enqueue(Some(on.worker), &waits).await;
    on.enqueue(None, std::slice::from_ref(&later)).await;
    let found = gauges().await;
    let [outbox] = &found.outbox[..] else { panic!("{:?}", found.outbox) };
    assert_eq!((outbox.purpose.as_str(), outbox.rows, outbox.ready), ("message", 3, 2));
    assert_eq!(outbox.destination, waits[0].destination.to_string());
    let age = |since: Option<DateTime<Utc>>| clock::between(since.expect("a date"), now + SECOND);
    assert!(age(outbox.oldest) < 60 * SECOND, "{outbox:?}");
    let [letters] = &found.letters[..] else { panic!("{:?}", found.letters) };
    assert_eq!((letters.channel.as_str(), letters.state.as_str(), letters.count), (CHANNEL, "dead", 2));
    assert_eq!(letters.oldest, Some(first.at.min(second.at)));
    assert!(age(found.inbox_oldest) < 60 * SECOND, "{found:?}");
}

pub(super) async fn what_comes_again_is_told_the_next_first(on: Subject) {
    let now = clock::now();
    let at = |seconds: u32| {
        retry(&command()).with(|m| {
            if let Some(attempt) = &mut m.attempt {
                attempt.next = Some(clock::to_micros(now) + seconds * SECOND);
            }
        })
    };
    let (past, later, next) = (at(1), at(90), at(30));
    on.commit(&[past, later.clone(), next.clone(), done(&command())]).await;
    let told = async |limit| on.store.retries(now + 10 * SECOND, limit).await.expect("the store answers");
    let coming = told(10).await;
    let ids: Vec<_> = coming.iter().map(|coming| coming.id.as_str()).collect();
    assert_eq!(ids, [next.envelope.id.as_str(), later.envelope.id.as_str()]);
    let attempt = next.attempt.expect("it failed");
    assert_eq!((Some(coming[0].at), &coming[0].error), (attempt.next, &attempt.error));
    assert_eq!(told(1).await, coming[..1]);
}

pub(super) async fn migrating_again_changes_nothing(on: Subject) {
    let message = done(&command());
    on.store(&message).await;
    let again = on.store.migrate().await.expect("it can be migrated again");
    assert_eq!(again.from, again.to);
    assert_eq!(on.fate(&message).await, Some((1, "done".into())));
}

pub(super) async fn a_store_tells_what_it_is(on: Subject) {
    let about = on.store.about().await.expect("it can be asked");
    assert!(!about.server.is_empty() && !about.server.contains(char::is_control), "{about:?}");
    assert_eq!(about.schema, about.wanted, "it is migrated");
    let migrated = on.store.migrate().await.expect("it can be migrated again");
    assert_eq!(about.wanted, migrated.to);
    if let Some(connections) = about.connections {
        assert!(1 <= connections.ours && connections.ours <= connections.all, "{connections:?}");
        assert!(connections.all <= connections.most, "{connections:?}");
    }
}

/// A message that was made and finished at `at`.
pub(super) fn made_at(at: DateTime<Utc>, finish: fn(&crate::Envelope) -> Finished) -> Finished {
    finished_at(at, &command_of(&clock::uuid_v7_at(at).to_string()), finish)
}

pub(super) fn finished_at(
    at: DateTime<Utc>,
    envelope: &crate::Envelope,
    finish: fn(&crate::Envelope) -> Finished,
) -> Finished {
    finish(envelope).with(|m| {
        m.at = at;
        if let Some(attempt) = &mut m.attempt {
            attempt.at = at;
        }
        if let Some(letter) = &mut m.letter {
            (letter.first_at, letter.last_at) = (at, at);
        }
    })
}

/// Until there is nothing left to do: a store may take small steps.
pub(super) async fn maintain(on: &Subject, now: DateTime<Utc>) {
    for _ in 0..1_000 {
        if on.store.maintain(&RETENTION, now).await.expect("housekeeping is done").trimmed == 0 {
            return;
        }
    }
    panic!("housekeeping never ends")
}

pub(super) async fn housekeeping_drops_what_is_older_than_retention(on: Subject) {
    let now = clock::now();
    let (young, old, ancient) = (now - DAY, now - 40 * DAY, now - 100 * DAY);
    let kept = [made_at(young, done), finished_at(young, &command_of("young"), done), made_at(young, retry)];
    let dropped = [made_at(old, done), finished_at(old, &command_of("old"), done), made_at(ancient, retry)];
    on.commit(&kept).await;
    on.commit(&dropped).await;
    let resolved = [made_at(young, dead), made_at(ancient, dead)];
    on.commit(&resolved).await;
    for message in &resolved {
        let said = Audit { at: message.at, ..audit("discard", &message.envelope.id) };
        let key = letter(message).key;
        let is_done = on.store.resolve_letter(&key, LetterState::Discarded, &[], &said).await;
        assert!(is_done.expect("it can be discarded"));
    }
    maintain(&on, now).await;
    for message in &kept {
        assert!(on.seen(message).await.is_some(), "{} is young", message.envelope.id);
    }
    for message in &dropped {
        assert_eq!(on.seen(message).await, None, "{} is old", message.envelope.id);
    }
    assert_eq!(on.history(&kept[2].envelope.id).await.attempts.len(), 1);
    assert_eq!(on.history(&dropped[2].envelope.id).await.attempts, []);
    let left: Vec<_> = on.letters(&DeadFilter::default()).await.into_iter().map(|l| l.key.id).collect();
    assert_eq!(left, [resolved[0].envelope.id.clone()]);
}

pub(super) async fn housekeeping_keeps_what_waits_for_somebody(on: Subject) {
    let now = clock::now();
    let ancient = now - 400 * DAY;
    let open = [made_at(ancient, dead), finished_at(ancient, &command_of("17"), quarantined)];
    on.commit(&open).await;
    let rows = rows(2);
    on.enqueue(None, &rows).await;
    let document = save("a", "1");
    on.store(&finished_at(ancient, &command_of("old"), done).with(|m| m.effects.documents.push(document.clone())))
        .await;
    maintain(&on, now).await;
    assert_eq!(on.letters(&DeadFilter::default()).await.len(), 2);
    assert_eq!(on.counts().await.outbox, 2);
    assert!(on.document(&document).await.is_some());
}

pub(super) async fn housekeeping_again_changes_nothing(on: Subject) {
    let now = clock::now();
    on.store(&made_at(now - 40 * DAY, done)).await;
    maintain(&on, now).await;
    let before = on.counts().await;
    let again = on.store.maintain(&RETENTION, now).await.expect("housekeeping is done");
    assert_eq!((again.trimmed, again.made.len(), again.dropped.len()), (0, 0, 0));
    assert!(again.ready_until.is_none_or(|until| until >= now + DAY), "the inbox is ready for tomorrow");
    assert_eq!(on.counts().await, before);
    on.store(&done(&command())).await;
}
