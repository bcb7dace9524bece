//! Bulkhead: what one message does, or what becomes of it, is nothing to those beside it.

#[path = "../benches/speed/broker.rs"]
mod broker;

use broker::Broker;
use pitcrew::{
    Command, Context, Envelope, Handler, Handlers, Message, Running, Worker, config::Config, message::wire::Raw,
    store::memory::MemoryStore, testing::poll_pause,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Step {
    n: u32,
    key: Option<String>,
}
impl Message for Step {
    type Kind = Command;
    const TYPE: &'static str = "row.Step";
    fn subject(&self) -> Option<String> {
        self.key.clone()
    }
}

fn step(n: u32, key: Option<&str>) -> Arc<Raw> {
    broker::raw(&Envelope::of(&Step { n, key: key.map(str::to_owned) }, "/test").expect("JSON"))
}

/// Who has run; the first waits for the last, and holds its thread meanwhile.
#[derive(Clone, Default)]
struct Row(Arc<(Mutex<BTreeSet<u32>>, Condvar)>);

impl Row {
    fn has_run(&self, n: u32) -> bool {
        self.0.0.lock().unwrap().contains(&n)
    }
}

const LAST: u32 = 499;

/// Holds its thread as a long calculation does.
struct Calculates(Row);

impl Handler<Step> for Calculates {
    async fn handle(&self, m: Step, _: &mut Context) -> pitcrew::Result {
        let (ran, changed) = &*self.0.0;
        let mut ran = ran.lock().unwrap();
        if m.n == 0 {
            let (ran, waited) = changed.wait_timeout_while(ran, LIMIT, |ran| !ran.contains(&LAST)).unwrap();
            drop(ran);
            assert!(!waited.timed_out(), "the last one did not run beside the first");
        } else {
            ran.insert(m.n);
            changed.notify_all();
        }
        Ok(())
    }
}

/// Panics before it waits for anything.
struct Panics(Row);

impl Handler<Step> for Panics {
    async fn handle(&self, m: Step, _: &mut Context) -> pitcrew::Result {
        assert!(m.n > 0, "the first one always panics");
        self.0.0.0.lock().unwrap().insert(m.n);
        Ok(())
    }
}

async fn start(handler: impl Handler<Step>, store: Arc<MemoryStore>, broker: &Arc<Broker>) -> Running {
    let worker = Worker::new(Config::default(), Handlers::new().handle(handler));
    worker.start(store, broker.clone()).await.expect("the worker starts")
}

async fn moved(broker: &Broker, acked: usize, published: usize) {
    let moved = tokio::time::timeout(LIMIT, broker.moved(acked, published));
    moved.await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {:?}", broker.tally()));
}

/// Many more than are decoded at once: neither these nor the receiver may wait for a thread that is not given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_holds_its_thread_holds_up_nobody() {
    let (row, broker) = (Row::default(), Arc::new(Broker::default()));
    let running = start(Calculates(row.clone()), Arc::new(MemoryStore::new()), &broker).await;
    broker.push((0..=LAST).map(|n| step(n, None)));
    moved(&broker, LAST as usize + 1, 0).await;
    running.shutdown().await;
    assert_eq!(broker.tally().published, 0, "no retry: the first one did not fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_at_once_leaves_its_lane_to_the_next() {
    let (row, broker) = (Row::default(), Arc::new(Broker::default()));
    let running = start(Panics(row.clone()), Arc::new(MemoryStore::new()), &broker).await;
    broker.push((0..10).map(|n| step(n, Some("one key"))));
    moved(&broker, 10, 1).await; // its retry is published
    running.shutdown().await;
    assert!((1..10).all(|n| row.has_run(n)));
}

/// No task waits for it there, but the worker's end does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_waits_for_what_is_with_the_committer() {
    let (row, broker, store) = (Row::default(), Arc::new(Broker::default()), Arc::new(MemoryStore::new()));
    let running = start(Calculates(row.clone()), store.clone(), &broker).await;
    store.away(true);
    broker.push((1..=50).map(|n| step(n, Some(&format!("key {}", n % 50)))));
    let ran = async {
        while !(1..=50).all(|n| row.has_run(n)) {
            poll_pause().await;
        }
    };
    tokio::time::timeout(LIMIT, ran).await.expect("all of them run");
    let ended = tokio::spawn(running.shutdown());
    poll_pause().await;
    assert!(!ended.is_finished(), "nothing is durable yet");
    store.away(false);
    tokio::time::timeout(LIMIT, ended).await.expect("it ends").expect("without a panic");
    let tally = broker.tally();
    assert_eq!((tally.acked, tally.released), (50, 0));
}
