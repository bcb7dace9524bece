//! The door out, against a destination that does what a test says.

use super::*;
use crate::{
    Envelope, clock, route,
    store::{
        DeadFilter, Purpose,
        memory::{Failure, MemoryStore},
    },
    testing::poll_pause,
    transport::{Consumer, Depth, Endpoints, Promises, PublishError, Published, Subscription, TransportError},
};
use async_trait::async_trait;
use std::{collections::HashSet, sync::atomic::Ordering::Relaxed};

/// What a destination says to a row, given how often it has seen it.
pub(crate) type Script = fn(&OutboxRow, usize) -> Result<Published, PublishError>;

struct Broker {
    script: Script,
    seen: Mutex<Vec<Uuid>>,
    /// Those of them that may have been begun before.
    begun: Mutex<HashSet<Uuid>>,
}

#[async_trait]
impl Transport for Broker {
    fn kind(&self) -> &'static str {
        "scripted"
    }
    fn promises(&self) -> Promises {
        Promises {
            order_per_key: true,
            row_per_subscription: false,
            keeps_unheard: false,
            keeps_rows: false,
            longest_delay: Duration::ZERO,
            dead_letter_channel: false,
            max_bytes: usize::MAX,
            delay_accuracy: Duration::ZERO,
        }
    }
    async fn declare(&self, _: &Endpoints) -> Result<(), TransportError> {
        Ok(())
    }
    async fn subscribe(&self, _: &Subscription) -> Result<Box<dyn Consumer>, TransportError> {
        Err(TransportError::Closed)
    }
    async fn publish(&self, _: &Destination, rows: &[Sending]) -> Vec<Result<Published, PublishError>> {
        let mut seen = self.seen.lock().unwrap();
        let mut answer = |sending: &Sending| {
            seen.push(sending.row.seq);
            self.begun.lock().unwrap().extend(sending.begun.then_some(sending.row.seq));
            assert!(seen.len() < 1_000, "published without an end");
            let times = seen.iter().filter(|seq| **seq == sending.row.seq).count();
            (self.script)(&sending.row, times)
        };
        rows.iter().map(&mut answer).collect()
    }
    async fn depth(&self, _: &str) -> Result<Depth, TransportError> {
        Ok(Depth::default())
    }
    async fn close(&self) {}
}

pub(crate) struct Bed {
    pub(crate) store: Arc<MemoryStore>,
    broker: Arc<Broker>,
    pub(crate) relay: Relay,
    pub(crate) worker: Uuid,
    stop: CancellationToken,
}

impl Bed {
    /// `rows`: of one destination in memory.
    pub(crate) fn make(rows: usize, script: Script) -> Self {
        let (store, stop, worker) = (Arc::new(MemoryStore::new()), CancellationToken::new(), clock::uuid_v7());
        let broker = Arc::new(Broker { script, seen: Mutex::default(), begun: Mutex::default() });
        let settings = Settings { rows, batch: 3, ..Settings::new(worker, "test".into()) };
        let relay = Relay::start(store.clone(), broker.clone(), settings, stop.clone());
        Self { store, broker, relay, worker, stop }
    }

    /// As after a commit: the rows stand in the outbox, and the relay is told.
    async fn commit(&self, rows: &[OutboxRow]) {
        self.store.enqueue(Some(self.worker), rows).await.unwrap();
        self.relay.take(rows.to_vec());
    }

    pub(crate) fn seen(&self) -> Vec<Uuid> {
        self.broker.seen.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while !done(self) {
                poll_pause().await;
            }
        });
        assert!(waited.await.is_ok(), "seen: {:?}", self.seen());
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn row(to: &str, key: Option<&str>) -> OutboxRow {
    let mut envelope = Envelope::new("demo.Do", "/test", "{}");
    envelope.subject = key.map(str::to_owned);
    route::row(Destination::Channel(to.into()), None, Purpose::Message, Arc::new(envelope))
}

fn rows(count: usize) -> Vec<OutboxRow> {
    (0..count).map(|_| row("a", None)).collect()
}

fn seqs(rows: &[OutboxRow]) -> Vec<Uuid> {
    rows.iter().map(|row| row.seq).collect()
}

