//! Paging: rows that did not fit into memory come in from the outbox, in sequence.

use super::Lane;
use crate::{
    relay::{Relay, rows::Rows},
    transport::Sending,
};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use uuid::Uuid;

/// Rows in one page.
const PAGE: usize = 1_000;

/// Pages in what was left to the outbox, in sequence, until the queue is full or nothing is left there.
pub(super) async fn page_in(relay: &Relay, lane: &Lane) {
    let from = {
        let mut state = lane.lock();
        state.left = Some(Rows::default());
        state.spilled.replace(Uuid::max())
    };
    let rest = page_in_from(from.unwrap_or_default(), relay, lane).await;
    let mut state = lane.lock();
    state.left = None;
    match rest {
        Some(rest) => state.spill(rest),
        // The outbox has no more. If nothing was left to it meanwhile, memory is enough again.
        None if state.spilled == Some(Uuid::max()) => {
            state.spilled = None;
            state.spilled_begun = false;
        }
        None => {}
    }
}

/// Reads nothing before `from`: behind it, where rows have just been deleted, an index leads from one dead entry to the next. The
/// answer: where to go on.
async fn page_in_from(mut from: Uuid, relay: &Relay, lane: &Lane) -> Option<Uuid> {
    // Publishing and paging take turns, so whatever of this lane was confirmed before now is in here or gone.
    let standing = relay.confirmations().standing.clone();
    loop {
        let room = lane.bound.saturating_sub(lane.lock().queue.len());
        if room == 0 {
            return Some(from);
        }
        let before = from.as_u128().checked_sub(1).map(Uuid::from_u128);
        let page = relay
            .0
            .store
            .spilled(relay.0.settings.worker, &lane.destination, before, room.clamp(PAGE / 10, PAGE))
            .await;
        let Ok(page) = page else {
            tokio::time::sleep(Duration::from_millis(200)).await; // the store is away; the rows are safe there
            return Some(from);
        };
        lane.read.fetch_add(page.len(), Relaxed);
        let mut state = lane.lock();
        from = Uuid::from_u128(page.last()?.seq.as_u128().saturating_add(1));
        for row in page {
            if state.queue.len() >= lane.bound {
                return Some(row.seq);
            }
            let sending = Sending { begun: state.spilled_begun, row };
            let is_gone = standing.contains(&sending.row.seq)
                || state.left.as_ref().is_some_and(|left| left.contains(&sending.row.seq));
            let passed = is_gone || state.is_unheard(&sending);
            if !passed && state.known.insert(sending.row.seq) {
                state.queue.push_back(sending);
            }
        }
    }
}
