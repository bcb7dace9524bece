//! One batch: committed together, split where the store refuses, held while it is away, then acked and handed to the relay.

use super::{Committed, Counters, Settled, Ticket, Why, measure};
use crate::{
    clock,
    fault::{self, Point},
    relay::Relay,
    store::{Batch, Fate, Finished, Store, StoreError, Verdict},
    telemetry::metrics::{Beat, Cause, Metrics, Outcome},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) relay: Relay,
    pub(super) worker: Uuid,
    pub(super) counters: Arc<Counters>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) beat: Beat,
    pub(super) give_up: CancellationToken,
    pub(super) absence: Arc<Absence>,
}

/// The answer for one message; `None` if the worker gave up on a store that is away.
type Answer = Option<Result<Verdict, String>>;

impl Shared {
    pub(super) async fn commit(&self, batch: Vec<Ticket>) {
        let _busy = self.beat.busy();
        // Those with a transaction of their own commit there, the rest together.
        let (solo, group): (Vec<_>, Vec<_>) = if batch.iter().all(|ticket| ticket.open.is_none()) {
            (Vec::new(), batch)
        } else {
            batch.into_iter().partition(|ticket| ticket.open.is_some())
        };
        let solos = futures::future::join_all(solo.into_iter().map(|ticket| self.commit_solo(ticket)));
        tokio::join!(self.commit_group(group), solos);
    }

    async fn commit_group(&self, group: Vec<Ticket>) {
        if group.is_empty() {
            return;
        }
        let mut finished = Vec::with_capacity(group.len());
        let mut tickets = Vec::with_capacity(group.len());
        for Ticket { finished: message, delivery, weight, then, .. } in group {
            finished.push(*message);
            tickets.push((delivery, weight, then));
        }
        let (answers, in_doubt) = self.commit_or_split(&finished).await;
        fault::at(Point::AfterCommit).await;
        let (mut left, mut rows, mut fates) = (Vec::new(), Vec::new(), BTreeMap::<_, u64>::new());
        let mut settled = Vec::with_capacity(finished.len());
        let mut freed = Vec::with_capacity(finished.len());
        for ((message, answer), (delivery, weight, then)) in finished.into_iter().zip(answers).zip(tickets) {
            if in_doubt && matches!(answer, Some(Ok(Verdict::Duplicate | Verdict::Conflict))) {
                // Perhaps our own commit whose answer was lost: it changed the inbox and the documents, and its rows stand in the
                // outbox under our name.
                self.relay.look_again(&message.effects.outbox);
            }
            let done = match answer {
                Some(Ok(Verdict::Stored)) => {
                    delivery.ack(Committed { _minted_here: () });
                    *fates.entry(message.fate.word()).or_default() += 1;
                    measure(&self.metrics, &message, None);
                    left.extend(message.row);
                    rows.extend(message.effects.outbox);
                    freed.push(weight);
                    Settled::Stored
                }
                Some(Ok(Verdict::Duplicate)) => {
                    delivery.ack(Committed { _minted_here: () });
                    *fates.entry(Fate::Duplicate.word()).or_default() += 1;
                    measure(&self.metrics, &message, Some(Cause::Commit));
                    self.relay.forget(message.row);
                    Settled::Duplicate
                }
                Some(Ok(Verdict::Conflict)) => Settled::back(Why::Conflict, delivery, weight),
                Some(Ok(Verdict::IdReused)) => Settled::back(Why::IdReused, delivery, weight),
                Some(Ok(Verdict::KeyConflict)) => Settled::back(Why::KeyConflict, delivery, weight),
                Some(Err(why)) => Settled::back(Why::Refused(why), delivery, weight),
                None => Settled::Dropped,
            };
            settled.push((then, done));
        }
        self.counters.count(fates);
        fault::at(Point::AfterAck).await;
        for row in left {
            self.relay.forget(Some(row));
        }
        self.relay.take(rows);
        // Last: an answered walk leaves its lane, and the next of the key must find these rows in the relay before its own.
        for (then, done) in settled {
            then(done);
        }
        drop(freed); // all at once: who receives is woken for a batch, not for a message
    }

    /// Depth first, left to right, so that order stays; halves until the guilty message stands alone. The second answer: the
    /// outcome of an earlier try is unknown.
    async fn commit_or_split(&self, finished: &[Finished]) -> (Vec<Answer>, bool) {
        let mut answers = Vec::with_capacity(finished.len());
        let mut in_doubt = false;
        let mut todo = vec![finished];
        while let Some(part) = todo.pop() {
            match self.commit_stubbornly(part, &mut in_doubt).await {
                Ok(Some(verdicts)) => answers.extend(verdicts.into_iter().map(|v| Some(Ok(v)))),
                Ok(None) => answers.extend(part.iter().map(|_| None)),
                Err(why) if part.len() == 1 => answers.push(Some(Err(why))),
                Err(_) => {
                    self.counters.splits.fetch_add(1, Relaxed);
                    self.metrics.split();
                    let (left, right) = part.split_at(part.len() / 2);
                    todo.extend([right, left]);
                }
            }
        }
        (answers, in_doubt)
    }

