//! The budget of a message, counted and not timed: commits, round trips, statements, connections.
//!
//! Counted by a proxy that reads what goes over the wire (`counters/wire.rs`): a counter in the store would be the store's own
//! word, `pg_stat_statements` is not everywhere, and neither sees what the pool and the driver ask beside it.

#[path = "../benches/speed/broker.rs"]
mod broker;
#[path = "counters/wire.rs"]
mod wire;

use broker::Broker;
use pitcrew::{
    Command, Context, Document, Envelope, Event, Handler, Handlers, Message, OrElse, Row, Running, Worker, clock,
    config::{ChannelConfig, Config},
    message::wire::AGAIN,
    sqlx::{self, AssertSqlSafe, Connection, PgConnection, PgPool},
    store::{
        Store,
        postgres::{Options, PostgresStore},
        sqlite::SqliteStore,
    },
    testing::poll_pause,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use wire::Wire;

/// A batch, at most, and what must wait before a second commit is worth it.
const BATCH: usize = 256;
const WORTH: usize = BATCH / 2;
/// Between two readings of the gauges.
const GAUGES: Duration = Duration::from_secs(5);
/// Statements of an idle worker in a second: two looks of the sweep, of two statements each, half a heartbeat, and every five seconds
/// the four for the gauges.
const IDLE_STATEMENTS: f64 = 6.0;
/// With each of them the pool asks its connection twice how it is, when it is taken and when it is given back.
const IDLE_ROUND_TRIPS: f64 = 3.0 * IDLE_STATEMENTS;

/// What its handler shall do: `document`, `row`, `event`, `fail`, in any combination.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Work {
    n: u64,
    todo: Vec<String>,
}
impl Message for Work {
    type Kind = Command;
    const TYPE: &'static str = "count.Work";
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Worked {
    n: u64,
}
impl Message for Worked {
    type Kind = Event;
    const TYPE: &'static str = "count.Worked";
}

#[derive(Serialize, Deserialize)]
struct Sheet {
    n: u64,
}
impl Document for Sheet {
    const COLLECTION: &'static str = "sheet";
    fn id(&self) -> impl std::fmt::Display {
        self.n
    }
}

#[derive(Serialize)]
struct Own {
    n: u64,
}
impl Row for Own {
    const TABLE: &'static str = "pitcrew_counters.own";
    const KEY: &'static [&'static str] = &["n"];
    const COLUMNS: &'static [&'static str] = &["n"];
}

/// Works behind a gate, and counts who has come to it.
#[derive(Clone)]
struct Desk {
    gate: Arc<Semaphore>,
    /// One permit for each handler that has ended.
    ended: Arc<Semaphore>,
    /// One for each that has read from the store and waits.
    waiting: Arc<Semaphore>,
}

impl Desk {
    fn open() -> Self {
        Self::with(Semaphore::MAX_PERMITS)
    }

    fn closed() -> Self {
        Self::with(0)
    }

    fn with(permits: usize) -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self { gate: Arc::new(Semaphore::new(permits)), ended: none(), waiting: none() }
    }
}

impl Handler<Work> for Desk {
    async fn handle(&self, m: Work, cx: &mut Context) -> pitcrew::Result {
        let wants = |what: &str| m.todo.iter().any(|todo| todo == what);
        if wants("load") {
            cx.load::<Sheet>(m.n).await?;
            self.waiting.add_permits(1);
        }
        drop(self.gate.acquire().await?);
        if wants("document") {
            cx.save(&Sheet { n: m.n })?;
        }
        if wants("row") {
            cx.put(&Own { n: m.n })?;
        }
        if wants("event") {
            cx.emit(&Worked { n: m.n })?;
        }
        self.ended.add_permits(1);
        if wants("fail") {
            Err(anyhow::anyhow!("a test wants it so")).permanent()?;
        }
        Ok(())
    }
}

/// A worker on a store behind a proxy, and a broker before it.
struct Bed {
    wire: Wire,
    broker: Arc<Broker>,
    running: Running,
    store: Arc<PostgresStore>,
    schema: String,
    admin: PgPool,
    /// Keeps other runs out of the author's table.
    _lock: PgConnection,
}

impl Bed {
    /// `None` where there is no Postgres.
    async fn make(desk: &Desk) -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let admin = PgPool::connect(&url).await.expect("Postgres answers");
        let mut lock = PgConnection::connect(&url).await.expect("Postgres answers");
        let exclusive = "select pg_advisory_lock(hashtext('pitcrew_counters'))";
        sqlx::query(exclusive).execute(&mut lock).await.expect("another run ends");
        let own = "drop schema if exists pitcrew_counters cascade; create schema pitcrew_counters;
                   create table pitcrew_counters.own (n bigint primary key)";
        sqlx::raw_sql(own).execute(&admin).await.expect("the author's table");

