//! One cell: commands go out until the fault has struck, some old ones come again, another worker finishes, and the checker adds up.

use crate::{
    WORKER,
    bare::Bare,
    checker::{Account, Database, Facts},
    generator::{Generator, Sending},
};
use pitcrew::{Message, fault::Point, testing::poll_pause};
use processes::{
    Work,
    shop::{LIMIT, Process, Shop, broker, postgres},
};
use std::{
    fmt,
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

/// Above the lines.
pub(crate) const HEAD: &str =
    "broker      store     fault                  fired  sent  recovered in ms  lost  double  left or orphaned";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// Two workers at once.
    Postgres,
    /// One, as it is one process for a file.
    Sqlite,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The worker kills itself with SIGKILL at a point of its walk, when it passes it for the so-manieth time.
    At(Point, u32),
    /// SIGKILL from outside, whenever the seed says.
    Random(u64),
    /// SIGSTOP, and SIGCONT later; on Kafka after its session has ended.
    Stopped,
    /// SIGTERM under load: it must end well.
    Terminated,
}

impl Fault {
    pub(crate) fn is_at(self, point: Point) -> bool {
        matches!(self, Self::At(at, _) if at == point)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(point, nth) => f.pad(&format!("{}:{nth}", point.name())),
            Self::Random(seed) => f.pad(&format!("SIGKILL, seed {seed}")),
            Self::Stopped => f.pad("SIGSTOP, SIGCONT"),
            Self::Terminated => f.pad("SIGTERM"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) broker: &'static str,
    pub(crate) store: On,
    pub(crate) fault: Fault,
}

impl Cell {
    fn on_kafka(&self) -> bool {
        self.broker == "PITCREW_KAFKA_URL"
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = match self.broker {
            "PITCREW_RABBITMQ_URL" => "RabbitMQ 3",
            "PITCREW_RABBITMQ4_URL" => "RabbitMQ 4",
            _ => "Kafka",
        };
        let store = if self.store == On::Postgres { "Postgres" } else { "SQLite" };
        write!(f, "{broker:<10}  {store:<8}  {:<21}", self.fault)
    }
}

/// How a cell went.
pub(crate) struct Outcome {
    cell: Cell,
    fired: u32,
    sent: usize,
    recovered: Duration,
    account: Account,
}

impl Outcome {
    pub(crate) fn is_well(&self) -> bool {
        self.fired > 0 && self.account.is_well()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cell, fired, sent, recovered, account } = self;
        let (lost, double, left) = (account.lost.len(), account.double.len(), account.orphans.len());
        write!(f, "{cell}  {fired:>5}  {sent:>4}  {:>15}  {lost:>4}  {double:>6}  {left:>16}", recovered.as_millis())?;
        for (what, which) in [("lost", &account.lost), ("double", &account.double), ("orphan", &account.orphans)] {
            for words in which.iter().take(5) {
                write!(f, "\n    {what}: {words}")?;
            }
        }
        Ok(())
    }
}

/// A shop, what is sent to it from outside, and who looks on.
pub(crate) struct Bench {
    pub(crate) shop: Shop,
    pub(crate) bare: Bare,
    pub(crate) generator: Generator,
    /// Its database, if that is no file.
    postgres: Option<String>,
    pub(crate) url: String,
}

impl Bench {
    /// `None`, said so: something is missing.
    pub(crate) async fn on(worker: &'static str, variable: &str, store: On, seed: u64) -> Option<Self> {
        match store {
            On::Sqlite => Self::at(worker, variable, None, seed).await,
            On::Postgres => Self::at(worker, variable, Some(postgres()?), seed).await,
        }
    }

    /// On this Postgres, or on a file.
    pub(crate) async fn at(worker: &'static str, variable: &str, postgres: Option<String>, seed: u64) -> Option<Self> {
        Some(Self::to(worker, broker(variable)?, postgres, seed).await)
    }

