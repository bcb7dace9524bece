//! One arm: one way to do the same work, measured and checked on a fresh schema.

use crate::{
    bare::{self, Batch, Rows, Texts},
    broker::Broker,
    database::{Database, check_broker},
    machine,
    work::{self, Effect},
};
use anyhow::Context as _;
use pitcrew::{Running, Worker, store::Store};
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
}

impl<'a> Stopwatch<'a> {
    pub(crate) async fn start(seen: Seen<'a>) -> Self {
        let server = Self::server_time(seen).await;
        Self { seen, server, client: machine::own_time(), began: Instant::now() }
    }

    pub(crate) async fn stop(self, n: usize) -> Measured {
        let (took, client) = (self.began.elapsed(), machine::own_time() - self.client);
        let server = Self::server_time(self.seen).await.saturating_sub(self.server);
        let per_message = |time: Duration| time.as_secs_f64() * 1e6 / n as f64;
        Measured {
            rate: n as f64 / took.as_secs_f64(),
            client: per_message(client),
            server: per_message(server),
            ..Measured::default()
        }
    }

    async fn server_time(seen: Seen<'a>) -> Duration {
        match seen {
            Some((database, name)) => machine::server_time(&database.admin, name).await,
            None => Duration::ZERO,
        }
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
    let watch = Stopwatch::start(Some((database, &bed.application_name))).await;
    bare::batches(&pool, texts, effect, lanes).await?;
    let measured = watch.stop(n).await;
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
    let watch = Stopwatch::start(Some((database, &bed.application_name))).await;
    let sent = bare::singles(&pool, texts.clone(), effect, lanes).await?;
    let measured = watch.stop(n).await;
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
    let measured = run(bed.store.clone(), Some((database, &bed.application_name)), effect, 0, n).await?;
    database.check(&bed, effect, n + WARM_UP).await.context("the worker")?;
    database.clear(bed).await?;
    Ok(measured)
}

/// A worker's life on `store`: from a full queue to the last ack and the last confirm. Its messages count from `from` on.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    seen: Seen<'_>,
    effect: Effect,
    from: u64,
    n: usize,
) -> anyhow::Result<Measured> {
    let broker = Arc::new(Broker::default());
    let (warm_up, messages) = (work::messages(from, WARM_UP), work::messages(from + WARM_UP as u64, n));
    let running = start(store, broker.clone(), effect).await?;
    broker.push(warm_up);
    broker.moved(WARM_UP, WARM_UP * effect.events()).await;
    let (commits_before, messages_before) = running.committed();
    let (stop, stopped) = watch::channel(());
    let work = async {
        let watch = Stopwatch::start(seen).await;
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
    Ok(Measured { batch, connections: connections?, ..measured })
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
