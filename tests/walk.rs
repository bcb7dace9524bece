//! The walk of a message on the embedded transport, from a client to the outcome.

use pitcrew::{
    Client, Command, Context, Document, Event, Handlers, Message, Running, Worker,
    config::Config,
    store::{Store, memory::MemoryStore, sqlite::SqliteStore},
    transport::{Transport, embedded::Embedded},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Greet {
    name: String,
}
impl Message for Greet {
    type Kind = Command;
    const TYPE: &'static str = "demo.Greet";
    fn subject(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Greeted {
    name: String,
}
impl Message for Greeted {
    type Kind = Event;
    const TYPE: &'static str = "demo.Greeted";
}

#[derive(Serialize, Deserialize)]
struct Tally {
    name: String,
    greeted: u32,
    heard: u32,
}
impl Document for Tally {
    const COLLECTION: &'static str = "tally";
    fn id(&self) -> impl std::fmt::Display {
        &self.name
    }
}

async fn greet(m: Greet, cx: &mut Context) -> pitcrew::Result {
    if cx.attempt() == 1 && m.name.ends_with('7') {
        return Err(anyhow::anyhow!("not at first").into());
    }
    cx.update(&m.name, |old: Option<Tally>| {
        let (greeted, heard) = old.map_or((0, 0), |t| (t.greeted, t.heard));
        Tally { name: m.name.clone(), greeted: greeted + 1, heard }
    })
    .await?;
    cx.emit(&Greeted { name: m.name })?;
    Ok(())
}

async fn hear(m: Greeted, cx: &mut Context) -> pitcrew::Result {
    cx.update(&m.name, |old: Option<Tally>| {
        let (greeted, heard) = old.map_or((0, 0), |t| (t.greeted, t.heard));
        Tally { name: m.name.clone(), greeted, heard: heard + 1 }
    })
    .await?;
    Ok(())
}

fn handlers() -> Handlers {
    Handlers::new().handle(greet).handle(hear).emits::<Greeted>()
}

async fn start(store: Arc<dyn Store>) -> (Running, Client) {
    let transport: Arc<dyn Transport> = Arc::new(Embedded::default());
    let client = Client::new(store.clone(), &*transport, &handlers(), &Config::default()).unwrap();
    (Worker::new(Config::default(), handlers()).start(store, transport).await.unwrap(), client)
}

async fn walk(store: Arc<dyn Store>) {
    let (worker, client) = start(store.clone()).await;
    for n in 0..200 {
        client.send(&Greet { name: format!("n{n}") }).await.unwrap();
    }
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let counts = store.counts().await.unwrap();
        if counts.outbox == 0 {
            assert_eq!(counts.done, 400, "{counts:?}");
            break;
        }
        assert!(std::time::Instant::now() < limit, "{counts:?}");
        pitcrew::testing::poll_pause().await;
    }
    for n in 0..200 {
        let tally = store.load("tally", &format!("n{n}")).await.unwrap().unwrap();
        let tally: Tally = serde_json::from_str(&tally.body).unwrap();
        assert_eq!((tally.greeted, tally.heard), (1, 1));
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_one_effect_in_memory() {
    walk(Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_one_effect_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("walk.db");
    let store = SqliteStore::open(path.to_str().unwrap(), Default::default()).await.unwrap();
    walk(Arc::new(store)).await;
}

/// Works with these handlers until so many fates are known.
async fn work(store: &Arc<MemoryStore>, handlers: fn() -> Handlers, done: u64) {
    let worker = Worker::new(Config::default(), handlers());
    let worker = worker.start(store.clone(), Arc::new(Embedded::default())).await.unwrap();
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while store.counts().await.unwrap().done < done {
        assert!(std::time::Instant::now() < limit, "{:?}", store.counts().await);
        pitcrew::testing::poll_pause().await;
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_nobody_hears_is_held_for_all_who_come_to_hear_it() {
    async fn hear_too(m: Greeted, cx: &mut Context) -> pitcrew::Result {
        hear(Greeted { name: format!("{} too", m.name) }, cx).await
    }
    let deaf = || Handlers::new().handle(greet).emits::<Greeted>();
    let all = || handlers().named("second").handle(hear_too);
    let store = Arc::new(MemoryStore::new());
    let client = Client::new(store.clone(), &Embedded::default(), &deaf(), &Config::default()).unwrap();
    for n in 0..50 {
        client.send(&Greet { name: format!("no {n}x") }).await.unwrap();
    }
    work(&store, deaf, 50).await;
    assert_eq!(store.counts().await.unwrap().outbox, 50, "each event is held");
    work(&store, all, 150).await;
    assert_eq!(store.counts().await.unwrap().outbox, 0);
    for name in (0..50).flat_map(|n| [format!("no {n}x"), format!("no {n}x too")]) {
        let tally = store.load("tally", &name).await.unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&tally.body).unwrap().heard, 1, "{name}");
    }
}
