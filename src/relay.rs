//! Outbox relay (Transactional Outbox, Message Relay): committed rows leave for the broker, each destination at its own pace.
//!
//! Rows come from memory, straight after their commit. What does not fit stays in the outbox and is paged in later, in sequence;
//! what nobody owns, or what has come due, is taken by the sweep (`relay/sweep.rs`).

mod lane;
mod rows;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;

use crate::{
    route::Router,
    store::{Destination, OutboxRow, Store},
    telemetry::metrics::{Beats, Metrics},
    transport::{Sending, Transport},
};
use chrono::{DateTime, Utc};
use lane::Lane;
use rows::Rows;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// How the relay works.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) worker: Uuid,
    /// The build, for letters.
    pub(crate) build: String,
    /// Rows of one destination in memory.
    pub(crate) rows: usize,
    /// Rows in one publish.
    pub(crate) batch: usize,
    /// The sweep looks at least so often.
    pub(crate) sweep: Duration,
    /// A worker not seen for so long is lost.
    pub(crate) lost_after: Duration,
    /// Who hears now what nobody heard when it was sent.
    pub(crate) router: Arc<Router>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) beats: Arc<Beats>,
}

impl Settings {
    pub(crate) fn new(worker: Uuid, build: String) -> Self {
        let (sweep, lost_after) = (Duration::from_millis(500), Duration::from_secs(10));
        Self {
            worker,
            build,
            rows: 4_096,
            batch: 1_024,
            sweep,
            lost_after,
            router: Arc::default(),
            metrics: Arc::default(),
            beats: Beats::new(|| Duration::ZERO),
        }
    }
}

/// The door out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Relay(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    settings: Settings,
    lanes: Mutex<HashMap<Destination, Arc<Lane>>>,
    confirmed: Mutex<Confirmed>,
    /// A row becomes due at this time: the sweep need not wait for its tick.
    next_due: Mutex<Option<DateTime<Utc>>>,
    wake_sweep: Notify,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Rows that the broker has and the outbox still has.
#[derive(Default)]
struct Confirmed {
    /// To be deleted on the way of the next commit.
    waiting: Vec<Uuid>,
    /// All of them, those under deletion too: paging must not take them for new ones.
    standing: Rows,
    /// How often a commit took along what waited.
    taken_along: u64,
}

impl Relay {
    /// Starts the sweep; a destination's own task starts with its first row.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        transport: Arc<dyn Transport>,
        settings: Settings,
        stop: CancellationToken,
    ) -> Self {
        let inner = Inner {
            store,
            transport,
            settings,
            lanes: Mutex::default(),
            confirmed: Mutex::default(),
            next_due: Mutex::default(),
            wake_sweep: Notify::new(),
            tasks: TaskTracker::new(),
            stop,
        };
        let relay = Self(Arc::new(inner));
        relay.0.tasks.spawn(sweep::run(relay.clone()));
        relay
    }

    /// Rows that were committed under this worker's name, in commit order. Never waits: beyond its bound a destination leaves
    /// them to the outbox.
    pub(crate) fn take(&self, rows: Vec<OutboxRow>) {
        let mut arrivals: Vec<(Arc<Lane>, Vec<Sending>)> = Vec::new();
        for row in rows {
            if let Some(due) = row.due {
                self.expect_due(due);
                continue;
            }
            let known = arrivals.iter().position(|(lane, _)| *lane.destination() == row.destination);
            let at = known.unwrap_or_else(|| {
                arrivals.push((self.lane(&row.destination), Vec::new()));
                arrivals.len() - 1
            });
            arrivals[at].1.push(Sending { row, begun: false });
        }
        // At once for each destination: one wake-up, and one large publish instead of many small ones.
        for (lane, sendings) in arrivals {
            lane.push(sendings);
        }
    }

    /// These rows may stand in the outbox under this worker's name without having been handed over.
    pub(crate) fn look_again(&self, rows: &[OutboxRow]) {
        for row in rows {
            match row.due {
                Some(due) => self.expect_due(due),
                None => self.lane(&row.destination).spill(),
            }
        }
    }

    /// Any row may stand in the outbox under this worker's name, those that have left too.
    fn look_everywhere(&self) {
        for lane in self.lanes().values() {
            lane.spill_again();
        }
    }

    /// A row that was the message itself has left with a commit.
    pub(crate) fn forget(&self, row: Option<Uuid>) {
        let Some(row) = row else { return };
        for lane in self.lanes().values() {
            if lane.forget(row) {
                return;
            }
        }
    }

    /// Rows that may be deleted on the way of the next commit. The caller gives them back if that fails.
    pub(crate) fn confirmed(&self) -> Vec<Uuid> {
        let mut confirmed = self.confirmations();
        confirmed.taken_along += 1;
        let rest = confirmed.waiting.len().saturating_sub(4_096);
        confirmed.waiting.split_off(rest)
    }

    /// They were not deleted after all.
    pub(crate) fn undeleted(&self, rows: Vec<Uuid>) {
        self.confirmations().waiting.extend(rows);
    }

    /// They are gone from the outbox.
    pub(crate) fn deleted(&self, rows: &[Uuid]) {
        let mut confirmed = self.confirmations();
        for row in rows {
            confirmed.standing.remove(row);
        }
    }

    /// The broker has them, or they are buried.
    fn confirm(&self, rows: impl IntoIterator<Item = Uuid>) {
        let mut confirmed = self.confirmations();
        for row in rows {
            if confirmed.standing.insert(row) {
                confirmed.waiting.push(row);
            }
        }
    }

    fn confirmations(&self) -> MutexGuard<'_, Confirmed> {
        self.0.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends: publishes what is in memory until `limit`, deletes what was confirmed; the rest stays rows.
    pub(crate) async fn drain(&self, limit: Duration) {
        if !self.0.transport.promises().keeps_rows {
            let lanes: Vec<_> = self.lanes().values().cloned().collect();
            let empty = futures::future::join_all(lanes.iter().map(|lane| lane.drained()));
            let _ = tokio::time::timeout(limit, empty).await;
        }
        self.0.stop.cancel();
        self.0.tasks.close();
        let _ = tokio::time::timeout(limit, self.0.tasks.wait()).await;
        // What could not be deleted is published again, under the same ids.
        let delete = async {
            loop {
                let confirmed = self.confirmed();
                if confirmed.is_empty() || self.0.store.confirm(&confirmed).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limit, delete).await;
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Destination, Arc<Lane>>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, destination: &Destination) -> Arc<Lane> {
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get(destination) {
            return lane.clone();
        }
        let lane = Arc::new(Lane::new(destination.clone(), self.0.settings.rows));
        lanes.insert(destination.clone(), lane.clone());
        self.0.tasks.spawn(lane::run(self.clone(), lane.clone()));
        lane
    }

    /// A row comes due then: the sweep is woken if it would sleep longer.
    fn expect_due(&self, due: DateTime<Utc>) {
        if self.expect_due_quietly(due) {
            self.0.wake_sweep.notify_one();
        }
    }

    fn expect_due_quietly(&self, due: DateTime<Utc>) -> bool {
        let mut next = self.0.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        let sooner = next.is_none_or(|next| due < next);
        if sooner {
            *next = Some(due);
        }
        sooner
    }
}
