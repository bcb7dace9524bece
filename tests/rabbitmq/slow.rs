//! What takes its time: the broker's ack timeout, poison, cycles through delay and dead queues. Over 20 s only with `PITCREW_ALL`.

use super::{
    bench::{Broker, RabbitBench, client},
    node::Node,
    publishing::{commands, rows},
};
use lapin::{
    BasicProperties,
    options::{BasicNackOptions, BasicPublishOptions},
    types::{AMQPValue, FieldArray, FieldTable},
};
use pitcrew::{
    Envelope, clock,
    message::Hop,
    store::Destination,
    testing::conformance::transport::{Bench, ack},
    transport::{
        Consumer, Content, Delivery, Published, Room, Sending, Transport, TransportError,
        rabbitmq::{Options, RabbitMq},
    },
};
use std::{sync::Arc, time::Duration};

const ROOM: Room = Room { count: 100, bytes: usize::MAX };
const PATIENCE: Duration = Duration::from_secs(20);

async fn next(consumer: &mut dyn Consumer) -> Delivery {
    let one = Room { count: 1, ..ROOM };
    let received = tokio::time::timeout(PATIENCE, consumer.receive(one)).await.expect("it comes in time");
    received.expect("receives").pop().expect("one")
}

/// A delivery that is held for too long costs the channel, and nothing else.
async fn the_ack_timeout_is_noticed_and_survived(broker: Broker) {
    if std::env::var_os("PITCREW_ALL").is_none() {
        eprintln!("skipped: takes two minutes (tests/run --all)");
        return;
    }
    let Some(node) = Node::start(broker, "consumer_timeout = 60000\n").await else { return };
    let transport = RabbitMq::new(&node.url(), Options::default()).expect("a URL");
    let endpoints = commands("slow", "acks");
    transport.declare(&endpoints).await.expect("declares");
    let to = Destination::Channel(endpoints.channels[0].name.clone());
    assert!(transport.publish(&to, &rows(&to, 3)).await.iter().all(Result::is_ok));
    let mut consumer = transport.subscribe(&endpoints.subscriptions[0]).await.expect("listens");
    let held = next(&mut *consumer).await;
    ack(next(&mut *consumer).await);
    let third = next(&mut *consumer).await;
    let lost = tokio::time::timeout(Duration::from_secs(150), consumer.receive(ROOM)).await.expect("it is noticed");
    let Err(TransportError::Unfit(why)) = lost else { panic!("{lost:?}") };
    assert!(why.contains("timed out"), "{why}");
    // Of the life that ended: they go nowhere, and harm nothing.
    ack(held);
    drop(third);
    let mut consumer = transport.subscribe(&endpoints.subscriptions[0]).await.expect("listens again");
    for _ in 0..2 {
        let again = next(&mut *consumer).await;
        assert!(again.suspect);
        ack(again);
    }
    drop(consumer);
    transport.close().await;
}

