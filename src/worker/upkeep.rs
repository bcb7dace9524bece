//! What a worker does beside its work: heartbeat, partitions and retention, messages that waited for this build.

use super::{BUILD, losses::Losses};
use crate::{
    clock,
    dead_letter::{self, Rerun},
    handler::Registry,
    pipeline::Gate,
    store::{
        Audit, DeadFilter, Hindered, LeftAlone, LetterState, Maintained, Retention, Store, StoreResult, WorkerRecord,
    },
    telemetry::metrics::Metrics,
};
use chrono::{DateTime, Utc};
use std::{sync::Arc, time::Duration};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

/// The doors of all handlers, by type and subscription.
pub(super) type Doors = Vec<(&'static str, Arc<str>, Arc<Gate>)>;

/// Lost after five of these.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
const MAINTENANCE: Duration = Duration::from_hours(1);

/// Apart from each other: a housekeeping that takes its time must not look like a worker that is lost.
pub(super) async fn run(
    store: Arc<dyn Store>,
    record: WorkerRecord,
    retention: Retention,
    metrics: Arc<Metrics>,
    losses: Arc<Losses>,
    doors: Doors,
    stop: CancellationToken,
) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = async { tokio::join!(live(&*store, &record, &losses, &doors), keep_house(&*store, &retention, &metrics)); } => {}
    }
}

/// What hinders handlers now.
fn hindered(doors: &Doors) -> Vec<Hindered> {
    let (now, instant) = (clock::now(), clock::instant());
    let hindered = doors.iter().filter(|(_, _, gate)| !gate.is_open()).map(|(ty, subscription, gate)| {
        let status = gate.status(subscription);
        let left_alone = status.breakers.into_iter().filter_map(|breaker| {
            let left = breaker.open_until?.saturating_duration_since(instant);
            Some(LeftAlone { breaker: breaker.name.to_string(), until: now + left })
        });
        Hindered {
            ty: (*ty).to_owned(),
            consumer: status.consumer.to_string(),
            subscription: subscription.to_string(),
            at_once: status.storm,
            left_alone: left_alone.collect(),
            waiting: status.waiting,
        }
    });
    // What has opened meanwhile hinders nobody.
    hindered.filter(|hindered| hindered.at_once.is_some() || !hindered.left_alone.is_empty()).collect()
}

async fn live(store: &dyn Store, record: &WorkerRecord, losses: &Losses, doors: &Doors) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        match store.beat(record.id, &hindered(doors), clock::now()).await {
            Ok(true) => {}
            Ok(false) => {
                // The inbox absorbs what is now published twice.
                warn!(worker = %record.id, "another worker took this one for lost; it signs on again");
                let _ = store.start_worker(record, clock::now()).await;
            }
            Err(error) => warn!(%error, "the heartbeat failed"),
        }
        losses.write_down().await;
    }
}

async fn keep_house(store: &dyn Store, retention: &Retention, metrics: &Metrics) {
    // At once, what the start left for now.
    let mut rest = if retention.sink.is_some() { Duration::ZERO } else { MAINTENANCE };
    loop {
        tokio::time::sleep(rest).await;
        rest = MAINTENANCE;
        match store.maintain(retention, clock::now()).await {
            Ok(done) => {
                let Maintained { made, dropped, trimmed, exported, kept, .. } = done;
                info!(?made, ?dropped, trimmed, ?exported, "housekeeping");
                for what in &kept {
                    error!(%what, "not taken by the sink, and kept; it is tried again in an hour");
                }
                metrics.unexported(kept.len());
            }
            Err(error) => warn!(%error, "housekeeping failed and is tried again in an hour"),
        }
    }
}

/// Quarantined messages that this build knows come again, uncounted.
pub(super) async fn redrive(
    store: &dyn Store,
    registry: &Registry,
    worker: Uuid,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    for handler in registry.consumers() {
        let filter = DeadFilter {
            states: vec![LetterState::Quarantined],
            consumer: Some(handler.consumer.to_string()),
            ..DeadFilter::default()
        };
        // Newest first is for people; here the oldest goes first, as it came.
        for letter in store.letter_heads(&filter, 10_000).await?.into_iter().rev() {
            if letter.version > handler.version {
                continue;
            }
            let Some(letter) = dead_letter::find(store, &letter.key).await? else { continue };
            let audit = Audit {
                actor: format!("worker {worker}"),
                action: "redrive".into(),
                target: letter.key.id.clone(),
                reason: format!("build {BUILD} knows version {}", letter.version),
                at: now,
                bodies: None,
            };
            match dead_letter::rerun(&letter, Rerun::Redrive) {
                Ok(row) => {
                    if store.resolve_letter(&letter.key, LetterState::Replayed, &[row], &audit).await? {
                        info!(
                            id = letter.key.id,
                            ty = letter.ty,
                            version = letter.version,
                            "driven again: this build knows it"
                        );
                    }
                }
                Err(error) => warn!(id = letter.key.id, %error, "a quarantined message cannot be driven again"),
            }
        }
    }
    Ok(())
}