        let (wire, broker) = (Wire::before(&url).await, Arc::new(Broker::default()));
        let schema = format!("counters_{}", clock::uuid_v7().simple());
        let options = Options { schema: schema.clone(), application_name: schema.clone(), ..Options::default() };
        let store = Arc::new(PostgresStore::connect(&wire.url, options).await.expect("the proxy lets it through"));
        let running = start(store.clone(), broker.clone(), desk).await;
        Some(Self { wire, broker, running, store, schema, admin, _lock: lock })
    }

    /// Returns when all of them are acked and so many events are published, in all of the broker's life.
    async fn moved(&self, acked: usize, published: usize) {
        let moved = tokio::time::timeout(Duration::from_secs(30), self.broker.moved(acked, published));
        moved.await.unwrap_or_else(|_| panic!("not within 30 s: {:?}", self.broker.tally()));
    }

    /// What one message costs that has the worker to itself, statement by statement.
    async fn statements_for(&self, todo: &[&str]) -> Vec<String> {
        let before = self.broker.tally();
        self.wire.take();
        self.broker.push([message(before.acked as u64, todo)]);
        self.moved(before.acked + 1, before.published + usize::from(todo.contains(&"event"))).await;
        self.wire.take().words_in_transactions().into_iter().map(str::to_owned).collect()
    }

    async fn count(&self, what: &str, of: &str) -> i64 {
        let text = AssertSqlSafe(format!("select count({what}) from {}.{of}", self.schema));
        sqlx::query_scalar(text).fetch_one(&self.admin).await.expect("a count")
    }

    /// Polls until `ready`.
    async fn until(&self, what: &str, ready: impl AsyncFn(&Self) -> bool) {
        let began = Instant::now();
        while !ready(self).await {
            assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
            poll_pause().await;
        }
    }

    async fn end(self) {
        self.running.shutdown().await;
        let drop = format!("drop schema {} cascade; drop schema pitcrew_counters cascade", self.schema);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&self.admin).await.expect("the schemas can be dropped");
    }
}

async fn start(store: Arc<dyn Store>, broker: Arc<Broker>, desk: &Desk) -> Running {
    let mut config = Config::default();
    let channel = ChannelConfig { concurrency: BATCH, ..ChannelConfig::default() };
    config.channel.insert("count.commands".parse().expect("a name"), channel);
    let mut handlers = Handlers::new().handle(desk.clone()).emits::<Worked>();
    if store.kind() == "postgres" {
        handlers = handlers.writes::<Own>();
    }
    Worker::new(config, handlers).start(store, broker).await.expect("the worker starts")
}

fn message(n: u64, todo: &[&str]) -> Arc<pitcrew::message::wire::Raw> {
    let work = Work { n, todo: todo.iter().map(|word| (*word).to_owned()).collect() };
    broker::raw(&Envelope::of(&work, "/test").expect("JSON"))
}

