//! Conformance of the stores: one test for each case and adapter, so that a failure names both.

use futures::{FutureExt, future::BoxFuture};
use pitcrew::{
    Envelope, sqlx,
    store::{
        Batch, Destination, Effects, Fate, Finished, OutboxRow, Purpose, Store, StoreError, Verdict,
        memory::{Failure, MemoryStore},
        postgres::{Options, PostgresStore},
        sqlite::SqliteStore,
    },
    testing::conformance::store::{self, Features, OwnTable, Subject},
};
use serde_json::Value;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// A store of one case, and what takes it away afterwards.
struct Bench {
    subject: Subject,
    sweep_up: BoxFuture<'static, ()>,
}

/// Runs one case on a store of its own.
async fn check(case: &str, make: impl AsyncFnOnce() -> Option<Bench>) {
    let run = store::case(case).unwrap_or_else(|| panic!("there is no case `{case}`"));
    let Some(Bench { subject, sweep_up }) = make().await else { return };
    let outcome = AssertUnwindSafe(run(subject.clone())).catch_unwind().await;
    subject.end().await;
    sweep_up.await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn memory() -> Option<Bench> {
    let store = Arc::new(MemoryStore::new());
    let name = "conformance_row";
    let own_table =
        OwnTable { name, is_declared: false, read: reader(store.clone(), move |s| std::future::ready(s.rows(name))) };
    let features = Features { own_table: Some(own_table), ..Features::default() };
    Some(Bench { subject: Subject::new(store, features).await, sweep_up: Box::pin(async {}) })
}

async fn sqlite() -> Option<Bench> {
    let directory = tempfile::tempdir().expect("a directory for the database");
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(path.to_str().expect("a path in UTF-8"), Default::default()).await;
    let own = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&path));
    let (store, own) = (store.expect("a new file can be opened"), own.await.expect("beside the store"));
    let table = "create table conformance_row (id text primary key, n integer not null, note text) strict";
    sqlx::raw_sql(table).execute(&own).await.expect("the author's table");
    let read = reader(own.clone(), |own| async move {
        let select = "select json_object('id', id, 'n', n, 'note', note) from conformance_row order by id";
        let rows: Vec<String> = sqlx::query_scalar(select).fetch_all(&own).await.expect("the author's rows");
        rows.iter().map(|row| serde_json::from_str(row).expect("JSON")).collect()
    });
    let own_table = OwnTable { name: "conformance.conformance_row", is_declared: true, read };
    let features = Features { own_table: Some(own_table), single_process: true, ..Features::default() };
    let sweep_up = Box::pin(async move {
        own.close().await;
        drop(directory);
    });
    Some(Bench { subject: Subject::new(Arc::new(store), features).await, sweep_up })
}

/// Each case in a schema of its own.
async fn postgres() -> Option<Bench> {
    let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return None;
    };
    let schema = format!("conformance_{}", pitcrew::clock::uuid_v7().simple());
    // A constant, as an author's table is: leaked once for each case.
    let name: &'static str = format!("{schema}.conformance_row").leak();
    let options = Options { schema, ..Default::default() };
    let connect = async || Arc::new(PostgresStore::connect(&url, options.clone()).await.expect("Postgres answers"));
    let (store, twin) = (connect().await, connect().await);
    let own = store.pool();
    let read = reader(own.clone(), move |own| async move {
        let select = sqlx::AssertSqlSafe(format!("select to_jsonb(r) from {name} r order by id"));
        sqlx::query_scalar(select).fetch_all(&own).await.expect("the author's rows")
    });
    let own_table = OwnTable { name, is_declared: true, read };
    let features = Features { own_table: Some(own_table), twin: Some(twin), single_process: false };
    let subject = Subject::new(store, features).await;
    let table = format!("create table {name} (id text primary key, n bigint not null, note text)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&own).await.expect("the author's table");
    let sweep_up = Box::pin(async move {
        let schema = name.split('.').next().unwrap_or_default();
        let pool = sqlx::PgPool::connect(&url).await.expect("Postgres answers");
        let drop = sqlx::AssertSqlSafe(format!("drop schema {schema} cascade"));
        sqlx::raw_sql(drop).execute(&pool).await.expect("the schema can be dropped");
        pool.close().await;
    });
    Some(Bench { subject, sweep_up })
}

type Reader = Arc<dyn Fn() -> BoxFuture<'static, Vec<Value>> + Send + Sync>;

