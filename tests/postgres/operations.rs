//! Housekeeping, checks of the set-up, operation keys, and what people ask.

use super::*;
use pitcrew::store::{
    Attempt, AttemptKind, Audit, Counts, DeadFilter, DeadLetter, LetterKey, LetterState, Reason, Retention, RowSpec,
    StoreError,
};

const RETENTION: Retention = Retention {
    inbox: Duration::from_secs(14 * 86_400),
    letters: Duration::from_secs(90 * 86_400),
    audit: Duration::from_secs(400 * 86_400),
    sink: None,
};

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_when_retention_has_passed() {
    let Some(bed) = Bed::make().await else { return };
    let now = clock::now();
    let old = finished(id_at(now));
    let undated = finished("order 7");
    assert_eq!(commit(&bed.store, &[old.clone(), undated]).await.expect("commits"), [Verdict::Stored; 2]);

    let done = bed.store.maintain(&RETENTION, now).await.expect("keeps house");
    assert!(done.ready_until.is_some_and(|until| until >= now + TimeDelta::days(3)), "{done:?}");
    assert_eq!((done.dropped.len(), done.trimmed), (0, 0), "{done:?}");

    let later = now + TimeDelta::days(16);
    let done = bed.store.maintain(&RETENTION, later).await.expect("keeps house");
    assert!(done.ready_until.is_some_and(|until| until >= later + TimeDelta::days(3)), "{done:?}");
    assert!(!done.dropped.contains(&now.format("inbox_%Y%m%d").to_string()), "two days of grace: {done:?}");
    assert_eq!(done.trimmed, 1, "the undated row: {done:?}");
    assert_eq!(commit(&bed.store, std::slice::from_ref(&old)).await.expect("commits"), [Verdict::Duplicate]);

    let done = bed.store.maintain(&RETENTION, now + TimeDelta::days(17)).await.expect("keeps house");
    assert!(done.dropped.contains(&now.format("inbox_%Y%m%d").to_string()), "{done:?}");
    assert_eq!(bed.count("select count(*) from {s}.inbox").await, 0);
    // Below the floor it is undated now: deduplicated by key alone, and no partition comes back.
    assert_eq!(commit(&bed.store, std::slice::from_ref(&old)).await.expect("commits"), [Verdict::Stored]);
    assert_eq!(commit(&bed.store, std::slice::from_ref(&old)).await.expect("commits"), [Verdict::Duplicate]);
    assert_eq!(bed.count("select count(*) from {s}.inbox_undated").await, 1);
    bed.end().await;
}

#[tokio::test]
async fn another_worker_learns_of_a_dropped_partition_from_the_database() {
    let Some(bed) = Bed::make().await else { return };
    let other = bed.another().await;
    let now = clock::now();
    bed.store.maintain(&RETENTION, now + TimeDelta::days(20)).await.expect("keeps house");
    let message = finished(id_at(now));
    assert_eq!(commit(&other, std::slice::from_ref(&message)).await.expect("commits"), [Verdict::Stored]);
    assert_eq!(commit(&bed.store, &[message]).await.expect("commits"), [Verdict::Duplicate]);
    other.close().await;
    bed.end().await;
}