    /// As [`at`](Self::at), on the broker of this address.
    pub(crate) async fn to(worker: &'static str, url: String, postgres: Option<String>, seed: u64) -> Self {
        // Small batches, so that there are many of them.
        let small = "concurrency = 16\n[worker]\nbatch = 8\n";
        let shop = match &postgres {
            Some(postgres) => Shop::on_this_postgres(worker, &url, postgres, small).await,
            None => Shop::on_sqlite(worker, &url, small).await,
        };
        shop.operator(&["topology", "apply"]);
        let bare = Bare::on(&url, &shop.prefix).await;
        Self { shop, bare, generator: Generator::new(seed), postgres, url }
    }

    /// A connection of the checker's own.
    pub(crate) async fn database(&self) -> Database {
        match &self.postgres {
            None => Database::sqlite(&self.shop.file()).await,
            Some(url) => Database::postgres(url, &self.shop.config.store.schema.to_string()).await,
        }
    }

    /// A wave of so many new commands.
    pub(crate) async fn send(&mut self, count: u32) {
        let wave = self.generator.wave(count);
        self.put(wave).await;
    }

    /// As [`send`](Self::send), without the outbox: the database may be away.
    pub(crate) async fn send_bare(&mut self, count: u32) {
        let wave = self.generator.wave(count);
        self.bare.publish(&wave).await;
    }

    /// As [`send`](Self::send), all of it by the outbox: the broker may be away.
    pub(crate) async fn send_by_outbox(&mut self, count: u32) {
        let wave = self.generator.wave(count).into_iter().map(|sending| Sending { by_outbox: true, ..sending });
        self.put(wave.collect()).await;
    }

    /// So long, with a wave of commands each tenth of a second.
    pub(crate) async fn under_load(&mut self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            self.send_bare(10).await;
            pass(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn put(&self, sendings: Vec<Sending>) {
        let (ours, bare): (Vec<_>, Vec<_>) = sendings.into_iter().partition(|sending| sending.by_outbox);
        self.bare.publish(&bare).await;
        let envelope = |sending: Sending| {
            let mut envelope = pitcrew::Envelope::new(Work::TYPE, "/matrix", sending.body);
            envelope.id = sending.id;
            envelope
        };
        self.shop.write(ours.into_iter().map(envelope).collect()).await;
    }

    /// Waits until all that was sent is done, heard or dead, and nothing waits anywhere: how long after `since`. What is not there
    /// in time is the checker's to find.
    pub(crate) async fn completes(&self, since: Instant) -> Duration {
        let (database, until) = (self.database().await, Instant::now() + LIMIT);
        let sent = &self.generator.sent;
        let mut recovered = None;
        while Instant::now() < until {
            let facts = Facts::read(&database, Vec::new(), Default::default()).await;
            let done = facts.effects.values().filter(|(done, heard)| *done > 0 && *heard > 0).count();
            if done >= sent.good.len() && facts.letters.len() >= sent.poison.len() && facts.left.is_empty() {
                recovered.get_or_insert_with(|| since.elapsed());
                if self.bare.left().await.is_empty() {
                    break;
                }
            }
            pass(Duration::from_millis(50)).await;
        }
        database.close().await;
        recovered.unwrap_or(LIMIT)
    }

    /// Old commands come again and new ones follow; then the workers end, and a neighbour takes what they may have held. How long all of
    /// it took after `since`, how many workers had ended before they were asked to, and what the checker says.
    pub(crate) async fn account(&mut self, mut workers: Vec<Process>, since: Instant) -> (Duration, usize, Account) {
        let again = self.generator.again();
        self.bare.publish(&again).await;
        self.send_bare(40).await;
        let recovered = self.completes(since).await;
        let died = workers.iter_mut().filter_map(Process::status).count();
        for worker in workers {
            worker.stop().await;
        }
        let mut neighbour = self.shop.start();
        neighbour.is_at_work().await;
        self.completes(since).await;
        neighbour.stop().await;
        let account = self.tally().await;
        (recovered, died, account)
    }

    /// Waits until nobody has anything to do: what is not done then is gone.
    pub(crate) async fn settles(&self) {
        let (database, until) = (self.database().await, Instant::now() + LIMIT);
        loop {
            let left = Facts::read(&database, Vec::new(), self.bare.left().await).await.left;
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "{left:?} still wait; {}", self.shop.logs());
            pass(Duration::from_millis(50)).await;
        }
        database.close().await;
    }

    /// What the checker says.
    pub(crate) async fn tally(&self) -> Account {
        let (reader, left, events) = (self.database().await, self.bare.left().await, self.bare.events().await);
        let account = Account::of(&self.generator.sent, &Facts::read(&reader, events, left).await);
        reader.close().await;
        account
    }

    pub(crate) async fn close(self) {
        self.bare.clear().await;
        self.shop.close().await;
    }
}

/// Lets time pass under load.
pub(crate) async fn pass(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        poll_pause().await;
    }
}

