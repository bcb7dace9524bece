//! The crash matrix: at every fault point of the walk a worker dies, another one goes on, and an account that trusts neither adds up.
//!
//! The worker under test has a thread and a runtime of its own. At its point the thread stops for good: nothing is polled again, no
//! `Drop` settles anything, and its connections are cut from outside. A new point of the walk is in the matrix by itself.

#[path = "crash/bed.rs"]
mod bed;
#[path = "crash/doubt.rs"]
mod doubt;
#[path = "crash/external.rs"]
mod external;
#[path = "crash/life.rs"]
mod life;
#[path = "crash/poison.rs"]
mod poison;
#[path = "crash/shutdown.rs"]
mod shutdown;
#[path = "crash/wire.rs"]
mod wire;
#[path = "crash/work.rs"]
mod work;

use bed::Bed;
use life::Life;
use pitcrew::{
    Envelope,
    fault::{self, Plan, Point},
};
use std::time::Instant;

/// Commands that a worker left behind which died before; what it had is taken over and was perhaps begun.
const INHERITED: u32 = 30;
/// Commands in all.
const SENT: u32 = 160;

/// The points at which something of the outside changes: the minimum on a store that is slower to copy.
const AROUND_EFFECTS: [Point; 7] = [
    Point::AfterClaim,
    Point::BeforeCommit,
    Point::InsideCommit,
    Point::AfterCommit,
    Point::AfterAck,
    Point::BeforePublish,
    Point::AfterPublish,
];

fn deep() -> bool {
    std::env::var_os("PITCREW_ALL").is_some()
}

/// The first passing, and later ones.
fn passings() -> &'static [u32] {
    if deep() { &[1, 2, 3, 5] } else { &[1, 3] }
}

#[tokio::test]
async fn whoever_dies_anywhere_nothing_is_lost_or_done_twice_on_postgres() {
    for point in Point::ALL {
        for nth in passings() {
            let Some(bed) = Bed::postgres().await else { return };
            cell(bed, "postgres", Plan { point, nth: *nth }).await;
        }
    }
}

#[tokio::test]
async fn whoever_dies_anywhere_nothing_is_lost_or_done_twice_on_sqlite() {
    for point in Point::ALL.into_iter().filter(|point| deep() || AROUND_EFFECTS.contains(point)) {
        for nth in passings() {
            cell(Bed::sqlite().await, "sqlite", Plan { point, nth: *nth }).await;
        }
    }
}

/// One cell: a first worker may die early, the second dies by `plan`, the third finishes.
async fn cell(mut bed: Bed, store: &str, plan: Plan) {
    let mut sent = Vec::new();
    // A worker without a dead one before it claims nothing; at later passings all others see only what nobody has begun.
    let inherited = if plan.nth == 1 || plan.point == Point::AfterClaim { INHERITED } else { 0 };
    if inherited > 0 {
        sent.extend(send(&bed, 0..inherited).await);
        let first = Plan { point: Point::Received, nth: 1 };
        die(&mut bed, "first", first).await;
    }
    sent.extend(send(&bed, inherited..SENT).await);
    die(&mut bed, "second", plan).await;
    let began = Instant::now();
    let third = Life::begin(&bed, "third", work::handlers(), work::config(), None);
    bed.comes_to("outbox", 0).await;
    let recovered = began.elapsed();
    // Sent once more when all is done: nothing about these deliveries tells that they are not the first, only the fence does.
    work::send(&bed, &work::handlers(), sent.into_iter().step_by(10).collect()).await;
    bed.comes_to("outbox", 0).await;
    third.end().await;
    let wrong = work::wrong(&bed, SENT).await;
    println!(
        "{:<14} :{}  {store:<8}  fired  recovered in {:>4} ms",
        plan.point.name(),
        plan.nth,
        recovered.as_millis()
    );
    assert!(wrong.is_empty(), "{plan:?} on {store}:\n  {}", wrong.join("\n  "));
    bed.drop().await;
}

/// A worker dies there.
async fn die(bed: &mut Bed, name: &str, plan: Plan) {
    let life = Life::begin(bed, name, work::handlers(), work::config(), Some(plan));
    let name = life.name.clone();
    life.stops(|| fault::fired(&name)).await;
    bed.bury(&name).await;
}

async fn send(bed: &Bed, numbers: std::ops::Range<u32>) -> Vec<Envelope> {
    let envelopes = work::envelopes(numbers);
    work::send(bed, &work::handlers(), envelopes.clone()).await;
    envelopes
}