#[tokio::test]
async fn an_interrupted_removal_of_a_partition_is_finished_the_next_time() {
    let Some(bed) = Bed::make().await else { return };
    let now = clock::now();
    let [detached, pending] = [now, now + TimeDelta::days(1)].map(|day| day.format("inbox_%Y%m%d").to_string());
    bed.run(&format!("alter table {{s}}.inbox detach partition {{s}}.{detached}")).await;
    let half = "select count(*) from pg_inherits where inhdetachpending and inhparent = '{s}.inbox'::regclass";
    let pool = bed.store.pool();
    {
        // Detaching waits for this reader, and is cut off when half of it stands.
        let mut reader = pool.begin().await.expect("begins");
        let read = sqlx::AssertSqlSafe(format!("select count(*) from {}.inbox", bed.schema));
        sqlx::query(read).execute(&mut *reader).await.expect("reads");
        let mut own = pool.acquire().await.expect("connects").detach();
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut own).await.expect("answers");
        let schema = &bed.schema;
        let detach = format!("alter table {schema}.inbox detach partition {schema}.{pending} concurrently");
        let cut_off = async {
            while bed.count(half).await == 0 {
                pitcrew::testing::poll_pause().await;
            }
            bed.run(&format!("select pg_cancel_backend({pid})")).await;
        };
        let detach = sqlx::raw_sql(sqlx::AssertSqlSafe(detach));
        let (detached, ()) = tokio::join!(detach.execute(&mut own), cut_off);
        detached.expect_err("it was cut off");
        reader.rollback().await.expect("ends");
    }
    assert_eq!(bed.count(half).await, 1);
    // Somebody else's report in the same database takes longer than a lock is usually waited for.
    let mut other = pool.acquire().await.expect("connects").detach();
    let report = sqlx::raw_sql("select pg_sleep(6)").execute(&mut other);
    let house = async {
        while bed.count("select count(*) from pg_stat_activity where query = 'select pg_sleep(6)'").await == 0 {
            pitcrew::testing::poll_pause().await;
        }
        bed.store.maintain(&RETENTION, now + TimeDelta::days(30)).await.expect("keeps house")
    };
    let (report, done) = tokio::join!(report, house);
    report.expect("it ends");
    for name in [detached, pending] {
        assert!(done.dropped.contains(&name), "{done:?}");
        assert_eq!(
            bed.count(&format!("select count(*) from pg_class where oid = to_regclass('{{s}}.{name}')")).await,
            0
        );
    }
    bed.end().await;
}

#[tokio::test]
async fn old_things_are_trimmed_in_steps_and_open_letters_stay() {
    let Some(bed) = Bed::make().await else { return };
    let now = clock::now();
    bed.run(
        "insert into {s}.attempt select now() - interval '91 days', 1, 1, '00000000-0000-0000-0000-000000000000', n::text, 'c', 's', \
         'failure', 'e', 'b', null from generate_series(1, 2500) n",
    )
    .await;
    let mut messages = Vec::new();
    for state in [LetterState::Dead, LetterState::Quarantined, LetterState::Discarded] {
        let mut message = finished(id_at(now));
        let mut letter = letter(&message, state);
        letter.last_at = now - TimeDelta::days(91);
        message.letter = Some(letter.into());
        messages.push(message);
    }
    commit(&bed.store, &messages).await.expect("commits");
    let done = bed.store.maintain(&RETENTION, now).await.expect("keeps house");
    assert_eq!(done.trimmed, 2501);
    assert_eq!(bed.count("select count(*) from {s}.dead_letter").await, 2);
    bed.end().await;
}

#[tokio::test]
async fn a_missing_table_column_or_index_is_refused_by_name() {
    let Some(bed) = Bed::make().await else { return };
    bed.run(
        "create table {s}.car (id int primary key, plate text, \"twice\" int generated always as (id * 2) stored,
         needed int not null);
         create unique index on {s}.car (plate) where id > 0",
    )
    .await;
    let table: &'static str = format!("{}.car", bed.schema).leak();
    let other: &'static str = format!("{}.bike", bed.schema).leak();
    let refusals: [(RowSpec, &str); 6] = [
        (RowSpec { table: other, key: &["id"], columns: &["id"] }, "does not exist"),
        (RowSpec { table: "car", key: &["id"], columns: &["id"] }, "schema.table"),
        (RowSpec { table, key: &["id"], columns: &["id", "colour"] }, "no column `colour`"),
        (RowSpec { table, key: &["id"], columns: &["id", "twice"] }, "`twice` itself"),
        (RowSpec { table, key: &["plate"], columns: &["plate"] }, "unique index on exactly (plate)"),
        (RowSpec { table, key: &["id"], columns: &["plate"] }, "list it in both"),
    ];
    for (spec, wanted) in refusals {
        let error = bed.store.check(&[spec]).await.expect_err("is refused");
        assert!(matches!(error, StoreError::Unfit(_)), "{error:?}");
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let warnings = bed.store.check(&[RowSpec { table, key: &["id"], columns: &["id"] }]).await.expect("is fit");
    assert!(warnings.iter().any(|warning| warning.contains("`needed`")), "{warnings:?}");
    bed.end().await;
}

