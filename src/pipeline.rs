//! The walk of a message: receive → decode → admit → handle → commit → ack → relay.
//!
//! One [`Pipeline`] per subscription. `consume` receives and decodes in order of receipt and gives each message its place in a
//! lane; `walk` is one task per message, and ends when it has handed a finished message to the committer: what follows from the
//! commit needs no task, unless the message comes back. Every delivery ends in exactly one fate, or is dropped unsettled and comes
//! again.

mod admit;
mod claims;
mod collect;
mod conclude;
mod decode;
mod gate;
mod handle;
mod reception;
mod room;
mod walk;

pub(crate) use claims::Claims;
#[cfg(feature = "http")]
pub(crate) use decode::operation_hash;
pub(crate) use gate::Gate;
pub use gate::HandlerStatus;
pub(crate) use reception::Reception;
pub(crate) use room::{InFlight, Weight};

use crate::{
    Envelope,
    committer::{Committer, Settled},
    config::RetryPolicy,
    context::Effects,
    fault::{self, Point},
    handler::{External, Registered},
    lanes::{Lanes, Place},
    message::KeyTime,
    route::Router,
    store::{Fate, Finished, InboxKey, Store},
    telemetry::{
        self,
        metrics::{Beat, Beats, Metrics},
        traces::Tracked,
    },
    transport::{Consumer, Delivery, Subscription, Transport, TransportError},
};
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicUsize},
    task::Poll,
    time::Duration,
};
use tokio::sync::{RwLock, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};
use uuid::Uuid;

/// So many messages are decoded before their walks get their turn: what is in the cache is used while it is there.
const ABREAST: usize = 32;

/// What all subscriptions of a worker share.
pub(crate) struct Shared {
    pub(crate) worker: Uuid,
    pub(crate) build: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) committer: Committer,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) beats: Arc<Beats>,
    pub(crate) router: Arc<Router>,
    pub(crate) payload_limit: usize,
    pub(crate) inbox_retention: Duration,
    /// How long a delivery may be held.
    pub(crate) ack_timeout: Duration,
    pub(crate) claims: Claims,
    /// Read by every handler, written by one that has to run alone because it may kill its worker.
    pub(crate) solo: Arc<RwLock<()>>,
    /// Nothing begins any more.
    pub(crate) stop: CancellationToken,
    /// What handlers see of a shutdown.
    pub(crate) cancelled: CancellationToken,
    /// What still runs is dropped.
    pub(crate) drop_running: CancellationToken,
}

/// How one channel is worked.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Whether messages of one ordering key run one after another.
    pub(crate) ordered: bool,
    /// What is older than the inbox remembers is dead, or run all the same.
    pub(crate) too_old_is_dead: bool,
    pub(crate) retry: RetryPolicy,
    /// Types that the config lists for this channel, whether or not this build handles them.
    pub(crate) listed: Vec<String>,
}

/// A handler in its subscription.
pub(crate) struct Runner {
    pub(crate) registered: Arc<Registered>,
    pub(crate) deadline: Duration,
    /// A cap within the channel's slots.
    pub(crate) cap: Option<Arc<Semaphore>>,
    /// Closed while it mostly fails, or while what it calls is left alone.
    pub(crate) gate: Arc<Gate>,
    /// Look into the inbox before every message, not only before what may have been begun.
    pub(crate) always_dedup: bool,
    /// What it calls outside the database.
    pub(crate) external: Option<External>,
    /// When this consumer was first seen by this database.
    pub(crate) first_seen: DateTime<Utc>,
}

impl Runner {
    /// Whether a run that did not end may not be followed by another one.
    fn in_doubt_is_dead(&self) -> bool {
        self.external.is_some_and(|external| external.in_doubt_is_dead)
    }
}

/// One subscription at work.
pub(crate) struct Pipeline {
    pub(crate) shared: Arc<Shared>,
    pub(crate) subscription: Subscription,
    pub(crate) policy: Policy,
    pub(crate) runners: HashMap<&'static str, Arc<Runner>>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) slots: Arc<Semaphore>,
    /// Messages that wait in front of a gate.
    pub(crate) outside: AtomicUsize,
    pub(crate) room: Arc<InFlight>,
    /// How it stands with the broker, and how old what it delivers is.
    pub(crate) reception: Arc<Reception>,
    /// What was received and has no fate yet: running, waiting, or with the committer.
    pub(crate) walks: TaskTracker,
}

