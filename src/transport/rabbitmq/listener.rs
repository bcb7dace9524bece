//! Event-Driven Consumer: deliveries of one queue over one broker channel, in the order in which the broker sent them.

use super::{
    super::{Consumer, Content, Delivery, Room, TransportError},
    convert,
    life::{self, Leftover, Life},
    link,
    prefetch::Prefetch,
    trouble,
};
use crate::clock;
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection,
    message::Delivery as Message,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One life of one subscription.
pub(super) struct Listener {
    queue: Arc<str>,
    channel: Channel,
    life: Arc<Life>,
    /// The consumer; `None` only in `drop`.
    current: Option<lapin::Consumer>,
    /// The one before it, while its cancellation is under way: some of its deliveries may still be on their way.
    leaving: Option<lapin::Consumer>,
    /// A prefetch belongs to a consumer for life: another one means another consumer.
    successor: Option<JoinHandle<Result<lapin::Consumer, lapin::Error>>>,
    prefetch: Prefetch,
    /// By tag: two consumers of one channel are one sequence.
    ready: BTreeMap<u64, Message>,
    next: u64,
    left: mpsc::UnboundedSender<Leftover>,
    ground: Ground,
}

/// What every listener of a transport is given.
pub(super) struct Ground {
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
    /// It listens to a Dead Letter Channel. Elsewhere a burial is the end of a delay, and says nothing.
    pub(super) dead: bool,
}

impl Listener {
    /// Opens a channel and begins to consume.
    pub(super) async fn open(
        connection: &Connection,
        queue: Arc<str>,
        least: usize,
        ground: Ground,
    ) -> Result<Self, lapin::Error> {
        let channel = link::channel(connection).await?;
        let prefetch = Prefetch::new(least, clock::instant());
        let consumer = consume(channel.clone(), queue.clone(), prefetch.now()).await?;
        let (life, (left, leftovers)) = (Life::new(), mpsc::unbounded_channel());
        ground.tasks.spawn(life::run(life.clone(), channel.clone(), leftovers, ground.closing.clone()));
        Ok(Self {
            queue,
            channel,
            life,
            current: Some(consumer),
            leaving: None,
            successor: None,
            prefetch,
            ready: BTreeMap::new(),
            next: 1,
            left,
            ground,
        })
    }

    /// Ready when the next delivery in sequence is here, or this life is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if let Some(successor) = &mut self.successor
            && let Poll::Ready(made) = successor.poll_unpin(cx)
        {
            self.successor = None;
            if let Ok(Ok(consumer)) = made {
                self.leaving = self.current.replace(consumer);
                let (channel, tag) = (self.channel.clone(), self.leaving.as_ref().map(lapin::Consumer::tag));
                self.ground.tasks.spawn(async move {
                    if let Some(tag) = tag {
                        let _ = channel.basic_cancel(tag, BasicCancelOptions::default()).await;
                    }
                });
            }
        }
        if let Some(leaving) = &mut self.leaving {
            match drain(leaving, &mut self.ready, cx) {
                Poll::Pending => {}
                Poll::Ready(None) => self.leaving = None,
                Poll::Ready(Some(error)) => return Poll::Ready(Err(self.lost(&error))),
            }
        }
        if let Some(current) = &mut self.current {
            match drain(current, &mut self.ready, cx) {
                Poll::Pending => {}
                Poll::Ready(Some(error)) => return Poll::Ready(Err(self.lost(&error))),
                // Without an error: the queue was deleted, or moved away from under us.
                Poll::Ready(None) => {
                    self.life.end();
                    let why = format!("the broker cancelled the consumer of `{}`: its queue is gone", self.queue);
                    return Poll::Ready(Err(TransportError::Away(why)));
                }
            }
        }
        if self.ready.contains_key(&self.next) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn lost(&self, error: &lapin::Error) -> TransportError {
        self.life.end();
        trouble::operating(&format!("consume from `{}`", self.queue), error)
    }

    fn take(&mut self, room: Room) -> Vec<Delivery> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < room.count {
            let Some(message) = self.ready.first_entry().filter(|entry| *entry.key() == self.next) else { break };
            let size = message.get().data.len();
            if !taken.is_empty() && bytes + size > room.bytes {
                break;
            }
            let message = message.remove();
            bytes += size;
            if !self.life.deliver(self.next) {
                break; // the channel is gone; the stream says so next
            }
            self.next += 1;
            taken.push(delivery(message, self.life.clone(), self.ground.dead));
        }
        taken
    }

    fn adapt(&mut self, room: Room) {
        let (held, settled) = self.life.counts();
        let here = held + self.ready.len();
        let Some(prefetch) = self.prefetch.look(clock::instant(), here, settled, held + room.count) else { return };
        if self.successor.is_none() && self.leaving.is_none() {
            self.successor = Some(tokio::spawn(consume(self.channel.clone(), self.queue.clone(), prefetch)));
        }
    }
}

/// Moves what has arrived. Ready when the consumer is at its end, with the error if there is one.
fn drain(
    from: &mut lapin::Consumer,
    to: &mut BTreeMap<u64, Message>,
    cx: &mut Context<'_>,
) -> Poll<Option<lapin::Error>> {
    loop {
        match std::task::ready!(from.poll_next_unpin(cx)) {
            Some(Ok(message)) => drop(to.insert(message.delivery_tag, message)),
            Some(Err(error)) => return Poll::Ready(Some(error)),
            None => return Poll::Ready(None),
        }
    }
}

async fn consume(channel: Channel, queue: Arc<str>, prefetch: u16) -> Result<lapin::Consumer, lapin::Error> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    channel.basic_consume((&*queue).into(), "".into(), options, FieldTable::default()).await
}

fn delivery(message: Message, life: Arc<Life>, dead: bool) -> Delivery {
    let Message { delivery_tag, redelivered, properties, data, .. } = message;
    let burial = dead.then(|| convert::burial(&properties)).flatten();
    let raw = convert::raw(&properties, data);
    let suspect = redelivered || raw.is_again();
    let mut delivery = Delivery::new(Content::Raw(Arc::new(raw)), suspect, None, life, delivery_tag);
    delivery.buried = burial;
    delivery
}

#[async_trait]
impl Consumer for Listener {
    async fn receive(&mut self, room: Room) -> Result<Vec<Delivery>, TransportError> {
        loop {
            let closing = self.ground.closing.clone();
            tokio::select! {
                biased;
                () = closing.cancelled() => return Err(TransportError::Closed),
                arrived = std::future::poll_fn(|cx| self.poll(cx)) => arrived?,
            }
            self.adapt(room);
            let taken = self.take(room);
            if !taken.is_empty() {
                return Ok(taken);
            }
        }
    }

    /// By closing the channel: at once for all of it, and the broker counts one delivery more, not one for each frame.
    async fn hand_back(self: Box<Self>) {
        self.life.end();
        let _ = self.channel.close(200, "handed back".into()).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let streams = self.leaving.take().into_iter().chain(self.current.take()).collect();
        let tags = std::mem::take(&mut self.ready).into_keys().collect();
        let _ = self.left.send(Leftover { tags, streams });
    }
}
