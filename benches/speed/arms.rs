//! One arm: one way to do the same work, measured and checked on a fresh schema.

use crate::{
    bare::{self, Batch, Rows, Texts},
    broker::Broker,
    database::{Database, check_broker},
    machine,
    work::{self, Effect},
};
use anyhow::Context as _;
use pitcrew::{Running, Worker, message::wire::Raw, store::Store};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Messages in a batch of a bare loop.
const BATCH: usize = 256;
/// Handled before the clock runs: connections are open and statements prepared, as those of a bare loop are.
pub(crate) const WARM_UP: usize = 1_024;

/// What an arm did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// Messages a second.
    pub(crate) rate: f64,
    /// Processor time of this process, µs a message.
    pub(crate) client: f64,
    /// Processor time of the database's processes, µs a message; 0 if it is on another machine.
    pub(crate) server: f64,
    /// Processor time of the broker, µs a message; 0 if it is in memory or on another machine.
    pub(crate) broker: f64,
    /// What the database wrote ahead, bytes a message; 0 if none was asked.
    pub(crate) wal: f64,
    /// Messages in a commit; 0 where nobody counts.
    pub(crate) batch: f64,
    /// The most connections that were seen.
    pub(crate) connections: i64,
}

/// Where the database says what its processes cost and how many there are: its name for our connections.
pub(crate) type Seen<'a> = Option<(&'a Database, &'a str)>;

/// Times what happens between its start and its end.
pub(crate) struct Stopwatch<'a> {
    seen: Seen<'a>,
    began: Instant,
    client: Duration,
    server: Duration,
    wal: i64,
}

impl<'a> Stopwatch<'a> {
    pub(crate) async fn start(seen: Seen<'a>) -> anyhow::Result<Self> {
        let (server, wal) = Self::of_database(seen).await?;
        Ok(Self { seen, server, wal, client: machine::own_time(), began: Instant::now() })
    }

    pub(crate) async fn stop(self, n: usize) -> anyhow::Result<Measured> {
        let (took, client) = (self.began.elapsed(), machine::own_time() - self.client);
        let (server, wal) = Self::of_database(self.seen).await?;
        let server = server.saturating_sub(self.server);
        let per_message = |time: Duration| time.as_secs_f64() * 1e6 / n as f64;
        Ok(Measured {
            rate: n as f64 / took.as_secs_f64(),
            client: per_message(client),
            server: per_message(server),
            wal: (wal - self.wal) as f64 / n as f64,
            ..Measured::default()
        })
    }

    /// Its processor time, and how much it has written ahead, ever.
    async fn of_database(seen: Seen<'a>) -> anyhow::Result<(Duration, i64)> {
        Ok(match seen {
            Some((database, name)) => (machine::server_time(&database.admin, name).await, database.wal().await?),
            None => (Duration::ZERO, 0),
        })
    }
}

/// The bare loop in batches of 256. `ready`: its rows are made beforehand, so that only the database's client is left.
pub(crate) async fn bare(
    database: &Database,
    effect: Effect,
    n: usize,
    connections: u32,
    ready: bool,
) -> anyhow::Result<Measured> {
    let bed = database.bed().await?;
    let texts = Arc::new(Texts::of(&bed.schema, effect));
    let pool = bare::pool(&database.url, &bed, connections).await?;
    let batch = |messages: &[_]| -> anyhow::Result<Batch> {
        Ok(if ready { Batch::Rows(Box::new(Rows::of(messages, effect)?)) } else { Batch::Messages(messages.to_vec()) })
    };
    let batches: Vec<Batch> = work::messages(0, n).chunks(BATCH).map(batch).collect::<Result<_, _>>()?;
    let lanes = bare::deal(batches, connections as usize);
    let watch = Stopwatch::start(Some((database, &bed.application_name))).await?;
    bare::batches(&pool, texts, effect, lanes).await?;
    let measured = watch.stop(n).await?;
    pool.close().await;
    database.check(&bed, effect, n).await.context("the bare loop in batches")?;
    database.clear(bed).await?;
    Ok(Measured { batch: BATCH as f64, connections: connections.into(), ..measured })
}

/// The bare loop with one transaction a message.
pub(crate) async fn single(
    database: &Database,
    effect: Effect,
    n: usize,
    connections: u32,
) -> anyhow::Result<Measured> {
    let bed = database.bed().await?;
    let texts = Arc::new(Texts::of(&bed.schema, effect));
    let pool = bare::pool(&database.url, &bed, connections).await?;
    let lanes = bare::deal(work::messages(0, n), connections as usize);
    let watch = Stopwatch::start(Some((database, &bed.application_name))).await?;
    let sent = bare::singles(&pool, texts.clone(), effect, lanes).await?;
    let measured = watch.stop(n).await?;
    bare::delete(&mut *pool.acquire().await?, &texts, &sent).await?;
    pool.close().await;
    database.check(&bed, effect, n).await.context("the bare loop, one transaction a message")?;
    database.clear(bed).await?;
    Ok(Measured { batch: 1.0, connections: connections.into(), ..measured })
}

/// A worker of this handler on this store.
pub(crate) async fn start(store: Arc<dyn Store>, broker: Arc<Broker>, effect: Effect) -> anyhow::Result<Running> {
    Worker::new(work::config(), effect.handlers()).start(store, broker).await
}

/// The worker on a fresh schema.
pub(crate) async fn worker(database: &Database, effect: Effect, n: usize) -> anyhow::Result<Measured> {
    let bed = database.bed().await?;
    let messages = work::messages(0, WARM_UP + n);
    let measured = run(bed.store.clone(), Some((database, &bed.application_name)), effect, messages).await?;
    database.check(&bed, effect, n + WARM_UP).await.context("the worker")?;
    database.clear(bed).await?;
    Ok(measured)
}

/// A worker's life on `store`: from a full queue to the last ack and the last confirm. The first of its messages are the warm-up.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    seen: Seen<'_>,
    effect: Effect,
    mut warm_up: Vec<Arc<Raw>>,
) -> anyhow::Result<Measured> {
    let broker = Arc::new(Broker::default());
    let messages = warm_up.split_off(WARM_UP);
    let n = messages.len();
    let running = start(store, broker.clone(), effect).await?;
    broker.push(warm_up);
    broker.moved(WARM_UP, WARM_UP * effect.events()).await;
    let (commits_before, messages_before) = running.committed();
    let (stop, stopped) = watch::channel(());
    let work = async {
        let watch = Stopwatch::start(seen).await?;
        broker.push(messages);
        broker.moved(n + WARM_UP, (n + WARM_UP) * effect.events()).await;
        let measured = watch.stop(n).await;
        drop(stop);
        measured
    };
    let (measured, connections) = tokio::join!(work, watch_connections(seen, stopped));
    let (commits, messages) = running.committed();
    running.shutdown().await;
    check_broker(broker.tally(), effect, n + WARM_UP)?;
    let batch = (messages - messages_before) as f64 / (commits - commits_before) as f64;
    Ok(Measured { batch, connections: connections?, ..measured? })
}

/// The most connections that were open until `stopped`.
pub(crate) async fn watch_connections(seen: Seen<'_>, mut stopped: watch::Receiver<()>) -> anyhow::Result<i64> {
    let Some((database, name)) = seen else { return Ok(0) };
    let mut most = 0;
    loop {
        most = most.max(database.connections(name).await?);
        let look_again = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! { _ = stopped.changed() => return Ok(most), () = look_again => {} }
    }
}
