//! Cases: business operation keys, deduplicated beside source and ID.

use super::{Subject, samples::*};
use crate::{Envelope, clock, store::*};

/// A new message of the operation `key`.
fn asked(key: &str) -> Envelope {
    command().with(|e| e.idempotency_key = Some(key.into()))
}

/// With the hash over its canonical payload, type and version: `what` stands for those.
fn operation(message: Finished, what: u8) -> Finished {
    message.with(|m| {
        m.operation = Some([what; 32]);
        m.effects.documents.push(save(&m.envelope.id, "1"));
    })
}

async fn has_effect(on: &Subject, message: &Finished) -> bool {
    on.document(&message.effects.documents[0]).await.is_some()
}

pub(super) async fn a_retry_passes_its_own_operation_key(on: Subject) {
    let first = asked("pay 17");
    on.store(&operation(retry(&first), 1)).await;
    let second = operation(done(&copy_of(&first)), 1);
    on.store(&second).await;
    assert_eq!(on.fate(&second).await, Some((2, "done".into())));
    assert_eq!(on.commit_one(&operation(done(&copy_of(&first)), 1)).await, Verdict::Duplicate);
}

pub(super) async fn a_copy_with_another_id_is_a_duplicate(on: Subject) {
    for first in [done, retry] {
        let key = clock::uuid_v7().to_string();
        on.store(&operation(first(&asked(&key)), 1)).await;
        let delivery = row(asked(&key));
        on.enqueue(Some(on.worker), std::slice::from_ref(&delivery)).await;
        let copy = operation(done(&delivery.envelope), 1).with(|m| m.row = Some(delivery.seq));
        assert_eq!(on.commit_one(&copy).await, Verdict::Duplicate);
        assert!(!has_effect(&on, &copy).await);
        assert!(!on.is_in_outbox(&delivery).await, "its delivery is over");
        assert_eq!(on.fate(&copy).await, Some((1, "duplicate".into())), "its own ID is remembered");
        assert_eq!(on.commit_one(&copy).await, Verdict::Duplicate, "redelivered");
    }
}

pub(super) async fn a_copy_in_the_same_batch_is_a_duplicate(on: Subject) {
    let batch = [1, 1, 2].map(|what| operation(done(&asked("pay 17")), what));
    assert_eq!(on.commit(&batch).await, [Verdict::Stored, Verdict::Duplicate, Verdict::KeyConflict]);
    let mut effects = Vec::new();
    for message in &batch {
        effects.push(has_effect(&on, message).await);
    }
    assert_eq!(effects, [true, false, false]);
}

pub(super) async fn another_payload_under_an_operation_key_conflicts(on: Subject) {
    on.store(&operation(done(&asked("pay 17")), 1)).await;
    let delivery = row(asked("pay 17"));
    on.enqueue(Some(on.worker), std::slice::from_ref(&delivery)).await;
    let other = operation(done(&delivery.envelope), 2).with(|m| m.row = Some(delivery.seq));
    let beside = operation(done(&asked("pay 18")), 2);
    assert_eq!(on.commit(&[other.clone(), beside]).await, [Verdict::KeyConflict, Verdict::Stored]);
    assert_eq!(on.fate(&other).await, None, "nothing is written");
    assert!(!has_effect(&on, &other).await);
    assert!(on.is_in_outbox(&delivery).await);
}

/// The holder will never be done: the next one has the key, whatever its payload, and keeps it.
async fn is_taken_over(on: &Subject, key: &str, holder: &Finished) {
    let heir = operation(done(&asked(key)), 2);
    on.store(&heir).await;
    assert!(has_effect(on, &heir).await);
    assert_eq!(on.commit_one(&operation(done(&asked(key)), 2)).await, Verdict::Duplicate);
    assert_eq!(on.commit_one(&operation(done(&asked(key)), 1)).await, Verdict::KeyConflict);
    let replayed = operation(done(&copy_of(&holder.envelope)), 1);
    assert_eq!(on.commit_one(&replayed).await, Verdict::KeyConflict, "a replay of the old holder comes too late");
}

