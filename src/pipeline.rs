//! The walk of a message: receive → decode → admit → handle → commit → ack → relay.
//!
//! One [`Pipeline`] per subscription. `consume` receives and decodes in order of receipt and gives each message its place in a
//! lane; `walk` is one task per message. Every delivery ends in exactly one fate, or is dropped unsettled and comes again.

mod admit;
mod collect;
mod conclude;
mod decode;
mod gate;
mod handle;
mod room;

pub(crate) use gate::Gate;
pub use gate::HandlerStatus;
pub(crate) use room::{InFlight, Weight};

use crate::{
    Envelope,
    committer::{Committer, Settled, Why},
    config::RetryPolicy,
    context::Effects,
    fault::{self, Point},
    handler::{External, Registered},
    lanes::{Lanes, Place},
    route::Router,
    store::{Fate, Finished, InboxKey, Store},
    telemetry,
    transport::{Consumer, Delivery, Subscription, Transport, TransportError},
};
use admit::Admission;
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::sync::{RwLock, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error, warn};
use uuid::Uuid;

/// A handler may lose so many races for a guarded document before it has to wait like a failure.
const RERUNS: u32 = 3;

/// What all subscriptions of a worker share.
pub(crate) struct Shared {
    pub(crate) worker: Uuid,
    pub(crate) build: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) committer: Committer,
    pub(crate) router: Arc<Router>,
    pub(crate) payload_limit: usize,
    pub(crate) inbox_retention: Duration,
    /// How long a delivery may be held.
    pub(crate) ack_timeout: Duration,
    /// Read by every handler, written by one that has to run alone because it may kill its worker.
    pub(crate) solo: RwLock<()>,
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
}

/// A message that a handler of this build may run.
pub(crate) struct Work {
    envelope: Arc<Envelope>,
    runner: Arc<Runner>,
    key: InboxKey,
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
        let walks = TaskTracker::new();
        let mut pause = Duration::from_millis(100);
        while !self.shared.stop.is_cancelled() {
            let subscribed = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => break,
                subscribed = self.shared.transport.subscribe(&self.subscription) => subscribed,
            };
            let error = match subscribed {
                Ok(mut consumer) => {
                    pause = Duration::from_millis(100);
                    // The store is away: before the broker takes back what is held, and breaks the channel, it is given back.
                    let absence = &self.shared.committer.absence;
                    let received = tokio::select! {
                        biased;
                        () = absence.longer_than(self.shared.ack_timeout / 2) => None,
                        received = self.receive(&mut *consumer, &walks) => Some(received),
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
        walks.close();
        walks.wait().await;
    }

    /// receive → decode, in order of receipt; then each message goes its own way.
    async fn receive(self: &Arc<Self>, from: &mut dyn Consumer, walks: &TaskTracker) -> Result<(), TransportError> {
        let stop = &self.shared.stop;
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                batch = async { from.receive(self.room.wait().await).await } => batch?,
            };
            fault::at(Point::Received).await;
            let mut arrivals: Vec<Arrival> = batch.into_iter().map(|delivery| self.decode(delivery)).collect();
            if !self.look_up(&mut arrivals).await {
                return Ok(()); // stopped while the store was away: all of these are handed back
            }
            for Arrival { delivery, weight, work } in arrivals {
                match work {
                    Ok(work) => {
                        let Some(place) = self.join_lane(&work).await else { return Ok(()) };
                        walks.spawn(self.clone().walk(work, place, delivery, weight));
                    }
                    Err(finished) => {
                        let pipeline = self.clone();
                        walks.spawn(async move { pipeline.settle(finished, delivery, weight).await });
                    }
                }
            }
        }
    }