/// `None`, said so: something is missing.
pub(crate) async fn run(cell: Cell) -> Option<Outcome> {
    let seed = if let Fault::Random(seed) = cell.fault { seed } else { processes::seed::of_run() };
    let mut bench = Bench::on(WORKER, cell.broker, cell.store, seed).await?;
    bench.send(60).await;
    if cell.fault.is_at(Point::AfterClaim) {
        // Only what somebody may have begun is claimed: one dies before, with all that it held.
        let mut first = bench.shop.start_armed("received:1");
        first.ends().await;
        if cell.store == On::Postgres {
            bench.send(20).await;
        }
    }
    let mut victim = match cell.fault {
        Fault::At(point, nth) => bench.shop.start_armed(&format!("{}:{nth}", point.name())),
        _ => bench.shop.start(),
    };
    let mut others = Vec::new();
    if cell.store == On::Postgres && !cell.fault.is_at(Point::AfterClaim) {
        others.push(bench.shop.start());
    }
    let fired = strike(&cell, &mut bench, &mut victim).await;
    let struck = Instant::now();
    let again = bench.generator.again();
    bench.put(again).await;
    bench.send(20).await;
    if victim.status().is_some() || others.is_empty() && !matches!(cell.fault, Fault::Stopped) {
        others.push(bench.shop.start());
    }
    let recovered = bench.completes(struck).await;
    if victim.status().is_none() {
        others.push(victim);
    }
    for worker in others {
        worker.stop().await;
    }
    // Without a worker nothing is held: what was unacked is in its queue again.
    let (database, left, events) = (bench.database().await, bench.bare.left().await, bench.bare.events().await);
    let facts = Facts::read(&database, events, left).await;
    let account = Account::of(&bench.generator.sent, &facts);
    database.close().await;
    let sent = bench.generator.sent.good.len() + bench.generator.sent.poison.len();
    if !account.is_well() || fired == 0 {
        eprintln!("{cell}: {} on {}; {}", bench.shop.prefix, bench.url, bench.shop.logs());
    }
    bench.close().await;
    Some(Outcome { cell, fired, sent, recovered, account })
}

/// Sends until it has happened: how often it did.
async fn strike(cell: &Cell, bench: &mut Bench, victim: &mut Process) -> u32 {
    match cell.fault {
        Fault::At(..) => {
            let until = Instant::now() + LIMIT / 2;
            while victim.status().is_none() && Instant::now() < until {
                bench.send(20).await;
                pass(Duration::from_millis(200)).await;
            }
        }
        Fault::Random(_) => {
            victim.is_at_work().await;
            bench.send(200).await;
            let moment = Duration::from_millis(bench.generator.random(600));
            pass(moment).await;
            victim.signal("KILL");
            victim.ends().await;
        }
        Fault::Stopped => {
            victim.is_at_work().await;
            bench.send(100).await;
            victim.signal("STOP");
            pass(Duration::from_secs(if cell.on_kafka() { 9 } else { 1 })).await;
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", victim.id())).expect("it is there");
            let stopped = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"));
            // What stands still may hold the lock of a SQLite file: what goes by the outbox goes when it has woken up.
            victim.signal("CONT");
            return u32::from(stopped);
        }
        Fault::Terminated => {
            victim.is_at_work().await;
            bench.send(200).await;
            victim.signal("TERM");
            return u32::from(victim.ends().await.code() == Some(0));
        }
    }
    u32::from(victim.status().is_some_and(|status| status.signal() == Some(9)))
}
