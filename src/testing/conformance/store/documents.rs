//! Cases: documents, their guards and their last writers.

use super::{Subject, samples::*};
use crate::store::*;

async fn body(on: &Subject, id: &str) -> Option<serde_json::Value> {
    let document = on.document(&save(id, "")).await?;
    Some(serde_json::from_str(&document.body).expect("a document is JSON"))
}

async fn version(on: &Subject, id: &str) -> i64 {
    on.document(&save(id, "")).await.expect("the document is there").version
}

pub(super) async fn of_two_guarded_writes_in_a_batch_one_conflicts(on: Subject) {
    on.store(&writing(&save("a", "0"))).await;
    let expect = Expect::Version(version(&on, "a").await);
    let batch = [writing(&guarded("a", "1", expect)), writing(&guarded("a", "2", expect))];
    assert_eq!(on.commit(&batch).await, [Verdict::Stored, Verdict::Conflict]);
    assert_eq!(body(&on, "a").await, Some(1.into()));
    assert_eq!(on.fate(&batch[0]).await, Some((1, "done".into())));
    assert_eq!(on.fate(&batch[1]).await, None);
}

pub(super) async fn of_two_first_writes_in_a_batch_one_conflicts(on: Subject) {
    let batch = [writing(&guarded("a", "1", Expect::Absent)), writing(&guarded("a", "2", Expect::Absent))];
    assert_eq!(on.commit(&batch).await, [Verdict::Stored, Verdict::Conflict]);
    assert_eq!(body(&on, "a").await, Some(1.into()));
}

pub(super) async fn one_conflict_in_a_batch_of_three_leaves_the_other_two_stored(on: Subject) {
    on.store(&writing(&save("a", "0"))).await;
    let stale = Expect::Version(version(&on, "a").await + 1);
    let batch = [
        writing(&save("b", "1")).with(|m| m.effects.outbox.push(event(&m.envelope))),
        writing(&guarded("a", "1", stale)).with(|m| m.effects.outbox.push(event(&m.envelope))),
        writing(&guarded("c", "1", Expect::Absent)).with(|m| m.effects.outbox.push(event(&m.envelope))),
    ];
    assert_eq!(on.commit(&batch).await, [Verdict::Stored, Verdict::Conflict, Verdict::Stored]);
    for (message, is_there) in batch.iter().zip([true, false, true]) {
        assert_eq!(on.seen(message).await.is_some(), is_there);
        assert_eq!(on.is_in_outbox(&message.effects.outbox[0]).await, is_there);
    }
    assert_eq!(body(&on, "a").await, Some(0.into()));
    assert!(body(&on, "b").await.is_some() && body(&on, "c").await.is_some());
}

pub(super) async fn a_conflict_writes_nothing_and_keeps_its_delivery(on: Subject) {
    let envelope = command();
    let delivery = row(envelope.clone());
    on.enqueue(Some(on.worker), std::slice::from_ref(&delivery)).await;
    let message = retry(&envelope).with(|m| {
        m.effects.documents.push(guarded("gone", "1", Expect::Version(3)));
        m.effects.documents.push(save("beside", "1"));
        m.row = Some(delivery.seq);
        m.claimed = true;
    });
    let keys = [message.key()];
    on.store.claim(&keys, on.worker, message.at).await.expect("it can be claimed");
    assert_eq!(on.commit_one(&message).await, Verdict::Conflict);
    let history = on.history(&envelope.id).await;
    assert_eq!(history.inbox, []);
    assert_eq!(history.attempts, []);
    assert_eq!(seqs(history.outbox.iter().map(|entry| &entry.row)), [delivery.seq], "its delivery, and no copy");
    assert_eq!(body(&on, "beside").await, None);
    assert_eq!(on.store.claims(&keys).await.expect("claims can be read"), [1], "the claim stands");
}

pub(super) async fn a_guard_for_absence_conflicts_with_a_document(on: Subject) {
    let first = guarded("a", "1", Expect::Absent);
    on.store(&writing(&first)).await;
    assert_eq!(on.commit_one(&writing(&first)).await, Verdict::Conflict);
    let missing = writing(&guarded("b", "1", Expect::Version(1)));
    assert_eq!(on.commit_one(&missing).await, Verdict::Conflict, "nor is a version found where nothing is");
}

pub(super) async fn the_last_writer_in_the_batch_wins(on: Subject) {
    for round in 0..2 {
        let batch: Vec<_> = (0..9).map(|i| writing(&save("a", &(round * 10 + i).to_string()))).collect();
        assert_eq!(on.commit(&batch).await, [Verdict::Stored; 9]);
        assert_eq!(body(&on, "a").await, Some((round * 10 + 8).into()));
    }
    let expect = Expect::Version(version(&on, "a").await);
    let batch = [writing(&guarded("a", "100", expect)), writing(&save("a", "101"))];
    assert_eq!(on.commit(&batch).await, [Verdict::Stored; 2]);
    assert_eq!(body(&on, "a").await, Some(101.into()));
}

pub(super) async fn a_guarded_write_never_hides_an_unguarded_one_of_its_batch(on: Subject) {
    on.store(&writing(&save("a", "0"))).await;
    let expect = Expect::Version(version(&on, "a").await);
    let batch = [writing(&save("a", "1")), writing(&guarded("a", "2", expect))];
    // The second was computed from 0. It may lose (a conflict) or be put before the first, but 1 must be what is left.
    let verdicts = on.commit(&batch).await;
    assert_eq!(verdicts[0], Verdict::Stored);
    assert_eq!(body(&on, "a").await, Some(1.into()), "{verdicts:?}");
}

pub(super) async fn every_write_raises_the_version(on: Subject) {
    let mut last = 0;
    for i in 0..4 {
        let expect = if i == 0 { Expect::Absent } else { Expect::Version(last) };
        on.store(&writing(&guarded("a", &i.to_string(), expect))).await;
        let now = version(&on, "a").await;
        assert!(now > last, "{now} after {last}");
        last = now;
    }
    on.store(&writing(&save("a", "9"))).await;
    assert!(version(&on, "a").await > last);
}

pub(super) async fn documents_keep_every_character(on: Subject) {
    let long = "long ".repeat(200_000);
    let texts =
        ["Škoda 東京 🚗", "quote \" and \\ and \\u0000", "line\nbreak\ttab", "'; drop table document; --", "", &long];
    for (i, text) in texts.iter().enumerate() {
        let id = format!("id of {}", text.chars().take(30).collect::<String>());
        let value = serde_json::json!({ "text": text, "n": i, "float": 0.1, "big": 9_007_199_254_740_993_i64 });
        let write = DocumentWrite { schema: 3, ..save(&id, &value.to_string()) };
        on.store(&writing(&write)).await;
        let stored = on.document(&write).await.expect("the document is there");
        assert_eq!(stored.schema, 3);
        let read: serde_json::Value = serde_json::from_str(&stored.body).expect("it is JSON");
        assert_eq!(read, value);
    }
}

pub(super) async fn collections_are_apart(on: Subject) {
    let other = DocumentWrite { collection: "conformance.other", ..save("a", "2") };
    let message = writing(&save("a", "1")).with(|m| m.effects.documents.push(other.clone()));
    on.store(&message).await;
    assert_eq!(body(&on, "a").await, Some(1.into()));
    assert_eq!(on.document(&other).await.map(|d| d.body), Some("2".into()));
    assert_eq!(on.document(&DocumentWrite { collection: "conformance.third", ..save("a", "") }).await, None);
}
