//! Cases: the outbox, from the commit to the confirm.

use super::{Subject, samples::*};
use crate::{
    Envelope, clock,
    message::{Hop, wire},
    store::*,
};
use std::sync::Arc;

/// A message with every attribute.
fn full() -> Envelope {
    let now = clock::now();
    Envelope {
        subject: Some("car/17 Škoda".into()),
        version: 3,
        actor: Some("ada".into()),
        correlation_id: Some("correlation".into()),
        causation_id: Some("cause".into()),
        partition_key: Some("key".into()),
        idempotency_key: Some("pay 17".into()),
        expires: Some(now + DAY),
        reply_to: Some("replies".into()),
        data_ref: Some("https://example.org/large".into()),
        content_type: Some("application/json; charset=utf-8".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: Some("vendor=1".into()),
        extensions: [("tenant".to_owned(), "Größe \"1\"".to_owned())].into(),
        hop: Hop {
            attempt: 4,
            failures: 2,
            first_failure: Some(now),
            due: Some(now + DAY),
            reason: Some("failure".into()),
            origin: Some(CHANNEL.into()),
            worker: Some("w".into()),
            build: Some(build_id().into()),
            replay: Some("019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77".into()),
        },
        ..Envelope::new("conformance.Full", "/conformance?x=ü", vec![0, 159, 146, 150, 0])
    }
}

pub(super) async fn a_row_comes_back_as_it_was_written(on: Subject) {
    wire::check(&full()).expect("it may travel");
    let plain = row(command().with(|e| (e.time, e.content_type) = (None, None)));
    let written = [
        row(full()),
        row(full()).with(|r| r.purpose = Purpose::Replay),
        row(full()).with(|r| (r.destination, r.purpose) = (Destination::Dead("cars.shop".into()), Purpose::Dead)),
        row(full()).with(|r| r.destination = Destination::Subscription("cars.shop:1".into())),
        plain.with(|r| r.purpose = Purpose::Reply),
    ];
    let message = done(&command()).with(|m| m.effects.outbox.extend_from_slice(&written[..3]));
    on.store(&message).await;
    on.enqueue(None, &written[3..]).await;
    for row in &written {
        let found = on.outbox(row).await;
        assert_eq!(found.len(), 1);
        assert_eq!(&found[0].row, row);
        assert_eq!((found[0].tries, found[0].problem.as_deref()), (0, None));
    }
    let now = clock::now();
    let mut swept = on.store.sweep(on.worker, now, now - 10 * SECOND, 10).await.expect("it sweeps");
    swept.reverse(); // `plain` was made first
    assert_eq!(swept.into_iter().map(|s| s.row).collect::<Vec<_>>(), written[3..]);
}

pub(super) async fn a_retry_copy_waits_for_its_time_without_an_owner(on: Subject) {
    let message = retry(&command());
    on.store(&message).await;
    let copy = &message.effects.outbox[0];
    let found = on.outbox(copy).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].owner, None);
    assert_eq!(&found[0].row, copy);
    assert_eq!(found[0].row.envelope.hop.attempt, 2);
    // An owner at the door does not change that.
    let waiting = row(command()).with(|r| r.due = Some(clock::now() + DAY));
    on.enqueue(Some(on.worker), std::slice::from_ref(&waiting)).await;
    assert_eq!(on.outbox(&waiting).await[0].owner, None);
}

pub(super) async fn rows_written_twice_are_there_once(on: Subject) {
    let rows = rows(3);
    for _ in 0..2 {
        on.enqueue(None, &rows).await;
    }
    assert_eq!(on.counts().await.outbox, 3);
    on.enqueue(None, &[]).await;
}

