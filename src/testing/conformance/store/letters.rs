//! Cases: dead letters and what operators do with them.

use super::{Subject, samples::*};
use crate::{clock, store::*};
use std::sync::Arc;

/// A dead message whose letter was changed a little.
fn dead_with(change: impl FnOnce(&mut DeadLetter)) -> Finished {
    dead(&command()).with(|m| m.letter = m.letter.take().map(|l| l.with(change).into()))
}

/// Bytes that are no message: no inbox row, a key made from channel and hash.
fn bytes(payload: &[u8]) -> Finished {
    let envelope = command().with(|e| {
        e.data = payload.to_vec().into();
        e.source = CHANNEL.into();
    });
    let hash = envelope.payload_hash();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    dead(&envelope.with(|e| e.id = format!("sha256:{hex}"))).with(|m| {
        m.fenced = false;
        m.attempt = None;
        m.consumer = Arc::from(CHANNEL);
        let letter = letter(m).with(|l| {
            l.reason = Reason::Undecodable.word().into();
            (l.ty, l.version) = (String::new(), 0);
        });
        m.letter = Some(letter.into());
    })
}

fn only(states: &[LetterState]) -> DeadFilter {
    DeadFilter { states: states.to_vec(), ..DeadFilter::default() }
}

pub(super) async fn a_letter_comes_back_as_it_was_written(on: Subject) {
    for message in [dead(&command()), quarantined(&command_of("17")), dead(&copy_of(&command()))] {
        on.store(&message).await;
        let id = Some(message.envelope.id.clone());
        let found = on.letters(&DeadFilter { id, ..DeadFilter::default() }).await;
        assert_eq!(found, Vec::from_iter(message.letter.map(|letter| *letter)));
    }
}

pub(super) async fn any_bytes_and_any_error_fit_in_a_letter(on: Subject) {
    let all: Vec<u8> = (0..=255).collect();
    for payload in [&all[..], b"", b"\0"] {
        let message = bytes(payload).with(|m| {
            if let Some(l) = m.letter.as_deref_mut() {
                // A letter is the last resort: there is nowhere to send what it does not take.
                l.error = "unexpected byte \0 in Škoda".into();
                l.attributes = r#"{"x-odd":"a\u0000b 🚗","n":"\ud800"}"#.into();
            }
        });
        on.store(&message).await;
        let id = Some(message.envelope.id.clone());
        let found = on.letters(&DeadFilter { id, ..DeadFilter::default() }).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].payload, payload, "byte for byte");
        assert!(found[0].error.contains("in Škoda"), "{}", found[0].error);
        assert!(found[0].attributes.contains("x-odd"), "{}", found[0].attributes);
    }
}

pub(super) async fn letters_of_bytes_without_a_key_count_up(on: Subject) {
    let first = bytes(b"garbage");
    let later = |n: u32| {
        first.clone().with(|m| {
            m.at += n * SECOND;
            m.letter = m.letter.take().map(|l| l.with(|l| (l.first_at, l.last_at) = (m.at, m.at)).into());
        })
    };
    for n in 0..3 {
        on.store(&later(n)).await;
    }
    on.store(&bytes(b"other garbage")).await;
    let found = on.letters(&DeadFilter { id: Some(first.envelope.id.clone()), ..DeadFilter::default() }).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].count, 3);
    assert_eq!((found[0].first_at, found[0].last_at), (first.at, first.at + 2 * SECOND));
    assert_eq!(on.counts().await, Counts { dead: 2, ..Counts::default() });
}

pub(super) async fn letters_are_filtered_by_each_field(on: Subject) {
    let now = clock::now();
    let plain = dead_with(|_| {});
    let channel = dead_with(|l| l.channel = "other.commands".into());
    let ty = dead_with(|l| l.ty = "conformance.Other".into());
    let reason = dead_with(|l| l.reason = Reason::Exhausted.word().into());
    let consumer = dead(&command()).with(|m| {
        m.consumer = "analytics".into();
        m.letter = Some(letter(m).into());
    });
    let state = quarantined(&command());
    let old = dead_with(|l| (l.first_at, l.last_at) = (now - 3 * DAY, now - 2 * DAY));
    let all = [&plain, &channel, &ty, &reason, &consumer, &state, &old];
    on.commit(&all.map(Clone::clone)).await;

    let find = async |change: &(dyn Fn(&mut DeadFilter) + Sync)| {
        let mut filter = DeadFilter::default();
        change(&mut filter);
        on.letters(&filter).await.into_iter().map(|l| l.key.id).collect::<Vec<_>>()
    };
    let is = |message: &Finished| vec![message.envelope.id.clone()];
    assert_eq!(find(&|_| {}).await.len(), 7);
    assert_eq!(find(&|f| f.channel = Some("other.commands".into())).await, is(&channel));
    assert_eq!(find(&|f| f.ty = Some("conformance.Other".into())).await, is(&ty));
    assert_eq!(find(&|f| f.reason = Some("exhausted".into())).await, is(&reason));
    assert_eq!(find(&|f| f.consumer = Some("analytics".into())).await, is(&consumer));
    assert_eq!(find(&|f| f.id = Some(plain.envelope.id.clone())).await, is(&plain));
    assert_eq!(find(&|f| f.states = vec![LetterState::Quarantined]).await, is(&state));
    assert_eq!(find(&|f| f.states = vec![LetterState::Replayed, LetterState::Discarded]).await, Vec::<String>::new());
    assert_eq!(find(&|f| f.states = vec![LetterState::Dead, LetterState::Quarantined]).await.len(), 7);
    assert_eq!(find(&|f| f.until = Some(now - 2 * DAY)).await, is(&old), "at or before");
    assert_eq!(find(&|f| f.until = Some(now - 2 * DAY - SECOND)).await, Vec::<String>::new());
    assert_eq!(find(&|f| f.since = Some(now - DAY)).await.len(), 6);
    assert_eq!(find(&|f| f.since = Some(now - 2 * DAY)).await.len(), 7, "at or after");
    let both = |f: &mut DeadFilter| {
        f.states = vec![LetterState::Dead];
        f.channel = Some(CHANNEL.into());
        f.consumer = Some(CONSUMER.into());
        f.since = Some(now - DAY);
    };
    assert_eq!(find(&both).await.len(), 3, "everything given must hold");
}

