//! The Postgres escape hatch in a whole worker: read-modify-write on a table of the author's own.

use pitcrew::{
    Client, Command, Context, Document, Event, Handlers, Message, OrElse, Running, Worker,
    client::Outcome,
    config::{Config, HandlerConfig},
    sqlx::{self, AssertSqlSafe, PgPool},
    store::{
        Store,
        postgres::{Options, PostgresStore},
    },
    transport::{Transport, embedded::Embedded},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);

/// Takes one of the last cars, and then does as `then` says.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Reserve {
    schema: String,
    car: String,
    then: String,
}
impl Message for Reserve {
    type Kind = Command;
    const TYPE: &'static str = "shop.Reserve";
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Reserved {
    schema: String,
    car: String,
}
impl Message for Reserved {
    type Kind = Event;
    const TYPE: &'static str = "shop.Reserved";
}

#[derive(Serialize, Deserialize)]
struct Heard {
    car: String,
    times: u32,
}
impl Document for Heard {
    const COLLECTION: &'static str = "heard";
    fn id(&self) -> impl std::fmt::Display {
        &self.car
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no {0} is left")]
struct SoldOut(String);

async fn reserve(m: Reserve, cx: &mut Context) -> pitcrew::Result {
    let table = format!("{}.car", m.schema);
    let tx = cx.transaction().await?;
    let read = AssertSqlSafe(format!("select stock from {table} where name = $1 for update"));
    let (stock,): (i32,) = sqlx::query_as(read).bind(&m.car).fetch_one(&mut *tx).await?;
    if stock == 0 {
        return Err(SoldOut(m.car)).permanent();
    }
    // A second call gives the same transaction.
    let tx = cx.transaction().await?;
    let write = AssertSqlSafe(format!("update {table} set stock = $2 where name = $1"));
    sqlx::query(write).bind(&m.car).bind(stock - 1).execute(&mut *tx).await?;
    match m.then.as_str() {
        "fail once" if cx.attempt() == 1 => return Err(anyhow::anyhow!("the printer jams").into()),
        "panic once" if cx.attempt() == 1 => panic!("the printer burns"),
        "hang once" if cx.attempt() == 1 => std::future::pending().await,
        "commit" => {
            sqlx::raw_sql("commit").execute(cx.transaction().await?).await?;
        }
        "cut six times" => {
            // A sequence does not roll back.
            let tries = AssertSqlSafe(format!("select nextval('{}.tries')", m.schema));
            let tx = cx.transaction().await?;
            let tries: i64 = sqlx::query_scalar(tries).fetch_one(&mut *tx).await?;
            if tries <= 6 {
                let _ = sqlx::raw_sql("select pg_terminate_backend(pg_backend_pid())").execute(tx).await;
            }
        }
        "swallow" => {
            let _ = sqlx::raw_sql("select 1 / 0").execute(cx.transaction().await?).await;
        }
        _ => {}
    }
    cx.emit(&Reserved { schema: m.schema, car: m.car })?;
    Ok(())
}

async fn hear(m: Reserved, cx: &mut Context) -> pitcrew::Result {
    cx.update(&m.car, |old: Option<Heard>| Heard { car: m.car.clone(), times: old.map_or(0, |h| h.times) + 1 }).await?;
    Ok(())
}

fn handlers() -> Handlers {
    Handlers::new().handle(reserve).needs_postgres().handle(hear).emits::<Reserved>()
}

/// A shop with three Pandas.
struct Shop {
    schema: String,
    own: PgPool,
    url: String,
    client: Client,
    worker: Running,
}

impl Shop {
    async fn open() -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let schema = format!("shop_{}", pitcrew::clock::uuid_v7().simple());
        let store = Arc::new(connect(&url, &schema).await);
        store.migrate().await.unwrap();
        let own = PgPool::connect(&url).await.unwrap();
        let setup = format!(
            "create table {schema}.car (name text primary key, stock int not null);
             insert into {schema}.car values ('Panda', 3);
             create sequence {schema}.tries"
        );
        sqlx::raw_sql(AssertSqlSafe(setup)).execute(&own).await.unwrap();
        let mut config = Config::default();
        config.channel.entry("shop.commands".parse().unwrap()).or_default().retry.first = Duration::from_millis(10);
        let quick = HandlerConfig { deadline: Some(Duration::from_millis(500)), ..HandlerConfig::default() };
        config.handlers.insert("shop.Reserve".into(), quick);
        let transport: Arc<dyn Transport> = Arc::new(Embedded::default());
        let client = Client::new(store.clone(), &*transport, &handlers(), &config).unwrap();
        let worker = Worker::new(config, handlers()).start(store, transport).await.unwrap();
        Some(Self { schema, own, url, client, worker })
    }

    async fn reserve(&self, then: &str) -> Outcome {
        let command = Reserve { schema: self.schema.clone(), car: "Panda".into(), then: then.into() };
        self.client.request(&command, PATIENCE).await.unwrap()
    }

    async fn stock(&self) -> i32 {
        let read = AssertSqlSafe(format!("select stock from {}.car where name = 'Panda'", self.schema));
        sqlx::query_scalar(read).fetch_one(&self.own).await.unwrap()
    }

    /// Ends it and says how often the event was heard.
    async fn close(self) -> u32 {
        let store = connect(&self.url, &self.schema).await;
        let limit = std::time::Instant::now() + PATIENCE;
        while store.counts().await.unwrap().outbox > 0 {
            assert!(std::time::Instant::now() < limit, "the outbox is not empty");
            pitcrew::testing::poll_pause().await;
        }
        self.worker.shutdown().await;
        let heard = store.load("heard", "Panda").await.unwrap();
        let times = heard.map_or(0, |heard| serde_json::from_str::<Heard>(&heard.body).unwrap().times);
        store.drop_schema().await.unwrap();
        times
    }
}

async fn connect(url: &str, schema: &str) -> PostgresStore {
    PostgresStore::connect(url, Options { schema: schema.to_owned(), ..Options::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_and_the_event_commit_together_and_sold_out_is_permanent() {
    let Some(shop) = Shop::open().await else { return };
    for _ in 0..3 {
        let done = shop.reserve("").await;
        assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    }
    let dead = shop.reserve("").await;
    let Outcome::Dead { reason, error, .. } = dead else { panic!("{dead:?}") };
    assert_eq!((reason.as_str(), error.as_str()), ("permanent", "no Panda is left"));
    assert_eq!((shop.stock().await, shop.close().await), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_a_panic_and_a_deadline_roll_the_own_writes_back() {
    for then in ["fail once", "panic once", "hang once"] {
        let Some(shop) = Shop::open().await else { return };
        let done = shop.reserve(then).await;
        assert!(matches!(done, Outcome::Done { .. }), "{then}: {done:?}");
        assert_eq!((shop.stock().await, shop.close().await), (2, 1), "{then}: written by the second attempt alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_connection_is_cut_again_and_again_does_not_kill_its_worker() {
    let Some(shop) = Shop::open().await else { return };
    let done = shop.reserve("cut six times").await;
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    assert_eq!((shop.stock().await, shop.close().await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_author_must_not_do_is_said_and_sends_nothing() {
    for (then, word) in [("commit", "ended the transaction"), ("swallow", "give its error back")] {
        let Some(shop) = Shop::open().await else { return };
        // Refused like any error of the handler: it is tried again, and the attempts tell why.
        let command = Reserve { schema: shop.schema.clone(), car: "Panda".into(), then: then.into() };
        let id = shop.client.send(&command).await.unwrap();
        let store = connect(&shop.url, &shop.schema).await;
        let limit = std::time::Instant::now() + PATIENCE;
        let attempts = loop {
            let history = store.history(&id).await.unwrap();
            if !history.attempts.is_empty() {
                break history.attempts;
            }
            assert!(std::time::Instant::now() < limit, "{then}: no attempt is told");
            pitcrew::testing::poll_pause().await;
        };
        assert!(attempts[0].1.error.contains(word), "{then}: {}", attempts[0].1.error);
        shop.worker.shutdown().await;
        assert!(store.load("heard", "Panda").await.unwrap().is_none(), "{then}: nobody heard of it");
        store.drop_schema().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_sent_by_many_at_once_takes_one_car() {
    let Some(shop) = Shop::open().await else { return };
    let command = Reserve { schema: shop.schema.clone(), car: "Panda".into(), then: String::new() };
    let envelope = pitcrew::Envelope::of(&command, "/shop").unwrap();
    shop.client.send_envelopes(vec![envelope.clone(); 20], None).await.unwrap();
    let done = shop.client.outcome(&envelope.id, PATIENCE).await.unwrap();
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    assert_eq!((shop.stock().await, shop.close().await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_lose_no_update() {
    let Some(shop) = Shop::open().await else { return };
    let all = (0..30).map(|_| shop.reserve(""));
    let outcomes = futures::future::join_all(all).await;
    let done = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Done { .. })).count();
    let dead = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Dead { .. })).count();
    assert_eq!((done, dead), (3, 27), "{outcomes:?}");
    assert_eq!((shop.stock().await, shop.close().await), (0, 3));
}