/// Reads the author's rows from `source`.
fn reader<S, F>(source: S, read: impl Fn(S) -> F + Copy + Send + Sync + 'static) -> Reader
where
    S: Clone + Send + Sync + 'static,
    F: Future<Output = Vec<Value>> + Send + 'static,
{
    Arc::new(move || Box::pin(read(source.clone())))
}

/// A command that was handled, and the row of the outbox that it caused.
fn finished() -> Finished {
    let envelope = Envelope::new("demo.Do", "/demo", "{}");
    let row = OutboxRow {
        seq: pitcrew::clock::uuid_v7(),
        destination: Destination::Channel("demo.events".into()),
        due: None,
        key: None,
        purpose: Purpose::Message,
        envelope: Arc::new(Envelope::new("demo.Did", "/demo", "{}")),
    };
    let mut effects = Effects::default();
    effects.outbox.push(row);
    Finished {
        consumer: "demo.Do".into(),
        subscription: "demo.commands".into(),
        payload_hash: envelope.payload_hash(),
        envelope: Arc::new(envelope),
        fate: Fate::Done,
        fenced: true,
        operation: None,
        effects,
        attempt: None,
        letter: None,
        row: None,
        claimed: false,
        duration: Duration::ZERO,
        at: pitcrew::clock::now(),
    }
}

#[tokio::test]
async fn the_memory_store_fails_as_a_test_wants_it() {
    let (store, messages) = (MemoryStore::new(), [finished()]);
    let commit = async || {
        let batch = Batch { worker: uuid::Uuid::nil(), messages: &messages, confirmed: &[] };
        store.commit(&batch).await
    };
    store.away(true);
    assert!(matches!(commit().await, Err(StoreError::Away(_))));
    store.away(false);
    store.fail_next(1, Failure::Busy);
    store.fail_next(1, Failure::Refused);
    store.fail_next(1, Failure::Away);
    assert!(matches!(commit().await, Err(StoreError::Busy(_))));
    assert!(matches!(commit().await, Err(StoreError::Refused(_))));
    assert_eq!(store.failures_left(), 1);
    assert!(matches!(commit().await, Err(StoreError::Away(_))));
    assert_eq!(store.outbox(), [], "nothing of that was stored");
    store.fail_next(1, Failure::AnswerLost);
    assert!(matches!(commit().await, Err(StoreError::Away(_))));
    assert_eq!(store.outbox().len(), 1, "but this was");
    assert!(matches!(commit().await.as_deref(), Ok([Verdict::Duplicate])));
}

/// What makes the memory store fit for tests of what waits: it has no thread, so that time can stand still.
#[tokio::test(start_paused = true)]
async fn the_memory_store_works_in_paused_time() {
    let start = tokio::time::Instant::now();
    for (name, _) in store::CASES {
        check(name, memory).await;
    }
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(stringify!($case), super::memory).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(stringify!($case), super::sqlite).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(stringify!($case), super::postgres).await;
            })*
        }

        /// Adapters run what is listed here, the library says what there is.
        #[test]
        fn every_case_is_run() {
            let listed = [$(stringify!($case)),*];
            assert_eq!(listed.to_vec(), Vec::from_iter(store::CASES.iter().map(|(name, _)| *name)));
        }
    };
}

