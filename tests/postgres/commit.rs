//! The group commit under several workers.

use super::*;
use pitcrew::store::{DocumentWrite, Expect, RowSpec, RowWrite, StoreError};

fn document(id: &str, body: &str, expect: Expect) -> DocumentWrite {
    DocumentWrite { collection: "brief", id: id.into(), schema: 1, body: body.into(), expect }
}

/// As a committer does: where another's locks are waited for in vain (`lock_timeout`), it asks again. A deadlock is a defect.
async fn commit_in_the_end(store: &PostgresStore, messages: &[Finished]) -> Vec<Verdict> {
    loop {
        match commit(store, messages).await {
            Err(StoreError::Busy(why)) if format!("{why:#}").contains("lock timeout") => {}
            answer => return answer.expect("no deadlock"),
        }
    }
}

#[tokio::test]
async fn two_workers_that_commit_the_same_messages_store_each_once() {
    let Some(bed) = Bed::make().await else { return };
    let other = bed.another().await;
    for round in 0..20 {
        let mut one: Vec<Finished> = (0..64).map(|_| finished(id_at(clock::now()))).collect();
        one.iter_mut().for_each(|message| message.effects.outbox.push(outgoing()));
        let mut two = one.clone();
        two.iter_mut().for_each(|message| message.effects.outbox[0].seq = clock::uuid_v7());
        two.rotate_left(round); // the store sorts: the order in the batch is nobody's business
        let (a, b) = tokio::join!(commit_in_the_end(&bed.store, &one), commit_in_the_end(&other, &two));
        let stored = |v: Vec<Verdict>| v.iter().filter(|v| **v == Verdict::Stored).count();
        assert_eq!(stored(a) + stored(b), 64);
    }
    assert_eq!(bed.count("select count(*) from {s}.inbox").await, 64 * 20);
    assert_eq!(bed.count("select count(*) from {s}.outbox").await, 64 * 20);
    bed.end().await;
}

#[tokio::test]
async fn shuffled_batches_over_the_same_documents_do_not_deadlock() {
    let Some(bed) = Bed::make().await else { return };
    let batch = |turn: usize| -> Vec<Finished> {
        (0..64_usize)
            .map(|n| {
                let mut message = finished(id_at(clock::now()));
                let which = (n * 37 + turn * 11) % 64;
                message.effects.documents.push(document(&format!("d{which}"), "{}", Expect::Anything));
                message
            })
            .collect()
    };
    let rounds = (0..24).map(|turn| {
        let messages = batch(turn);
        let store = &bed.store;
        async move { commit_in_the_end(store, &messages).await }
    });
    futures::future::join_all(rounds).await;
    assert_eq!(bed.count("select sum(version)::bigint from {s}.document").await, 24 * 64);
    bed.end().await;
}

#[tokio::test]
async fn two_workers_that_make_the_same_guarded_document_lose_no_update() {
    let Some(bed) = Bed::make().await else { return };
    let other = bed.another().await;
    for round in 0..20 {
        let id = format!("d{round}");
        let make = || {
            let mut message = finished(id_at(clock::now()));
            message.effects.documents.push(document(&id, "{}", Expect::Absent));
            [message]
        };
        let (one, two) = (make(), make());
        let (a, b) = tokio::join!(commit(&bed.store, &one), commit(&other, &two));
        let mut won = 0;
        for (store, messages, first) in [(&bed.store, &one, a), (&other, &two, b)] {
            let verdict = match first {
                // Made meanwhile by the other: asked again, it is a conflict.
                Err(StoreError::Busy(_)) => commit(store, messages).await.expect("commits"),
                other => other.expect("commits"),
            };
            won += usize::from(verdict == [Verdict::Stored]);
        }
        assert_eq!(won, 1);
    }
    bed.end().await;
}

#[tokio::test]
async fn a_nul_refuses_the_batch_and_condemns_only_its_message() {
    let Some(bed) = Bed::make().await else { return };
    let good = finished(id_at(clock::now()));
    let mut bad = finished(id_at(clock::now()));
    Arc::make_mut(&mut bad.envelope).subject = Some("a\0b".into());
    let error = commit(&bed.store, &[good.clone(), bad.clone()]).await.expect_err("is refused");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(matches!(commit(&bed.store, &[bad]).await, Err(StoreError::Refused(_))));
    assert_eq!(commit(&bed.store, &[good]).await.expect("commits"), [Verdict::Stored]);
    bed.end().await;
}

