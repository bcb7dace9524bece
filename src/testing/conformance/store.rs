//! Store Conformance: what a [`Store`] must do, case by case.
//!
//! A case gets a store of its own, empty and reachable, and panics when a promise is broken. Run each entry of [`CASES`] as a
//! test, so that a failure names the case and the adapter:
//!
//! ```
//! use pitcrew::{store::memory::MemoryStore, testing::conformance::store};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! for (name, case) in store::CASES {
//!     println!("{name}");
//!     case(store::Subject::new(Arc::new(MemoryStore::new()), store::Features::default()).await).await;
//! }
//! # });
//! ```

mod audit;
mod documents;
mod history;
mod inbox;
mod letters;
mod operations;
mod outbox;
mod replays;
mod rows;
mod samples;
mod subject;
mod together;
mod workers;

pub use subject::{Features, OwnTable, Subject};

use crate::BoxFuture;
#[cfg(doc)]
use crate::store::Store;

/// One promise.
pub type Case = fn(Subject) -> BoxFuture<'static, ()>;

/// The case with this name.
pub fn case(name: &str) -> Option<Case> {
    CASES.iter().find(|(known, _)| *known == name).map(|(_, case)| *case)
}

macro_rules! cases {
    ($($part:ident: $($name:ident)*;)*) => {
        /// All promises, by name. A name is a sentence.
        pub const CASES: &[(&str, Case)] = &[$($((stringify!($name), |subject| Box::pin($part::$name(subject))),)*)*];
    };
}

cases! {
    inbox:
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
        an_empty_batch_takes_what_is_confirmed;
    documents:
        of_two_guarded_writes_in_a_batch_one_conflicts
        of_two_first_writes_in_a_batch_one_conflicts
        one_conflict_in_a_batch_of_three_leaves_the_other_two_stored
        a_conflict_writes_nothing_and_keeps_its_delivery
        a_guard_for_absence_conflicts_with_a_document
        the_last_writer_in_the_batch_wins
        a_guarded_write_never_hides_an_unguarded_one_of_its_batch
        every_write_raises_the_version
        documents_keep_every_character
        collections_are_apart;
    operations:
        a_retry_passes_its_own_operation_key
        a_copy_with_another_id_is_a_duplicate
        a_copy_in_the_same_batch_is_a_duplicate
        another_payload_under_an_operation_key_conflicts
        a_dead_message_gives_its_operation_key_up
        an_expired_message_gives_its_operation_key_up
        a_discarded_message_gives_its_operation_key_up
        operation_keys_of_two_consumers_are_apart
        what_is_accepted_holds_its_key_until_it_can_never_be_done;
    rows:
        own_rows_are_put_and_deleted
        own_rows_are_coalesced_in_batch_order
        a_column_that_is_not_listed_is_not_touched
        two_row_types_of_one_table_keep_their_order
        a_batch_with_a_refused_row_leaves_nothing
        a_text_with_a_nul_is_kept_or_refused_whole
        a_wrong_table_is_refused_at_start;
    outbox:
        a_row_comes_back_as_it_was_written
        a_retry_copy_waits_for_its_time_without_an_owner
        rows_written_twice_are_there_once
        spilled_rows_are_paged_in_sequence
        confirming_twice_is_fine
        confirmed_rows_leave_with_the_next_commit
        a_note_is_visible
        burying_puts_a_letter_in_the_place_of_the_row
        the_next_due_row_is_known
        what_could_leave_is_told_with_problems_first;
    workers:
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
        a_consumer_keeps_its_first_date;
    letters:
        a_letter_comes_back_as_it_was_written
        any_bytes_and_any_error_fit_in_a_letter
        letters_of_bytes_without_a_key_count_up
        letters_are_filtered_by_each_field
        letters_come_newest_first_and_bounded
        resolving_a_letter_writes_its_rows_and_who_did_it
        a_letter_is_resolved_once
        a_discarded_letter_that_comes_again_is_open_again
        what_was_changed_in_a_letter_is_in_the_audit;
    replays:
        a_replay_comes_back_as_it_was_planned
        a_letter_of_a_replay_is_sent_once_with_its_row_and_its_audit
        a_letter_that_somebody_else_decided_is_not_sent
        what_became_of_the_letters_of_a_replay_is_found_and_kept
        a_replay_has_one_runner_until_it_is_lost
        the_history_of_a_message_names_its_replays
        the_living_are_counted
        housekeeping_drops_replays_that_are_older_than_letters_are_kept;
    history:
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
        housekeeping_again_changes_nothing;
    audit:
        what_was_handled_is_paged_whole_and_once
        what_was_handled_is_found_by_when_it_was_sent
        what_was_handled_is_told_with_its_reason
        what_retention_drops_is_in_the_sink_first
        what_the_sink_does_not_take_is_kept_until_it_does
        what_operators_did_has_its_own_retention;
    together:
        overlapping_batches_store_each_message_once
        two_sweepers_share_the_rows
        guarded_counters_lose_no_update
        two_claims_at_once_are_both_counted
        one_letter_resolved_by_two_is_resolved_once
        one_letter_sent_by_two_runners_is_sent_once;
}
