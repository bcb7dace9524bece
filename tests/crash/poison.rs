//! A message that takes its worker with it, again and again, and the innocents beside it.

use crate::{
    bed::Bed,
    life::Life,
    work::{self, Effect},
};
use pitcrew::{Command, Context, Envelope, Handler, Handlers, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
};

const INNOCENTS: u32 = 12;
/// In the middle of the innocents.
const POISON: u32 = 5;
/// Crash 1 is not claimed, 2 and 3 are, in the fourth life it runs alone, in the fifth it is dead.
const ALONE: u32 = 4;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Touch {
    n: u32,
}
impl Message for Touch {
    type Kind = Command;
    const TYPE: &'static str = "crash.Touch";
}

/// What one life sees of it.
#[derive(Default)]
struct Scene {
    life: u32,
    running: AtomicU32,
    most: AtomicU32,
    killed: AtomicBool,
}

struct Toucher(Arc<Scene>);

impl Handler<Touch> for Toucher {
    async fn handle(&self, m: Touch, cx: &mut Context) -> pitcrew::Result {
        let scene = &self.0;
        let running = scene.running.fetch_add(1, SeqCst) + 1;
        scene.most.fetch_max(running, SeqCst);
        if scene.life < ALONE {
            // Everybody is in the middle of it when the worker dies.
            if m.n != POISON {
                std::future::pending::<()>().await;
            }
            while scene.running.load(SeqCst) <= INNOCENTS {
                tokio::task::yield_now().await;
            }
        }
        if m.n == POISON {
            scene.killed.store(true, SeqCst);
            loop {
                std::thread::park();
            }
        }
        tokio::task::yield_now().await;
        scene.running.fetch_sub(1, SeqCst);
        Effect::add(cx, m.n).await
    }
}

#[tokio::test]
async fn poison_kills_four_workers_and_no_innocent_on_sqlite() {
    poison(Bed::sqlite().await).await;
}

#[tokio::test]
async fn poison_kills_four_workers_and_no_innocent_on_postgres() {
    let Some(bed) = Bed::postgres().await else { return };
    poison(bed).await;
}

async fn poison(mut bed: Bed) {
    let handlers = |scene: &Arc<Scene>| Handlers::new().handle(Toucher(scene.clone()));
    let messages = (0..=INNOCENTS).map(|n| Envelope::of(&Touch { n }, "/crash").unwrap());
    work::send(&bed, &handlers(&Arc::default()), messages.collect()).await;
    for life in 1..=ALONE {
        let scene = Arc::new(Scene { life, ..Scene::default() });
        let worker = Life::begin(&bed, &format!("life-{life}"), handlers(&scene), work::config(), None);
        let name = worker.name.clone();
        worker.stops(|| scene.killed.load(SeqCst)).await;
        bed.bury(&name).await;
        let most = if life < ALONE { INNOCENTS + 1 } else { 1 };
        assert_eq!(scene.most.load(SeqCst), most, "handlers that ran at once in life {life}");
        let claims = bed.rows("select distinct cast(count as text) from {s}claim order by 1").await.concat();
        match life {
            1 => assert_eq!(claims, [""; 0]),
            2 => assert_eq!(claims, ["1"]),
            3 => assert_eq!(claims, ["2"]),
            _ => {
                let odd = bed.rows("select cast(count as text) from {s}claim where count <> 2").await.concat();
                assert_eq!(odd, ["3"], "who waits while it runs alone has not begun");
            }
        }
    }
    let scene = Arc::new(Scene { life: ALONE + 1, ..Scene::default() });
    let last = Life::begin(&bed, "last", handlers(&scene), work::config(), None);
    bed.comes_to("outbox", 0).await;
    last.end().await;

    let dead = bed.rows("select reason, error from {s}dead_letter").await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert!(dead[0][0] == "kills_worker" && dead[0][1].contains("died 4 times"), "{dead:?}");
    let innocents = (0..=INNOCENTS).filter(|n| *n != POISON);
    assert_eq!(Effect::all(&bed).await, innocents.map(|n| (n, 1)).collect(), "each innocent is done once");
    assert_eq!(bed.count("claim").await, 0);
    let attempts = bed.rows("select kind from {s}attempt").await;
    assert_eq!(attempts, [["crash"]], "only the poison has an attempt that did not end done");
    bed.drop().await;
}
