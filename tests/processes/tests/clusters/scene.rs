//! Two workers under load, who looks on, and the sum at the end.

use crate::{
    WORKER,
    bare::Bare,
    cell::Bench,
    server::{Disk, Server},
};
use pitcrew::{
    sqlx::{self, AssertSqlSafe, PgPool, postgres::PgPoolOptions},
    testing::poll_pause,
};
use processes::shop::{LIMIT, Process};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};

pub(crate) struct Scene {
    pub(crate) bench: Bench,
    workers: Vec<Process>,
    gap: Option<Gap>,
    /// Where the effects are.
    database: String,
    /// It goes with the scene.
    _server: Option<Server>,
}

impl Scene {
    /// On this broker and a Postgres of its own. `None`, said so: something is missing.
    pub(crate) async fn on(broker: String) -> Option<Self> {
        let server = Server::start(Disk::OfTheMachine).await?;
        let url = server.url();
        Some(Self { _server: Some(server), ..Self::at(broker, url).await })
    }

    /// On this broker and this Postgres.
    pub(crate) async fn at(broker: String, database: String) -> Self {
        let bench = Bench::to(WORKER, broker, Some(database.clone()), 3).await;
        Self { bench, workers: Vec::new(), gap: None, database, _server: None }
    }

    /// From now on commands come by this node.
    pub(crate) async fn sends_by(&mut self, node: &str) {
        self.bench.bare = Bare::on(node, &self.bench.shop.prefix).await;
    }

    /// Workers are at work, and have something to do.
    pub(crate) async fn begins(&mut self) {
        self.starts_workers().await;
        self.gap = Some(Gap::watch(&self.database, &self.bench.shop.config.store.schema.to_string()));
        self.under_load(Duration::from_secs(2)).await;
    }

    pub(crate) async fn starts_workers(&mut self) {
        self.workers = vec![self.bench.shop.start(), self.bench.shop.start()];
        for worker in &mut self.workers {
            worker.is_at_work().await;
        }
    }

    pub(crate) async fn ends_workers(&mut self) {
        for worker in self.workers.drain(..) {
            worker.stop().await;
        }
    }

    /// So long, with a wave of commands each tenth of a second.
    pub(crate) async fn under_load(&mut self, time: Duration) {
        self.bench.under_load(time).await;
    }

    /// All that was sent is done before anything is mended.
    pub(crate) async fn catches_up(&mut self) {
        let took = self.bench.completes(Instant::now()).await;
        assert!(took < LIMIT, "it does not go on; {}", self.bench.shop.logs());
    }

    /// The workers end, a neighbour takes what they held: nothing is lost, nothing double, nothing left behind.
    pub(crate) async fn adds_up(self, what: &str) {
        self.adds_up_but_for(what, &BTreeSet::new()).await;
    }

    /// The effects of these commands were lost once, their events were not: what has left cannot be called back, and leaves again
    /// with the second effect, as another event. That alone is excused, and counted.
    pub(crate) async fn adds_up_but_for(mut self, what: &str, gone: &BTreeSet<String>) {
        let (recovered, died, mut account) = self.bench.account(self.workers, Instant::now()).await;
        let all = account.double.len();
        account.double.retain(|words| {
            let (n, what) = words.split_once(" has ").expect("a number");
            !gone.contains(n) || !["2 events heard", "2 events with an ID of their own"].contains(&what)
        });
        if !gone.is_empty() {
            println!(
                "{what}: of {} effects that were lost, {} times an event had left",
                gone.len(),
                all - account.double.len()
            );
        }
        let gap = self.gap.take().expect("it has begun").longest().await;
        let sent = self.bench.generator.sent.good.len() + self.bench.generator.sent.poison.len();
        let (lost, double, orphans) = (account.lost.len(), account.double.len(), account.orphans.len());
        println!(
            "{what}: sent {sent}, lost {lost}, double {double}, left or orphaned {orphans}, workers that ended {died}, \
             longest time without an effect {} ms, all over {} ms after the load",
            gap.as_millis(),
            recovered.as_millis()
        );
        assert!(account.is_well(), "{what}: {account:?}; {}", self.bench.shop.logs());
        assert_eq!(died, 0, "{what}: no worker ends because of it; {}", self.bench.shop.logs());
        self.bench.close().await;
    }
}

/// The longest time between one effect and the next.
struct Gap {
    over: watch::Sender<bool>,
    looking: JoinHandle<Duration>,
}

impl Gap {
    fn watch(database: &str, schema: &str) -> Self {
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(1));
        let pool = options.connect_lazy(database).expect("an address");
        let sql = format!("select count(*) from {schema}.document where collection = 'effects'");
        let over = watch::Sender::new(false);
        let looking = tokio::spawn(longest(pool, sql, over.subscribe()));
        Self { over, looking }
    }

    async fn longest(self) -> Duration {
        self.over.send_replace(true);
        self.looking.await.expect("it looks on")
    }
}

/// A database that is away has no effect to show. What it lost in a failover is none either.
async fn longest(pool: PgPool, sql: String, over: watch::Receiver<bool>) -> Duration {
    let (mut count, mut changed, mut longest) = (0, Instant::now(), Duration::ZERO);
    while !*over.borrow() {
        let seen = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.clone())).fetch_one(&pool).await;
        if let Ok(seen) = seen
            && seen != count
        {
            if seen > count {
                longest = longest.max(changed.elapsed());
                changed = Instant::now();
            }
            count = seen;
        }
        poll_pause().await;
    }
    pool.close().await;
    longest
}
