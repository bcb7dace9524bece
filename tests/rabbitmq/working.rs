//! A whole worker on RabbitMQ: retries, foreign clients, a database that is away.

use super::{
    bench::{Broker, address, client},
    proxy::Proxy,
    rig::{Count, PATIENCE, Rig, handlers},
};
use lapin::{
    BasicProperties,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use pitcrew::{
    Message,
    store::{
        Store,
        memory::MemoryStore,
        postgres::{Options, PostgresStore},
    },
    testing::poll_pause,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

async fn retries_wait_in_the_broker_and_end_in_one_effect(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let rig = Rig::start(&url, Arc::new(MemoryStore::new()), |_| {}).await;
    rig.send(0..50, 0).await;
    rig.send(50..100, 3).await;
    rig.each_once(0..100).await;
    rig.end().await;
}

async fn a_foreign_client_needs_no_library_of_ours(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let rig = Rig::start(&url, Arc::new(MemoryStore::new()), |_| {}).await;
    let (connection, channel) = client(&url).await;
    let native = BasicProperties::default().with_message_id("m-1".into()).with_type(Count::TYPE.into());
    let mut headers = FieldTable::default();
    for (name, value) in [("id", "m-2"), ("source", "/shop"), ("type", Count::TYPE), ("specversion", "1.0")] {
        headers.insert((*format!("cloudEvents:{name}")).into(), AMQPValue::LongString(value.into()));
    }
    // Typed, as some clients write them.
    headers.insert("cloudEvents:schemaversion".into(), AMQPValue::LongLongInt(1));
    headers.insert("cloudEvents:time".into(), AMQPValue::Timestamp(1_700_000_000));
    let events = BasicProperties::default().with_headers(headers);
    // By the channel's exchange, and straight into its queue.
    let (exchange, queue) = (rig.commands(), rig.commands());
    for (exchange, key, body, properties) in
        [(&*exchange, Count::TYPE, br#"{"n":1}"#, native), ("", &*queue, br#"{"n":2}"#, events)]
    {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
        sent.expect("it is sent").await.expect("it is taken");
    }
    rig.each_once(1..3).await;
    connection.close(200, "done".into()).await.expect("closes");
    rig.end().await;
}

/// Its message is in the broker when `send` returns, though no worker of this database runs.
async fn a_client_of_its_own_needs_no_worker(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let rig = Rig::start(&url, Arc::new(MemoryStore::new()), |_| {}).await;
    let (elsewhere, transport) = (Arc::new(MemoryStore::new()), rig.transport.clone());
    let client = pitcrew::Client::new(elsewhere.clone(), &*transport, &handlers(), &rig.config).expect("a client");
    let client = client.publishing(transport);
    client.send(&Count { n: 1, failing: 0, takes: 0 }).await.expect("it is sent");
    assert_eq!(elsewhere.counts().await.expect("counts").outbox, 0, "published, confirmed and gone");
    rig.each_once(1..2).await;
    rig.end().await;
}

/// One long job among many short ones holds up none of them, and is acked in its time.
async fn a_long_job_stalls_nobody(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let rig = Rig::start(&url, Arc::new(MemoryStore::new()), |_| {}).await;
    rig.send_slow(0, Duration::from_secs(4)).await;
    let began = Instant::now();
    rig.send(1..1_001, 0).await;
    rig.each_once(1..1_001).await;
    // All but the one are acked: nothing is left in the queue, and nothing would come again.
    let short = began.elapsed();
    assert_eq!(
        rig.done(0..1).await,
        0,
        "the long one still runs; if not, this machine is too slow for the test: {short:?}"
    );
    rig.each_once(0..1).await;
    rig.end().await;
}

/// Past half the ack timeout the broker has its messages back, and when the database is there again each is done once.
async fn while_the_database_is_away_for_long_the_broker_keeps_the_messages(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let Ok(postgres) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return;
    };
    let schema = format!("t_{}", pitcrew::clock::uuid_v7().simple());
    let connect = async |url: &str| {
        let options = Options { schema: schema.clone(), ..Options::default() };
        Arc::new(PostgresStore::connect(url, options).await.expect("connects"))
    };
    let mut proxy = Proxy::to(address(&postgres));
    let through = super::bench::through(&postgres, proxy.port);
    let store = connect(&through).await;
    let rig = Rig::start(&url, store, |config| {
        config.worker.ack_timeout = Duration::from_secs(4);
        config.guarantees = pitcrew::config::Guarantees::Warn;
    })
    .await;
    rig.send(0..20, 0).await;
    rig.each_once(0..20).await;

    proxy.refuse();
    let (connection, channel) = client(&url).await;
    for n in 20..40 {
        let properties =
            BasicProperties::default().with_message_id((*format!("m-{n}")).into()).with_type(Count::TYPE.into());
        let (queue, body) = (rig.commands(), format!(r#"{{"n":{n}}}"#));
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), (*queue).into(), options, body.as_bytes(), properties).await;
        sent.expect("it is sent").await.expect("it is taken");
    }
    let ready = async || rig.transport.depth(&rig.commands()).await.expect("depth").ready;
    let began = Instant::now();
    while ready().await != Some(20) {
        assert!(began.elapsed() < PATIENCE, "{:?} of 20 were handed back", ready().await);
        poll_pause().await;
    }
    proxy.accept().await;
    rig.each_once(0..40).await;
    connection.close(200, "done".into()).await.expect("closes");
    rig.end().await;
    let store = connect(&postgres).await;
    store.drop_schema().await.expect("drops");
    store.close().await;
}

super::on_each_version! {
    retries_wait_in_the_broker_and_end_in_one_effect
    a_foreign_client_needs_no_library_of_ours
    a_client_of_its_own_needs_no_worker
    a_long_job_stalls_nobody
    while_the_database_is_away_for_long_the_broker_keeps_the_messages
}