    /// A store that is away is awaited, holding everything: the room of these messages is not free, so consumption stops by
    /// itself. A refusal is the caller's business.
    async fn commit_stubbornly(&self, part: &[Finished], in_doubt: &mut bool) -> Result<Option<Vec<Verdict>>, String> {
        let mut backoff = Backoff::new(&self.absence);
        loop {
            fault::at(Point::BeforeCommit).await;
            let confirmed = self.relay.confirmed();
            let batch = Batch { worker: self.worker, messages: part, confirmed: &confirmed };
            self.counters.commits.fetch_add(1, Relaxed);
            let began = clock::instant();
            let answer = self.store.commit(&batch).await;
            self.beat.moves();
            self.metrics.committed(part.len(), began.elapsed(), outcome(answer.as_ref().err()));
            let error = match answer {
                Ok(verdicts) => {
                    backoff.is_over();
                    self.relay.deleted(&confirmed);
                    return Ok(Some(verdicts));
                }
                Err(error) => error,
            };
            self.relay.undeleted(confirmed);
            match error {
                StoreError::Refused(why) => return Err(format!("{why:#}")),
                StoreError::Busy(_) => backoff.busy().await,
                StoreError::Away(_) | StoreError::Unfit(_) => {
                    *in_doubt = true;
                    let waits = backoff.away(&error, &self.give_up).await;
                    self.beat.moves(); // a store that is away keeps nobody from moving
                    if !waits {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn commit_solo(&self, ticket: Ticket) {
        let Ticket { finished, delivery, weight, open, then, .. } = ticket;
        let Some(open) = open else { return };
        fault::at(Point::BeforeCommit).await;
        self.counters.commits.fetch_add(1, Relaxed);
        let began = clock::instant();
        let answer = self.store.commit_open(open, self.worker, &finished).await;
        self.metrics.committed(1, began.elapsed(), outcome(answer.as_ref().err()));
        let settled = match answer {
            Ok(Verdict::Stored) => {
                fault::at(Point::AfterCommit).await;
                delivery.ack(Committed { _minted_here: () });
                self.counters.count([(finished.fate.word(), 1)]);
                measure(&self.metrics, &finished, None);
                fault::at(Point::AfterAck).await;
                self.relay.forget(finished.row);
                self.relay.take(finished.effects.outbox);
                Settled::Stored
            }
            Ok(Verdict::Duplicate) => {
                delivery.ack(Committed { _minted_here: () });
                self.counters.count([(Fate::Duplicate.word(), 1)]);
                measure(&self.metrics, &finished, Some(Cause::Commit));
                self.relay.forget(finished.row);
                Settled::Duplicate
            }
            Ok(Verdict::Conflict) => Settled::back(Why::Conflict, delivery, weight),
            Ok(Verdict::IdReused) => Settled::back(Why::IdReused, delivery, weight),
            Ok(Verdict::KeyConflict) => Settled::back(Why::KeyConflict, delivery, weight),
            // The author's statements are in it and cannot be repeated from here: the delivery comes again, and the inbox row
            // tells whether this commit was made.
            Err(error) if error.is_transient() => {
                warn!(error = %error, "a handler's own transaction was lost, its message comes again");
                self.relay.look_again(&finished.effects.outbox);
                Settled::Dropped
            }
            Err(error) => Settled::back(Why::Refused(error.to_string()), delivery, weight),
        };
        then(settled);
    }
}

fn outcome(error: Option<&StoreError>) -> Outcome {
    match error {
        None => Outcome::Stored,
        Some(StoreError::Refused(_)) => Outcome::Refused,
        Some(StoreError::Busy(_)) => Outcome::Busy,
        Some(StoreError::Away(_) | StoreError::Unfit(_)) => Outcome::Away,
    }
}

/// How a stubborn caller waits for a store. Says once that it waits, and once that it is over.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    absence: &'a Absence,
    pause: Duration,
    since: Option<clock::Instant>,
}

/// Since when the store is away, for all of a worker to see.
#[derive(Debug, Default)]
pub(crate) struct Absence(watch::Sender<Option<clock::Instant>>);

impl Absence {
    /// Returns when the store has been away for `limit` without a break.
    pub(crate) async fn longer_than(&self, limit: Duration) {
        let mut since = self.0.subscribe();
        loop {
            let began = *since.borrow_and_update();
            let over = async {
                match began {
                    Some(began) => tokio::time::sleep_until(began + limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { () = over => return, _ = since.changed() => {} }
        }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub(crate) async fn is_over(&self) {
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }

    fn begins(&self, at: clock::Instant) {
        self.0.send_if_modified(|since| since.is_none() && since.replace(at).is_none());
    }

    fn ends(&self) {
        self.0.send_if_modified(|since| since.take().is_some());
    }
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(absence: &'a Absence) -> Self {
        Self { absence, pause: Duration::from_millis(50), since: None }
    }

    /// Rolled back for sure: again, almost at once.
    pub(crate) async fn busy(&mut self) {
        tokio::time::sleep(Duration::from_millis(1 + fastrand::u64(0..10))).await;
    }

    /// `false`: do not wait any more.
    pub(crate) async fn away(&mut self, error: &StoreError, give_up: &CancellationToken) -> bool {
        self.absence.begins(clock::instant()); // another caller may have called it over too soon
        if self.since.is_none() {
            self.since = Some(clock::instant());
            warn!(error = %error, "the store is away: nothing is acked, everything is held until it is back");
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(Duration::from_secs(5));
        tokio::select! {
            biased;
            () = give_up.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    pub(crate) fn is_over(&mut self) {
        self.absence.ends();
        if let Some(since) = self.since.take() {
            info!(seconds = since.elapsed().as_secs_f64(), "the store is back");
        }
    }
}
