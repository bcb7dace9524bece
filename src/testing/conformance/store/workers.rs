//! Cases: who lives, whose rows are whose, and what was begun.

use super::{Subject, samples::*};
use crate::{clock, store::*};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use std::sync::Arc;
use uuid::Uuid;

async fn sweep(on: &Subject, worker: Uuid, now: DateTime<Utc>, limit: usize) -> Vec<Swept> {
    on.store.sweep(worker, now, now - 10 * SECOND, limit).await.expect("it sweeps")
}

fn swept_seqs(swept: &[Swept]) -> Vec<Uuid> {
    seqs(swept.iter().map(|s| &s.row))
}

async fn claims(on: &Subject, keys: &[InboxKey]) -> Vec<u32> {
    on.store.claims(keys).await.expect("claims can be read")
}

/// What they come to when they are claimed once more.
async fn claim(on: &Subject, keys: &[InboxKey]) -> Vec<u32> {
    on.store.claim(keys, on.worker, clock::now()).await.expect("it can be claimed");
    claims(on, keys).await
}

pub(super) async fn claims_are_counted_and_go_with_the_commit(on: Subject) {
    let envelopes = [command(), command_of("17"), command()];
    let keys = envelopes.each_ref().map(|e| done(e).key());
    assert_eq!(claims(&on, &keys).await, [0, 0, 0], "none was begun");
    assert_eq!(claim(&on, &keys).await, [1, 1, 1]);
    assert_eq!(claims(&on, &keys).await, [1, 1, 1], "who only asks is not counted");
    assert_eq!(claim(&on, &[keys[1].clone(), keys[0].clone()]).await, [2, 2]);
    assert_eq!(claim(&on, &[keys[2].clone(), keys[1].clone()]).await, [2, 3], "by position");
    assert_eq!(claim(&on, &[]).await, [0; 0]);
    on.store(&done(&envelopes[0]).with(|m| m.claimed = true)).await;
    on.store(&retry(&envelopes[1]).with(|m| m.claimed = true)).await;
    on.store(&done(&envelopes[2])).await;
    assert_eq!(claim(&on, &keys).await, [1, 1, 3], "only what says that it is claimed has a claim to lose");
    let duplicate = done(&envelopes[0]).with(|m| m.claimed = true);
    assert_eq!(on.commit_one(&duplicate).await, Verdict::Duplicate);
    assert_eq!(claim(&on, &keys[..1]).await, [1], "a duplicate has ended too");
}

pub(super) async fn an_unclaim_takes_one_claim_back(on: Subject) {
    let keys = [done(&command()).key(), done(&command_of("17")).key()];
    claim(&on, &keys).await;
    claim(&on, &keys[1..]).await;
    let unknown = done(&command()).key();
    on.store.unclaim(&[keys[0].clone(), keys[1].clone(), unknown]).await.expect("claims can be taken back");
    assert_eq!(claim(&on, &keys).await, [1, 2]);
}

pub(super) async fn a_sweep_takes_what_nobody_will_publish(on: Subject) {
    let now = clock::now();
    let due = |at| row(command()).with(|r| r.due = Some(at));
    let rows = [row(command()), due(now - SECOND), due(now), due(now + SECOND)];
    on.enqueue(None, &rows).await;
    let swept = sweep(&on, on.worker, now, 10).await;
    assert_eq!(swept_seqs(&swept), seqs(&rows[..3]), "what is not due stays");
    assert!(swept.iter().all(|s| !s.begun), "nobody had begun them");
    assert_eq!(on.outbox(&rows[1]).await[0].owner, Some(on.worker));
    assert_eq!(swept_seqs(&sweep(&on, on.worker, now, 10).await), seqs([]), "once");
    assert_eq!(swept_seqs(&sweep(&on, on.worker, now + SECOND, 10).await), seqs(&rows[3..]));
}