suite! {
    a_new_message_is_stored_with_all_its_effects
    a_duplicate_changes_nothing_but_its_own_outbox_row
    done_is_final_whatever_the_attempt
    a_later_attempt_of_a_retry_is_fresh_and_the_same_attempt_a_duplicate
    the_same_id_with_five_times_has_one_effect
    the_same_id_with_another_payload_is_reused_and_nothing_is_written
    the_same_id_of_another_source_or_consumer_is_another_message
    undated_ids_are_deduplicated
    ids_of_every_shape_are_told_apart
    the_inbox_answers_by_position
    verdicts_come_by_position
    a_batch_that_comes_twice_has_one_effect
    a_large_batch_is_stored_whole
    an_unfenced_message_is_stored_without_the_inbox
    an_empty_batch_takes_what_is_confirmed
    of_two_guarded_writes_in_a_batch_one_conflicts
    of_two_first_writes_in_a_batch_one_conflicts
    one_conflict_in_a_batch_of_three_leaves_the_other_two_stored
    a_conflict_writes_nothing_and_keeps_its_delivery
    a_guard_for_absence_conflicts_with_a_document
    the_last_writer_in_the_batch_wins
    a_guarded_write_never_hides_an_unguarded_one_of_its_batch
    every_write_raises_the_version
    documents_keep_every_character
    collections_are_apart
    a_retry_passes_its_own_operation_key
    a_copy_with_another_id_is_a_duplicate
    a_copy_in_the_same_batch_is_a_duplicate
    another_payload_under_an_operation_key_conflicts
    a_dead_message_gives_its_operation_key_up
    an_expired_message_gives_its_operation_key_up
    a_discarded_message_gives_its_operation_key_up
    operation_keys_of_two_consumers_are_apart
    what_is_accepted_holds_its_key_until_it_can_never_be_done
    own_rows_are_put_and_deleted
    own_rows_are_coalesced_in_batch_order
    a_column_that_is_not_listed_is_not_touched
    two_row_types_of_one_table_keep_their_order
    a_batch_with_a_refused_row_leaves_nothing
    a_text_with_a_nul_is_kept_or_refused_whole
    a_wrong_table_is_refused_at_start
    a_row_comes_back_as_it_was_written
    a_retry_copy_waits_for_its_time_without_an_owner
    rows_written_twice_are_there_once
    spilled_rows_are_paged_in_sequence
    confirming_twice_is_fine
    confirmed_rows_leave_with_the_next_commit
    a_note_is_visible
    burying_puts_a_letter_in_the_place_of_the_row
    the_next_due_row_is_known
    what_could_leave_is_told_with_problems_first
    claims_are_counted_and_go_with_the_commit
    an_unclaim_takes_one_claim_back
    a_sweep_takes_what_nobody_will_publish
    a_sweep_takes_the_rows_of_lost_workers
    a_sweep_leaves_the_rows_of_the_living
    a_sweep_is_in_sequence_and_bounded
    the_beat_of_an_unknown_worker_is_refused
    what_hinders_its_handlers_is_told_by_a_living_worker
    who_has_not_signed_off_is_told_with_its_silence
    a_worker_taken_for_lost_is_told_so
    the_end_of_a_worker_frees_its_rows
    a_new_worker_of_a_single_process_store_takes_over
    a_consumer_keeps_its_first_date
    a_letter_comes_back_as_it_was_written
    any_bytes_and_any_error_fit_in_a_letter
    letters_of_bytes_without_a_key_count_up
    letters_are_filtered_by_each_field
    letters_come_newest_first_and_bounded
    resolving_a_letter_writes_its_rows_and_who_did_it
    a_letter_is_resolved_once
    a_discarded_letter_that_comes_again_is_open_again
    what_was_changed_in_a_letter_is_in_the_audit
    a_replay_comes_back_as_it_was_planned
    a_letter_of_a_replay_is_sent_once_with_its_row_and_its_audit
    a_letter_that_somebody_else_decided_is_not_sent
    what_became_of_the_letters_of_a_replay_is_found_and_kept
    a_replay_has_one_runner_until_it_is_lost
    the_history_of_a_message_names_its_replays
    the_living_are_counted
    housekeeping_drops_replays_that_are_older_than_letters_are_kept
    attempts_are_kept_in_order
    history_finds_everything_of_an_id
    history_of_an_unknown_id_is_empty
    history_shows_who_did_what_when
    what_is_recorded_is_written_once_and_found_by_its_action
    every_action_is_in_the_trail_by_time_and_actor
    counts_are_by_fate
    gauges_tell_what_waits_and_since_when
    what_comes_again_is_told_the_next_first
    migrating_again_changes_nothing
    a_store_tells_what_it_is
    housekeeping_drops_what_is_older_than_retention
    housekeeping_keeps_what_waits_for_somebody
    housekeeping_again_changes_nothing
    what_was_handled_is_paged_whole_and_once
    what_was_handled_is_found_by_when_it_was_sent
    what_was_handled_is_told_with_its_reason
    what_retention_drops_is_in_the_sink_first
    what_the_sink_does_not_take_is_kept_until_it_does
    what_operators_did_has_its_own_retention
    overlapping_batches_store_each_message_once
    two_sweepers_share_the_rows
    guarded_counters_lose_no_update
    two_claims_at_once_are_both_counted
    one_letter_resolved_by_two_is_resolved_once
    one_letter_sent_by_two_runners_is_sent_once
}