/// Done, a document, a row, an event: what handlers mostly do.
fn mix(n: u64) -> Arc<pitcrew::message::wire::Raw> {
    let all = ["document", "row", "event"];
    message(n, &all[..n as usize % 4])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_costs_one_commit_and_seven_round_trips() {
    let Some(bed) = Bed::make(&Desk::open()).await else { return };
    let (warm_up, n) = (1_000, 8_000);
    bed.broker.push((0..warm_up).map(mix));
    bed.moved(warm_up as usize, warm_up as usize / 4).await;
    bed.wire.take();
    let (before, began) = (bed.count("distinct xmin::text", "inbox").await, Instant::now());
    bed.broker.push((warm_up..warm_up + n).map(mix));
    bed.moved((warm_up + n) as usize, (warm_up + n) as usize / 4).await;
    let (log, seconds) = (bed.wire.take(), began.elapsed().as_secs_f64());
    let batches = (bed.count("distinct xmin::text", "inbox").await - before) as f64;
    let (n, b) = (n as f64, n as f64 / batches);
    let (commits, round_trips) = (log.commits() as f64 / n, log.in_transactions().len() as f64 / n);
    println!("batches of {b:.1}: {commits:.4} commits and {round_trips:.4} round trips a message");
    assert!(b >= 64.0, "a full queue makes large batches, these are of {b:.1}");
    assert!(commits <= 1.1 / b, "{commits} commits a message, in batches of {b}");
    assert!(round_trips <= 7.0 / b, "{round_trips} round trips a message, in batches of {b}");
    // What does not grow with the messages: the chatter of an idle worker, and statements that a connection meets first.
    let beside = log.alone() as f64;
    assert!(beside <= IDLE_ROUND_TRIPS * (seconds + 1.0), "{beside} round trips beside, in {seconds} s");
    assert!(log.prepared() <= 4 * 8, "{} statements were prepared", log.prepared());
    bed.end().await;
}

/// Nothing is sent for what is not there, and each kind of row is one statement.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_row_is_one_statement_and_empty_ones_are_not_sent() {
    let Some(bed) = Bed::make(&Desk::open()).await else { return };
    for (todo, statements) in [
        (&[][..], &["BEGIN", "INSERT 0 1", "COMMIT"][..]),
        (&["document"], &["BEGIN", "INSERT 0 1", "INSERT 0 1", "COMMIT"]),
        (&["document", "row"], &["BEGIN", "INSERT 0 1", "INSERT 0 1", "INSERT 0 1", "COMMIT"]),
        (&["fail"], &["BEGIN", "INSERT 0 1", "INSERT 0 1", "INSERT 0 1", "COMMIT"]), // inbox, attempt, letter
        (&["document", "row", "event"], &["BEGIN", "INSERT 0 1", "INSERT 0 1", "INSERT 0 1", "INSERT 0 1", "COMMIT"]),
    ] {
        assert_eq!(bed.statements_for(todo).await, statements, "{todo:?}");
    }
    // A commit soon after takes the confirmed event along: its relay may need a moment to know that it is confirmed.
    let mut last = Vec::new();
    for _ in 0..50 {
        last = bed.statements_for(&[]).await;
        if last.len() > 3 {
            break;
        }
    }
    assert_eq!(last, ["BEGIN", "INSERT 0 1", "DELETE 1", "COMMIT"]);
    bed.end().await;
}