pub(super) async fn a_dead_message_gives_its_operation_key_up(on: Subject) {
    let holder = operation(dead(&asked("pay 17")), 1);
    on.store(&holder).await;
    is_taken_over(&on, "pay 17", &holder).await;
}

pub(super) async fn an_expired_message_gives_its_operation_key_up(on: Subject) {
    let holder = operation(done(&asked("pay 17")).with(|m| m.fate = Fate::Expired), 1);
    on.store(&holder).await;
    is_taken_over(&on, "pay 17", &holder).await;
}

pub(super) async fn a_discarded_message_gives_its_operation_key_up(on: Subject) {
    let holder = operation(quarantined(&asked("pay 17")), 1);
    on.store(&holder).await;
    let waiting = operation(done(&asked("pay 17")), 1);
    assert_eq!(on.commit_one(&waiting).await, Verdict::Duplicate, "what is quarantined may still be done");
    let key = letter(&holder).key;
    let said = audit("discard", &holder.envelope.id);
    assert!(on.store.resolve_letter(&key, LetterState::Discarded, &[], &said).await.expect("it can be discarded"));
    is_taken_over(&on, "pay 17", &holder).await;
}

pub(super) async fn operation_keys_of_two_consumers_are_apart(on: Subject) {
    let first = operation(done(&asked("pay 17")), 1);
    let second = operation(done(&asked("pay 17")), 2).with(|m| m.consumer = "analytics".into());
    assert_eq!(on.commit(&[first, second]).await, [Verdict::Stored; 2]);
}

pub(super) async fn what_is_accepted_holds_its_key_until_it_can_never_be_done(on: Subject) {
    let rows: Vec<OutboxRow> = ["pay 17", "pay 17", "pay 17", "pay 18"].map(|key| row(asked(key))).into();
    let hashes = [[1; 32], [1; 32], [2; 32], [1; 32]];
    let accept = async |places: &[usize]| {
        let asked: Vec<_> = places
            .iter()
            .map(|n| {
                let Envelope { source, id, idempotency_key, .. } = &*rows[*n].envelope;
                let key = idempotency_key.as_deref().unwrap_or_default();
                let operation = Some(AskedKey { consumer: CONSUMER, key, hash: &hashes[*n], source, id });
                Asked { rows: std::slice::from_ref(&rows[*n]), operation }
            })
            .collect();
        on.store.accept(Some(on.worker), &asked, clock::now()).await.expect("it is answered")
    };
    let id = |n: usize| rows[n].envelope.id.clone();
    // In one transaction and in one after another.
    let expected = [Accepted::New, Accepted::Known(id(0)), Accepted::Conflict(id(0)), Accepted::New];
    assert_eq!(accept(&[0, 1, 2, 3]).await, expected);
    assert_eq!(accept(&[2, 1]).await, [Accepted::Conflict(id(0)), Accepted::Known(id(0))]);
    assert_eq!(accept(&[0]).await, [Accepted::New], "an answer was lost: it asks again, and its row stands once");
    for (n, stands) in [true, false, false, true].into_iter().enumerate() {
        assert_eq!(on.is_in_outbox(&rows[n]).await, stands, "{n}");
    }
    // Its own handler finds the key held by itself; whoever comes another way, by another.
    on.store(&operation(retry(&rows[0].envelope), 1)).await;
    assert_eq!(on.commit_one(&operation(done(&asked("pay 17")), 1)).await, Verdict::Duplicate);
    assert_eq!(on.commit_one(&operation(done(&asked("pay 17")), 3)).await, Verdict::KeyConflict);
    on.store(&operation(dead(&copy_of(&rows[0].envelope)), 1)).await;
    assert_eq!(accept(&[2]).await, [Accepted::New], "the key is free again");
    assert_eq!(accept(&[1]).await, [Accepted::Conflict(id(2))]);
}
