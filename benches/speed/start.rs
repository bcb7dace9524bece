//! The cell of a start: a process of its own, from its beginning to its first message.

use crate::{
    arguments::Size,
    report::{Report, Target, median},
    work::Work,
};
use anyhow::{Context as _, ensure};
use pitcrew::{
    Client, Context, Handler, Handlers, Worker,
    config::Config,
    store::{Store, sqlite::SqliteStore},
    transport::embedded::Embedded,
};
use std::{path::Path, sync::Arc, time::Instant};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::Notify,
};

/// How this program is told to be that process.
pub(crate) const CHILD: &str = "--first-message";
/// Starts in one round.
const STARTS: usize = 10;

/// exec → first message, on a SQLite file that is new, and on one that has its tables and a message that waits.
pub(crate) async fn start(size: Size, report: &mut Report) -> anyhow::Result<()> {
    report.cell("start", "a process from its beginning to its first message, SQLite and the embedded transport")?;
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for round in 1..=size.rounds {
        let (mut on_new, mut on_known) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            on_new.push(once(false).await?);
            on_known.push(once(true).await?);
        }
        println!(
            "  {round:2}  p50 of {STARTS}: {:.0} ms on a new file, {:.0} ms with a message that waits",
            median(&on_new),
            median(&on_known)
        );
        new.extend(on_new);
        known.extend(on_known);
    }
    report.verdict("start to first message, new SQLite file", &new, " ms", Target::AtMost(150.0));
    report.verdict("start to first message, a message waits in the file", &known, " ms", Target::AtMost(150.0));
    Ok(())
}

async fn once(waits: bool) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("start.db");
    if waits {
        let (store, client) = open(&path).await?;
        store.migrate().await?;
        client.send(&Work { n: 0, filler: String::new() }).await?;
        store.close().await;
    }
    let began = Instant::now();
    let program = std::env::current_exe()?;
    let mut child: Child =
        Command::new(program).arg(CHILD).arg(&path).stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let line = lines.next_line().await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    ensure!(line.as_deref() == Some("handled"), "the started worker said {line:?}");
    ensure!(child.wait().await?.success(), "the started worker failed");
    let (store, _) = open(&path).await?;
    let counts = store.counts().await?;
    store.close().await;
    ensure!((counts.done, counts.outbox) == (1, 0), "one message was to be done: {counts:?}");
    Ok(took)
}

/// The process that is started: it handles one message and ends. On a new file it sends that message itself.
pub(crate) async fn child(path: &Path) -> anyhow::Result<()> {
    let is_new = !path.exists();
    let (store, client) = open(path).await?;
    if is_new {
        store.migrate().await?;
        client.send(&Work { n: 0, filler: String::new() }).await?;
    }
    let first = Arc::new(Notify::new());
    let handlers = Handlers::new().handle(Announce(first.clone()));
    let running = Worker::new(Config::default(), handlers).start(store, Arc::new(Embedded::default())).await?;
    first.notified().await;
    running.shutdown().await;
    Ok(())
}

/// Says that the first message is there.
struct Announce(Arc<Notify>);

impl Handler<Work> for Announce {
    async fn handle(&self, _: Work, _: &mut Context) -> pitcrew::Result {
        println!("handled");
        self.0.notify_one();
        Ok(())
    }
}

async fn open(path: &Path) -> anyhow::Result<(Arc<SqliteStore>, Client)> {
    let store = SqliteStore::open(path.to_str().context("a path in UTF-8")?, Default::default()).await?;
    let store = Arc::new(store);
    let handlers = Handlers::new().handle(Announce(Arc::default()));
    let client = Client::new(store.clone(), &Embedded::default(), &handlers, &Config::default())?;
    Ok((store, client))
}
