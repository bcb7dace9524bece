//! Message Endpoint: what code outside handlers can do.

use pitcrew::{
    Client, Command, Context, Handlers, Message, OrElse, Running, Worker,
    client::Outcome,
    config::Config,
    store::{
        Store,
        memory::MemoryStore,
        postgres::{Options, PostgresStore},
    },
    transport::{Transport, embedded::Embedded},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Greet {
    name: String,
}
impl Message for Greet {
    type Kind = Command;
    const TYPE: &'static str = "demo.Greet";
}

async fn greet(m: Greet, _: &mut Context) -> pitcrew::Result {
    if m.name.is_empty() { Err(anyhow::anyhow!("nobody to greet")).permanent() } else { Ok(()) }
}

fn handlers() -> Handlers {
    Handlers::new().handle(greet)
}

const PATIENCE: Duration = Duration::from_secs(10);

async fn start(store: Arc<dyn Store>) -> (Running, Client) {
    let transport: Arc<dyn Transport> = Arc::new(Embedded::default());
    let client = Client::new(store.clone(), &*transport, &handlers(), &Config::default()).unwrap();
    (Worker::new(Config::default(), handlers()).start(store, transport).await.unwrap(), client)
}

#[tokio::test]
async fn a_request_is_answered_with_its_fate() {
    let (worker, client) = start(Arc::new(MemoryStore::new())).await;
    let done = client.request(&Greet { name: "Ada".into() }, PATIENCE).await.unwrap();
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    let dead = client.request(&Greet { name: String::new() }, PATIENCE).await.unwrap();
    let Outcome::Dead { reason, error, .. } = dead else { panic!("{dead:?}") };
    assert_eq!((reason.as_str(), error.as_str()), ("permanent", "nobody to greet"));
    let nobody = client.outcome("never-sent", Duration::ZERO).await.unwrap();
    assert_eq!(nobody, Outcome::Waiting { id: "never-sent".into() });
    worker.shutdown().await;
}

#[tokio::test]
async fn a_message_that_no_receiver_would_read_is_not_sent() {
    let (worker, client) = start(Arc::new(MemoryStore::new())).await;
    let mut envelope = pitcrew::Envelope::of(&Greet { name: "Ada".into() }, "/shop").unwrap();
    envelope.id = String::new();
    let error = client.send_envelopes(vec![envelope], None).await.unwrap_err();
    assert!(format!("{error:#}").contains("attribute `id`"), "{error:#}");
    let unknown = pitcrew::Envelope::new("demo.Unknown", "/shop", "{}");
    let error = client.send_envelopes(vec![unknown], None).await.unwrap_err();
    assert!(format!("{error:#}").contains("no channel carries this type"), "{error:#}");
    worker.shutdown().await;
}

#[tokio::test]
async fn sending_in_a_transaction_on_another_store_says_what_is_needed() {
    let Some((_, own)) = postgres("public").await else { return };
    let (worker, client) = start(Arc::new(MemoryStore::new())).await;
    let mut tx = own.begin().await.unwrap();
    let error = client.send_in(&mut tx, &Greet { name: "Ada".into() }).await.unwrap_err();
    assert!(format!("{error:#}").contains("the memory store cannot send in a transaction of Postgres"), "{error:#}");
    worker.shutdown().await;
}

#[tokio::test]
async fn what_is_sent_in_a_transaction_is_sent_if_it_commits() {
    let schema = format!("client_{}", pitcrew::clock::uuid_v7().simple());
    let Some((store, own)) = postgres(&schema).await else { return };
    let (worker, client) = start(Arc::new(store)).await;
    let mut tx = own.begin().await.unwrap();
    let lost = client.send_in(&mut tx, &Greet { name: "nobody".into() }).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = own.begin().await.unwrap();
    let sent = client.send_in(&mut tx, &Greet { name: "Ada".into() }).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(client.outcome(&sent, PATIENCE).await.unwrap(), Outcome::Done { id: sent });
    assert_eq!(client.outcome(&lost, Duration::ZERO).await.unwrap(), Outcome::Waiting { id: lost });
    worker.shutdown().await;
    let (again, _) = postgres(&schema).await.unwrap();
    again.drop_schema().await.unwrap();
}

async fn postgres(schema: &str) -> Option<(PostgresStore, pitcrew::sqlx::PgPool)> {
    let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return None;
    };
    let options = Options { schema: schema.to_owned(), ..Options::default() };
    let store = PostgresStore::connect(&url, options).await.unwrap();
    Some((store, pitcrew::sqlx::PgPool::connect(&url).await.unwrap()))
}
