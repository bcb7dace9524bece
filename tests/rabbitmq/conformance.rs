//! The transport conformance suite, on each version: one test for each case, so that a failure names both.

use super::bench::{Broker, RabbitBench};
use futures::FutureExt;
use pitcrew::testing::conformance::transport::{self, Subject};
use std::panic::AssertUnwindSafe;

/// Runs one case on a bench of its own.
async fn check(case: &str, broker: Broker) {
    let run = transport::case(case).unwrap_or_else(|| panic!("there is no case `{case}`"));
    let Some(bench) = RabbitBench::on(broker).await else { return };
    let subject = Subject::new(bench).await;
    let outcome = AssertUnwindSafe(run(subject.clone())).catch_unwind().await;
    subject.end().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod v3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(stringify!($case), super::Broker::V3).await;
            })*
        }

        mod v4 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(stringify!($case), super::Broker::V4).await;
            })*
        }

        /// What is listed here is what there is.
        #[test]
        fn every_case_is_run() {
            let listed = [$(stringify!($case)),*];
            assert_eq!(listed.to_vec(), Vec::from_iter(transport::CASES.iter().map(|(name, _)| *name)));
        }
    };
}

suite! {
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
