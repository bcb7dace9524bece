//! Paging: rows that did not fit into memory come in from the outbox, in sequence.

use super::Lane;
use crate::{
    relay::{Relay, rows::Rows},
    transport::Sending,
};
use std::time::Duration;

/// Pages in what was left to the outbox, in sequence, until the queue is full or nothing is left there.
pub(super) async fn page_in(relay: &Relay, lane: &Lane) {
    let before = {
        let mut state = lane.lock();
        state.left = Some(Rows::default());
        state.spills
    };
    page_in_since(before, relay, lane).await;
    lane.lock().left = None;
}

/// `before`: how often rows had been left to the outbox when this began.
async fn page_in_since(before: u64, relay: &Relay, lane: &Lane) {
    // Publishing and paging take turns, so whatever of this lane was confirmed before now is in here or gone.
    let standing = relay.confirmations().standing.clone();
    let mut after = None;
    loop {
        let page = relay.0.store.spilled(relay.0.settings.worker, &lane.destination, after, 1_000).await;
        let Ok(page) = page else {
            tokio::time::sleep(Duration::from_millis(200)).await; // the store is away; the rows are safe there
            return;
        };
        let mut state = lane.lock();
        let Some(last) = page.last().map(|row| row.seq) else {
            // The outbox has no more. If nothing was left to it meanwhile, memory is enough again.
            state.spilled = state.spills != before;
            state.spilled_begun &= state.spilled;
            return;
        };
        after = Some(last);
        for row in page {
            if state.queue.len() >= lane.bound {
                return;
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
