//! Transport Conformance: what a [`Transport`] must do, case by case, alone and under a whole worker.
//!
//! A case gets a [`Subject`] on a [`Bench`] of its own and panics when a promise is broken. What a transport does not promise is
//! not asked of it: the cases read its [`Promises`]. Run each entry of [`BARE`] and [`WORKING`] as a test, so that a failure
//! names the case and the transport; `docs/transport-authors.md` shows how.

mod bench;
mod closing;
mod delays;
mod delivering;
mod ear;
mod fates;
mod faulty;
mod foreign;
mod publishing;
mod receiving;
mod samples;
mod service;
mod settling;
mod subject;
mod working;

pub use bench::Bench;
pub use ear::ack;
pub use subject::Subject;

#[cfg(doc)]
use crate::transport::{Promises, Transport};
use futures::future::LocalBoxFuture;

/// One promise. A test awaits it where it is, so it need not be `Send`.
pub type Case = fn(Subject) -> LocalBoxFuture<'static, ()>;

/// The case with this name.
pub fn case(name: &str) -> Option<Case> {
    BARE.iter().chain(WORKING).find(|(known, _)| *known == name).map(|(_, case)| *case)
}

macro_rules! cases {
    ($(#[$about:meta])* $list:ident: $($part:ident: $($name:ident)*;)*) => {
        $(#[$about])*
        pub const $list: &[(&str, Case)] =
            &[$($((stringify!($name), |subject| Box::pin($part::$name(subject))),)*)*];
    };
}

cases! {
    /// The contract of [`Transport`] itself, by name. A name is a sentence.
    BARE:
    delivering:
        a_message_comes_as_it_was_sent
        any_bytes_are_a_payload
        a_large_message_comes_whole
        each_message_comes_once
        what_is_published_before_anybody_listens_waits
        declaring_again_changes_nothing
        a_command_goes_to_one_of_two_consumers
        an_event_goes_to_every_subscription
        messages_of_one_key_come_in_order;
    settling:
        what_is_acked_does_not_come_again
        what_is_released_comes_again_and_is_suspect
        a_released_message_holds_up_nobody
        a_dropped_consumer_hands_back_what_nobody_began
        what_runs_when_its_consumer_is_dropped_can_still_be_acked
        what_a_closed_transport_held_comes_again_and_is_suspect;
    receiving:
        receive_is_cancel_safe
        no_more_comes_than_there_is_room_for
        a_receive_that_waits_is_woken
        a_receive_waits_for_one_and_not_for_many
        without_a_receiver_little_is_held_and_nothing_is_lost;
    publishing:
        a_large_batch_is_confirmed_whole
        destinations_are_published_to_side_by_side
        a_subscription_is_reached_by_its_name
        where_nobody_listens_is_unroutable
        what_nobody_wants_spares_its_neighbours
        what_is_too_large_is_refused_for_good_and_spares_its_neighbours
        a_row_of_a_lost_worker_comes_suspect
        the_dead_letter_channel_takes_copies_apart_from_the_queue;
    delays:
        a_delayed_message_comes_in_its_time
        a_long_delay_holds_up_no_short_one
        what_is_due_already_comes_at_once;
    closing:
        close_ends_everything
        nothing_is_delivered_after_close
        depth_counts_what_waits
        after_a_cut_everything_goes_on;
    foreign:
        foreign_bytes_come_as_they_are
        a_message_of_another_producer_can_be_read
        foreign_headers_stop_nobody;
}

cases! {
    /// A whole worker over the transport: the same fates, attempts and reasons everywhere.
    WORKING:
    fates:
        every_message_ends_in_the_same_fate
        bytes_that_are_no_message_become_one_letter
        the_same_id_with_another_payload_is_dead_beside_the_first
        a_letter_that_is_replayed_is_done
        a_dead_message_has_a_copy_in_the_dead_letter_channel
        what_waits_for_a_newer_build_is_driven_again_by_it;
    working:
        each_command_has_one_effect
        a_key_keeps_its_order_through_a_worker
        as_many_run_as_are_allowed_and_no_more
        a_shutdown_hands_the_unbegun_to_the_next_worker
        two_workers_share_a_channel
        a_worker_that_joins_or_leaves_changes_nothing
        an_outbox_row_goes_last
        a_cut_connection_costs_no_message
        a_command_for_later_comes_in_its_time;
}