/// A message that a handler of this build may run.
pub(crate) struct Work {
    envelope: Arc<Envelope>,
    runner: Arc<Runner>,
    key_time: KeyTime,
    payload_hash: [u8; 32],
    /// Over canonical payload, type and version, if it carries an `idempotencykey`.
    operation: Option<[u8; 32]>,
    /// It may have been begun before: the inbox is asked.
    suspect: bool,
    /// Its delivery is not the first one: what begins is counted.
    redelivered: bool,
    /// So often it was begun before and never ended, as far as it was counted.
    begun: u32,
    /// A claim row says that this delivery was begun.
    claimed: bool,
    /// Keep it: the outbox row that is this delivery.
    row: Option<Uuid>,
}

impl Work {
    fn consumer(&self) -> &Arc<str> {
        &self.runner.registered.consumer
    }

    fn key(&self) -> InboxKey {
        let Envelope { source, id, .. } = &*self.envelope;
        InboxKey { consumer: self.consumer().clone(), source: source.clone(), id: id.clone() }
    }

    /// Whether it is written down that it begins: after a first delivery, and whatever acts outside the database.
    fn is_counted(&self) -> bool {
        self.redelivered || self.runner.external.is_some()
    }
}

/// A delivery with what decoding made of it.
struct Arrival {
    delivery: Delivery,
    weight: Weight,
    /// `Err`: its fate is known without a handler.
    work: Result<Work, Box<Finished>>,
}

impl Pipeline {
    /// Receives until `stop`, then hands back what nobody began and waits for what runs. A lost subscription is taken up again.
    pub(crate) async fn consume(self: Arc<Self>) {
        let mut pause = Duration::from_millis(100);
        let beat = self.shared.beats.begin(format!("receive:{}", self.subscription.name));
        while !self.shared.stop.is_cancelled() {
            let subscribed = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => break,
                subscribed = self.shared.transport.subscribe(&self.subscription) => subscribed,
            };
            let error = match subscribed {
                Ok(mut consumer) => {
                    pause = Duration::from_millis(100);
                    let _listening = self.reception.listens();
                    // The store is away: before the broker takes back what is held, and breaks the channel, it is given back.
                    let absence = &self.shared.committer.absence;
                    let received = tokio::select! {
                        biased;
                        () = absence.longer_than(self.shared.ack_timeout / 2) => None,
                        received = self.receive(&mut *consumer, &beat) => Some(received),
                    };
                    let Some(received) = received else {
                        let subscription = &self.subscription.name;
                        warn!(%subscription, "the store is away for long: what is held goes back to the broker");
                        consumer.hand_back().await;
                        tokio::select! { biased; () = self.shared.stop.cancelled() => break, () = absence.is_over() => continue }
                    };
                    received
                }
                Err(error) => Err(error),
            };
            match error {
                Ok(()) | Err(TransportError::Closed) => break,
                Err(error) => {
                    warn!(subscription = %self.subscription.name, %error, "the subscription was lost, it is taken up again")
                }
            }
            tokio::select! { biased; () = self.shared.stop.cancelled() => break, () = tokio::time::sleep(pause) => {} }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
        self.walks.close();
        self.walks.wait().await;
    }

