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

mod burst;
mod effect;
mod hand;
mod idle;
mod kafka;
mod latency;
mod lives;
mod memory;
mod million;
mod rabbitmq;
mod retry;
mod site;
mod takeover;

use arguments::{Asked, Size};
use database::Database;
use report::Report;
use site::{Broker, Kind};
use std::{process::ExitCode, time::Duration};

/// The allocator of the worker that ships, for all arms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
Measures the worker on RabbitMQ and on Kafka, with Postgres, against workers written by hand with the bare clients, and checks
that nothing was lost or done twice.

Usage: cargo bench --bench brokers [-- [OPTIONS] [BROKER...] [CELL...]]

Brokers (default: both):
  rabbitmq, kafka

Cells (default: all but those with a *):
  effect    a full queue (one partition): inbox row, one document, one event that the broker confirmed; rates against a worker
            written by hand, one that works in batches, and the bare client; and the same with handlers that wait 10 ms each
  idle      one message on an idle worker, from its publish to the arrival of its event, against the same steps by hand
  retry     how late the second attempts come, at a steady pace and when 10,000 fail together
  takeover  a worker is killed (Kafka: or stopped): how soon its neighbour does what it held
  memory    Kafka: what a worker process holds of records of 1 KB and of 1 MB with a long backlog
  latency   messages sent at half of what the worker can do, at the times at which they are meant to be: p50, p99, p99.9 until
            their events come, beside batches by hand
  burst     many commands at once for an idle worker: how soon they are done, CPU-seconds and memory, beside batches by hand
* million   what a worker process holds of memory while it handles a million messages
* worker    the worker's arm of `effect` alone, for a profiler

Options:
  --rounds N     every arm of most cells so many times, in turn; the verdict is the median [default: 3]
  --messages N   messages of one arm of `effect` in one round; a slow arm takes fewer [default: 16000]
  --many N       messages of `million`, and ten times those of `burst` [default: 1000000]
  --lasting T    how long the load of `latency` lasts in each arm, such as 30s [default: 15s]
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
  cargo bench --bench brokers -- burst million --rounds 1 --many 200000

Each arm works in a schema and in queues or topics of its own and takes them away.";

const BROKERS: [&str; 2] = ["rabbitmq", "kafka"];
const CELLS: [&str; 9] = ["effect", "idle", "retry", "takeover", "memory", "latency", "burst", "million", WORKER];
const WORKER: &str = "worker";

const SIZE: Size = Size { rounds: 3, messages: 16_000, many: 1_000_000, lasting: Duration::from_secs(15) };

fn main() -> ExitCode {
    if let [flag, life] = &arguments::given()[..]
        && flag == lives::CHILD
    {
        return arguments::ended(arguments::on_tokio(lives::child(life)).map(|()| 0), false);
    }
    let words: Vec<&str> = BROKERS.into_iter().chain(CELLS).collect();
    arguments::main(HELP, "brokers", &words, SIZE, run)
}

/// The answer: how many targets were missed.
async fn run(asked: Asked) -> anyhow::Result<usize> {
    let Asked { size, words, .. } = asked;
    let named = |word: &str| words.iter().any(|w| w == word);
    let wants = |word: &str, all: &[&str]| named(word) || !words.iter().any(|w| all.contains(&w.as_str()));
    let mut report = Report::of("brokers");
    let Some(database) = Database::connect().await? else {
        println!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return report.end();
    };
    report.fact("database", database.description().await?);
    for kind in [Kind::RabbitMq, Kind::Kafka].into_iter().filter(|kind| wants(kind.name(), &BROKERS)) {
        let Some(broker) = Broker::given(kind) else { continue };
        report.fact("broker", format!("{} at {}", kind.name(), broker.host()));
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
        if wants("latency", &CELLS) {
            latency::cell(&database, &broker, size, &mut report).await?;
        }
        if wants("burst", &CELLS) {
            burst::cell(&database, &broker, size, &mut report).await?;
        }
        if named("million") {
            million::cell(&database, &broker, size, &mut report).await?;
        }
        if named(WORKER) {
            effect::worker_alone(&database, &broker, size, &mut report).await?;
        }
    }
    database.end().await?;
    report.end()
}
