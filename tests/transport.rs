//! Conformance of the transports: one test for each case, transport and store, so that a failure names all of them.
//!
//! The list of cases stands here once; a transport adds a line to `suites!` and a bench of its own under `tests/transport/`.

#[path = "transport/embedded.rs"]
mod embedded;
#[cfg(feature = "rabbitmq")]
#[path = "transport/rabbitmq.rs"]
mod rabbitmq;

use futures::FutureExt;
use pitcrew::testing::conformance::transport::{self, Bench, Subject};
use std::{panic::AssertUnwindSafe, sync::Arc};

/// Runs one case on a bench of its own.
async fn check(case: &str, bench: Option<Arc<dyn Bench>>) {
    let run = transport::case(case).unwrap_or_else(|| panic!("there is no case `{case}`"));
    let Some(bench) = bench else { return };
    let subject = Subject::new(bench).await;
    let outcome = AssertUnwindSafe(run(subject.clone())).catch_unwind().await;
    subject.end().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// One test a case.
macro_rules! some {
    ($bench:path; $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            crate::check(stringify!($case), $bench()).await;
        })*
    };
}

/// One test a case, for all that a list of the library holds.
macro_rules! tests {
    ($bench:path; $list:ident; $($case:ident)*) => {
        some! { $bench; $($case)* }

        /// What is run is listed here; the library says what there is.
        #[test]
        fn every_case_is_run() {
            let known = pitcrew::testing::conformance::transport::$list.iter().map(|(name, _)| *name);
            assert_eq!([$(stringify!($case)),*].to_vec(), known.collect::<Vec<_>>());
        }
    };
}

/// The contract of a transport itself.
macro_rules! bare {
    ($bench:path) => {
        tests! { $bench; BARE;
            a_message_comes_as_it_was_sent
            any_bytes_are_a_payload
            a_large_message_comes_whole
            each_message_comes_once
            what_is_published_before_anybody_listens_waits
            declaring_again_changes_nothing
            a_command_goes_to_one_of_two_consumers
            an_event_goes_to_every_subscription
            messages_of_one_key_come_in_order
            what_is_acked_does_not_come_again
            what_is_released_comes_again_and_is_suspect
            a_released_message_holds_up_nobody
            a_dropped_consumer_hands_back_what_nobody_began
            what_runs_when_its_consumer_is_dropped_can_still_be_acked
            what_a_closed_transport_held_comes_again_and_is_suspect
            receive_is_cancel_safe
            no_more_comes_than_there_is_room_for
            a_receive_that_waits_is_woken
            a_receive_waits_for_one_and_not_for_many
            without_a_receiver_little_is_held_and_nothing_is_lost
            a_large_batch_is_confirmed_whole
            destinations_are_published_to_side_by_side
            a_subscription_is_reached_by_its_name
            where_nobody_listens_is_unroutable
            what_nobody_wants_spares_its_neighbours
            what_is_too_large_is_refused_for_good_and_spares_its_neighbours
            a_row_of_a_lost_worker_comes_suspect
            the_dead_letter_channel_takes_copies_apart_from_the_queue
            a_delayed_message_comes_in_its_time
            a_long_delay_holds_up_no_short_one
            what_is_due_already_comes_at_once
            close_ends_everything
            nothing_is_delivered_after_close
            depth_counts_what_waits
            after_a_cut_everything_goes_on
            foreign_bytes_come_as_they_are
            a_message_of_another_producer_can_be_read
            foreign_headers_stop_nobody
        }
    };
}

/// Whole workers over it.
macro_rules! working {
    ($bench:path) => {
        tests! { $bench; WORKING;
            every_message_ends_in_the_same_fate
            bytes_that_are_no_message_become_one_letter
            the_same_id_with_another_payload_is_dead_beside_the_first
            a_letter_that_is_replayed_is_done
            a_dead_message_has_a_copy_in_the_dead_letter_channel
            what_waits_for_a_newer_build_is_driven_again_by_it
            each_command_has_one_effect
            a_key_keeps_its_order_through_a_worker
            as_many_run_as_are_allowed_and_no_more
            a_shutdown_hands_the_unbegun_to_the_next_worker
            two_workers_share_a_channel
            a_worker_that_joins_or_leaves_changes_nothing
            an_outbox_row_goes_last
            a_cut_connection_costs_no_message
            a_command_for_later_comes_in_its_time
        }
    };
}

mod bare_embedded {
    bare!(crate::embedded::on_memory);
}

mod embedded_on_memory {
    working!(crate::embedded::on_memory);
}

mod embedded_on_sqlite {
    working!(crate::embedded::on_sqlite);
}

mod embedded_on_postgres {
    working!(crate::embedded::on_postgres);
}

#[cfg(feature = "rabbitmq")]
mod bare_rabbitmq {
    bare!(crate::rabbitmq::on_v3);
}

#[cfg(feature = "rabbitmq")]
mod bare_rabbitmq_4 {
    bare!(crate::rabbitmq::on_v4);
}

#[cfg(feature = "rabbitmq")]
mod rabbitmq_3 {
    working!(crate::rabbitmq::on_v3);
}

#[cfg(feature = "rabbitmq")]
mod rabbitmq_4 {
    working!(crate::rabbitmq::on_v4);
}

/// What a broker does on a bad day: duplicates, lost acks, refusals, and no order. Order and the count of equal bytes are
/// promised in fair weather only.
mod embedded_in_foul_weather {
    some! { crate::embedded::in_foul_weather;
        every_message_ends_in_the_same_fate
        a_letter_that_is_replayed_is_done
        each_command_has_one_effect
        two_workers_share_a_channel
        a_worker_that_joins_or_leaves_changes_nothing
        an_outbox_row_goes_last
    }
}
