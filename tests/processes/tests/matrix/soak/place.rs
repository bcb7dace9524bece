//! A broker of a soak, its workers and its source. One worker is never killed: in it a leak would show. Its neighbour is, again and again.

use super::{
    broker::{Broker, waiting},
    record::Watched,
    source::Source,
};
use crate::{
    WORKER,
    cell::pass,
    checker::{Account, Database, Facts},
};
use processes::{
    proxy::{Proxy, Wire},
    shop::{Process, Shop},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// A soak shares its machine for hours, with whatever else comes along.
const PATIENCE: Duration = Duration::from_secs(300);
const COMMAND: &str = "car.GenerateRecommendationBrief";

pub(crate) struct Place {
    pub(crate) name: &'static str,
    broker: Broker,
    shop: Shop,
    /// Between its workers and the database.
    pub(crate) database: Proxy,
    /// Between them and RabbitMQ.
    proxy: Option<Proxy>,
    survivor: Option<Process>,
    victim: Option<Process>,
    source: Option<Source>,
    /// Commands a second.
    pub(crate) rate: f64,
    /// The load ends.
    pub(crate) ends: Arc<AtomicBool>,
    is_away: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

/// The car worker's own binary, with fault points as all that the tests build: it lies beside that of these tests.
fn car_worker() -> &'static str {
    let binary = Path::new(WORKER).with_file_name("car-worker");
    assert!(binary.exists(), "{} is not built: cargo test --workspace --no-run", binary.display());
    binary.display().to_string().leak()
}

/// The same address, by way of a proxy.
async fn through(url: &str, wire: Wire) -> (Proxy, String) {
    let (before, rest) = url.rsplit_once('@').expect("a user");
    let (address, path) =
        rest.split_once('/').map_or((rest, String::new()), |(address, path)| (address, format!("/{path}")));
    let proxy = Proxy::to(address.into(), wire, None).await;
    let url = format!("{before}@127.0.0.1:{}{path}", proxy.port);
    (proxy, url)
}

impl Place {
    pub(crate) async fn open(name: &'static str, broker: Broker, postgres: &str, seed: u64) -> Self {
        let url = broker.url();
        let settings = "concurrency = 16\n[http]\nlisten = \"\"\n";
        let shop = Shop::on_this_postgres(car_worker(), &url, postgres, settings).await;
        shop.operator(&["topology", "apply"]);
        let (database, _) = through(postgres, Wire::Bytes).await;
        let proxy = if matches!(broker, Broker::Rabbit(_)) { Some(through(&url, Wire::Bytes).await.0) } else { None };
        let source = Some(Source::to(&url, &shop.prefix, seed));
        let (ends, is_away, sent) = Default::default();
        let (survivor, victim, rate) = (None, None, 0.0);
        Self { name, broker, shop, database, proxy, survivor, victim, source, rate, ends, is_away, sent }
    }

    fn start(&self) -> Process {
        let database = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.database.port);
        let broker = self.proxy.as_ref().map(|proxy| format!("amqp://guest:guest@127.0.0.1:{}", proxy.port));
        self.shop.start_through(Some(&database), broker.as_deref())
    }

    /// Its workers begin with so many commands before them: how many a second they did.
    pub(crate) async fn is_able(&mut self, count: u64) -> f64 {
        self.source.as_mut().expect("it has not begun").send(count).await;
        self.sent.store(count, SeqCst);
        let [mut survivor, mut victim] = [self.start(), self.start()];
        survivor.is_at_work().await;
        victim.is_at_work().await;
        (self.survivor, self.victim) = (Some(survivor), Some(victim));
        let (began, before) = (Instant::now(), self.ended().await);
        let until = began + PATIENCE;
        loop {
            let ended = self.ended().await;
            if ended >= count {
                return (count - before) as f64 / began.elapsed().as_secs_f64();
            }
            assert!(Instant::now() < until, "{ended} of {count}; {}", self.shop.logs());
            pass(Duration::from_millis(20)).await;
        }
    }

    /// Commands with a fate.
    async fn ended(&self) -> u64 {
        let sql = format!("select count(*) from {}.inbox where consumer = '{COMMAND}'", self.shop.config.store.schema);
        let pool = self.shop.store.postgres_pool().expect("it is Postgres");
        let count = pitcrew::sqlx::query_scalar::<_, i64>(pitcrew::sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await;
        u64::try_from(count.expect("the database answers")).expect("a count")
    }

    pub(crate) fn watched(&self) -> Watched {
        Watched {
            name: self.name,
            url: self.broker.url(),
            prefix: self.shop.prefix.clone(),
            schema: self.shop.config.store.schema.clone(),
            survivor: self.survivor.as_ref().expect("it was started").id(),
            is_away: self.is_away.clone(),
            sent: self.sent.clone(),
        }
    }

    /// Begins the load. What could not be sent when it was due, as the broker was away, is sent when it is there again.
    pub(crate) fn send_steadily(&mut self) -> JoinHandle<Source> {
        let (mut source, rate) = (self.source.take().expect("it has not begun"), self.rate);
        let (ends, counted, began) = (self.ends.clone(), self.sent.clone(), Instant::now());
        tokio::spawn(async move {
            let mut sent = 0;
            while !ends.load(SeqCst) {
                let due = (began.elapsed().as_secs_f64() * rate) as u64;
                let wave = (due - sent).min(200);
                if wave > 0 {
                    source.send(wave).await;
                    sent += wave;
                    counted.fetch_add(wave, SeqCst);
                }
                pass(Duration::from_millis(100)).await;
            }
            source
        })
    }

    pub(crate) async fn kill_one(&mut self) {
        let victim = self.victim.take().expect("it lives");
        victim.kill().await;
        let mut next = self.start();
        let until = Instant::now() + PATIENCE;
        while !next.said().contains("at work") {
            let status = next.status();
            assert!(status.is_none() && Instant::now() < until, "no start: {status:?}; {}", self.shop.logs());
            pass(Duration::from_millis(100)).await;
        }
        self.victim = Some(next);
    }

    /// The survivor, or its neighbour.
    pub(crate) async fn freeze_one(&mut self, survivor: bool, time: Duration) {
        let one = if survivor { &self.survivor } else { &self.victim }.as_ref().expect("it lives");
        one.signal("STOP");
        pass(time).await;
        one.signal("CONT");
    }

    pub(crate) fn has_broker_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    pub(crate) fn cut_broker(&self) {
        self.proxy.as_ref().expect("it has one").cut();
    }

    pub(crate) async fn kill_broker(&mut self, away: Duration) {
        self.is_away.store(true, SeqCst);
        self.broker.kill();
        pass(away).await;
        self.broker.start_again().await;
        self.is_away.store(false, SeqCst);
    }

    /// Waits until all is done, ends the workers, and lets the checker add up. Told, and whether all is well.
    pub(crate) async fn adds_up(self, postgres: &str, source: Source, load_ended: Instant) -> bool {
        let Self { name, broker, shop, survivor, victim, .. } = self;
        let database = Database::postgres(postgres, &shop.config.store.schema).await;
        let until = Instant::now() + PATIENCE;
        let look = async || Account::of(&source.sent, &facts(&database, left(&broker.url(), &shop.prefix).await).await);
        while !look().await.is_well() && Instant::now() < until {
            pass(Duration::from_millis(500)).await;
        }
        let settled = load_ended.elapsed();
        let mut workers = [survivor, victim].map(|worker| worker.expect("it was started"));
        let alive = workers.iter_mut().filter_map(|worker| worker.status()).count() == 0;
        if alive {
            for worker in workers {
                worker.stop().await;
            }
        }
        // Without a worker nothing is held: what was unacked is in its queue again.
        let account = look().await;
        println!(
            "\n{name}: {} commands, {} of them poison, and {} deliveries more of the same; all done {:.1} s after the load ended",
            source.sent.good.len() + source.sent.poison.len(),
            source.sent.poison.len(),
            source.again,
            settled.as_secs_f64(),
        );
        let (lost, double, orphans) = (account.lost.len(), account.double.len(), account.orphans.len());
        println!("{name}: {lost} lost, {double} double, {orphans} left or orphaned, the workers live: {alive}");
        for words in account.lost.iter().chain(&account.double).chain(&account.orphans).take(20) {
            println!("    {words}");
        }
        if !alive || !account.is_well() {
            eprintln!("{}", shop.logs());
        }
        database.close().await;
        shop.close().await;
        alive && account.is_well()
    }
}

/// What waits in the broker.
async fn left(url: &str, prefix: &str) -> BTreeMap<String, u64> {
    let waiting = waiting(url, prefix).await.expect("the broker is there");
    if waiting > 0 { [("the broker".to_owned(), waiting)].into() } else { BTreeMap::new() }
}

/// What the checker knows by: each brief counts its own writes, and each event that was heard left a notification under its ID.
async fn facts(database: &Database, left: BTreeMap<String, u64>) -> Facts {
    let number = |brief: &str| -> u32 { brief.rsplit('-').next().and_then(|n| n.parse().ok()).expect("its number") };
    let mut facts = Facts { left, ..Facts::default() };
    let told = "select body::jsonb->>'about', body::jsonb->>'id' from {s}document where collection = 'notification'";
    for row in database.rows(told).await {
        facts.events.push((number(&row[0]), row[1].clone()));
    }
    let mut heard: BTreeMap<u32, u64> = BTreeMap::new();
    for (n, _) in &facts.events {
        *heard.entry(*n).or_default() += 1;
    }
    for row in database.rows("select id, body::jsonb->>'writes' from {s}document where collection = 'brief'").await {
        let n = number(&row[0]);
        facts.effects.insert(n, (row[1].parse().expect("a count"), heard.get(&n).copied().unwrap_or_default()));
    }
    for row in database.rows(&format!("select id, fate from {{s}}inbox where consumer = '{COMMAND}'")).await {
        facts.fates.entry(row[0].clone()).or_default().push(row[1].clone());
    }
    facts.letters = database.rows("select id from {s}dead_letter").await.into_iter().flatten().collect();
    for table in ["outbox", "claim"] {
        let rows = database.rows(&format!("select count(*)::text from {{s}}{table}")).await;
        let rows: u64 = rows[0][0].parse().expect("a count");
        if rows > 0 {
            facts.left.insert(table.into(), rows);
        }
    }
    facts
}