/// A message with an operation key whose hash is that of its payload.
fn operation(id: &str, key: &str, hash: u8) -> Finished {
    let mut message = finished(id);
    Arc::make_mut(&mut message.envelope).idempotency_key = Some(key.into());
    message.operation = Some([hash; 32]);
    message
}

fn letter(message: &Finished, state: LetterState) -> DeadLetter {
    DeadLetter {
        key: LetterKey {
            consumer: message.consumer.to_string(),
            source: message.envelope.source.clone(),
            id: message.envelope.id.clone(),
            attempt: message.envelope.hop.attempt,
            payload_hash: message.payload_hash,
        },
        state,
        channel: "demo.commands".into(),
        subscription: "demo.commands".into(),
        ty: message.envelope.ty.clone(),
        version: 1,
        reason: "permanent".into(),
        error: "no\0good".into(),
        attributes: pitcrew::message::wire::attributes_json(&message.envelope),
        payload: message.envelope.data.to_vec(),
        count: 1,
        first_at: message.at,
        last_at: message.at,
        worker: Uuid::nil(),
        build: "b1".into(),
    }
}

fn dead(mut message: Finished) -> Finished {
    message.fate = Fate::Dead(Reason::Permanent);
    message.letter = Some(letter(&message, LetterState::Dead).into());
    message.attempt = Some(Box::new(Attempt {
        attempt: message.envelope.hop.attempt,
        kind: AttemptKind::Failure,
        error: "no\0good".into(),
        at: message.at,
        duration: Duration::from_millis(3),
        worker: Uuid::nil(),
        build: "b1".into(),
        next: None,
    }));
    message
}

#[tokio::test]
async fn an_operation_key_is_held_taken_over_and_never_shared() {
    let Some(bed) = Bed::make().await else { return };
    // In one batch: the first holds it, its twin is a duplicate, another payload conflicts.
    let batch = [operation("a", "k", 1), operation("b", "k", 1), operation("c", "k", 2)];
    let verdicts = commit(&bed.store, &batch).await.expect("commits");
    assert_eq!(verdicts, [Verdict::Stored, Verdict::Duplicate, Verdict::KeyConflict]);
    let seen = bed.store.seen(&batch.each_ref().map(Finished::key)).await.expect("answers");
    let fates: Vec<_> = seen.into_iter().map(|seen| seen.map(|seen| seen.fate)).collect();
    assert_eq!(fates, [Some("done".to_owned()), Some("duplicate".to_owned()), None]);
    // Apart the same, and again.
    for message in &batch {
        let verdict = commit(&bed.store, std::slice::from_ref(message)).await.expect("commits");
        assert_ne!(verdict, [Verdict::Stored], "{}", message.envelope.id);
    }

    // A dead holder is followed by the next, whatever its payload; in one batch and apart.
    let verdicts =
        commit(&bed.store, &[dead(operation("d", "k2", 1)), operation("e", "k2", 2)]).await.expect("commits");
    assert_eq!(verdicts, [Verdict::Stored; 2]);
    assert_eq!(commit(&bed.store, &[operation("f", "k2", 1)]).await.expect("commits"), [Verdict::KeyConflict]);
    bed.end().await;
}

