//! Dead Letter Channel, the collector: what the broker itself buried becomes a letter in the store, once.
//!
//! The copies of our own letters lie in the same channel and are told apart by what they do not carry: a burial.

use super::{InFlight, Pipeline};
use crate::{
    Envelope,
    message::wire,
    store::{Fate, Finished, LetterState, Reason},
    transport::{Burial, Consumer, Content, Delivery, Room, TransportError},
};
use std::{sync::Arc, time::Duration};
use tracing::warn;

/// Deaths are rare, and a flood of them may wait.
const ROOM: Room = Room { count: 256, bytes: 16 << 20 };

const PAUSE: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Collects until `stop`; returns at once where the broker buries nothing.
    pub(crate) async fn collect(self: Arc<Self>) {
        let stop = self.shared.stop.clone();
        let collecting = async {
            loop {
                let ended = match self.shared.transport.buried(&self.subscription).await {
                    Ok(None) => return,
                    Ok(Some(consumer)) => self.collect_from(consumer).await,
                    Err(error) => error,
                };
                if let TransportError::Closed = ended {
                    return;
                }
                let subscription = &self.subscription.name;
                warn!(%subscription, error = %ended, "the dead letter channel was lost, it is taken up again");
                tokio::time::sleep(PAUSE).await;
            }
        };
        // What was handed to the committer by then is committed and acked all the same.
        tokio::select! { biased; () = stop.cancelled() => {} () = collecting => {} }
    }

    async fn collect_from(&self, mut from: Box<dyn Consumer>) -> TransportError {
        let room = Arc::new(InFlight::new(ROOM));
        loop {
            let batch = match from.receive(room.wait().await).await {
                Ok(batch) => batch,
                Err(error) => return error,
            };
            let letters = batch.into_iter().map(|delivery| self.bury(delivery, &room));
            futures::future::join_all(letters).await;
        }
    }

    async fn bury(&self, delivery: Delivery, room: &Arc<InFlight>) {
        let weight = room.take(delivery.weight());
        let parsed = match &delivery.content {
            Content::Parsed(envelope) => Ok(envelope.clone()),
            Content::Raw(raw) => {
                wire::parse(raw, &self.subscription.channel).map(Arc::new).map_err(|error| (raw, error))
            }
        };
        let finished = match (parsed, &delivery.buried) {
            (Ok(envelope), None) if is_our_copy(&envelope) => {
                let known = self.frame(self.consumer_of(&envelope), envelope, Fate::Ignored);
                let known = Box::new(Finished { fenced: false, ..known });
                drop(self.shared.committer.commit(known, delivery, weight).await);
                return;
            }
            (Ok(envelope), burial) => self.buried(envelope, &why(burial.as_ref())),
            (Err((raw, error)), burial) => {
                self.undecodable(raw, Reason::Undecodable, format!("{}; {error}", why(burial.as_ref())))
            }
        };
        self.settle(Box::new(finished), delivery, weight).await;
    }

    /// Fenced like a handler's fate: what was done before, and came back because its ack was lost, is no death.
    fn buried(&self, envelope: Arc<Envelope>, error: &str) -> Finished {
        let consumer = self.consumer_of(&envelope);
        let mut finished = self.frame(consumer, envelope, Fate::Dead(Reason::Buried));
        finished.letter = Some(self.letter(&finished, LetterState::Dead, Reason::Buried.word(), error).into());
        finished
    }
}

/// Its letter was written in the commit that decided it, before the copy was sent.
fn is_our_copy(envelope: &Envelope) -> bool {
    envelope.hop.worker.is_some() && envelope.hop.reason.is_some()
}

fn why(burial: Option<&Burial>) -> String {
    match burial {
        Some(Burial { reason, queue, count }) => format!("buried by the broker: {reason} in `{queue}`, {count} times"),
        None => "somebody put it into the dead letter channel".into(),
    }
}
