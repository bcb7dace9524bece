//! Conformance of the stores: one test for each case and adapter, so that a failure names both.

use futures::future::BoxFuture;
use pitcrew::sqlx::{self, Connection, Executor, SqliteConnection, types::Json};
use pitcrew::{
    Envelope,
    store::{
        Batch, Destination, Effects, Fate, Finished, OutboxRow, Purpose, Store, StoreError, Verdict,
        memory::{Failure, MemoryStore},
        sqlite::{Options, SqliteStore},
    },
    testing::conformance::store::{self, Features, OwnTable, Subject},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Runs one case on a store of its own.
async fn check(case: &str, make: impl AsyncFnOnce() -> Option<Subject>) {
    let run = store::case(case).unwrap_or_else(|| panic!("there is no case `{case}`"));
    if let Some(subject) = make().await {
        run(subject.clone()).await;
        subject.end().await;
    }
}

async fn memory() -> Option<Subject> {
    let store = Arc::new(MemoryStore::new());
    let table = "conformance_row";
    let read = {
        let store = store.clone();
        Arc::new(move || -> BoxFuture<'static, _> { Box::pin(std::future::ready(store.rows(table))) })
    };
    let own_table = Some(OwnTable { name: table, is_declared: false, read });
    Some(Subject::new(store, Features { own_table, ..Features::default() }).await)
}

/// A file of its own; it goes with the last clone of the subject.
async fn sqlite() -> Option<Subject> {
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let path = directory.path().join("pitcrew.db");
    let store = SqliteStore::open(&path.to_string_lossy(), Options::default()).await.expect("a new file can be opened");
    let url = format!("sqlite://{}", path.display());
    let mut author = SqliteConnection::connect(&url).await.expect("the author connects");
    let create = "create table conformance_row (id text primary key, n integer not null, note text) strict";
    author.execute(create).await.expect("the author's table is made");
    let read = Arc::new(move || -> BoxFuture<'static, _> {
        let (url, _keep) = (url.clone(), directory.clone());
        Box::pin(async move {
            let mut author = SqliteConnection::connect(&url).await.expect("the author connects");
            let select = "select json_object('id', id, 'n', n, 'note', note) from conformance_row order by id";
            let rows: Vec<Json<Value>> = sqlx::query_scalar(select).fetch_all(&mut author).await.expect("it reads");
            rows.into_iter().map(|Json(row)| row).collect()
        })
    });
    let own_table = Some(OwnTable { name: "shop.conformance_row", is_declared: true, read });
    Some(Subject::new(Arc::new(store), Features { single_process: true, own_table }).await)
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(stringify!($case), super::sqlite).await;
            })*
        }

        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(stringify!($case), super::memory).await;
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
    own_rows_are_put_and_deleted
    own_rows_are_coalesced_in_batch_order
    a_column_that_is_not_listed_is_not_touched
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
    claims_are_counted_and_go_with_the_commit
    an_unclaim_takes_one_claim_back
    a_sweep_takes_what_nobody_will_publish
    a_sweep_takes_the_rows_of_lost_workers
    a_sweep_leaves_the_rows_of_the_living
    a_sweep_is_in_sequence_and_bounded
    the_beat_of_an_unknown_worker_is_refused
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
    attempts_are_kept_in_order
    history_finds_everything_of_an_id
    history_of_an_unknown_id_is_empty
    history_shows_who_did_what_when
    counts_are_by_fate
    migrating_again_changes_nothing
    housekeeping_drops_what_is_older_than_retention
    housekeeping_keeps_what_waits_for_somebody
    housekeeping_again_changes_nothing
    overlapping_batches_store_each_message_once
    two_sweepers_share_the_rows
    guarded_counters_lose_no_update
    two_claims_at_once_are_both_counted
    one_letter_resolved_by_two_is_resolved_once
}
