//! Speed as ratios: the worker beside bare loops that do the same work, in turn, in one run, and every arm checked afterwards.

mod arguments;
mod arms;
mod bare;
mod broker;
mod cells;
mod database;
#[expect(dead_code, reason = "the bench `brokers` uses the rest")]
mod machine;
mod provider;
mod report;
mod start;
mod work;

use arguments::{Asked, Size};
use database::Database;
use report::Report;
use std::{path::Path, process::ExitCode};

/// The allocator of the worker that ships, for all arms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
Measures the worker against bare loops that do the same work, and checks that nothing was lost or done twice.

Usage: cargo bench --bench speed [-- [OPTIONS] [CELL...]]

Cells (default: all of them):
  effect   inbox row, one document or own row, one event: rate and processor time against bare loops    (Postgres)
  lone     one message alone on an idle worker against one bare transaction                              (Postgres)
  waiting  256 handlers that wait 10 ms each for an answer, and the connections they need                (Postgres)
  large    `effect` on an inbox of 1,000,000 rows against an empty one                                   (Postgres)
  sqlite   `effect` and `waiting` on a SQLite file: stated, nothing to be compared with
  start    a process from its beginning to its first message, on SQLite
  worker   the worker's arm of `effect` alone, for a profiler; only when it is named                     (Postgres)

Options:
  --rounds N     every arm so many times, in turn; the verdict is the median [default: 5]
  --messages N   messages of one arm in one round [default: 40000]
  --strict       end with status 2 if a target is missed
  -h, --help     this text

Environment:
  PITCREW_POSTGRES_URL  the Postgres to measure on, e.g. postgres://postgres@127.0.0.1:5432/postgres. Without it the
                        cells that need one are left out. It must not be one that somebody else works on.

Examples:
  cargo bench
  cargo bench --bench speed -- effect --rounds 9
  cargo bench --bench speed -- sqlite start --rounds 1 --messages 5000

Each arm works in a schema of its own and takes it away. Ratios are what counts: the arms of a round run one after another
on the same machine, so that what disturbs one disturbs the others too.";

const CELLS: [&str; 7] = ["effect", "lone", "waiting", "large", "sqlite", "start", "worker"];

const SIZE: Size = Size { rounds: 5, messages: 40_000 };

fn main() -> ExitCode {
    if let [flag, path] = &arguments::given()[..]
        && flag == start::CHILD
    {
        return arguments::ended(arguments::on_tokio(start::child(Path::new(path))).map(|()| 0), false);
    }
    arguments::main(HELP, "speed", &CELLS, SIZE, run)
}

/// The answer: how many targets were missed.
async fn run(asked: Asked) -> anyhow::Result<usize> {
    let Asked { size, words, .. } = asked;
    println!("machine: {}", machine::description());
    let wants = |cell: &str| words.iter().any(|word| word == cell) || (words.is_empty() && cell != "worker");
    let mut report = Report::default();
    if let Some(database) = Database::connect().await? {
        println!("database: {}", database.description().await?);
        if wants("effect") {
            cells::effect(&database, size, &mut report).await?;
        }
        if wants("lone") {
            cells::lone(&database, size, &mut report).await?;
        }
        if wants("waiting") {
            cells::waiting(&database, size, &mut report).await?;
        }
        if wants("large") {
            cells::large(&database, size, &mut report).await?;
        }
        if wants("worker") {
            cells::worker(&database, size, &mut report).await?;
        }
        database.end().await?;
    } else {
        println!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
    }
    if wants("sqlite") {
        cells::sqlite(size, &mut report).await?;
    }
    if wants("start") {
        start::start(size, &mut report).await?;
    }
    Ok(report.end())
}