    /// receive → decode, in order of receipt; then each message goes its own way.
    async fn receive(self: &Arc<Self>, from: &mut dyn Consumer, beat: &Beat) -> Result<(), TransportError> {
        let stop = &self.shared.stop;
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                batch = async { from.receive(self.room.wait().await).await } => batch?,
            };
            fault::at(Point::Received).await;
            self.shared.metrics.consumed(&self.subscription.name, batch.len());
            // What must be looked up is looked up together.
            let asks = batch.iter().any(|d| d.suspect) || self.runners.values().any(|runner| runner.always_dedup);
            let abreast = if asks { batch.len() } else { ABREAST };
            let mut batch = batch.into_iter();
            while batch.len() > 0 {
                let mut arrivals: Vec<Arrival> = {
                    let _busy = beat.busy();
                    batch.by_ref().take(abreast).map(|d| self.decode(d)).collect()
                };
                if !self.look_up(&mut arrivals).await {
                    return Ok(()); // stopped while the store was away: all of these are handed back
                }
                for arrival in arrivals {
                    if !self.set_out(arrival).await {
                        return Ok(());
                    }
                }
                let_others_run().await;
            }
        }
    }

    /// Sends a message on its way. `false`: the worker stops.
    async fn set_out(self: &Arc<Self>, Arrival { delivery, weight, work }: Arrival) -> bool {
        match work {
            Ok(work) => {
                let Some(place) = self.join_lane(&work).await else { return false };
                self.walks.spawn(Box::pin(self.clone().walk(work, place, delivery, weight)));
            }
            Err(finished) => {
                let pipeline = self.clone();
                self.walks.spawn(async move { pipeline.settle(finished, delivery, weight).await });
            }
        }
        true
    }

    /// A place in the lane of its ordering key, or of its ID if it has none. One key takes at most half of the room.
    async fn join_lane(&self, work: &Work) -> Option<(Place, bool)> {
        let Envelope { source, id, .. } = &*work.envelope;
        let id = (source, id);
        match work.envelope.ordering_key().filter(|_| self.policy.ordered) {
            Some(key) => {
                let half = (self.room.count() / 2).max(1);
                if let Some(place) = self.lanes.join(key, id, half) {
                    return Some(place);
                }
                tokio::select! {
                    biased;
                    () = self.shared.stop.cancelled() => None,
                    place = self.lanes.join_when_free(key, id, half) => Some(place),
                }
            }
            // NUL is in no ID that the parser lets through: the two kinds of lanes never meet.
            None => self.lanes.join(&format!("\0{}\0{}", id.0, id.1), id, usize::MAX),
        }
    }

    /// Commits a fate that needs no handler.
    async fn settle(&self, finished: Box<Finished>, delivery: Delivery, weight: Weight) {
        report(&finished);
        let Settled::Back(back) = self.shared.committer.commit(finished.clone(), delivery, weight).await else {
            return;
        };
        let (why, delivery, weight) = *back;
        // The letter of last resort: no inbox row that could collide, no effect that could be refused.
        let letter = Box::new(self.last_resort(*finished, &why));
        if let Settled::Back(back) = self.shared.committer.commit(letter, delivery, weight).await {
            let (why, delivery, _) = *back;
            error!(?why, "a message can be neither handled nor buried; it is released and will come again");
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(delivery);
        }
    }

    fn track(&self, work: &Work) -> Tracked {
        let process = telemetry::Process {
            system: self.shared.transport.kind_of(&self.subscription.name),
            channel: &self.subscription.channel,
            subscription: &self.subscription.name,
            id: &work.envelope.id,
            ty: &work.envelope.ty,
            attempt: work.envelope.hop.attempt,
            correlation: work.envelope.correlation_id.as_deref(),
            carried: work.envelope.carried(),
        };
        process.begin()
    }

    /// The frame of what is stored about `work`.
    fn finished(&self, work: &Work, fate: Fate) -> Finished {
        Finished {
            consumer: work.consumer().clone(),
            subscription: self.subscription.name.clone(),
            envelope: work.envelope.clone(),
            payload_hash: work.payload_hash,
            fate,
            fenced: true,
            operation: work.operation,
            effects: Effects::default(),
            attempt: None,
            letter: None,
            row: work.row,
            claimed: work.claimed || work.begun > 0,
            duration: Duration::ZERO,
            at: crate::clock::now(),
        }
    }
}

/// Goes to the end of the run queue, from where any idle thread may take it. Tokio's `yield_now` would not do: it waits until this
/// thread has nothing else to do, and where handlers calculate that may be long, while the other threads have nothing to do at all.
async fn let_others_run() {
    let mut has_waited = false;
    std::future::poll_fn(|cx| match std::mem::replace(&mut has_waited, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// One line in the log for each fate.
fn report(finished: &Finished) {
    let letter = finished.letter.as_ref().map(|letter| letter.error.as_str());
    telemetry::settled(telemetry::Settled {
        id: &finished.envelope.id,
        ty: &finished.envelope.ty,
        attempt: finished.envelope.hop.attempt,
        fate: finished.fate.word(),
        reason: match finished.fate {
            Fate::Dead(reason) => Some(reason.word()),
            _ => None,
        },
        error: letter.or(finished.attempt.as_ref().map(|attempt| attempt.error.as_str())),
    });
}
