//! Order per key on a bad day: duplicates, lost acks, refused and unroutable publishes, and several commits at once.

#[path = "crash/bed.rs"]
#[expect(dead_code, reason = "the crash tests use the rest of it")]
mod bed;

use bed::Bed;
use pitcrew::{
    Client, Command, Context, Document, Envelope, Event, Handlers, Message, Worker,
    config::Config,
    store::{Store, memory::MemoryStore},
    transport::embedded::{Adverse, Bounds, Embedded},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

const KEYS: u32 = 50;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Step {
    key: u32,
    n: u32,
}
impl Message for Step {
    type Kind = Command;
    const TYPE: &'static str = "order.Step";
    fn subject(&self) -> Option<String> {
        Some(format!("key-{}", self.key))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Stepped {
    key: u32,
    n: u32,
}
impl Message for Stepped {
    type Kind = Event;
    const TYPE: &'static str = "order.Stepped";
    fn subject(&self) -> Option<String> {
        Some(format!("key-{}", self.key))
    }
}

/// What became of one key, in the order in which it became so.
#[derive(Serialize, Deserialize)]
struct Path {
    id: String,
    steps: Vec<u32>,
}
impl Document for Path {
    const COLLECTION: &'static str = "path";
    fn id(&self) -> impl std::fmt::Display {
        &self.id
    }
}
impl Path {
    async fn add(cx: &mut Context, id: String, n: u32) -> pitcrew::Result {
        cx.update(&id, |old: Option<Self>| {
            let mut steps = old.map(|old| old.steps).unwrap_or_default();
            steps.push(n);
            Self { id: id.clone(), steps }
        })
        .await?;
        Ok(())
    }
}

async fn step(m: Step, cx: &mut Context) -> pitcrew::Result {
    Path::add(cx, format!("taken {}", m.key), m.n).await?;
    cx.emit(&Stepped { key: m.key, n: m.n })?;
    Ok(())
}

/// In a lane of its own, so that it tells the order in which the events of a key left.
async fn follow(m: Stepped, cx: &mut Context) -> pitcrew::Result {
    Path::add(cx, format!("left {}", m.key), m.n).await
}

fn handlers() -> Handlers {
    Handlers::new().handle(step).handle(follow).emits::<Stepped>()
}

/// Small commits, so that four of them are worth it at once.
fn config() -> Config {
    let mut config = Config::default();
    config.worker.batch = 8;
    config
}

fn adverse(reorder: f64) -> Adverse {
    Adverse { seed: 7, duplicate: 0.05, reorder, lose_ack: 0.05, refuse: 0.0002, unroutable: 0.0002 }
}

/// Works `each` steps of every key through one worker; the paths that they took, and the most commits at once.
async fn walk(store: Arc<dyn Store>, each: u32, adverse: Adverse) -> (BTreeMap<String, Vec<u32>>, usize) {
    let transport = Arc::new(Embedded::with(Bounds::default(), adverse));
    let client = Client::new(store.clone(), &*transport, &handlers(), &config()).unwrap();
    for n in 0..each {
        let steps = (0..KEYS).map(|key| Envelope::of(&Step { key, n }, "/order").unwrap());
        client.send_envelopes(steps.collect(), None).await.unwrap();
    }
    let running = Worker::new(config(), handlers()).start(store.clone(), transport).await.unwrap();
    let until = Instant::now() + bed::LIMIT;
    while store.counts().await.unwrap().outbox > 0 {
        assert!(Instant::now() < until, "{:?}", store.counts().await);
        pitcrew::testing::poll_pause().await;
    }
    let mut paths = BTreeMap::new();
    for id in (0..KEYS).flat_map(|key| [format!("taken {key}"), format!("left {key}")]) {
        let path = store.load(Path::COLLECTION, &id).await.unwrap().unwrap_or_else(|| panic!("nothing of {id}"));
        paths.insert(id, serde_json::from_str::<Path>(&path.body).unwrap().steps);
    }
    let at_once = running.commits_at_once();
    running.shutdown().await;
    (paths, at_once)
}

async fn in_order(store: Arc<dyn Store>, each: u32) {
    let kind = store.kind();
    let (paths, at_once) = walk(store, each, adverse(0.0)).await;
    let expected: Vec<u32> = (0..each).collect();
    for (id, steps) in paths {
        assert_eq!(steps, expected, "{id}");
    }
    // SQLite and memory have one writer, and are done before a second commit is worth it.
    assert!(kind != "postgres" || at_once == 4, "{at_once} commits were under way at once");
}

async fn once_each(store: Arc<dyn Store>, each: u32) {
    let (paths, _) = walk(store, each, adverse(0.2)).await;
    let disordered = paths.values().filter(|steps| !steps.is_sorted()).count();
    assert!(disordered > 0, "nothing was out of order: the adverse mode does nothing");
    for (id, mut steps) in paths {
        steps.sort_unstable();
        assert_eq!(steps, (0..each).collect::<Vec<_>>(), "{id}");
    }
}

/// A database writes each commit to its disk.
fn each() -> u32 {
    if std::env::var_os("PITCREW_ALL").is_some() { 200 } else { 50 }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_keeps_its_order_and_leaves_in_it_in_memory() {
    in_order(Arc::new(MemoryStore::new()), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_keeps_its_order_and_leaves_in_it_on_sqlite() {
    let bed = Bed::sqlite().await;
    in_order(bed.place.open("order").await, each()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_keeps_its_order_and_leaves_in_it_on_postgres() {
    let Some(bed) = Bed::postgres().await else { return };
    in_order(bed.place.open("order").await, each()).await;
    bed.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_order_everything_still_happens_once_in_memory() {
    once_each(Arc::new(MemoryStore::new()), each()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_order_everything_still_happens_once_on_postgres() {
    let Some(bed) = Bed::postgres().await else { return };
    once_each(bed.place.open("disorder").await, each()).await;
    bed.drop().await;
}
