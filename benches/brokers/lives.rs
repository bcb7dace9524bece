//! Workers in processes of their own, which can be killed: this program, told to be one.

use crate::{
    arms::Seen,
    database::{Bed, Database},
    hand::{Hand, Tables},
    kafka, machine,
    site::{Broker, Kind, LIMIT, LOOK, Site},
    work::{Effect, Sheet, Work, Worked},
};
use anyhow::{Context as _, ensure};
use pitcrew::{
    Context, Handler, Handlers, Worker,
    store::postgres::{Options, PostgresStore},
};
use serde::{Deserialize, Serialize};
use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

/// How this program is told to be that process.
pub(crate) const CHILD: &str = "--worker";

/// What its handler does.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Doing {
    /// One document, one event.
    Saves,
    /// The same, after so many milliseconds.
    Waits(u64),
    /// Lets its payload go and does nothing, for so many milliseconds.
    Takes(u64),
    /// It never ends.
    Hangs,
}

/// What the process is.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Who {
    Worker(Doing),
    Hand(Hand),
}

#[derive(Serialize, Deserialize)]
struct Order {
    site: Site,
    postgres: String,
    schema: String,
    who: Who,
}

/// A process that is killed when it is dropped.
pub(crate) struct Life {
    process: Child,
}

impl Life {
    /// Returns when it is at work: it listens, or will as soon as its group has let it in.
    pub(crate) async fn begin(site: &Site, database: &Database, schema: &str, doing: Doing) -> anyhow::Result<Self> {
        Self::of(Who::Worker(doing), site, database, schema).await
    }

    async fn of(who: Who, site: &Site, database: &Database, schema: &str) -> anyhow::Result<Self> {
        let order = Order { site: site.clone(), postgres: database.url.clone(), schema: schema.into(), who };
        let mut process = Command::new(std::env::current_exe()?)
            .args([CHILD, &serde_json::to_string(&order)?])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("its output")?).lines();
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await??;
        ensure!(line.as_deref() == Some("at work"), "the started worker said {line:?}");
        Ok(Self { process })
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().context("the worker has ended by itself")
    }

    /// SIGKILL: no goodbye.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// SIGTERM. The answer: its end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<impl Future<Output = anyhow::Result<()>>> {
        let kill = Command::new("kill").args(["-TERM", &self.pid()?.to_string()]).status().await?;
        ensure!(kill.success(), "kill -TERM failed");
        Ok(async move {
            let status = tokio::time::timeout(LIMIT, self.process.wait()).await??;
            ensure!(status.success(), "the stopped worker failed: {status}");
            Ok(())
        })
    }

    /// The most memory that it has held, in bytes.
    pub(crate) fn most_memory(&self) -> anyhow::Result<usize> {
        self.status("VmHWM:")
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<usize> {
        self.status("VmRSS:")
    }

    fn status(&self, field: &str) -> anyhow::Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let value = line.with_context(|| format!("no {field} in its status"))?;
        Ok(value.trim().trim_end_matches(" kB").trim().parse::<usize>()? << 10)
    }

    /// The processor time that it has taken.
    pub(crate) fn time(&self) -> anyhow::Result<Duration> {
        machine::of_process(&self.pid()?.to_string()).context("its processor time")
    }
}

/// A process on channels and tables of its own, at work.
pub(crate) struct Arm {
    pub(crate) site: Site,
    pub(crate) life: Life,
    tables: Either,
}

/// Whose they are.
enum Either {
    Worker(Bed),
    Hand(Tables),
}

impl Arm {
    pub(crate) async fn begin(who: Who, database: &Database, broker: &Broker) -> anyhow::Result<Self> {
        let site = Site::narrow(broker).await?;
        let tables = match who {
            Who::Worker(_) => Either::Worker(database.bed().await?),
            Who::Hand(_) => Either::Hand(Tables::make(database, 1).await?),
        };
        let life = Life::of(who, &site, database, tables.schema()).await?;
        if broker.kind == Kind::Kafka {
            kafka::agreed(&site, 1).await?;
        }
        Ok(Self { site, life, tables })
    }

    pub(crate) fn seen<'a>(&'a self, database: &'a Database) -> Seen<'a> {
        Some((database, self.tables.schema()))
    }

    /// Ends it. Every command is settled, each of `n` has its effect, once, and nothing waits. Its events stay where they are.
    pub(crate) async fn end(self, database: &Database, n: usize) -> anyhow::Result<Site> {
        self.life.stop().await?.await?;
        self.site.check_settled().await?;
        match self.tables {
            Either::Worker(bed) => {
                database.check(&bed, Effect::Document, n).await?;
                database.clear(bed).await?;
            }
            Either::Hand(tables) => {
                tables.check(database, n).await?;
                tables.clear(database).await?;
            }
        }
        Ok(self.site)
    }
}

impl Either {
    fn schema(&self) -> &str {
        match self {
            Self::Worker(bed) => &bed.schema,
            Self::Hand(tables) => &tables.schema,
        }
    }
}

/// The process that is started.
pub(crate) async fn child(order: &str) -> anyhow::Result<()> {
    let Order { site, postgres, schema, who } = serde_json::from_str(order)?;
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let doing = match who {
        Who::Worker(doing) => doing,
        Who::Hand(hand) => {
            let tables = Tables::open(&postgres, &schema, hand.connections()).await?;
            let stop = CancellationToken::new();
            println!("at work");
            let work = hand.work(site, tables, CancellationToken::new(), stop.clone());
            let (worked, _) = tokio::join!(work, async {
                end.recv().await;
                stop.cancel();
            });
            return worked;
        }
    };
    let options = Options { application_name: schema.clone(), schema, ..Options::default() };
    let store = Arc::new(PostgresStore::connect(&postgres, options).await?);
    let worker = Worker::new(site.config(), handlers(Effector { doing, begun: CancellationToken::new() }));
    let running = worker.start(store, site.transport()?).await?;
    println!("at work");
    end.recv().await;
    running.shutdown().await;
    Ok(())
}

/// The handler of all arms that are a worker.
#[derive(Clone)]
pub(crate) struct Effector {
    pub(crate) doing: Doing,
    /// Cancelled when the first message is handled: the clock of an arm runs from then on.
    pub(crate) begun: CancellationToken,
}

pub(crate) fn handlers(effector: Effector) -> Handlers {
    Handlers::new().handle(effector).emits::<Worked>()
}

impl Handler<Work> for Effector {
    async fn handle(&self, m: Work, cx: &mut Context) -> pitcrew::Result {
        self.begun.cancel();
        match self.doing {
            Doing::Saves => {}
            Doing::Waits(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Doing::Takes(millis) => {
                drop(m);
                tokio::time::sleep(Duration::from_millis(millis)).await;
                return Ok(());
            }
            Doing::Hangs => std::future::pending().await,
        }
        cx.save(&Sheet { n: m.n, filler: m.filler.clone() })?;
        cx.emit(&Worked { n: m.n, filler: m.filler })?;
        Ok(())
    }
}

/// How many inbox rows are done.
pub(crate) async fn done(database: &Database, schema: &str) -> anyhow::Result<i64> {
    use pitcrew::sqlx::{self, AssertSqlSafe};
    let count = format!("select count(*) from {schema}.inbox where fate = 'done'");
    Ok(sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&database.admin).await?)
}

/// Waits until so many are done. The answer: how long that took.
pub(crate) async fn until_done(database: &Database, schema: &str, count: i64) -> anyhow::Result<Duration> {
    let began = Instant::now();
    loop {
        let done = done(database, schema).await?;
        if done >= count {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < LIMIT, "{done} of {count} were done in {} s", LIMIT.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}