    /// A place in the lane of its ordering key, or of its ID if it has none. One key takes at most half of the room.
    async fn join_lane(&self, work: &Work) -> Option<(Place, bool)> {
        let id = (&work.key.source, &work.key.id);
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
            None => self.lanes.join(&format!("\0{}\0{}", work.key.source, work.key.id), id, usize::MAX),
        }
    }

    /// admit → handle → commit → ack, for one message.
    ///
    /// A thousand of these are in memory, so what rarely happens is boxed. Whether the worker stops is asked before each wait and
    /// waited for beside it last: what need not wait does not touch the list of those who do.
    async fn walk(self: Arc<Self>, mut work: Work, place: (Place, bool), mut delivery: Delivery, mut weight: Weight) {
        let (place, twin) = place;
        let stop = &self.shared.stop;
        let _turn = tokio::select! {
            biased;
            turn = place.turn() => turn,
            () = stop.cancelled() => return,
        };
        for run in 0.. {
            let admission = if stop.is_cancelled() {
                None
            } else {
                tokio::select! {
                    biased;
                    // What lost a race for a document may have lost it to its own commit, whose answer was lost.
                    admission = self.admit(&mut work, twin || run > 0) => Some(admission),
                    () = stop.cancelled() => None,
                }
            };
            let pass = match admission {
                None => return Box::pin(self.unclaim(&work)).await,
                // The slot was freed by a handler that ended because the worker ends: it is nobody's any more.
                Some(Admission::Run(_)) if stop.is_cancelled() => return Box::pin(self.unclaim(&work)).await,
                Some(Admission::Run(pass)) => pass,
                Some(Admission::Settle(finished)) => return Box::pin(self.settle(finished, delivery, weight)).await,
            };
            fault::at(Point::BeforeHandle).await;
            let span = self.span(&work);
            let Some(handled) = self.handle(&work).instrument(span).await else {
                drop(pass);
                warn!(id = %work.envelope.id, "a handler outlived the drain timeout and was dropped; its message comes again");
                return Box::pin(self.unclaim_run(&work)).await;
            };
            let (finished, open) = self.conclude(&work, handled);
            // Before the next one is let in: it may have to wait because this one failed.
            work.runner.gate.learn(&finished);
            // The slot is free; the commit has a budget of its own. Who ran alone is beside nobody until that commit is made: if the
            // worker died before it, this one would be taken for the killer.
            let _alone = pass.end();
            fault::at(Point::AfterHandle).await;
            match self.shared.committer.commit(Box::new(finished), delivery, weight, open).await {
                Settled::Stored | Settled::Duplicate => return,
                // The store lost it; its worker lives.
                Settled::Dropped => return self.unclaim_run(&work).await,
                Settled::Back(Why::Conflict, back, room) if run < RERUNS && !work.runner.in_doubt_is_dead() => {
                    (delivery, weight) = (back, room);
                }
                Settled::Back(why, back, room) => {
                    let condemned = Box::new(self.condemn(&work, why));
                    return Box::pin(self.settle(condemned, back, room)).await;
                }
            }
        }
    }

    /// Commits a fate that needs no handler.
    async fn settle(&self, finished: Box<Finished>, delivery: Delivery, weight: Weight) {
        report(&finished);
        let Settled::Back(why, delivery, weight) =
            self.shared.committer.commit(finished.clone(), delivery, weight, None).await
        else {
            return;
        };
        // The letter of last resort: no inbox row that could collide, no effect that could be refused.
        let letter = Box::new(self.last_resort(*finished, &why));
        if let Settled::Back(why, delivery, _) = self.shared.committer.commit(letter, delivery, weight, None).await {
            error!(?why, "a message can be neither handled nor buried; it is released and will come again");
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(delivery);
        }
    }

    /// A shutdown is no crash, and neither is a lost transaction: what it kept from ending was not begun.
    async fn unclaim(&self, work: &Work) {
        if work.claimed {
            let _ = self.shared.store.unclaim(std::slice::from_ref(&work.key)).await;
        }
    }

    /// The same for a run that began: where another one may not follow, its mark stays.
    async fn unclaim_run(&self, work: &Work) {
        if !work.runner.in_doubt_is_dead() {
            self.unclaim(work).await;
        }
    }

    fn span(&self, work: &Work) -> tracing::Span {
        let process = telemetry::Process {
            system: self.shared.transport.kind(),
            channel: &self.subscription.channel,
            subscription: &self.subscription.name,
            id: &work.envelope.id,
            ty: &work.envelope.ty,
            attempt: work.envelope.hop.attempt,
            correlation: work.envelope.correlation_id.as_deref(),
            traceparent: work.envelope.traceparent.as_deref(),
        };
        process.span()
    }

    /// The frame of what is stored about `work`.
    fn finished(&self, work: &Work, fate: Fate) -> Finished {
        Finished {
            consumer: work.key.consumer.clone(),
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
