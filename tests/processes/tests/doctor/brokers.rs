//! Brokers: down, without what a worker needs, or with something else in its place.

use crate::{WORKER, screen::Screen};
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use pitcrew::Message as _;
use processes::{
    Work,
    shop::{Shop, broker, plain},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use std::time::{Duration, Instant};

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

/// Commands on a RabbitMQ that answers, events on a Kafka that does not.
async fn half_away(away: &str) -> Option<Shop> {
    let running = broker("PITCREW_RABBITMQ_URL")?;
    let log = format!("[transport.log]\nurl = \"kafka://{away}\"");
    let shop = Shop::on_sqlite(WORKER, &running, &log).await;
    let events = format!("[channel.\"{}.events\"]\n", shop.prefix);
    Some(shop.with(|settings| *settings = settings.replacen(&events, &format!("{events}transport = \"log\"\n"), 1)))
}

/// Which of two does not answer is named, the other is not blamed for it, and what is on the other is shown.
#[tokio::test]
async fn of_two_brokers_the_one_that_is_away_is_named_and_the_other_is_shown() {
    let Some(shop) = half_away(CLOSED).await else { return };
    for n in 0..3 {
        let data = shop.kept(&format!("{{\"n\": {n}}}"));
        let sent = shop.typed(&["send", Work::TYPE, "--data", &data], &[]);
        assert!(sent.status.success(), "{sent:?}");
    }
    let screen = Screen::of(&shop, &[]);
    let red = screen.line("broker", "[transport.log] kafka://");
    assert_eq!((red.standing.as_str(), screen.code), ("bad", 1));
    assert!(!red.says.contains("amqp://"), "{red:?}");
    let well = screen.line("broker", "[transport.default] RabbitMQ 3.");
    assert_eq!((well.standing.as_str(), &well.facts["name"]), ("ok", &"default".into()));
    let waits = screen.line("lag", &format!("{}: 3 in queue", shop.commands()));
    assert_eq!(waits.facts["places"]["queue"]["messages"], 3, "{waits:?}");
    screen.line("lag", &format!("{}.events.shop: its queue is not known", shop.prefix));
    screen.line("topology", "[transport.default] ");
    assert!(!screen.says("topology", "[transport.log]"), "it was told once that it is away: {}", screen.text);
    screen.line("workers", "none is alive, and messages wait");
    // What can be made is made, and who is away is named.
    let missing = screen.line("topology", "[transport.default] ").then.as_ref().expect("a command");
    let applied = shop.shell(missing);
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(said.contains("making the topology of [transport.log]") && !applied.status.success(), "{said}");
    let shown = String::from_utf8_lossy(&applied.stdout).into_owned();
    assert!(shown.contains("default: queue `") && !shown.contains("missing"), "{shown}");
    let screen = Screen::of(&shop, &[]);
    assert_eq!(screen.line("topology", "[transport.default] ").standing, "ok", "{}", screen.text);
    screen.advice_works(&shop);
}

#[tokio::test]
async fn a_broker_that_nothing_is_needed_from_is_not_asked() {
    let Some(running) = broker("PITCREW_RABBITMQ_URL") else { return };
    let unused = format!("[channel.\"nobodys\"]\ntransport = \"log\"\n[transport.log]\nurl = \"kafka://{CLOSED}\"");
    let shop = Shop::on_sqlite(WORKER, &running, &unused).await;
    let screen = Screen::of(&shop, &[]);
    assert_eq!(screen.line("broker", "[transport.log] ").standing, "ok", "{}", screen.text);
    assert!(screen.says("broker", "nothing here needs it") && screen.code == 0, "{}", screen.text);
    screen.line("topology", "[transport.default] ");
}

/// What is for the one that answers leaves at once, whatever the other does.
#[tokio::test]
async fn a_message_for_one_of_two_brokers_does_not_wait_for_the_other() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it has an address").to_string();
    let Some(shop) = half_away(&address).await else { return };
    let (data, began) = (shop.kept("{\"n\": 1}"), Instant::now());
    let sent = shop.typed(&["send", Work::TYPE, "--data", &data], &[]);
    let took = began.elapsed();
    assert!(sent.status.success() && sent.stderr.is_empty(), "{sent:?}");
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    assert_eq!(shop.store.counts().await.expect("counts").outbox, 0, "it has left");
}

/// A program sees whose each thing is.
#[tokio::test]
async fn a_plan_names_the_broker_of_each_thing() {
    let (Some(running), Some(kafka)) = (broker("PITCREW_RABBITMQ_URL"), broker("PITCREW_KAFKA_URL")) else { return };
    let log = format!("transport = \"log\"\n[transport.log]\nurl = {kafka:?}");
    let shop = Shop::on_sqlite(WORKER, &running, &log).await;
    let plan = shop.typed(&["topology", "plan", "--json"], &[]);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).expect("JSON");
    let things = plan["things"].as_array().expect("things");
    let of = |start: &str| {
        let found = things.iter().find(|thing| thing["thing"].as_str().is_some_and(|thing| thing.starts_with(start)));
        found.unwrap_or_else(|| panic!("no {start}: {plan}"))["broker"].clone()
    };
    assert_eq!(of(&format!("log: topic `{}`", shop.commands())), "log");
    assert_eq!(of("default: queue `"), "default");
    // Without topics nobody can say that nothing waits in them.
    let screen = Screen::of(&shop, &[]);
    screen.line("lag", &format!("{}: its queue or topic is not there yet", shop.commands()));
    screen.line("workers", "whether messages wait is not known of all queues");
}
