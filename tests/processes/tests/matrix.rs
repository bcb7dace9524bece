//! The process matrix: the real worker binary is killed at every fault point of the walk, at random, stopped and ended, on each broker
//! and each store, while commands come from outside. A checker that knows only the database and the broker adds up what became of them.
//!
//! One line per cell. A fault that did not fire is a failure. A spread of cells always runs, in which each fault point is once; all of
//! them wait for `PITCREW_ALL`.

#[path = "matrix/bare.rs"]
mod bare;
#[path = "matrix/cell.rs"]
#[expect(dead_code, reason = "clusters.rs does more with its bench")]
mod cell;
#[path = "matrix/checker.rs"]
mod checker;
#[path = "matrix/database.rs"]
mod database;
#[path = "matrix/doctored.rs"]
mod doctored;
#[path = "matrix/generator.rs"]
mod generator;
#[path = "matrix/network.rs"]
mod network;
#[expect(dead_code, reason = "other tests freeze it and ask it")]
#[path = "faults/node.rs"]
mod node;
#[path = "matrix/server.rs"]
#[expect(dead_code, reason = "clusters.rs fails over")]
mod server;
#[path = "matrix/soak.rs"]
mod soak;

use cell::{Cell, Fault, On};
use futures::StreamExt;
use pitcrew::fault::Point;

/// The worker that it is done to.
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
/// Cells at once. They wait most of the time: for a session of Kafka (6 s), or until a worker counts as lost (10 s).
const AT_ONCE: usize = 4;

const BROKERS: [&str; 3] = ["PITCREW_RABBITMQ_URL", "PITCREW_RABBITMQ4_URL", "PITCREW_KAFKA_URL"];

fn all(seed: u64) -> Vec<Cell> {
    let points = Point::ALL.into_iter().flat_map(|point| [1, 3].map(|nth| Fault::At(point, nth)));
    let others = [Fault::Random(seed), Fault::Random(seed + 1), Fault::Stopped, Fault::Terminated];
    let faults: Vec<Fault> = points.chain(others).collect();
    let places = BROKERS.into_iter().flat_map(|broker| [On::Postgres, On::Sqlite].map(|store| (broker, store)));
    places.flat_map(|(broker, store)| faults.iter().map(move |fault| Cell { broker, store, fault: *fault })).collect()
}

/// Each fault point in one cell at least, each pair of broker and store in one at least.
fn spread(seed: u64) -> Vec<Cell> {
    use On::{Postgres, Sqlite};
    let [old, new, kafka] = BROKERS;
    let at = |point, nth, broker, store| Cell { broker, store, fault: Fault::At(point, nth) };
    vec![
        at(Point::InsideCommit, 1, old, Postgres),
        at(Point::AfterCommit, 3, new, Postgres),
        at(Point::AfterPublish, 1, kafka, Postgres),
        at(Point::AfterCommit, 1, kafka, Sqlite),
        at(Point::Received, 3, old, Sqlite),
        at(Point::AfterClaim, 1, new, Sqlite),
        at(Point::BeforeHandle, 1, old, Sqlite),
        at(Point::AfterHandle, 3, new, Sqlite),
        at(Point::BeforeCommit, 1, old, Sqlite),
        at(Point::InsideCommit, 3, new, Sqlite),
        at(Point::AfterAck, 1, old, Sqlite),
        at(Point::BeforePublish, 3, new, Sqlite),
        at(Point::AfterSweep, 1, old, Sqlite),
        Cell { broker: new, store: Sqlite, fault: Fault::Random(seed) },
        Cell { broker: old, store: Sqlite, fault: Fault::Stopped },
        Cell { broker: new, store: Sqlite, fault: Fault::Terminated },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_a_worker_nothing_is_lost_or_done_twice() {
    let seed = processes::seed::told();
    let deep = std::env::var_os("PITCREW_ALL").is_some();
    let cells = if deep { all(seed) } else { spread(seed) };
    assert!(
        Point::ALL.iter().all(|point| cells.iter().any(|cell| cell.fault.is_at(*point))),
        "each point is in a cell"
    );
    println!("{} cells", cells.len());
    println!("{}", cell::HEAD);
    let run = |cell: Cell| async move {
        let ended = tokio::spawn(cell::run(cell)).await;
        let line = match &ended {
            Ok(Some(outcome)) => outcome.to_string(),
            Ok(None) => return None,
            Err(error) => format!("{cell} FAILED {error}"),
        };
        println!("{line}");
        ended.is_ok_and(|outcome| outcome.is_some_and(|outcome| outcome.is_well())).then_some(()).ok_or(line).err()
    };
    let bad: Vec<String> =
        futures::stream::iter(cells).map(run).buffer_unordered(AT_ONCE).filter_map(async |bad| bad).collect().await;
    assert!(bad.is_empty(), "{} cells are not well:\n{}", bad.len(), bad.join("\n"));
}
