//! Cases: many tasks at once on one store.

use super::{
    Subject,
    replays::{again, planned},
    samples::*,
};
use crate::{Envelope, clock, store::*};
use std::collections::{BTreeSet, HashMap};
use tokio::task::JoinSet;

pub(super) async fn overlapping_batches_store_each_message_once(on: Subject) {
    const KEYS: usize = 100;
    const BATCHES: usize = 64;
    const SIZE: usize = 25;
    let commands: Vec<Envelope> =
        (0..KEYS).map(|i| if i % 3 == 0 { command_of(&format!("order {i}")) } else { command() }).collect();
    // Batch n holds 25 commands from n·7 on, each second one backwards: every command is in 16 batches, and two batches that
    // meet want the same rows in different orders.
    let batches: Vec<Vec<Finished>> = (0..BATCHES)
        .map(|n| {
            let mut batch: Vec<_> = (0..SIZE)
                .map(|i| {
                    let command = &commands[(n * 7 + i) % KEYS];
                    done(command).with(|m| {
                        m.effects.outbox.push(event(command));
                        m.effects.documents.push(save(&format!("shared {}", i % 5), "1"));
                    })
                })
                .collect();
            if n % 2 == 1 {
                batch.reverse();
            }
            batch
        })
        .collect();
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let on = on.of_task(task).await;
        let own: Vec<_> = batches.iter().skip(task).step_by(4).cloned().collect();
        tasks.spawn(async move {
            let mut stored = Vec::new();
            for batch in own {
                let verdicts = on.commit(&batch).await;
                for (message, verdict) in batch.into_iter().zip(verdicts) {
                    match verdict {
                        Verdict::Stored => stored.push(message),
                        Verdict::Duplicate => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            stored
        });
    }
    let stored = tasks.join_all().await.concat();
    let mut times: HashMap<&str, u32> = HashMap::new();
    for message in &stored {
        *times.entry(&message.envelope.id).or_default() += 1;
    }
    assert_eq!(times.len(), KEYS, "each message was stored");
    assert!(times.values().all(|n| *n == 1), "{times:?}");
    let counts = on.counts().await;
    assert_eq!((counts.done, counts.outbox), (100, 100));
    for message in stored {
        assert!(on.is_in_outbox(&message.effects.outbox[0]).await, "with the effects of the one that was stored");
    }
}

pub(super) async fn two_sweepers_share_the_rows(on: Subject) {
    let rows = rows(200);
    on.enqueue(None, &rows).await;
    let now = clock::now();
    let mut tasks = JoinSet::new();
    for task in 0..2 {
        let (on, worker) = (on.of_task(task).await, clock::uuid_v7());
        let both_live = !on.features.single_process;
        if both_live {
            on.start(worker).await;
        }
        tasks.spawn(async move {
            let (mut taken, mut empty) = (Vec::new(), 0);
            // A sweep may find nothing while the other holds the rows: only several in a row say that all are gone.
            while empty < 20 {
                let swept = match on.store.sweep(worker, now, now - DAY, 7).await {
                    Err(StoreError::Busy(_)) => Vec::new(),
                    other => other.expect("it sweeps"),
                };
                empty = if swept.is_empty() { empty + 1 } else { 0 };
                for pair in swept.windows(2) {
                    assert!(pair[0].row.seq < pair[1].row.seq, "in sequence");
                }
                // Where only one can live, each takes the other for lost and may begin what the other began.
                assert!(!both_live || swept.iter().all(|s| !s.begun), "the other one lives");
                let seqs = seqs(swept.iter().map(|s| &s.row));
                on.store.confirm(&seqs).await.expect("rows can be confirmed");
                taken.extend(swept.iter().filter(|s| !s.begun).map(|s| s.row.seq));
                tokio::task::yield_now().await;
            }
            taken
        });
    }
    let taken = tasks.join_all().await.concat();
    let distinct: BTreeSet<_> = taken.iter().copied().collect();
    assert_eq!(taken.len(), distinct.len(), "no row was taken from nobody twice");
    assert_eq!(distinct, rows.iter().map(|row| row.seq).collect());
    assert_eq!(on.counts().await.outbox, 0);
}

pub(super) async fn guarded_counters_lose_no_update(on: Subject) {
    const TASKS: usize = 4;
    const TIMES: usize = 15;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let on = on.of_task(task).await;
        tasks.spawn(async move {
            for _ in 0..TIMES {
                let mut tries = 0;
                loop {
                    let (expect, n) = match on.document(&save("counter", "")).await {
                        Some(old) => (Expect::Version(old.version), old.body.parse::<usize>().expect("a number") + 1),
                        None => (Expect::Absent, 1),
                    };
                    match on.commit_one(&writing(&guarded("counter", &n.to_string(), expect))).await {
                        Verdict::Stored => break,
                        Verdict::Conflict => tries += 1,
                        other => panic!("{other:?}"),
                    }
                    assert!(tries < 10_000, "somebody else always wins");
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    tasks.join_all().await;
    let counter = on.document(&save("counter", "")).await.expect("the counter is there");
    assert_eq!(counter.body.parse::<usize>().expect("a number"), TASKS * TIMES);
    assert_eq!(on.counts().await.done, 60);
}

pub(super) async fn two_claims_at_once_are_both_counted(on: Subject) {
    let keys: Vec<_> = (0..10).map(|i| done(&command_of(&format!("order {i}"))).key()).collect();
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (on, mut keys) = (on.of_task(task).await, keys.clone());
        if task % 2 == 1 {
            keys.reverse();
        }
        tasks.spawn(async move {
            for _ in 0..100 {
                match on.store.claim(&keys, on.worker, clock::now()).await {
                    Err(StoreError::Busy(_)) => tokio::task::yield_now().await,
                    other => return other.expect("they can be claimed"),
                }
            }
            panic!("the store was busy a hundred times")
        });
    }
    tasks.join_all().await;
    assert_eq!(on.store.claims(&keys).await.expect("claims can be read"), [4; 10]);
}

pub(super) async fn one_letter_resolved_by_two_is_resolved_once(on: Subject) {
    let message = dead(&command());
    on.store(&message).await;
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (on, message) = (on.of_task(task).await, message.clone());
        tasks.spawn(async move {
            let again = [row(copy_of(&message.envelope))];
            let said = audit("replay", &message.envelope.id);
            let key = letter(&message).key;
            on.store.resolve_letter(&key, LetterState::Replayed, &again, &said).await.expect("it can be asked")
        });
    }
    let resolved = tasks.join_all().await;
    assert_eq!(resolved.iter().filter(|done| **done).count(), 1);
    let history = on.history(&message.envelope.id).await;
    assert_eq!((history.outbox.len(), history.audit.len()), (1, 1));
}

pub(super) async fn one_letter_sent_by_two_runners_is_sent_once(on: Subject) {
    let message = dead(&command());
    let replay = planned(&on, std::slice::from_ref(&message)).await;
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (on, message, id) = (on.of_task(task).await, message.clone(), replay.id);
        tasks.spawn(async move {
            let said = audit("replay", &message.envelope.id);
            let sent = on.store.send_letter(id, 0, &letter(&message).key, &again(&message), &said).await;
            sent.expect("it can be asked")
        });
    }
    let sent = tasks.join_all().await;
    assert_eq!(sent.iter().filter(|done| **done).count(), 1);
    let history = on.history(&message.envelope.id).await;
    assert_eq!((history.outbox.len(), history.audit.len()), (1, 1));
}