pub(super) async fn a_sweep_takes_the_rows_of_lost_workers(on: Subject) {
    let now = clock::now();
    let (silent, unknown) = (clock::uuid_v7(), clock::uuid_v7());
    on.start_at(silent, now - 60 * SECOND).await;
    on.start(on.worker).await;
    let (of_silent, of_unknown, of_nobody) = (rows(2), rows(1), rows(1));
    on.enqueue(Some(silent), &of_silent).await;
    on.enqueue(Some(unknown), &of_unknown).await;
    on.enqueue(None, &of_nobody).await;
    let swept = sweep(&on, on.worker, now, 10).await;
    let expected = [of_silent, of_unknown, of_nobody].concat();
    assert_eq!(swept_seqs(&swept), seqs(&expected));
    let begun: Vec<_> = swept.iter().map(|s| s.begun).collect();
    assert_eq!(begun, [true, true, true, false], "a lost worker may have published its rows");
    assert_eq!(on.outbox(&expected[0]).await[0].owner, Some(on.worker));
}

pub(super) async fn a_sweep_leaves_the_rows_of_the_living(on: Subject) {
    let now = clock::now();
    // Started last, so that a store with one process lets it live. The sweeper itself need not be in the table.
    let (living, sweeper) = (clock::uuid_v7(), clock::uuid_v7());
    on.start_at(living, now - 60 * SECOND).await;
    assert!(on.store.beat(living, &[], now - 9 * SECOND).await.expect("it beats"), "seen just in time");
    on.enqueue(Some(living), &rows(2)).await;
    let own = rows(2);
    on.enqueue(Some(sweeper), &own).await;
    assert_eq!(swept_seqs(&sweep(&on, sweeper, now, 10).await), seqs([]), "nor what the sweeper publishes anyway");
    assert_eq!(on.store.next_due().await.expect("it can be asked"), None);
}

pub(super) async fn a_sweep_is_in_sequence_and_bounded(on: Subject) {
    let rows = rows(10);
    let mut shuffled = rows.clone();
    shuffled.reverse();
    for (i, row) in shuffled.iter().enumerate() {
        on.enqueue((i % 2 == 0).then(clock::uuid_v7), std::slice::from_ref(row)).await;
    }
    let now = clock::now();
    let mut found = Vec::new();
    for expected in [4, 4, 2, 0] {
        let swept = sweep(&on, on.worker, now, 4).await;
        assert_eq!(swept.len(), expected);
        found.extend(swept_seqs(&swept));
    }
    assert_eq!(found, seqs(&rows));
}

pub(super) async fn the_beat_of_an_unknown_worker_is_refused(on: Subject) {
    let now = clock::now();
    assert!(on.store.beat(on.worker, &[], now).await.expect("it beats"));
    assert!(!on.store.beat(clock::uuid_v7(), &[], now).await.expect("it beats"));
    on.store.end_worker(on.worker).await.expect("it ends");
    assert!(!on.store.beat(on.worker, &[], now).await.expect("it beats"));
    on.store.end_worker(on.worker).await.expect("ending twice is fine");
}

pub(super) async fn what_hinders_its_handlers_is_told_by_a_living_worker(on: Subject) {
    let now = clock::now();
    let in_need = Hindered {
        ty: "demo.Greet".into(),
        consumer: "demo.Greet".into(),
        subscription: "demo.commands".into(),
        at_once: Some(1),
        left_alone: vec![LeftAlone { breaker: "letters".into(), until: now.trunc_subsecs(3) + 30 * SECOND }],
        waiting: 7,
    };
    let told = async |since| on.store.hindered(since).await.expect("it answers");
    assert_eq!(told(now - 10 * SECOND).await, []);
    assert!(on.store.beat(on.worker, std::slice::from_ref(&in_need), now).await.expect("it beats"));
    let all = told(now - 10 * SECOND).await;
    let [one] = &all[..] else { panic!("one worker told something: {all:?}") };
    assert_eq!((one.worker, &one.hindered), (on.worker, &vec![in_need.clone()]));
    assert!((one.at - now).abs() < TimeDelta::seconds(1), "{} for {now}", one.at);
    assert_eq!(told(now + 10 * SECOND).await, [], "who was not seen since says nothing");
    assert!(on.store.beat(on.worker, &[], now).await.expect("it beats"));
    assert_eq!(told(now - 10 * SECOND).await, [], "it is over");
    assert!(on.store.beat(on.worker, &[in_need], now).await.expect("it beats"));
    on.store.end_worker(on.worker).await.expect("it ends");
    assert_eq!(told(now - 10 * SECOND).await, []);
}