#[tokio::test]
async fn a_message_that_reuses_an_id_turns_nobody_else_away() {
    let Some(bed) = Bed::make().await else { return };
    assert_eq!(commit(&bed.store, &[finished("a")]).await.expect("commits"), [Verdict::Stored]);
    let mut reused = operation("a", "k", 1);
    reused.payload_hash = [9; 32];
    let twin = operation("b", "k", 1);
    let error = commit(&bed.store, &[reused.clone(), twin.clone()]).await.expect_err("is to be split");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert_eq!(commit(&bed.store, &[reused]).await.expect("commits"), [Verdict::IdReused]);
    assert_eq!(commit(&bed.store, &[twin]).await.expect("commits"), [Verdict::Stored]);
    bed.end().await;
}

#[tokio::test]
async fn a_discarded_message_frees_its_operation_key() {
    let Some(bed) = Bed::make().await else { return };
    let mut first = operation("a", "k", 1);
    first.fate = Fate::Quarantined;
    first.letter = Some(letter(&first, LetterState::Quarantined).into());
    commit(&bed.store, std::slice::from_ref(&first)).await.expect("commits");
    assert_eq!(commit(&bed.store, &[operation("b", "k", 1)]).await.expect("commits"), [Verdict::Duplicate]);
    let key = first.letter.expect("has one").key;
    let audit = Audit {
        actor: "me".into(),
        action: "discard".into(),
        target: "a".into(),
        reason: "old".into(),
        at: clock::now(),
        bodies: None,
    };
    let discard = || bed.store.resolve_letter(&key, LetterState::Discarded, &[], &audit);
    assert!(discard().await.expect("resolves"));
    assert!(!discard().await.expect("answers"), "once");
    assert_eq!(commit(&bed.store, &[operation("c", "k", 2)]).await.expect("commits"), [Verdict::Stored]);
    bed.end().await;
}

#[tokio::test]
async fn the_history_of_a_message_tells_what_it_caused() {
    let Some(bed) = Bed::make().await else { return };
    for id in [id_at(clock::now()), "order 7".into()] {
        let mut failed = dead(finished(id.clone()));
        let waiting = {
            let mut row = outgoing();
            row.due = Some(clock::now() + TimeDelta::hours(1));
            row.envelope = failed.envelope.clone();
            row
        };
        failed.effects.outbox.push(waiting.clone());
        let caused = {
            let mut row = outgoing();
            Arc::make_mut(&mut row.envelope).causation_id = Some(id.clone());
            row
        };
        failed.effects.outbox.push(caused.clone());
        let mut follower = finished(caused.envelope.id.clone());
        follower.envelope = caused.envelope.clone();
        follower.payload_hash = follower.envelope.payload_hash();
        commit(&bed.store, &[failed, follower]).await.expect("commits");

        let history = bed.store.history(&id).await.expect("answers");
        assert_eq!(history.inbox.len(), 1, "{id}: {history:?}");
        assert_eq!(history.inbox[0].fate, "dead");
        assert_eq!(history.attempts.len(), 1);
        assert_eq!(history.attempts[0].1.error, "no\u{fffd}good");
        assert_eq!(history.outbox.iter().map(|e| e.row.clone()).collect::<Vec<_>>(), [waiting]);
        assert_eq!(history.letters.len(), 1);
        assert_eq!(history.caused.iter().map(|row| &row.id).collect::<Vec<_>>(), [&caused.envelope.id]);
        assert_eq!(history.caused_outbox.iter().map(|e| e.row.clone()).collect::<Vec<_>>(), [caused]);
    }
    let counts = bed.store.counts().await.expect("counts");
    assert_eq!(counts, Counts { done: 2, retrying: 0, dead: 2, quarantined: 0, outbox: 4 });
    let filter = DeadFilter { reason: Some("permanent".into()), ..DeadFilter::default() };
    assert_eq!(bed.store.dead_letters(&filter, 1).await.expect("lists").len(), 1);
    bed.end().await;
}