pub(super) async fn letters_come_newest_first_and_bounded(on: Subject) {
    let now = clock::now();
    for days in [3, 1, 4, 2, 5] {
        on.store(&dead_with(|l| (l.first_at, l.last_at) = (now - 9 * DAY, now - days * DAY))).await;
    }
    let found = on.store.dead_letters(&DeadFilter::default(), 3).await.expect("letters can be read");
    let times: Vec<_> = found.iter().map(|letter| letter.last_at).collect();
    assert_eq!(times, [1, 2, 3].map(|days| now - days * DAY));
    let heads = on.store.letter_heads(&DeadFilter::default(), 3).await.expect("letters can be listed");
    assert_eq!(heads, found.iter().map(DeadLetter::head).collect::<Vec<_>>());
}

pub(super) async fn resolving_a_letter_writes_its_rows_and_who_did_it(on: Subject) {
    let (died, waits) = (dead(&command()), quarantined(&command()));
    on.commit(&[died.clone(), waits.clone()]).await;
    for (message, action) in [(&died, "replay"), (&waits, "redrive")] {
        let again = row(copy_of(&message.envelope)).with(|r| r.purpose = Purpose::Replay);
        let said = audit(action, &message.envelope.id);
        let rows = std::slice::from_ref(&again);
        let key = letter(message).key;
        let is_done = on.store.resolve_letter(&key, LetterState::Replayed, rows, &said).await;
        assert!(is_done.expect("it can be resolved"));
        let history = on.history(&message.envelope.id).await;
        assert_eq!(history.letters[0].state, LetterState::Replayed);
        assert_eq!(history.audit, [said]);
        assert_eq!(history.outbox.len(), 1);
        assert_eq!(history.outbox[0].row, again);
        assert_eq!(history.outbox[0].owner, None, "a sweep takes it");
    }
    assert_eq!(on.letters(&only(&[LetterState::Replayed])).await.len(), 2);
}

pub(super) async fn a_letter_is_resolved_once(on: Subject) {
    let message = dead(&command());
    on.store(&message).await;
    let key = letter(&message).key;
    let resolve = async |key: &LetterKey, to, action| {
        let rows = [row(copy_of(&message.envelope))];
        let said = audit(action, &message.envelope.id);
        on.store.resolve_letter(key, to, &rows, &said).await.expect("it can be asked")
    };
    assert!(resolve(&key, LetterState::Discarded, "discard").await);
    assert!(!resolve(&key, LetterState::Discarded, "discard").await);
    assert!(!resolve(&key, LetterState::Replayed, "replay").await);
    let other = LetterKey { attempt: 9, ..key.clone() };
    assert!(!resolve(&other, LetterState::Replayed, "replay").await, "no such letter");
    let other = LetterKey { payload_hash: [1; 32], ..key };
    assert!(!resolve(&other, LetterState::Replayed, "replay").await, "no such letter");
    let history = on.history(&message.envelope.id).await;
    assert_eq!(history.letters[0].state, LetterState::Discarded);
    assert_eq!((history.audit.len(), history.outbox.len()), (1, 1), "what was refused has left nothing");
}

pub(super) async fn what_was_changed_in_a_letter_is_in_the_audit(on: Subject) {
    let message = dead(&command());
    on.store(&message).await;
    // Bytes as they came, which need be no text.
    let bodies = Bodies { before: vec![0, 159, 146, 150], after: br#"{"n":2}"#.to_vec() };
    let said = Audit { bodies: Some(Box::new(bodies)), ..audit("edit", &message.envelope.id) };
    let new = [row(command())];
    let is_done = on.store.resolve_letter(&letter(&message).key, LetterState::Discarded, &new, &said).await;
    assert!(is_done.expect("it can be replaced"));
    let alone = Audit { bodies: said.bodies.clone(), ..audit("edit", "alone") };
    on.store.record_action(&alone).await.expect("it can be recorded");
    assert_eq!(on.history(&message.envelope.id).await.audit, std::slice::from_ref(&said));
    let trail = on.store.audit_trail(&AuditFilter::default(), 9).await.expect("the store answers");
    assert_eq!(trail, [alone, said]);
    assert_eq!(on.store.recorded("edit", 9).await.expect("the store answers").len(), 2);
    assert!(on.is_in_outbox(&new[0]).await);
}

pub(super) async fn a_discarded_letter_that_comes_again_is_open_again(on: Subject) {
    let message = bytes(b"garbage");
    on.store(&message).await;
    let key = &message.letter.as_ref().expect("it has a letter").key;
    let said = audit("discard", &key.id);
    assert!(on.store.resolve_letter(key, LetterState::Discarded, &[], &said).await.expect("it can be discarded"));
    assert_eq!(on.letters(&only(&[LetterState::Dead])).await, []);
    on.store(&message).await;
    let open = on.letters(&only(&[LetterState::Dead])).await;
    assert_eq!(open.len(), 1, "a new death is somebody's business again");
    assert_eq!(open[0].count, 2);
}
