//! Speed as ratios: the worker beside bare loops that do the same work, in turn, in one run, and every arm checked afterwards.

mod arguments;
mod arms;
mod bare;
mod broker;
mod cells;
mod database;
mod held;
mod inbox;
#[expect(dead_code, reason = "the bench `brokers` uses the rest")]
mod machine;
mod provider;
mod report;
mod start;
mod work;

use arguments::{Asked, Size};
use database::Database;
use inbox::Ids;
use report::Report;
use std::{path::Path, process::ExitCode, time::Duration};

/// The allocator of the worker that ships, for all arms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
Measures the worker against bare loops that do the same work, and checks that nothing was lost or done twice.

Usage: cargo bench --bench speed [-- [OPTIONS] [CELL...]]

Cells (default: all but those with a *):
  effect   inbox row, one document or own row, one event: rate and processor time against bare loops    (Postgres)
  lone     one message alone on an idle worker against one bare transaction                              (Postgres)
  waiting  256 handlers that wait 10 ms each for an answer, and the connections they need                (Postgres)
* inbox    `effect` on an inbox full of UUIDv7 IDs of ten days against an empty one, rate and WAL         (Postgres)
* foreign  the same with random IDs, as somebody else makes them                                         (Postgres)
* held     `effect` while somebody else holds a transaction open on the same database                    (Postgres)
  sqlite   `effect` and `waiting` on a SQLite file: stated, nothing to be compared with
  start    a process from its beginning to its first message, on SQLite
* worker   the worker's arm of `effect` alone, for a profiler                                             (Postgres)

Options:
  --rounds N     every arm so many times, in turn; the verdict is the median [default: 5]
  --messages N   messages of one arm in one round [default: 40000]
  --many N       rows of the full inbox of `inbox` and `foreign`, a tenth of them in another [default: 10000000]
  --lasting T    how long the transaction of `held` is open in each round, such as 30s or 2m [default: 10m]
  --strict       end with status 2 if a target is missed
  -h, --help     this text

Environment:
  PITCREW_POSTGRES_URL  the Postgres to measure on, e.g. postgres://postgres@127.0.0.1:5432/postgres. Without it the
                        cells that need one are left out. It must not be one that somebody else works on.

Examples:
  cargo bench
  cargo bench --bench speed -- effect --rounds 9
  cargo bench --bench speed -- inbox held --rounds 3 --many 1000000 --lasting 1m
  cargo bench --bench speed -- sqlite start --rounds 1 --messages 5000

Each arm works in a schema of its own and takes it away. Ratios are what counts: the arms of a round run one after another
on the same machine, so that what disturbs one disturbs the others too.";

const CELLS: [&str; 9] = ["effect", "lone", "waiting", "inbox", "foreign", "held", "sqlite", "start", "worker"];

/// These take long, or are for a profiler.
const IF_NAMED: [&str; 4] = ["inbox", "foreign", "held", "worker"];

const SIZE: Size = Size { rounds: 5, messages: 40_000, many: 10_000_000, lasting: Duration::from_mins(10) };

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
    let wants = |cell: &str| words.iter().any(|word| word == cell) || (words.is_empty() && !IF_NAMED.contains(&cell));
    let mut report = Report::of("speed");
    if let Some(database) = Database::connect().await? {
        report.fact("database", database.description().await?);
        if wants("effect") {
            cells::effect(&database, size, &mut report).await?;
        }
        if wants("lone") {
            cells::lone(&database, size, &mut report).await?;
        }
        if wants("waiting") {
            cells::waiting(&database, size, &mut report).await?;
        }
        for (cell, ids) in [("inbox", Ids::Dated), ("foreign", Ids::Foreign)] {
            if wants(cell) {
                inbox::cell(&database, size, ids, &mut report).await?;
            }
        }
        if wants("held") {
            held::cell(&database, size, &mut report).await?;
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
    report.end()
}
