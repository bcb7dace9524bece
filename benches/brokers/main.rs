//! Speed on real brokers as ratios: the worker beside workers that a person would write by hand, in turn, in one run, and every
//! arm checked afterwards.

// The harness of the other bench. What it needs of it alone is dead here.
#[path = "../speed/arguments.rs"]
mod arguments;
#[expect(dead_code, reason = "the bench `speed` uses the rest")]
#[path = "../speed/arms.rs"]
mod arms;
#[path = "../speed/bare.rs"]
mod bare;
#[path = "../speed/broker.rs"]
mod broker;
#[expect(dead_code, reason = "the bench `speed` uses the rest")]
#[path = "../speed/database.rs"]
mod database;
#[path = "../speed/machine.rs"]
mod machine;
#[path = "../speed/provider.rs"]
mod provider;
#[path = "../speed/report.rs"]
mod report;
#[path = "../speed/work.rs"]
mod work;

mod effect;
mod hand;
mod idle;
mod kafka;
mod lives;
mod memory;
mod rabbitmq;
mod retry;
mod site;
mod takeover;

use arguments::{Asked, Size};
use database::Database;
use report::Report;
use site::{Broker, Kind};
use std::process::ExitCode;

/// The allocator of the worker that ships, for all arms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
Measures the worker on RabbitMQ and on Kafka, with Postgres, against workers written by hand with the bare clients, and checks
that nothing was lost or done twice.

Usage: cargo bench --bench brokers [-- [OPTIONS] [BROKER...] [CELL...]]

Brokers (default: both):
  rabbitmq, kafka

Cells (default: all of them):
  effect    a full queue (one partition): inbox row, one document, one event that the broker confirmed; rates against a worker
            written by hand, one that works in batches, and the bare client; and the same with handlers that wait 10 ms each
  idle      one message on an idle worker, from its publish to the arrival of its event, against the same steps by hand
  retry     how late the second attempts come, at a steady pace and when 10,000 fail together
  takeover  a worker is killed (Kafka: or stopped): how soon its neighbour does what it held
  memory    Kafka: what a worker process holds of records of 1 KB and of 1 MB with a long backlog
  worker    the worker's arm of `effect` alone, for a profiler; only when it is named

Options:
  --rounds N     every arm of `effect` and `idle` so many times, in turn; the verdict is the median [default: 3]
  --messages N   messages of one arm of `effect` in one round; a slow arm takes fewer [default: 16000]
  --strict       end with status 2 if a target is missed
  -h, --help     this text

Environment:
  PITCREW_POSTGRES_URL  the Postgres to measure on, e.g. postgres://postgres@127.0.0.1:5432/postgres; nothing runs without it
  PITCREW_RABBITMQ_URL  a RabbitMQ, e.g. amqp://guest:guest@127.0.0.1:5672
  PITCREW_KAFKA_URL     a Kafka, e.g. kafka://127.0.0.1:9092
                        What has no broker is left out. None of them may be one that somebody else works on.

Examples:
  cargo bench --bench brokers
  cargo bench --bench brokers -- rabbitmq effect --rounds 5
  cargo bench --bench brokers -- kafka takeover memory

Each arm works in a schema and in queues or topics of its own and takes them away.";

const BROKERS: [&str; 2] = ["rabbitmq", "kafka"];
const CELLS: [&str; 6] = ["effect", "idle", "retry", "takeover", "memory", WORKER];
const WORKER: &str = "worker";

fn main() -> ExitCode {
    if let [flag, life] = &arguments::given()[..]
        && flag == lives::CHILD
    {
        return arguments::ended(arguments::on_tokio(lives::child(life)).map(|()| 0), false);
    }
    let words: Vec<&str> = BROKERS.into_iter().chain(CELLS).collect();
    arguments::main(HELP, "brokers", &words, Size { rounds: 3, messages: 16_000 }, run)
}

/// The answer: how many targets were missed.
async fn run(asked: Asked) -> anyhow::Result<usize> {
    let Asked { size, words, .. } = asked;
    println!("machine: {}", machine::description());
    let wants =
        |word: &str, all: &[&str]| words.iter().any(|w| w == word) || !words.iter().any(|w| all.contains(&w.as_str()));
    let mut report = Report::default();
    let Some(database) = Database::connect().await? else {
        println!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return Ok(report.end());
    };
    println!("database: {}", database.description().await?);
    for kind in [Kind::RabbitMq, Kind::Kafka].into_iter().filter(|kind| wants(kind.name(), &BROKERS)) {
        let Some(broker) = Broker::given(kind) else { continue };
        println!("\nbroker: {} at {}", kind.name(), broker.host());
        if wants("effect", &CELLS) {
            effect::cell(&database, &broker, size, &mut report).await?;
        }
        if wants("idle", &CELLS) {
            idle::cell(&database, &broker, size, &mut report).await?;
        }
        if wants("retry", &CELLS) {
            retry::cell(&database, &broker, &mut report).await?;
        }
        if wants("takeover", &CELLS) {
            takeover::cell(&database, &broker, &mut report).await?;
        }
        if wants("memory", &CELLS) && kind == Kind::Kafka {
            memory::cell(&database, &broker, &mut report).await?;
        }
        if words.iter().any(|word| word == WORKER) {
            effect::worker_alone(&database, &broker, size, &report).await?;
        }
    }
    database.end().await?;
    Ok(report.end())
}