pub(super) async fn spilled_rows_are_paged_in_sequence(on: Subject) {
    let (here, elsewhere) = (Destination::Channel("here".into()), Destination::Subscription("here".into()));
    let rows: Vec<_> = (0..20)
        .map(|i| row(command()).with(|r| r.destination = if i % 2 == 0 { here.clone() } else { elsewhere.clone() }))
        .collect();
    let mut shuffled = rows.clone();
    shuffled.sort_by_key(|row| row.seq.as_u128().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    on.enqueue(Some(on.worker), &shuffled).await;
    on.enqueue(None, &[row(command()).with(|r| r.destination = here.clone())]).await;
    on.enqueue(Some(clock::uuid_v7()), &[row(command()).with(|r| r.destination = here.clone())]).await;
    let (mut found, mut after) = (Vec::new(), None);
    for expected in [3, 3, 3, 1, 0] {
        let page = on.store.spilled(on.worker, &here, after, 3).await.expect("pages can be read");
        assert_eq!(page.len(), expected);
        after = page.last().map(|row| row.seq);
        found.extend(page);
    }
    assert_eq!(seqs(&found), seqs(rows.iter().step_by(2)));
}

pub(super) async fn confirming_twice_is_fine(on: Subject) {
    let rows = rows(3);
    on.enqueue(Some(on.worker), &rows).await;
    for _ in 0..2 {
        on.store.confirm(&[rows[0].seq, rows[1].seq, clock::uuid_v7()]).await.expect("rows can be confirmed");
    }
    on.store.confirm(&[]).await.expect("none can be confirmed");
    assert_eq!(on.counts().await.outbox, 1);
    assert!(on.is_in_outbox(&rows[2]).await);
}

pub(super) async fn confirmed_rows_leave_with_the_next_commit(on: Subject) {
    let rows = rows(4);
    on.enqueue(Some(on.worker), &rows).await;
    // Confirmed by the broker, and the delivery itself: the same row twice.
    let message = done(&rows[3].envelope).with(|m| m.row = Some(rows[3].seq));
    let confirmed = [rows[1].seq, rows[3].seq, rows[1].seq];
    let verdicts = on.try_commit(&[message], &confirmed).await.expect("it commits");
    assert_eq!(verdicts, [Verdict::Stored]);
    assert_eq!(on.counts().await.outbox, 2);
    assert!(on.is_in_outbox(&rows[0]).await && on.is_in_outbox(&rows[2]).await);
}

pub(super) async fn a_note_is_visible(on: Subject) {
    let rows = rows(1);
    on.enqueue(None, &rows).await;
    for tries in [1, 5] {
        let problem = format!("no exchange `Škoda`, try {tries}");
        on.store.note(rows[0].seq, tries, &problem).await.expect("it can be noted");
        let found = on.outbox(&rows[0]).await;
        assert_eq!((found[0].tries, found[0].problem.as_deref()), (tries, Some(problem.as_str())));
    }
    let now = clock::now();
    let swept = on.store.sweep(on.worker, now, now - SECOND, 10).await.expect("it sweeps");
    assert_eq!(swept[0].tries, 5, "the next worker goes on counting");
    on.store.note(clock::uuid_v7(), 1, "gone").await.expect("a row that is gone needs no note");
}

pub(super) async fn burying_puts_a_letter_in_the_place_of_the_row(on: Subject) {
    let row = row(command());
    on.enqueue(Some(on.worker), std::slice::from_ref(&row)).await;
    let message = done(&row.envelope).with(|m| m.consumer = Arc::from("relay"));
    let letter = letter(&message).with(|l| l.reason = Reason::Unpublishable.word().into());
    for _ in 0..2 {
        on.store.bury(row.seq, &letter).await.expect("it can be buried");
        assert!(!on.is_in_outbox(&row).await);
        let found = on.letters(&DeadFilter::default()).await;
        assert_eq!(found.as_slice(), std::slice::from_ref(&letter), "once, however often it is said");
    }
}

pub(super) async fn the_next_due_row_is_known(on: Subject) {
    let next = async || on.store.next_due().await.expect("it can be asked");
    assert_eq!(next().await, None);
    on.enqueue(None, &rows(1)).await;
    on.enqueue(Some(on.worker), &rows(1)).await;
    assert_eq!(next().await, None, "rows without a time wait for nothing");
    let now = clock::now();
    let due = |at| row(command()).with(|r| r.due = Some(at));
    on.enqueue(None, &[due(now + DAY), due(now + SECOND), due(now + 2 * SECOND)]).await;
    assert_eq!(next().await, Some(now + SECOND));
    on.store.sweep(on.worker, now + SECOND, now - SECOND, 10).await.expect("it sweeps");
    assert_eq!(next().await, Some(now + 2 * SECOND), "what was taken waits no more");
}

pub(super) async fn what_could_leave_is_told_with_problems_first(on: Subject) {
    let now = clock::now();
    let waiting = async |limit| on.store.waiting(now, limit).await.expect("it can be asked");
    assert_eq!(waiting(10).await, []);
    let rows = rows(3);
    on.enqueue(None, &rows[..1]).await;
    on.enqueue(Some(on.worker), &rows[1..]).await;
    on.enqueue(None, &[row(command()).with(|r| r.due = Some(now + SECOND))]).await;
    let told = async |limit| seqs(waiting(limit).await.iter().map(|entry| &entry.row));
    assert_eq!(told(10).await, seqs(&rows), "whoever owns them, the oldest first, and none before its time");
    on.store.note(rows[2].seq, 3, "the queue is full").await.expect("it can be noted");
    let first = waiting(1).await.remove(0);
    assert_eq!((first.row.seq, first.tries, first.problem.as_deref()), (rows[2].seq, 3, Some("the queue is full")));
    assert_eq!(told(2).await, seqs([&rows[2], &rows[0]]));
}