pub(super) async fn who_has_not_signed_off_is_told_with_its_silence(on: Subject) {
    let now = clock::now();
    let told = async |at| on.store.workers(at).await.expect("it answers");
    on.store.end_worker(on.worker).await.expect("it ends");
    assert_eq!(told(now).await, [], "whoever has signed off is gone");
    let worker = clock::uuid_v7();
    on.start_at(worker, now - 60 * SECOND).await;
    let all = told(now).await;
    let [one] = &all[..] else { panic!("one worker began: {all:?}") };
    assert_eq!((one.worker.id, &*one.worker.service, &*one.worker.place), (worker, "conformance", "host:1"));
    assert!((one.started - (now - 60 * SECOND)).abs() < TimeDelta::seconds(1), "{one:?}");
    let silent = |alive: &Alive| alive.silent.as_secs_f64();
    assert!((silent(one) - 60.0).abs() < 1.0, "{one:?}");
    assert!(on.store.beat(worker, &[], now).await.expect("it beats"));
    assert!(silent(&told(now).await[0]) < 1.0, "a heartbeat ends the silence");
    assert!((silent(&told(now + 30 * SECOND).await[0]) - 30.0).abs() < 1.0, "and it begins anew");
}

pub(super) async fn a_worker_taken_for_lost_is_told_so(on: Subject) {
    let now = clock::now();
    let (lost, sweeper) = (clock::uuid_v7(), clock::uuid_v7());
    on.start_at(lost, now - 60 * SECOND).await;
    on.enqueue(Some(lost), &rows(3)).await;
    assert_eq!(sweep(&on, sweeper, now, 1).await.len(), 1);
    assert!(!on.store.beat(lost, &[], now).await.expect("it beats"), "another one publishes its rows");
    assert_eq!(sweep(&on, sweeper, now, 10).await.len(), 2, "all of them");
}

pub(super) async fn the_end_of_a_worker_frees_its_rows(on: Subject) {
    let rows = rows(2);
    on.enqueue(Some(on.worker), &rows).await;
    on.store.end_worker(on.worker).await.expect("it ends");
    assert_eq!(on.outbox(&rows[0]).await[0].owner, None);
    let swept = sweep(&on, clock::uuid_v7(), clock::now(), 10).await;
    assert_eq!(swept_seqs(&swept), seqs(&rows));
    assert!(swept.iter().all(|s| !s.begun), "it ended in peace");
}

pub(super) async fn a_new_worker_of_a_single_process_store_takes_over(on: Subject) {
    let rows = rows(2);
    on.enqueue(Some(on.worker), &rows).await;
    let new = clock::uuid_v7();
    on.start(new).await;
    let swept = sweep(&on, new, clock::now(), 10).await;
    let expected = if on.features.single_process { seqs(&rows) } else { Vec::new() };
    assert_eq!(swept_seqs(&swept), expected, "elsewhere the first one lives on");
    assert_eq!(on.store.beat(on.worker, &[], clock::now()).await.expect("it beats"), !on.features.single_process);
}

pub(super) async fn a_consumer_keeps_its_first_date(on: Subject) {
    let now = clock::now();
    let names = ["a", "b", "c"].map(Arc::<str>::from);
    let register = async |names: &[Arc<str>], at| on.store.register(names, at).await.expect("they register");
    assert_eq!(register(&names[1..2], now).await, [now]);
    assert_eq!(register(&names, now + SECOND).await, [now + SECOND, now, now + SECOND]);
    assert_eq!(register(&names[..2], now + DAY).await, [now + SECOND, now]);
    assert_eq!(register(&[], now).await, Vec::<DateTime<Utc>>::new());
}
