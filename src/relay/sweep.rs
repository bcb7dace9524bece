//! The sweep: takes outbox rows that nobody else will publish: ownerless, of a lost worker, or come due.

use super::Relay;
use crate::{
    clock,
    fault::{self, Point},
    store::OutboxRow,
    transport::Sending,
};
use std::{sync::PoisonError, time::Duration};
use tracing::warn;

/// Rows in one transaction of the sweep.
const PAGE: usize = 512;

/// Looks every tick, and at the moment when a row of this process comes due.
pub(super) async fn run(relay: Relay) {
    let mut idle = Idle { since: clock::instant(), taken_along: 0 };
    let beat = relay.0.settings.beats.begin("relay".into());
    let mut was_away = false;
    loop {
        let taken = {
            let _busy = beat.busy();
            let taken = once(&relay).await;
            match taken {
                None => was_away = true,
                // It may be a standby that was behind: rows that have left stand there again, and nobody else takes a living worker's.
                Some(_) if was_away => {
                    relay.look_everywhere();
                    was_away = false;
                }
                Some(_) => {}
            }
            beat.moves();
            delete_confirmed(&relay, &mut idle).await;
            taken
        };
        if taken == Some(PAGE) && !relay.0.stop.is_cancelled() {
            continue; // there is more
        }
        let pause = pause(&relay);
        tokio::select! {
            biased;
            () = relay.0.stop.cancelled() => return,
            () = relay.0.wake_sweep.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How many rows it took; `None`: the store did not answer.
async fn once(relay: &Relay) -> Option<usize> {
    let (inner, now) = (&relay.0, clock::now());
    let settings = &inner.settings;
    {
        let mut next = inner.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_some_and(|due| due <= now) {
            *next = None;
        }
    }
    // Due rows are paged by the time they come due; what is due after this page is announced again below.
    let swept = match inner.store.sweep(settings.worker, now, now - settings.lost_after, PAGE).await {
        Ok(swept) => swept,
        Err(error) => {
            warn!(%error, "the sweep of the outbox failed and is tried again");
            return None;
        }
    };
    if !swept.is_empty() {
        fault::at(Point::AfterSweep).await;
    }
    let taken = swept.len();
    for swept in swept {
        if let Some(rows) = settings.router.heard_now(&swept.row) {
            hand_over(relay, &swept.row, rows).await;
            continue;
        }
        relay.lane(&swept.row.destination).push([Sending { row: swept.row, begun: swept.begun }]);
    }
    if let Ok(Some(due)) = inner.store.next_due().await {
        relay.expect_due_quietly(due);
    }
    Some(taken)
}

/// An event that nobody heard when it was sent becomes one row for each subscription. If that ends half-way it is done again, and
/// the inbox absorbs what comes twice.
async fn hand_over(relay: &Relay, unheard: &OutboxRow, rows: Vec<OutboxRow>) {
    let store = &relay.0.store;
    if let Err(error) = store.enqueue(Some(relay.0.settings.worker), &rows).await {
        warn!(%error, "an event that is heard now waits for the next start");
        return;
    }
    relay.take(rows);
    relay.confirm([unheard.seq]);
}

/// Until the next tick, or until a row comes due.
fn pause(relay: &Relay) -> Duration {
    let next = *relay.0.next_due.lock().unwrap_or_else(PoisonError::into_inner);
    let until_due = next.map_or(Duration::MAX, |due| clock::between(clock::now(), due));
    // A row that is due and was not taken belongs to somebody else: no spinning for it.
    until_due.clamp(Duration::from_millis(5), relay.0.settings.sweep)
}

/// How long no commit came by that could take confirmed rows along.
struct Idle {
    since: clock::Instant,
    taken_along: u64,
}

/// Confirmed rows leave with the next commit; after a second without one they get a transaction of their own.
async fn delete_confirmed(relay: &Relay, idle: &mut Idle) {
    let (waiting, taken_along) = {
        let confirmed = relay.confirmations();
        (confirmed.waiting.len(), confirmed.taken_along)
    };
    if waiting == 0 || taken_along != idle.taken_along {
        *idle = Idle { since: clock::instant(), taken_along };
        return;
    }
    if idle.since.elapsed() < Duration::from_secs(1) {
        return;
    }
    let rows = relay.confirmed();
    match relay.0.store.confirm(&rows).await {
        Ok(()) => relay.deleted(&rows),
        Err(_) => relay.undeleted(rows),
    }
    *idle = Idle { since: clock::instant(), taken_along: taken_along + 1 };
}