#[tokio::test]
async fn a_violated_constraint_of_an_own_table_condemns_only_its_message() {
    let Some(bed) = Bed::make().await else { return };
    bed.run("create table {s}.car (id int primary key, plate text unique, note text default 'kept')").await;
    let table: &'static str = format!("{}.car", bed.schema).leak();
    let put = |id: i32, plate: &str| {
        let mut message = finished(id_at(clock::now()));
        message.effects.rows.push(RowWrite {
            spec: RowSpec { table, key: &["id"], columns: &["id", "plate"] },
            key: format!("[{id}]"),
            body: Some(format!(r#"{{"id":{id},"plate":"{plate}"}}"#)),
        });
        message
    };
    assert_eq!(commit(&bed.store, &[put(1, "A")]).await.expect("commits"), [Verdict::Stored]);
    bed.run("update {s}.car set note = 'by hand'").await;
    let (twin, fine, again) = (put(2, "A"), put(3, "B"), put(1, "C"));
    let error = commit(&bed.store, &[twin.clone(), fine.clone()]).await.expect_err("is refused");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(matches!(commit(&bed.store, &[twin]).await, Err(StoreError::Refused(_))));
    assert_eq!(commit(&bed.store, &[fine, again]).await.expect("commits"), [Verdict::Stored; 2]);
    assert_eq!(bed.count("select count(*) from {s}.car where note = 'by hand' and plate = 'C'").await, 1);

    let mut gone = finished(id_at(clock::now()));
    gone.effects.rows.push(RowWrite {
        spec: RowSpec { table, key: &["id"], columns: &["id", "plate"] },
        key: "[1]".into(),
        body: None,
    });
    assert_eq!(commit(&bed.store, &[gone]).await.expect("commits"), [Verdict::Stored]);
    assert_eq!(bed.count("select count(*) from {s}.car where id = 1").await, 0);
    bed.end().await;
}

#[tokio::test]
async fn two_sweepers_take_each_row_once() {
    let Some(bed) = Bed::make().await else { return };
    let other = bed.another().await;
    let (a, b) = (worker(), worker());
    let now = clock::now();
    bed.store.start_worker(&a, now).await.expect("enters");
    other.start_worker(&b, now).await.expect("enters");
    let rows: Vec<OutboxRow> = (0..400).map(|_| outgoing()).collect();
    bed.store.enqueue(None, &rows[..200]).await.expect("enqueues");
    bed.store.enqueue(Some(Uuid::now_v7()), &rows[200..]).await.expect("enqueues");
    let (mut seqs, mut begun) = (Vec::new(), 0);
    loop {
        let lost = now - TimeDelta::seconds(10);
        let (x, y) = tokio::join!(bed.store.sweep(a.id, now, lost, 30), other.sweep(b.id, now, lost, 30));
        let taken: Vec<_> = x.expect("sweeps").into_iter().chain(y.expect("sweeps")).collect();
        if taken.is_empty() {
            break;
        }
        begun += taken.iter().filter(|swept| swept.begun).count();
        seqs.extend(taken.into_iter().map(|swept| swept.row.seq));
    }
    seqs.sort_unstable();
    let mut wanted: Vec<_> = rows.iter().map(|row| row.seq).collect();
    wanted.sort_unstable();
    assert!(seqs == wanted, "{} were taken of {}", seqs.len(), wanted.len());
    assert_eq!(begun, 200);
    bed.end().await;
}

/// While anybody's transaction on the database is open, what was deleted stands in the indexes.
#[tokio::test]
async fn a_sweep_does_not_walk_over_what_the_living_have_deleted() {
    let Some(bed) = Bed::make().await else { return };
    let (older, sweeper, younger) = (worker(), worker(), worker());
    let now = clock::now();
    for living in [&older, &sweeper, &younger] {
        bed.store.start_worker(living, now).await.expect("enters");
        let rows: Vec<OutboxRow> = (0..1_000).map(|_| outgoing()).collect();
        bed.store.enqueue(Some(living.id), &rows).await.expect("enqueues");
        let seqs: Vec<Uuid> = rows.iter().map(|row| row.seq).collect();
        bed.store.confirm(&seqs).await.expect("deletes");
    }
    let compiled = bed.count("select count(*) from pg_settings where name = 'jit' and setting = 'on'").await;
    assert_eq!(compiled, 0, "its plan would be compiled each time, which takes longer than all it does");
    let left_behind = outgoing();
    bed.store.enqueue(Some(Uuid::now_v7()), std::slice::from_ref(&left_behind)).await.expect("enqueues");
    let taken = bed.store.sweep(sweeper.id, now, now - TimeDelta::seconds(10), 30).await.expect("sweeps");
    assert_eq!(taken.iter().map(|swept| swept.row.seq).collect::<Vec<_>>(), [left_behind.seq]);
    let of_owners = "from pg_stat_user_indexes where schemaname = '{s}' and indexrelname = 'outbox_owner'";
    while bed.count(&format!("select idx_scan {of_owners}")).await == 0 {
        bed.run("select pg_stat_force_next_flush()").await;
        pitcrew::testing::poll_pause().await;
    }
    let walked = bed.count(&format!("select idx_tup_read {of_owners}")).await;
    assert!(walked < 100, "a sweep has read {walked} entries of the index of owners, and one row was there");
    bed.end().await;
}

/// The clock of a host may be an hour wrong; the database's is the same for all of them.
#[tokio::test]
async fn workers_whose_clocks_disagree_do_not_take_each_other_for_lost() {
    let Some(bed) = Bed::make().await else { return };
    let other = bed.another().await;
    let (right, wrong) = (worker(), worker());
    bed.store.start_worker(&right, clock::now()).await.expect("enters");
    for ahead in [TimeDelta::hours(1), TimeDelta::hours(-1)] {
        {
            let _its_host = clock::VirtualTime::start(clock::now() + ahead);
            other.start_worker(&wrong, clock::now()).await.expect("enters");
        }
        let sweeps = [(&bed.store, &right, TimeDelta::zero()), (&other, &wrong, ahead)];
        for (store, sweeper, ahead) in sweeps {
            let rows = [outgoing(), outgoing()];
            let owner = if sweeper.id == right.id { wrong.id } else { right.id };
            store.enqueue(Some(owner), &rows).await.expect("enqueues");
            let _its_host = clock::VirtualTime::start(clock::now() + ahead);
            let now = clock::now();
            let taken = store.sweep(sweeper.id, now, now - TimeDelta::seconds(10), 30).await.expect("sweeps");
            assert!(taken.is_empty(), "{} s ahead: {} rows of the living were taken", ahead.num_seconds(), taken.len());
            assert!(store.beat(sweeper.id, &[], now).await.expect("beats"), "it is still among the living");
        }
    }
    other.close().await;
    bed.end().await;
}

#[tokio::test]
async fn connections_that_died_while_idle_cost_no_commit() {
    let Some(bed) = Bed::make().await else { return };
    let batches: Vec<_> = (0..4).map(|_| [finished(id_at(clock::now()))]).collect();
    futures::future::join_all(batches.iter().map(|batch| commit(&bed.store, batch))).await; // all connections are open
    bed.run(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{}' and pid <> pg_backend_pid()",
        bed.schema
    ))
    .await;
    assert_eq!(commit(&bed.store, &[finished(id_at(clock::now()))]).await.expect("commits"), [Verdict::Stored]);
    assert_eq!(commit(&bed.store, &batches[0]).await.expect("commits"), [Verdict::Duplicate]);
    bed.end().await;
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_is_away_and_nothing_is_half_written() {
    let Some(bed) = Bed::make().await else { return };
    // A table whose writing takes long enough to be cut.
    bed.run(
        "create table {s}.car (id int primary key);
         create function {s}.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(20); return new; end $$;
         create trigger slow before insert on {s}.car for each row execute function {s}.slow()",
    )
    .await;
    let table: &'static str = format!("{}.car", bed.schema).leak();
    let mut message = finished(id_at(clock::now()));
    message.effects.rows.push(RowWrite {
        spec: RowSpec { table, key: &["id"], columns: &["id"] },
        key: "[1]".into(),
        body: Some(r#"{"id":1}"#.into()),
    });
    let cut = async {
        let ended = format!(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where application_name = '{}' and wait_event = 'PgSleep'",
            bed.schema
        );
        while bed.count(&ended).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    let batch = [message];
    let (answer, ()) = tokio::join!(commit(&bed.store, &batch), cut);
    assert!(matches!(answer, Err(StoreError::Away(_))), "{answer:?}");
    assert_eq!(bed.store.seen(&[batch[0].key()]).await.expect("answers"), [None]);
    bed.end().await;
}