/// An idle system: the first message commits alone and at once. Under way, a second commit is not begun for a few.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_message_never_waits_and_a_second_commit_only_begins_for_many() {
    let desk = Desk::open();
    let Some(bed) = Bed::make(&desk).await else { return };
    bed.broker.push([message(0, &[])]);
    bed.moved(1, 0).await;
    bed.wire.take();

    bed.wire.hold(); // the next commit takes as long as this test wants
    bed.broker.push([message(1, &[])]);
    bed.until("a lone message has its commit", async |bed| bed.wire.look().begun == 1).await;
    bed.broker.push((2..1 + WORTH as u64).map(|n| message(n, &[])));
    let all_ended = desk.ended.acquire_many(1 + WORTH as u32).await.expect("they end");
    all_ended.forget();
    assert_eq!(bed.wire.look().begun, 1, "{} that wait are not worth a second commit", WORTH - 1);
    bed.broker.push([message(1 + WORTH as u64, &[])]);
    bed.until("a second commit", async |bed| bed.wire.look().begun == 2).await;
    bed.wire.release();
    bed.moved(2 + WORTH, 0).await;
    let log = bed.wire.take();
    let inserts = log.words_in_transactions().into_iter().filter_map(|done| done.strip_prefix("INSERT 0 "));
    let mut inserts: Vec<usize> = inserts.filter_map(|rows| rows.parse().ok()).collect();
    inserts.sort_unstable();
    assert_eq!(inserts, [1, WORTH], "one commit for the lone one, one for all the others");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_hold_no_connection_while_they_run() {
    let desk = Desk::closed();
    let Some(bed) = Bed::make(&desk).await else { return };
    let n = BATCH as u32;
    bed.broker.push((0..n.into()).map(|n| message(n, &["load", "document"])));
    desk.waiting.acquire_many(n).await.expect("they have read from the store and wait").forget();
    // Whatever is in use is the sweep's or the heartbeat's, and those end.
    let in_use = async |bed: &Bed| {
        let sessions = "select count(*) from pg_stat_activity where application_name = $1 and state <> 'idle'";
        sqlx::query_scalar::<_, i64>(sessions).bind(&bed.schema).fetch_one(&bed.admin).await.expect("the sessions")
    };
    bed.until("256 handlers run and no connection is in use", async |bed| {
        let pool = bed.store.pool();
        in_use(bed).await == 0 && pool.num_idle() == pool.size() as usize
    })
    .await;
    desk.gate.add_permits(n as usize);
    bed.moved(n as usize, 0).await;
    let open: i64 = sqlx::query_scalar("select count(*) from pg_stat_activity where application_name = $1")
        .bind(&bed.schema)
        .fetch_one(&bed.admin)
        .await
        .expect("the sessions");
    assert!(open <= 16, "{open} connections");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_asks_little() {
    let Some(bed) = Bed::make(&Desk::open()).await else { return };
    bed.broker.push([message(0, &[])]);
    bed.moved(1, 0).await;
    let pass = async |time: Duration| {
        let began = Instant::now();
        while began.elapsed() < time {
            poll_pause().await;
        }
        (bed.wire.take(), began.elapsed().as_secs_f64())
    };
    // Once around for the slowest of its habits: what a connection meets first is prepared, and that is not idling.
    pass(GAUGES).await;
    let (log, seconds) = pass(2 * GAUGES).await;
    let statements = log.words().len() as f64 / seconds;
    let round_trips = log.answers.len() as f64 / seconds;
    println!("idle: {statements:.1} statements and {round_trips:.1} round trips a second");
    assert!(statements > 0.0, "it looks for rows that nobody owns");
    assert!(statements <= IDLE_STATEMENTS, "{statements:.1} statements a second: {:?}", log.words());
    assert!(round_trips <= IDLE_ROUND_TRIPS, "{round_trips:.1} round trips a second");
    assert_eq!(log.in_transactions().len(), 0);
    bed.end().await;
}

/// A whole prefetch that comes again, as after a crash, is looked up together and claimed together.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_shares_its_claims() {
    let Some(bed) = Bed::make(&Desk::open()).await else { return };
    bed.broker.push([message(0, &[])]);
    bed.moved(1, 0).await;
    bed.wire.take();
    let n = 2_000;
    bed.broker.push((1..=n).map(|n| {
        let mut again = (*message(n, &[])).clone();
        again.headers.push((AGAIN.into(), Some("true".into())));
        Arc::new(again)
    }));
    bed.moved(1 + n as usize, 0).await;
    let log = bed.wire.take();
    let alone = log.answers.iter().filter(|answer| !answer.in_transaction).flat_map(|answer| &answer.done);
    let claims: Vec<usize> = alone.filter_map(|done| done.strip_prefix("INSERT 0 ")?.parse().ok()).collect();
    assert_eq!(claims.iter().sum::<usize>(), n as usize, "each is claimed, once");
    assert!(claims.len() <= n as usize / 16, "{} writes for {n} claims", claims.len());
    bed.until("no claim stands", async |bed| bed.count("*", "claim").await == 0).await;
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_rows_leave_with_the_commits_that_come_anyway() {
    let Some(bed) = Bed::make(&Desk::open()).await else { return };
    let (began, mut sent, mut stalls) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(3) {
        let turn = Instant::now();
        bed.broker.push([message(sent as u64, &["event"])]);
        sent += 1;
        bed.moved(sent, sent).await;
        poll_pause().await;
        // On a machine that stands still for a second a worker has nothing to commit for a second.
        stalls += usize::from(turn.elapsed() > Duration::from_millis(900));
    }
    let log = bed.wire.take();
    let along = log.words_in_transactions().iter().filter(|done| done.starts_with("DELETE")).count();
    assert!(along * 2 >= sent - stalls, "{along} of {sent} commits took the event of the one before along");
    assert!(log.lone_deletes() <= stalls, "{} deletions apart, {stalls} stalls", log.lone_deletes());
    bed.end().await;
}

/// A confirmed row whose worker then has nothing to commit gets one transaction of its own, soon.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_confirmed_rows_leave_together_when_nothing_else_commits() {
    let Some(bed) = Bed::make(&Desk::open()).await else { return };
    bed.broker.push((0..500).map(|n| message(n, &["event"])));
    bed.moved(500, 500).await;
    bed.wire.take();
    bed.until("the outbox is empty", async |bed| bed.count("*", "outbox").await == 0).await;
    let log = bed.wire.take();
    assert!(log.lone_deletes() <= 1, "{:?}", log.answers);
    bed.end().await;
}

/// The same economy on SQLite, by the committer's own count: there is no wire to look at.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_makes_large_batches_on_sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("counters.db");
    let store = SqliteStore::open(path.to_str().expect("UTF-8"), Default::default()).await.expect("a new file");
    let (store, broker) = (Arc::new(store), Arc::new(Broker::default()));
    let running = start(store.clone(), broker.clone(), &Desk::open()).await;
    let todo = ["document", "event"];
    broker.push([message(0, &todo)]);
    broker.moved(1, 1).await;
    assert_eq!(running.committed(), (1, 1), "a lone message never waits");
    let n = 4_000;
    broker.push((1..=n).map(|n| message(n, &todo)));
    let moved = broker.moved(1 + n as usize, 1 + n as usize);
    tokio::time::timeout(Duration::from_secs(60), moved).await.expect("within a minute");
    let (commits, messages) = running.committed();
    let (commits, messages) = (commits - 1, messages - 1);
    assert_eq!(messages, n);
    assert!(commits <= n / 64, "{messages} messages in {commits} commits");
    running.shutdown().await;
}
