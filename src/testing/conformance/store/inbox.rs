//! Cases: the inbox and its attempt fence.

use super::{Subject, samples::*};
use crate::{Envelope, clock, store::*};

/// A message with one effect of each kind that every store has.
fn eventful(envelope: &Envelope) -> Finished {
    done(envelope).with(|m| {
        m.effects.documents.push(save(&envelope.id, r#"{"made":true}"#));
        m.effects.outbox.push(event(envelope));
    })
}

/// How many documents and outbox rows `message` has left in the store.
async fn effects(on: &Subject, message: &Finished) -> (usize, usize) {
    let mut found = (0, 0);
    for write in &message.effects.documents {
        found.0 += usize::from(on.document(write).await.is_some());
    }
    for row in &message.effects.outbox {
        found.1 += usize::from(on.is_in_outbox(row).await);
    }
    found
}

pub(super) async fn a_new_message_is_stored_with_all_its_effects(on: Subject) {
    let message = eventful(&command());
    assert_eq!(on.fate(&message).await, None);
    on.store(&message).await;
    let seen = on.seen(&message).await.expect("the inbox knows it");
    assert_eq!((seen.attempt, seen.fate.as_str()), (1, "done"));
    assert_eq!(seen.payload_hash, message.payload_hash);
    assert_eq!(effects(&on, &message).await, (1, 1));
    let document = on.document(&message.effects.documents[0]).await.expect("the document is there");
    let body: serde_json::Value = serde_json::from_str(&document.body).expect("it is JSON");
    assert_eq!(body, serde_json::json!({ "made": true }));
    assert_eq!((document.version, document.schema), (1, 1));
    assert_eq!(on.outbox(&message.effects.outbox[0]).await[0].owner, Some(on.worker), "its worker publishes it");
}

pub(super) async fn a_duplicate_changes_nothing_but_its_own_outbox_row(on: Subject) {
    let envelope = command();
    on.store(&done(&envelope)).await;
    let before = on.history(&envelope.id).await.inbox;
    let delivery = row(envelope.clone());
    on.enqueue(Some(on.worker), std::slice::from_ref(&delivery)).await;
    let copy = eventful(&envelope).with(|m| {
        m.row = Some(delivery.seq);
        m.at += SECOND;
    });
    assert_eq!(on.commit_one(&copy).await, Verdict::Duplicate);
    assert_eq!(effects(&on, &copy).await, (0, 0));
    assert!(!on.is_in_outbox(&delivery).await, "the delivery is over");
    assert_eq!(on.history(&envelope.id).await.inbox, before);
}

pub(super) async fn done_is_final_whatever_the_attempt(on: Subject) {
    let envelope = command();
    on.store(&done(&envelope)).await;
    for attempt in [1, 2, 9] {
        let copy = eventful(&envelope.clone().with(|e| e.hop.attempt = attempt));
        assert_eq!(on.commit_one(&copy).await, Verdict::Duplicate, "attempt {attempt}");
        assert_eq!(effects(&on, &copy).await, (0, 0), "attempt {attempt}");
    }
    assert_eq!(on.fate(&done(&envelope)).await, Some((1, "done".into())));
}

pub(super) async fn a_later_attempt_of_a_retry_is_fresh_and_the_same_attempt_a_duplicate(on: Subject) {
    for (unfinished, word) in
        [(retry as fn(&Envelope) -> Finished, "retry"), (dead, "dead"), (quarantined, "quarantined")]
    {
        let first = command();
        on.store(&unfinished(&first)).await;
        assert_eq!(on.fate(&done(&first)).await, Some((1, word.into())));
        assert_eq!(on.commit_one(&eventful(&first)).await, Verdict::Duplicate, "the same attempt of {word}");
        let (second, third) = (copy_of(&first), copy_of(&copy_of(&first)));
        on.store(&retry(&third)).await;
        assert_eq!(on.commit_one(&eventful(&second)).await, Verdict::Duplicate, "a late copy of {word}");
        on.store(&eventful(&copy_of(&third))).await;
        assert_eq!(on.fate(&done(&first)).await, Some((4, "done".into())));
    }
}

pub(super) async fn the_same_id_with_five_times_has_one_effect(on: Subject) {
    for envelope in [command(), command_of("order 17")] {
        let now = clock::now();
        let times = [Some(now), Some(now - DAY), Some(now + SECOND), Some(now - 30 * DAY), None];
        let mut verdicts = Vec::new();
        let mut effects_left = (0, 0);
        for time in times {
            // Each writes a document and a row of its own, so that two effects would be seen as two.
            let copy = eventful(&envelope.clone().with(|e| e.time = time))
                .with(|m| m.effects.documents[0].id = format!("{}@{time:?}", envelope.id));
            verdicts.push(on.commit_one(&copy).await);
            let (documents, rows) = effects(&on, &copy).await;
            effects_left = (effects_left.0 + documents, effects_left.1 + rows);
        }
        assert_eq!(verdicts[0], Verdict::Stored);
        assert_eq!(verdicts[1..], [Verdict::Duplicate; 4]);
        assert_eq!(effects_left, (1, 1));
    }
}

pub(super) async fn the_same_id_with_another_payload_is_reused_and_nothing_is_written(on: Subject) {
    for first in [done, retry, dead] {
        let envelope = command();
        on.store(&first(&envelope)).await;
        let before = on.history(&envelope.id).await;
        for attempt in [1, 2] {
            let other = envelope.clone().with(|e| {
                e.data = r#"{"n":2}"#.into();
                e.hop.attempt = attempt;
            });
            let delivery = row(other.clone());
            on.enqueue(Some(on.worker), std::slice::from_ref(&delivery)).await;
            let other = eventful(&other).with(|m| m.row = Some(delivery.seq));
            assert_eq!(on.commit_one(&other).await, Verdict::IdReused, "attempt {attempt}");
            assert_eq!(effects(&on, &other).await, (0, 0));
            assert!(on.is_in_outbox(&delivery).await, "not even its own row is gone: it has no fate yet");
            on.store.confirm(&[delivery.seq]).await.expect("rows can be confirmed");
        }
        let after = on.history(&envelope.id).await;
        assert_eq!((after.inbox, after.letters), (before.inbox, before.letters));
    }
}

pub(super) async fn the_same_id_of_another_source_or_consumer_is_another_message(on: Subject) {
    for envelope in [command(), command_of("17")] {
        let elsewhere = envelope.clone().with(|e| e.source = "/elsewhere".into());
        let twin = eventful(&envelope).with(|m| m.consumer = "analytics".into());
        let batch = [eventful(&envelope), eventful(&elsewhere), twin];
        assert_eq!(on.commit(&batch).await, [Verdict::Stored; 3]);
        assert_eq!(on.commit(&batch).await, [Verdict::Duplicate; 3]);
    }
}

pub(super) async fn undated_ids_are_deduplicated(on: Subject) {
    let v4 = uuid::Uuid::from_u128(0x1f0e_2d3c_4b5a_4697_8887_9695_a4b3_c2d1).to_string();
    for id in ["17", "order 17", v4.as_str(), "019bdf30-7c1f-7000-8000"] {
        let message = eventful(&command_of(id));
        on.store(&message).await;
        let copy = eventful(&command_of(id)).with(|m| m.effects.documents[0].id = format!("second {id}"));
        assert_eq!(on.commit_one(&copy).await, Verdict::Duplicate, "{id}");
        assert_eq!(effects(&on, &copy).await, (0, 0), "{id}");
    }
}

pub(super) async fn ids_of_every_shape_are_told_apart(on: Subject) {
    let v7 = clock::uuid_v7().to_string();
    let now = clock::now();
    let ids = [
        v7.to_uppercase(),
        v7,
        "x".repeat(200),
        "ü".repeat(100),
        "a'; drop table inbox; --".into(),
        r#"a"b\c{d},e"#.into(),
        "NULL".into(),
        "null".into(),
        "\u{1}\t\n".into(),
        "é".into(),        // one character …
        "e\u{301}".into(), // … and two that look the same
        " 17".into(),
        "17 ".into(),
        clock::uuid_v7_at(now - 40 * DAY).to_string(),
        clock::uuid_v7_at(now + DAY / 2).to_string(),
    ];
    let batch: Vec<_> = ids.iter().map(|id| eventful(&command_of(id))).collect();
    assert_eq!(on.commit(&batch).await, vec![Verdict::Stored; ids.len()]);
    assert_eq!(on.commit(&batch).await, vec![Verdict::Duplicate; ids.len()]);
    for message in &batch {
        let history = on.history(&message.envelope.id).await;
        let found: Vec<_> = history.inbox.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(found, [message.envelope.id.as_str()]);
    }
}

pub(super) async fn the_inbox_answers_by_position(on: Subject) {
    let (finished, failed, unknown) = (done(&command()), retry(&command_of("17")), done(&command()));
    on.commit(&[finished.clone(), failed.clone()]).await;
    let keys = [unknown.key(), failed.key(), finished.key(), unknown.key(), failed.key()];
    let seen = on.store.seen(&keys).await.expect("the inbox answers");
    let fates: Vec<_> = seen.iter().map(|s| s.as_ref().map(|s| s.fate.as_str())).collect();
    assert_eq!(fates, [None, Some("retry"), Some("done"), None, Some("retry")]);
    let covers = |at: usize, attempt| seen[at].as_ref().is_some_and(|s| s.covers(attempt));
    assert!(covers(1, 1) && !covers(1, 2), "a retry covers its attempt and no later one");
    assert!(covers(2, 1) && covers(2, 99), "done covers everything");
    assert_eq!(on.store.seen(&[]).await.expect("nothing can be asked"), []);
}

pub(super) async fn verdicts_come_by_position(on: Subject) {
    let id = |i: u32| if i.is_multiple_of(2) { format!("order {:03}", i * 7919 % 101) } else { command().id };
    let messages: Vec<_> = (0..40).map(|i| eventful(&command_of(&id(i)))).collect();
    let known: Vec<_> = messages.iter().step_by(3).cloned().collect();
    on.commit(&known).await;
    // Written backwards, so that no store can answer in its own order by luck.
    let mut batch = messages.clone();
    batch.reverse();
    let verdicts = on.commit(&batch).await;
    for (message, verdict) in batch.iter().zip(verdicts) {
        let is_known = known.iter().any(|k| k.envelope.id == message.envelope.id);
        let expected = if is_known { Verdict::Duplicate } else { Verdict::Stored };
        assert_eq!(verdict, expected, "{}", message.envelope.id);
    }
    assert_eq!(on.counts().await.done, 40);
}

pub(super) async fn a_batch_that_comes_twice_has_one_effect(on: Subject) {
    let batch: Vec<_> = (0..5).map(|_| eventful(&command())).collect();
    on.commit(&batch).await;
    let before = on.counts().await;
    // As a committer does that did not hear the answer.
    assert_eq!(on.commit(&batch).await, [Verdict::Duplicate; 5]);
    assert_eq!(on.counts().await, before);
    assert_eq!((before.done, before.outbox), (5, 5));
}

pub(super) async fn a_large_batch_is_stored_whole(on: Subject) {
    let batch: Vec<_> = (0..1_000)
        .map(|i| {
            let envelope = if i % 2 == 0 { command() } else { command_of(&format!("order {i}")) };
            eventful(&envelope).with(|m| m.effects.outbox.extend((0..3).map(|_| event(&envelope))))
        })
        .collect();
    assert_eq!(on.commit(&batch).await, vec![Verdict::Stored; 1_000]);
    assert_eq!(on.counts().await, Counts { done: 1_000, outbox: 4_000, ..Counts::default() });
    assert_eq!(on.commit(&batch).await, vec![Verdict::Duplicate; 1_000]);
    let rows: Vec<_> = batch.iter().flat_map(|message| &message.effects.outbox).map(|row| row.seq).collect();
    on.store.confirm(&rows).await.expect("rows can be confirmed");
    assert_eq!(on.counts().await.outbox, 0);
}

pub(super) async fn an_unfenced_message_is_stored_without_the_inbox(on: Subject) {
    let delivery = row(command());
    on.enqueue(Some(on.worker), std::slice::from_ref(&delivery)).await;
    let message = done(&command()).with(|m| {
        m.fenced = false;
        m.fate = Fate::Ignored;
        m.row = Some(delivery.seq);
    });
    on.store(&message).await;
    on.store(&message).await;
    assert_eq!(on.fate(&message).await, None);
    assert!(!on.is_in_outbox(&delivery).await);
}

pub(super) async fn an_empty_batch_takes_what_is_confirmed(on: Subject) {
    let rows = rows(3);
    on.enqueue(Some(on.worker), &rows).await;
    let verdicts = on.try_commit(&[], &[rows[0].seq, rows[2].seq]).await.expect("it commits");
    assert_eq!(verdicts, []);
    assert_eq!(on.counts().await.outbox, 1);
    assert!(on.is_in_outbox(&rows[1]).await);
}
