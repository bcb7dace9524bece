//! One life of a broker channel that consumes: the settling side of its deliveries, and its end.
//!
//! Tags mean something on this channel only. When it ends, what is still held comes again, and what is settled later goes nowhere:
//! the inbox absorbs the redelivery.

use super::{
    super::Settle,
    ledger::{Ledger, Order, PATIENCE},
};
use crate::clock;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    Channel, Consumer,
    options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// A settlement waits so long for others to share its frame. Nobody waits for it, and its write to the broker's log would come
/// before that of the messages that the same commit sends.
const COMPANY: Duration = Duration::from_millis(5);

/// Shared by the consumer, its deliveries and the task that sends their acks.
pub(super) struct Life {
    /// `None`: the channel is gone.
    ledger: Mutex<Option<Ledger>>,
    changed: Notify,
}

/// What the consumer leaves behind when it is dropped: deliveries that nobody began.
pub(super) struct Leftover {
    pub(super) tags: Vec<u64>,
    pub(super) streams: Vec<Consumer>,
}

impl Life {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { ledger: Mutex::new(Some(Ledger::new())), changed: Notify::new() })
    }

    /// `false`: this channel is not to be trusted any more.
    pub(super) fn deliver(&self, tag: u64) -> bool {
        self.lock().as_mut().is_some_and(|ledger| ledger.deliver(tag))
    }

    /// Held, and settled so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        self.lock().as_ref().map_or((0, 0), |ledger| (ledger.held(), ledger.settled()))
    }

    /// The channel is gone: settling goes nowhere from here on.
    pub(super) fn end(&self) {
        *self.lock() = None;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ledger>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, how: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.lock();
        let Some(ledger) = ledger.as_mut() else { return };
        how(ledger);
        self.changed.notify_one();
    }
}

impl Settle for Life {
    fn ack(&self, tag: u64) {
        self.settle(|ledger| ledger.ack(tag));
    }

    fn release(&self, tag: u64) {
        self.settle(|ledger| ledger.release(tag));
    }
}

/// Sends the frames of one life until its channel is gone, until the transport closes, or after its consumer was dropped until
/// nothing is held any more. Then the channel is closed: the broker has taken every ack that was sent before that.
pub(super) async fn run(
    life: Arc<Life>,
    channel: Channel,
    mut left: mpsc::UnboundedReceiver<Leftover>,
    closing: CancellationToken,
) {
    let mut sent: FuturesUnordered<BoxFuture<'static, lapin::Result<()>>> = FuturesUnordered::new();
    let mut ending = false;
    loop {
        let closing_now = closing.is_cancelled();
        // At the end there is no hole worth waiting for.
        let patience = if closing_now { Duration::ZERO } else { PATIENCE };
        let due = life.lock().as_mut().map(|ledger| (ledger.due(clock::instant(), patience), ledger.held()));
        let Some(((orders, again), held)) = due else { return };
        // In this order on the wire: each future sends its frame when it is first polled, and they are polled as they were pushed.
        sent.extend(orders.into_iter().map(|order| frame(channel.clone(), order)));
        if closing_now || (ending && held == 0) {
            break;
        }
        let again = async {
            match again {
                Some(again) => tokio::time::sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(result) = sent.next() => {
                if let Err(error) = result {
                    debug!(%error, "an ack was not sent: its channel is gone, and its message comes again");
                    return life.end();
                }
            }
            () = life.changed.notified() => {
                tokio::select! { () = tokio::time::sleep(COMPANY) => {} () = closing.cancelled() => {} }
            }
            () = again => {}
            Some(leftover) = left.recv(), if !ending => {
                ending = true;
                give_back(&life, &channel, leftover).await;
            }
            () = closing.cancelled() => {}
        }
    }
    while sent.next().await.is_some() {}
    life.end();
    let _ = tokio::time::timeout(Duration::from_secs(5), channel.close(200, "done".into())).await;
}

fn frame(channel: Channel, order: Order) -> BoxFuture<'static, lapin::Result<()>> {
    async move {
        match order {
            Order::AckUpTo(tag) => channel.basic_ack(tag, BasicAckOptions { multiple: true }).await,
            Order::Ack(tag) => channel.basic_ack(tag, BasicAckOptions { multiple: false }).await,
            Order::Back(tag) => channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await,
        }
    }
    .boxed()
}

/// No more deliveries, and those that nobody took are back in their queue at once, not when the last handler ends.
async fn give_back(life: &Life, channel: &Channel, leftover: Leftover) {
    let Leftover { mut tags, streams } = leftover;
    for mut stream in streams {
        let _ = channel.basic_cancel(stream.tag(), BasicCancelOptions::default()).await;
        while let Some(Ok(delivery)) = stream.next().await {
            tags.push(delivery.delivery_tag);
        }
    }
    tags.sort_unstable();
    for tag in tags {
        // Of one that came out of sequence the channel's close takes care.
        if life.deliver(tag) {
            life.release(tag);
        }
    }
}
