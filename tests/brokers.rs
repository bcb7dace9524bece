//! One worker on two brokers: commands come by RabbitMQ, what became of them is told on Kafka.

#[path = "rabbitmq/proxy.rs"]
mod proxy;

use pitcrew::{
    Client, Command, Context, Envelope, Event, Handler, HandlerError, Handlers, Message, Worker, clock,
    config::{Config, Sources},
    store::{DeadFilter, Destination, OutboxRow, Purpose, Store, memory::MemoryStore},
    testing::poll_pause,
    transport::{Endpoints, Standing},
    worker::open_transport,
};
use proxy::Proxy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);
/// This one never succeeds.
const POISON: u32 = 7;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Do {
    n: u32,
}
impl Message for Do {
    type Kind = Command;
    const TYPE: &'static str = "two.Do";
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Done {
    n: u32,
}
impl Message for Done {
    type Kind = Event;
    const TYPE: &'static str = "two.Done";
}

/// What ran, at which attempts.
type Attempts = BTreeMap<(&'static str, u32), Vec<u32>>;

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Attempts>>);

impl Seen {
    fn attempts(&self, what: &'static str, n: u32) -> Vec<u32> {
        self.0.lock().unwrap().get(&(what, n)).cloned().unwrap_or_default()
    }

    /// Fails at the first attempt, and for ever at poison.
    fn run(&self, what: &'static str, n: u32, attempt: u32) -> pitcrew::Result {
        self.0.lock().unwrap().entry((what, n)).or_default().push(attempt);
        match (n, attempt) {
            (POISON, _) => Err(HandlerError::permanent(anyhow::anyhow!("poison"))),
            (_, 1) => Err(anyhow::anyhow!("the first time").into()),
            _ => Ok(()),
        }
    }
}

struct Act(Seen);
impl Handler<Do> for Act {
    async fn handle(&self, m: Do, cx: &mut Context) -> pitcrew::Result {
        self.0.run("do", m.n, cx.attempt())?;
        cx.emit(&Done { n: m.n })?;
        Ok(())
    }
}

struct Hear(Seen);
impl Handler<Done> for Hear {
    async fn handle(&self, m: Done, cx: &mut Context) -> pitcrew::Result {
        self.0.run("done", m.n, cx.attempt())
    }
}

fn handlers(seen: &Seen) -> Handlers {
    Handlers::new().handle(Act(seen.clone())).handle(Hear(seen.clone())).emits::<Done>()
}

/// Channels of a test's own: commands on RabbitMQ, events on Kafka.
fn config(rabbitmq: &str, kafka: &str) -> Config {
    let own = clock::uuid_v7().simple();
    let retry = "retry = { attempts = 3, first = '100ms', max = '100ms', tiers = ['100ms'] }";
    let text = format!(
        "service = 'shop'\n\
         [transport.default]\nurl = '{rabbitmq}'\n\
         [transport.log]\nurl = '{kafka}'\nkafka.partitions = 1\n\
         [channel.\"t{own}.commands\"]\ntypes = ['two.Do']\n{retry}\n\
         [channel.\"t{own}.events\"]\ntypes = ['two.Done']\ntransport = 'log'\n{retry}\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("pitcrew.toml"), text).expect("a file");
    let directory = directory.path().to_owned();
    Config::load(&Sources { service: "shop".into(), directory, ..Sources::default() }).expect("a configuration")
}

/// Where both are.
fn urls() -> Option<(String, String)> {
    let url = |variable: &str, what: &str| {
        let url = std::env::var(variable).ok();
        if url.is_none() {
            eprintln!("skipped: no {what} ({variable})");
        }
        url
    };
    let rabbitmq = url("PITCREW_RABBITMQ_URL", "RabbitMQ").or_else(|| std::env::var("PITCREW_RABBITMQ4_URL").ok())?;
    Some((rabbitmq, url("PITCREW_KAFKA_URL", "Kafka")?))
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            poll_pause().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_on_one_broker_is_told_of_on_the_other() {
    let Some((rabbitmq, kafka)) = urls() else { return };
    let (config, seen, store) = (config(&rabbitmq, &kafka), Seen::default(), Arc::new(MemoryStore::new()));
    assert_eq!(config.check(), []);
    let transport = open_transport(&config).expect("two transports");
    let worker = Worker::new(config.clone(), handlers(&seen));
    let running = worker.start(store.clone(), transport.clone()).await.expect("it starts");
    let client = Client::new(store.clone(), &*transport, &handlers(&seen), &config).expect("a client");
    client.send(&Do { n: 1 }).await.expect("sent");
    client.send(&Do { n: POISON }).await.expect("sent");
    client.send(&Done { n: POISON }).await.expect("sent");
    until("heard, and both letters written", async || {
        let letters = store.dead_letters(&DeadFilter::default(), 10).await.expect("letters");
        seen.attempts("done", 1).len() == 2 && letters.len() == 2
    })
    .await;
    // The copies of both letters have left for the Dead Letter Channels, each on its broker.
    until("nothing waits", async || store.counts().await.expect("counts").outbox == 0).await;
    for (what, n, attempts) in
        [("do", 1, vec![1, 2]), ("done", 1, vec![1, 2]), ("do", POISON, vec![1]), ("done", POISON, vec![1])]
    {
        assert_eq!(seen.attempts(what, n), attempts, "{what} {n}");
    }

    let endpoints = Endpoints { subscriptions: running.subscriptions().to_vec(), channels: Vec::new() };
    let found = transport.inspect(&endpoints).await.expect("both can be looked at").findings;
    let fits = |start: &str| found.iter().any(|f| f.thing.starts_with(start) && f.standing == Standing::Fits);
    assert!(fits("default: queue ") && fits("log: topic "), "{found:#?}");
    for subscription in running.subscriptions() {
        let system = if subscription.name.ends_with(".commands") { "rabbitmq" } else { "kafka" };
        assert_eq!(transport.kind_of(&subscription.name), system);
        until("its broker tells that nothing is left", async || {
            let depth = transport.depth(&subscription.name).await.expect("it tells");
            assert_eq!(depth.partitions.is_empty(), system == "rabbitmq", "{depth:?}");
            depth.ready == Some(0)
        })
        .await;
    }
    running.shutdown().await;
}

/// Whoever sweeps the outbox sends also what is for subscriptions that another worker of the service listens to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_a_subscription_of_another_worker_goes_to_its_broker() {
    let Some((rabbitmq, kafka)) = urls() else { return };
    let (config, seen, store) = (config(&rabbitmq, &kafka), Seen::default(), Arc::new(MemoryStore::new()));
    let channel = |end: &str| {
        let channel = config.channel.keys().find(|name| name.as_str().ends_with(end)).expect("there is one");
        channel.as_str().to_owned()
    };
    let (commands, events) = (channel(".commands"), channel(".events"));
    // Once, so that both brokers have what is needed.
    let worker = Worker::new(config.clone(), handlers(&seen));
    worker.start(store.clone(), open_transport(&config).unwrap()).await.expect("it starts").shutdown().await;

    let worker = Worker::new(config.clone(), handlers(&seen)).channels(vec![commands]);
    let running = worker.start(store.clone(), open_transport(&config).unwrap()).await.expect("it starts");
    // As `dead replay` writes it.
    let envelope = Envelope::of(&Done { n: 3 }, "/shop").expect("JSON");
    let row = OutboxRow {
        seq: clock::uuid_v7(),
        destination: Destination::Subscription(format!("{events}.shop").into()),
        due: None,
        key: None,
        purpose: Purpose::Replay,
        envelope: Arc::new(envelope),
    };
    store.enqueue(None, &[row]).await.expect("it is written");
    until("it has left", async || store.counts().await.expect("counts").outbox == 0).await;
    running.shutdown().await;

    let worker = Worker::new(config.clone(), handlers(&seen)).channels(vec![events]);
    let running = worker.start(store.clone(), open_transport(&config).unwrap()).await.expect("it starts");
    until("it is heard", async || seen.attempts("done", 3).len() == 2).await;
    running.shutdown().await;
}

/// The address in a URL.
fn address(url: &str) -> String {
    let host = url.rsplit_once('@').or_else(|| url.split_once("://")).map_or(url, |(_, host)| host);
    host.split('/').next().unwrap_or(host).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_one_broker_goes_on_while_the_other_is_away() {
    let Some((rabbitmq, kafka)) = urls() else { return };
    let real = address(&rabbitmq);
    let mut proxy = Proxy::to(real.clone());
    let rabbitmq = rabbitmq.replace(&real, &format!("127.0.0.1:{}", proxy.port));
    let (config, seen, store) = (config(&rabbitmq, &kafka), Seen::default(), Arc::new(MemoryStore::new()));
    let transport = open_transport(&config).expect("two transports");
    let worker = Worker::new(config.clone(), handlers(&seen));
    let running = worker.start(store.clone(), transport.clone()).await.expect("it starts");
    let client = Client::new(store.clone(), &*transport, &handlers(&seen), &config).expect("a client");

    proxy.refuse();
    client.send(&Do { n: 1 }).await.expect("it waits in the outbox");
    client.send(&Done { n: 2 }).await.expect("it is sent");
    until("it is heard", async || seen.attempts("done", 2).len() == 2).await;
    assert_eq!(seen.attempts("do", 1), [0; 0], "it cannot have come");

    proxy.accept().await;
    until("the command is told of", async || seen.attempts("done", 1).len() == 2).await;
    until("nothing waits", async || store.counts().await.expect("counts").outbox == 0).await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_start_says_which_broker_is_away() {
    let Some((rabbitmq, _)) = urls() else { return };
    let config = config(&rabbitmq, "kafka://127.0.0.1:1");
    let transport = open_transport(&config).expect("two transports");
    let worker = Worker::new(config, handlers(&Seen::default()));
    let refused = worker.start(Arc::new(MemoryStore::new()), transport).await.expect_err("nobody is there");
    let refused = format!("{refused:#}");
    assert!(refused.contains("[transport.log]") && !refused.contains("[transport.default]"), "{refused}");
}
