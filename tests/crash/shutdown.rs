//! The ordered end of a worker: what runs may finish, what was not begun goes back, and the next worker goes on at once.

use crate::{
    bed::{Bed, LIMIT},
    life::Life,
    wire::{State, Wire},
    work::{self, Effect},
};
use pitcrew::{Command, Context, Envelope, Event, Handler, Handlers, Message, config::Config};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// Sooner than a worker would be taken for lost.
const AT_ONCE: Duration = Duration::from_secs(8);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Slow {
    n: u32,
}
impl Message for Slow {
    type Kind = Command;
    const TYPE: &'static str = "crash.Slow";
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Ended {
    n: u32,
}
impl Message for Ended {
    type Kind = Event;
    const TYPE: &'static str = "crash.Ended";
}

/// How a handler behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Manner {
    #[default]
    Quick,
    /// Ends when it is told of the shutdown.
    Polite,
    /// Does not end.
    Deaf,
    /// Takes its worker with it.
    Deadly,
}

#[derive(Default)]
struct Scene {
    manner: Manner,
    begun: AtomicU32,
    /// The highest `cx.attempt()` that was seen.
    attempt: AtomicU32,
}

struct Worker(Arc<Scene>);

impl Handler<Slow> for Worker {
    async fn handle(&self, m: Slow, cx: &mut Context) -> pitcrew::Result {
        self.0.attempt.fetch_max(cx.attempt(), SeqCst);
        self.0.begun.fetch_add(1, SeqCst);
        match self.0.manner {
            Manner::Quick => {}
            Manner::Polite => cx.cancelled().await,
            Manner::Deaf => std::future::pending().await,
            Manner::Deadly => loop {
                std::thread::park();
            },
        }
        cx.emit(&Ended { n: m.n })?;
        Effect::add(cx, m.n).await
    }
}

/// Counts apart from the commands.
const HEARD: u32 = 1_000;

async fn hear(m: Ended, cx: &mut Context) -> pitcrew::Result {
    Effect::add(cx, HEARD + m.n).await
}

fn handlers(scene: &Arc<Scene>) -> Handlers {
    Handlers::new().handle(Worker(scene.clone())).handle(hear).emits::<Ended>()
}

fn scene(manner: Manner) -> Arc<Scene> {
    Arc::new(Scene { manner, ..Scene::default() })
}

fn config(concurrency: usize, drain: Duration) -> Config {
    let mut config = work::config();
    config.worker.drain_timeout = drain;
    for channel in config.channel.values_mut() {
        channel.concurrency = concurrency;
    }
    config
}

async fn send(bed: &Bed, count: u32) {
    let messages = (0..count).map(|n| Envelope::of(&Slow { n }, "/crash").unwrap());
    work::send(bed, &handlers(&Arc::default()), messages.collect()).await;
}

async fn begins(scene: &Scene, handlers: u32) {
    let until = Instant::now() + LIMIT;
    while scene.begun.load(SeqCst) < handlers {
        assert!(Instant::now() < until, "{} handlers have begun", scene.begun.load(SeqCst));
        pitcrew::testing::poll_pause().await;
    }
}

/// The next worker ends it, at once, and everything has happened exactly once.
async fn finish(bed: &Bed, count: u32) {
    let began = Instant::now();
    let scene = scene(Manner::Quick);
    let next = Life::begin(bed, "next", handlers(&scene), config(16, LIMIT), None);
    bed.comes_to("outbox", 0).await;
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    next.end().await;
    let once: BTreeMap<u32, u32> = (0..count).chain(HEARD..HEARD + count).map(|n| (n, 1)).collect();
    assert_eq!(Effect::all(bed).await, once);
    assert_eq!(scene.attempt.load(SeqCst).max(1), 1, "nothing was counted as a failure");
    for table in ["attempt", "claim", "dead_letter"] {
        assert_eq!(bed.count(table).await, 0, "{table}");
    }
    assert_eq!(bed.rows("select distinct cast(attempt as text) from {s}inbox").await, [["1"]]);
}

#[tokio::test]
async fn what_runs_may_finish_and_what_was_not_begun_goes_back_on_sqlite() {
    finishes(Bed::sqlite().await).await;
}

#[tokio::test]
async fn what_runs_may_finish_and_what_was_not_begun_goes_back_on_postgres() {
    let Some(bed) = Bed::postgres().await else { return };
    finishes(bed).await;
}

async fn finishes(bed: Bed) {
    send(&bed, 20).await;
    let polite = scene(Manner::Polite);
    let worker = Life::begin(&bed, "polite", handlers(&polite), config(2, LIMIT), None);
    begins(&polite, 2).await;
    worker.end().await;
    assert_eq!(polite.begun.load(SeqCst), 2, "nothing begins once the end has begun");
    assert_eq!(Effect::all(&bed).await.len(), 2, "both have heard of it, and their commits were made");
    // 18 commands, and the events of the two.
    let free = bed.rows("select cast(count(*) as text) from {s}outbox where owner is null").await;
    assert_eq!((free.concat(), bed.count("outbox").await), (vec!["20".to_owned()], 20), "all of it is anybody's");
    assert_eq!(bed.count("worker").await, 0, "it signed off");
    finish(&bed, 20).await;
    bed.drop().await;
}

#[tokio::test]
async fn what_outlives_the_drain_timeout_is_interrupted_and_not_counted_on_sqlite() {
    interrupts(Bed::sqlite().await).await;
}

#[tokio::test]
async fn what_outlives_the_drain_timeout_is_interrupted_and_not_counted_on_postgres() {
    let Some(bed) = Bed::postgres().await else { return };
    interrupts(bed).await;
}

async fn interrupts(mut bed: Bed) {
    send(&bed, 3).await;
    let deadly = scene(Manner::Deadly);
    let first = Life::begin(&bed, "deadly", handlers(&deadly), config(16, LIMIT), None);
    let name = first.name.clone();
    first.stops(|| deadly.begun.load(SeqCst) > 0).await;
    bed.bury(&name).await;

    let deaf = scene(Manner::Deaf);
    let second = Life::begin(&bed, "deaf", handlers(&deaf), config(16, Duration::from_millis(200)), None);
    begins(&deaf, 3).await;
    assert_eq!(bed.count("claim").await, 3, "each was begun before, perhaps");
    let began = Instant::now();
    second.end().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(bed.count("claim").await, 0, "a shutdown is no crash");
    assert_eq!(bed.count("inbox").await, 0, "no fate was made up");
    finish(&bed, 3).await;
    bed.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_whose_store_is_away_ends_within_its_limits_on_postgres() {
    without_a_store(State::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_whose_store_is_silent_ends_within_its_limits_on_postgres() {
    without_a_store(State::Silent).await;
}

async fn without_a_store(state: State) {
    let Some(mut bed) = Bed::postgres().await else { return };
    send(&bed, 20).await;
    let wire = Wire::to(&bed.place).await;
    let direct = std::mem::replace(&mut bed.place, wire.place.clone());
    let polite = scene(Manner::Polite);
    let worker = Life::begin(&bed, "cut off", handlers(&polite), config(4, Duration::from_secs(1)), None);
    bed.place = direct;
    begins(&polite, 4).await;
    wire.becomes(state);
    let (name, began) = (worker.name.clone(), Instant::now());
    worker.end().await;
    println!("a shutdown whose store is {state:?} took {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(Effect::all(&bed).await.len(), 0, "nothing was stored");
    bed.bury(&name).await; // it could not sign off, and is missed
    finish(&bed, 20).await;
    bed.drop().await;
}
