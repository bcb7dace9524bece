//! Brokers: down, without what a worker needs, or with something else in its place.

use crate::{WORKER, screen::Screen};
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use processes::{
    Work,
    shop::{Shop, broker, plain},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

/// Nobody listens there.
const CLOSED: &str = "127.0.0.1:1";

async fn down(variable: &str, url: &str) {
    let Some(running) = broker(variable) else { return };
    let Some(shop) = Shop::on_postgres(WORKER, &running, "").await else { return };
    shop.send(plain(0..3)).await;
    let screen = Screen::of(&shop, &["--broker", url]);
    let red = screen.line("broker", CLOSED);
    assert_eq!((red.standing.as_str(), screen.code), ("bad", 1));
    assert!(red.says.contains("Connection refused"), "{red:?}");
    assert!(!format!("{screen:?}").contains("s3cret"), "{screen:?}");
    assert_eq!(screen.line("store", "Postgres 1").standing, "ok");
    // What was written to go there is counted, and that nobody knows of the rest is said.
    let waits = screen.line("lag", "its queue is not known");
    assert!(waits.says.contains(&shop.prefix) || screen.says("lag", "3 in outbox"), "{}", screen.text);
    assert!(screen.says("lag", "3 in outbox"), "{}", screen.text);
    screen.advice_works(&shop);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_that_is_down_is_one_red_line() {
    down("PITCREW_RABBITMQ_URL", &format!("amqp://app:s3cret@{CLOSED}/cars")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_down_is_one_red_line() {
    down("PITCREW_KAFKA_URL", &format!("kafka://{CLOSED}")).await;
}

/// What is missing is told, stays missing however often it is told, and is there once the advice was followed.
async fn missing(variable: &str, what: &str, about: &str) {
    let Some(url) = broker(variable) else { return };
    let Some(shop) = Shop::on_postgres(WORKER, &url, "").await else { return };
    for _ in 0..2 {
        let screen = Screen::of(&shop, &[]);
        let missing = screen.line("topology", " missing: ");
        // Channels of the other handlers may be there: other tests have the same.
        assert!(missing.facts["missing"].as_u64() >= Some(8), "{missing:?}");
        assert_eq!(missing.standing, "warn", "a start makes it: {}", screen.text);
        assert!(screen.says("broker", about), "{}", screen.text);
    }
    let strict = shop.typed(&["doctor"], &[("PITCREW_TRANSPORT__DEFAULT__DECLARE", "false")]);
    let said = String::from_utf8_lossy(&strict.stdout).into_owned();
    assert!(said.contains("a start is refused: ") && said.contains("missing, and declare = false"), "{said}");
    assert_eq!(strict.status.code(), Some(1), "{said}");

    Screen::of(&shop, &[]).advice_works(&shop);
    let screen = Screen::of(&shop, &[]);
    assert!(!screen.says("topology", " missing: "), "{}", screen.text);

    let mut worker = shop.start();
    worker.is_at_work().await;
    shop.send(plain(0..5)).await;
    shop.send([Work { n: 9, refused: true, ..Work::default() }]).await;
    shop.done(5).await;
    shop.until("a letter", async || (!shop.letters().await.is_empty()).then_some(())).await;
    let commands = format!("{}: nothing waits", shop.commands());
    shop.until("an empty queue", async || Screen::of(&shop, &[]).says("lag", &commands).then_some(())).await;
    let screen = Screen::of(&shop, &[]);
    assert_eq!(screen.line("workers", "1 alive").standing, "ok");
    let counted = &screen.line("lag", &commands).facts;
    assert_eq!(counted["places"]["queue"]["messages"], 0, "{what} is counted: {counted}");
    assert_eq!(screen.line("dead", "1 of test.Work: permanent").standing, "warn");
    screen.advice_works(&shop);
    worker.stop().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_rabbitmq_what_is_missing_is_there_once_the_advice_was_followed() {
    missing("PITCREW_RABBITMQ_URL", "a queue", "RabbitMQ 3.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_what_is_missing_is_there_once_the_advice_was_followed() {
    missing("PITCREW_KAFKA_URL", "a topic", "Kafka, 1 broker").await;
}

async fn is_refused(shop: &Shop, words: &str) {
    let screen = Screen::of(shop, &[]);
    let differs = screen.line("topology", &shop.commands());
    assert!(differs.says.starts_with("a start is refused: ") && differs.says.contains(words), "{differs:?}");
    assert_eq!((differs.standing.as_str(), screen.code), ("bad", 1), "{}", screen.text);
    let then = differs.then.as_ref().expect("a command");
    let plan = shop.shell(then);
    let said = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(said.contains("differs  ") && said.contains(words), "{then}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_another_argument_is_red_on_rabbitmq() {
    let Some(url) = broker("PITCREW_RABBITMQ_URL") else { return };
    let shop = Shop::on_sqlite(WORKER, &url, "").await;
    let vhost = if url.matches('/').count() > 2 { url.clone() } else { format!("{url}/%2f") };
    let connection = Connection::connect(&vhost, ConnectionProperties::default()).await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel opens");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare((*shop.commands()).into(), durable, FieldTable::default()).await.expect("it is declared");
    is_refused(&shop, "PRECONDITION_FAILED - inequivalent arg").await;
    let _ = channel.queue_delete((*shop.commands()).into(), Default::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_lose_messages_is_red_on_kafka() {
    let Some(url) = broker("PITCREW_KAFKA_URL") else { return };
    let shop = Shop::on_sqlite(WORKER, &url, "").await;
    let brokers = url.trim_start_matches("kafka://");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client");
    let name = shop.commands();
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let made = admin.create_topics(&[topic], &AdminOptions::new()).await.expect("the broker answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    is_refused(&shop, "is compacted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_without_it() {
    let Some(url) = broker("PITCREW_RABBITMQ_URL") else { return };
    let shop = Shop::on_sqlite(WORKER, "embedded", "").await;
    let (_, rest) = url.split_once("://").expect("a URL");
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let screen = Screen::of(&shop, &["--broker", &format!("amqp://nobody:s3cret@{place}")]);
    let refused = screen.line("broker", "the broker refuses user `nobody`");
    assert_eq!((refused.standing.as_str(), screen.code), ("bad", 1));
    assert!(!format!("{screen:?}").contains("s3cret"), "{screen:?}");
    screen.advice_works(&shop);
}

/// Which of two does not answer is named, and the other is not blamed for it.
#[tokio::test]
async fn of_two_brokers_the_one_that_is_away_is_named() {
    let Some(running) = broker("PITCREW_RABBITMQ_URL") else { return };
    let away = format!("transport = \"log\"\n[transport.log]\nurl = \"kafka://{CLOSED}\"");
    let shop = Shop::on_sqlite(WORKER, &running, &away).await;
    let screen = Screen::of(&shop, &[]);
    let red = screen.line("broker", "[transport.log]");
    assert_eq!((red.standing.as_str(), screen.code), ("bad", 1));
    assert!(!red.says.contains("amqp://"), "{red:?}");
}