/// A message that the broker buried, replayed and failing again must still arrive, and 40 of them must not stop a healthy one:
/// copied headers would make 3.10 take it for a cycle of dead letters, for ever.
async fn what_was_buried_and_replayed_can_fail_again(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options::default());
    let endpoints = commands(bench.prefix(), "cycle");
    transport.declare(&endpoints).await.expect("declares");
    let subscription = &endpoints.subscriptions[0];
    let (queue, dead) = (&*subscription.name, format!("{}.dead", subscription.name));
    // As the broker writes it; a naive replay would carry it along.
    let (connection, amqp) = client(&broker.url().expect("there is one")).await;
    for n in 0..40 {
        let properties = BasicProperties::default()
            .with_message_id((*format!("m-{n}")).into())
            .with_type("demo.Do".into())
            .with_headers(a_death_in(queue));
        let options = BasicPublishOptions::default();
        let sent = amqp.basic_publish("".into(), queue.into(), options, b"{}", properties).await;
        sent.expect("it is sent").await.expect("it is taken");
    }
    let mut buried = 0;
    while buried < 40 {
        if let Some(got) = amqp.basic_get(queue.into(), Default::default()).await.expect("asks") {
            let reject = BasicNackOptions { requeue: false, ..Default::default() };
            amqp.basic_nack(got.delivery.delivery_tag, reject).await.expect("rejects");
            buried += 1;
        }
    }
    connection.close(200, "buried".into()).await.expect("closes");
    let mut graves = transport.buried(subscription).await.expect("listens").expect("this broker buries");
    let mut replayed = Vec::new();
    for _ in 0..40 {
        let delivery = next(&mut *graves).await;
        let burial = delivery.buried.clone().expect("it says who buried it");
        assert_eq!((burial.reason.as_str(), burial.queue.as_str()), ("rejected", queue));
        let Content::Raw(raw) = &delivery.content else { panic!("raw") };
        let mut envelope = pitcrew::message::wire::parse(raw, queue).expect("a message");
        let due = clock::to_micros(clock::now() + Duration::from_millis(200));
        envelope.hop = Hop { attempt: 3, failures: 1, due: Some(due), ..Hop::default() };
        replayed.push(envelope);
        ack(delivery);
    }
    let due = clock::to_micros(clock::now() + Duration::from_millis(200));
    let mut healthy = Envelope::new("demo.Do", "/test", "{}");
    healthy.hop = Hop { attempt: 2, failures: 1, due: Some(due), ..Hop::default() };
    replayed.push(healthy);
    let to = Destination::Subscription(subscription.name.clone());
    let template = rows(&to, replayed.len());
    let of = |(mut sending, envelope): (Sending, Envelope)| {
        sending.row.envelope = Arc::new(envelope);
        sending
    };
    let sent: Vec<_> = template.into_iter().zip(replayed).map(of).collect();
    assert_eq!(transport.publish(&to, &sent).await, vec![Ok(Published::Confirmed); 41]);
    let mut consumer = transport.subscribe(subscription).await.expect("listens");
    for _ in 0..41 {
        ack(next(&mut *consumer).await);
    }
    drop((consumer, graves));
    assert_eq!(transport.depth(&dead).await.expect("depth").ready, Some(0));
    transport.close().await;
    bench.clear().await;
}

fn a_death_in(queue: &str) -> FieldTable {
    let (mut death, mut headers) = (FieldTable::default(), FieldTable::default());
    for (key, value) in [("queue", queue), ("reason", "delivery_limit"), ("exchange", "")] {
        death.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    death.insert("count".into(), AMQPValue::LongLongInt(1));
    headers.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)])));
    headers
}

/// A thousand that fail in the same moment come back in their time.
async fn many_retries_of_one_moment_come_in_time(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options { default_concurrency: 1_000, ..Options::default() });
    let endpoints = commands(bench.prefix(), "burst");
    transport.declare(&endpoints).await.expect("declares");
    let subscription = &endpoints.subscriptions[0];
    let to = Destination::Subscription(subscription.name.clone());
    let mut consumer = transport.subscribe(subscription).await.expect("listens");
    let mut sent = rows(&to, 1_000);
    for sending in &mut sent {
        let mut envelope = (*sending.row.envelope).clone();
        envelope.hop.due = Some(clock::to_micros(clock::now() + Duration::from_millis(200)));
        sending.row.envelope = Arc::new(envelope);
    }
    assert!(transport.publish(&to, &sent).await.iter().all(Result::is_ok));
    let mut late = Vec::new();
    while late.len() < sent.len() {
        let received =
            tokio::time::timeout(PATIENCE, consumer.receive(ROOM)).await.expect("in time").expect("receives");
        for delivery in received {
            let Content::Raw(raw) = &delivery.content else { panic!("raw") };
            let envelope = pitcrew::message::wire::parse(raw, "burst").expect("a message");
            late.push(clock::between(envelope.hop.due.expect("due"), clock::now()));
            ack(delivery);
        }
    }
    late.sort_unstable();
    println!("{broker:?}: 1000 due at once: late by p50 {:?}, p99 {:?}", late[500], late[990]);
    assert!(late[990] < PATIENCE, "p99 {:?}", late[990]);
    drop(consumer);
    transport.close().await;
    bench.clear().await;
}

super::on_each_version! {
    the_ack_timeout_is_noticed_and_survived
    what_was_buried_and_replayed_can_fail_again
    many_retries_of_one_moment_come_in_time
}