#[tokio::test(start_paused = true)]
async fn more_than_memory_holds_leaves_in_sequence_and_once() {
    let bed = Bed::make(4, |_, _| Ok(Published::Confirmed));
    let rows = rows(50);
    bed.commit(&rows).await;
    // Nothing is deleted between two pages: the rows that the broker has still stand in the outbox.
    bed.until(|bed| bed.seen().len() >= 50).await;
    assert_eq!(bed.seen(), seqs(&rows), "each once, although its row still stood when the next page was read");
    bed.until(|bed| bed.store.outbox().is_empty()).await;
    assert_eq!(bed.seen().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_memory_is_read_once() {
    let bed = Bed::make(200, |_, _| Ok(Published::Confirmed));
    let rows = rows(900);
    bed.commit(&rows).await;
    bed.until(|bed| bed.seen().len() >= rows.len()).await;
    let read: usize = bed.relay.lanes().values().map(|lane| lane.read.load(Relaxed)).sum();
    assert!((700..=900).contains(&read), "{read} rows were read for 700 that did not fit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_handled_while_a_page_is_read_is_not_handed_over_again() {
    let bed = Bed::make(8, |_, _| Ok(Published::Kept));
    let rows = rows(900);
    bed.commit(&rows).await;
    // As the commits that handle what the transport keeps.
    let mut handled = HashSet::new();
    while handled.len() < rows.len() {
        for seq in bed.seen() {
            if handled.insert(seq) {
                bed.store.confirm(&[seq]).await.unwrap();
                bed.relay.forget(Some(seq));
            }
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(bed.seen().len(), rows.len(), "each once");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_refuses_delays_no_other() {
    let bed = Bed::make(100, |row, _| match row.destination {
        Destination::Channel(ref name) if **name == *"dead" => Err(PublishError::Refused("full".into())),
        _ => Ok(Published::Confirmed),
    });
    let stuck = row("dead", None);
    bed.commit(std::slice::from_ref(&stuck)).await;
    let began = clock::instant();
    let rows = rows(20);
    bed.commit(&rows).await;
    let all = |bed: &Bed| rows.iter().all(|row| bed.seen().contains(&row.seq));
    bed.until(all).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    bed.until(|bed| bed.store.outbox().len() == 1).await;
    let history = bed.store.history(&stuck.envelope.id).await.unwrap();
    assert!(history.outbox[0].problem.as_ref().is_some_and(|p| p.contains("full")), "its row tells why it waits");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_nobody_takes_holds_up_no_other_of_its_destination() {
    let bed = Bed::make(100, |row, _| match row.key.as_deref() {
        Some("unheard") => Err(PublishError::Unroutable("no queue is bound".into())),
        _ => Ok(Published::Confirmed),
    });
    bed.commit(&[row("a", Some("unheard")), row("a", Some("unheard"))]).await;
    let began = clock::instant();
    for _ in 0..60 {
        let row = row("a", None);
        bed.commit(std::slice::from_ref(&row)).await;
        bed.until(|bed| bed.seen().contains(&row.seq)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "sixty rows took {:?}", began.elapsed());
    bed.until(|bed| bed.store.outbox().len() == 2).await;
    bed.relay.drain(Duration::from_secs(3_600)).await;
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "a shutdown does not wait for what waits: {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_later_row_of_a_key_waits_for_an_earlier_one_in_doubt() {
    let bed = Bed::make(100, |row, times| match row.key.as_deref() {
        Some("slow") if times < 4 => Err(PublishError::Unknown("no answer".into())),
        _ => Ok(Published::Confirmed),
    });
    let rows = [row("a", Some("slow")), row("a", Some("slow")), row("a", Some("quick")), row("a", Some("slow"))];
    bed.commit(&rows).await;
    bed.until(|bed| bed.store.outbox().is_empty()).await;
    let last = |n: usize| bed.seen().iter().rposition(|seq| *seq == rows[n].seq).unwrap();
    let first = |n: usize| bed.seen().iter().position(|seq| *seq == rows[n].seq).unwrap();
    assert!(last(0) < first(1) && last(1) < first(3), "{:?}", bed.seen());
    assert!(first(2) < last(0), "another key does not wait for it");
}

#[tokio::test(start_paused = true)]
async fn what_a_destination_will_never_take_becomes_a_letter() {
    let bed = Bed::make(100, |row, _| match row.key.as_deref() {
        Some("too large") => Err(PublishError::Permanent("larger than the topic takes".into())),
        _ => Ok(Published::Confirmed),
    });
    let rows = [row("a", Some("too large")), row("a", None)];
    bed.commit(&rows).await;
    bed.until(|bed| bed.store.outbox().is_empty()).await;
    let letters = bed.store.dead_letters(&DeadFilter::default(), 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].key.id.as_str(), letters[0].reason.as_str()), (&*rows[0].envelope.id, "unpublishable"));
    assert!(letters[0].error.contains("larger than the topic takes"));
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_worker_may_have_begun_is_suspect_though_it_does_not_fit_into_memory() {
    for owner in [None, Some(clock::uuid_v7())] {
        let bed = Bed::make(4, |_, _| Ok(Published::Confirmed));
        let rows = rows(20);
        bed.store.enqueue(owner, &rows).await.unwrap();
        bed.until(|bed| bed.seen().len() >= 20).await;
        let begun = bed.broker.begun.lock().unwrap().len();
        assert_eq!(begun, if owner.is_some() { 20 } else { 0 });
    }
}

/// As after a failover to a standby that was behind: it never heard that they left.
#[tokio::test(start_paused = true)]
async fn rows_that_stand_there_again_after_the_store_was_away_leave_again() {
    let bed = Bed::make(10, |_, _| Ok(Published::Confirmed));
    let rows = rows(3);
    bed.commit(&rows).await;
    bed.until(|bed| bed.seen().len() == 3 && bed.store.outbox().is_empty()).await;
    bed.store.enqueue(Some(bed.worker), &rows).await.unwrap();
    bed.store.fail_next(2, Failure::Away); // one of them meets a sweep
    bed.until(|bed| bed.seen().len() == 6 && bed.store.outbox().is_empty()).await;
    assert_eq!(
        *bed.broker.begun.lock().unwrap(),
        seqs(&rows).into_iter().collect(),
        "whoever gets them asks the inbox"
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_published_is_suspect_the_next_time() {
    let bed = Bed::make(4, |_, times| match times {
        1 => Err(PublishError::Refused("the queue is full".into())),
        2 => Err(PublishError::Unknown("no confirm".into())),
        _ => Ok(Published::Confirmed),
    });
    let rows = rows(1);
    bed.commit(&rows).await;
    bed.until(|bed| bed.seen().len() >= 2).await;
    assert!(bed.broker.begun.lock().unwrap().is_empty(), "a refusal leaves no doubt");
    bed.until(|bed| bed.seen().len() >= 3).await;
    assert!(bed.broker.begun.lock().unwrap().contains(&rows[0].seq));
}

fn of_type(ty: &str, key: &str) -> OutboxRow {
    let mut envelope = Envelope::new(ty, "/test", "{}");
    envelope.subject = Some(key.to_owned());
    route::row(Destination::Channel("a".into()), None, Purpose::Message, Arc::new(envelope))
}

fn nobody_hears(row: &OutboxRow, _: usize) -> Result<Published, PublishError> {
    match &*row.envelope.ty {
        "demo.Unheard" => Err(PublishError::Unroutable("no queue is bound".into())),
        _ => Ok(Published::Confirmed),
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_behind_a_row_that_nobody_takes_holds_up_no_other_key() {
    let bed = Bed::make(100, nobody_hears);
    bed.commit(&(0..50).map(|_| of_type("demo.Unheard", "one key")).collect::<Vec<_>>()).await;
    bed.until(|bed| !bed.seen().is_empty()).await;
    let began = clock::instant();
    for _ in 0..20 {
        let row = row("a", Some("another"));
        bed.commit(std::slice::from_ref(&row)).await;
        bed.until(|bed| bed.seen().contains(&row.seq)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "twenty rows took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_type_that_nobody_hears_holds_up_no_other_type_of_its_key() {
    let bed = Bed::make(100, nobody_hears);
    let rows = [of_type("demo.Unheard", "one key"), of_type("demo.Heard", "one key")];
    bed.commit(&rows).await;
    bed.until(|bed| bed.seen().contains(&rows[1].seq)).await;
}

#[tokio::test(start_paused = true)]
async fn more_unheard_rows_than_memory_holds_hold_up_no_other() {
    let bed = Bed::make(4, nobody_hears);
    bed.commit(&(0..20).map(|n| of_type("demo.Unheard", &n.to_string())).collect::<Vec<_>>()).await;
    bed.until(|bed| bed.seen().len() >= 4).await;
    let row = row("a", Some("another"));
    bed.commit(std::slice::from_ref(&row)).await;
    bed.until(|bed| bed.seen().contains(&row.seq)).await;
}
