//! Publishes that go wrong, and those beside them.

use super::bench::{Broker, RabbitBench, client};
use lapin::{
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use pitcrew::{
    Envelope, clock,
    message::{
        Intent,
        wire::{Prefix, Raw},
    },
    store::{Destination, OutboxRow, Purpose},
    testing::conformance::transport::{Bench, ack},
    transport::{
        Channel, Content, Endpoints, PublishError, Published, Room, Sending, Subscription, Transport, rabbitmq::Options,
    },
};
use std::{sync::Arc, time::Duration};

const TYPE: &str = "demo.Do";

pub(crate) fn commands(prefix: &str, name: &str) -> Endpoints {
    let name: Arc<str> = format!("{prefix}.{name}").into();
    let subscription = Subscription {
        name: name.clone(),
        channel: name.clone(),
        intent: Intent::Command,
        types: vec![TYPE.into()],
        delays: vec![Duration::from_millis(200)],
    };
    let channel = Channel { name, intent: Intent::Command, types: vec![TYPE.into()] };
    Endpoints { subscriptions: vec![subscription], channels: vec![channel] }
}

pub(crate) fn rows(to: &Destination, count: usize) -> Vec<Sending> {
    let row = |_| {
        let envelope = Arc::new(Envelope::new(TYPE, "/test", "{}"));
        let (destination, seq) = (to.clone(), clock::uuid_v7());
        Sending {
            row: OutboxRow { seq, destination, due: None, key: None, purpose: Purpose::Message, envelope },
            begun: false,
        }
    };
    (0..count).map(row).collect()
}

fn channel(endpoints: &Endpoints) -> Destination {
    Destination::Channel(endpoints.channels[0].name.clone())
}

async fn one_missing_exchange_fails_no_other_destination(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options::default());
    let (good, bad) = (commands(bench.prefix(), "good"), commands(bench.prefix(), "bad"));
    for endpoints in [&good, &bad] {
        transport.declare(endpoints).await.expect("declares");
    }
    let (to_good, to_bad) = (channel(&good), channel(&bad));
    // Once, so that its channel is open when the exchange goes.
    assert!(transport.publish(&to_bad, &rows(&to_bad, 1)).await.iter().all(Result::is_ok));
    let (connection, amqp) = client(&broker.url().expect("there is one")).await;
    amqp.exchange_delete((*bad.channels[0].name).into(), Default::default()).await.expect("deletes");
    connection.close(200, "deleted".into()).await.expect("closes");
    for round in 0..3 {
        let (sent, lost) = (rows(&to_good, 100), rows(&to_bad, 20));
        let (sent, lost) = tokio::join!(transport.publish(&to_good, &sent), transport.publish(&to_bad, &lost));
        assert_eq!(sent, vec![Ok(Published::Confirmed); 100], "round {round}");
        let said =
            |answer: &Result<_, PublishError>| answer.as_ref().is_err_and(|e| e.to_string().contains("exchange"));
        assert!(lost.iter().all(said), "{lost:?}");
    }
    transport.close().await;
    bench.clear().await;
}

async fn a_full_queue_refuses_and_takes_again(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options::default());
    let name = format!("{}.full", bench.prefix());
    let (connection, amqp) = client(&broker.url().expect("there is one")).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    amqp.queue_declare((*name).into(), durable, arguments).await.expect("declares");
    let to = Destination::Subscription((*name).into());
    let mut refused = 0;
    for row in rows(&to, 20) {
        match transport.publish(&to, std::slice::from_ref(&row)).await.remove(0) {
            Ok(_) => {}
            Err(PublishError::Refused(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "the queue is full");
    amqp.queue_purge((*name).into(), Default::default()).await.expect("purges");
    assert_eq!(transport.publish(&to, &rows(&to, 1)).await, [Ok(Published::Confirmed)]);
    amqp.queue_delete((*name).into(), Default::default()).await.expect("deletes");
    connection.close(200, "done".into()).await.expect("closes");
    transport.close().await;
}

/// For readers that know one prefix only: in the channel, in its retries and in its dead letters. Other channels are as ever.
async fn a_channel_chooses_what_its_headers_begin_with(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let (old, new) = (commands(bench.prefix(), "old"), commands(bench.prefix(), "new"));
    let prefixes = [(old.channels[0].name.to_string(), Prefix::CloudEventsColon)].into();
    let transport = bench.transport(Options { prefixes, ..Options::default() });
    for (endpoints, begins) in [(&old, "cloudEvents:"), (&new, "cloudEvents_")] {
        transport.declare(endpoints).await.expect("declares");
        let subscription = &endpoints.subscriptions[0];
        let mut consumer = transport.subscribe(subscription).await.expect("listens");
        let of = |name: &Arc<str>| [Destination::Subscription(name.clone()), Destination::Dead(name.clone())];
        let mut seen = Vec::new();
        for to in [&[channel(endpoints)][..], &of(&subscription.name)].concat() {
            assert_eq!(transport.publish(&to, &rows(&to, 1)).await, [Ok(Published::Confirmed)]);
            if matches!(to, Destination::Dead(_)) {
                seen.extend(bench.dead_letters(subscription).await.expect("they are heard of"));
                continue;
            }
            let delivery = consumer.receive(Room { count: 1, bytes: usize::MAX }).await.expect("receives").remove(0);
            let Content::Raw(raw) = &delivery.content else { panic!("{delivery:?}") };
            seen.push(raw.as_ref().clone());
            ack(delivery);
        }
        let names = |raw: &Raw| raw.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        for raw in &seen {
            assert!(names(raw).contains(&format!("{begins}id")), "{raw:?}");
            assert!(names(raw).iter().all(|name| !name.starts_with('c') || name.starts_with(begins)), "{raw:?}");
        }
        assert_eq!(seen.len(), 3);
        drop(consumer);
    }
    transport.close().await;
    bench.clear().await;
}

/// Returns come in any order beside confirms; each must be told to its own row.
async fn a_return_is_told_to_its_own_row(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options::default());
    let endpoints = commands(bench.prefix(), "mixed");
    transport.declare(&endpoints).await.expect("declares");
    let to = channel(&endpoints);
    for _ in 0..10 {
        let mut sent = rows(&to, 256);
        for row in sent.iter_mut().skip(1).step_by(3) {
            row.row.envelope = Arc::new(Envelope { ty: "demo.Unheard".into(), ..(*row.row.envelope).clone() });
        }
        for (row, answer) in sent.iter().zip(transport.publish(&to, &sent).await) {
            let expected = if row.row.envelope.ty == TYPE { answer.is_ok() } else { answer.is_err() };
            assert!(expected, "{}: {answer:?}", row.row.envelope.ty);
        }
    }
    transport.close().await;
    bench.clear().await;
}

async fn a_dead_copy_is_for_whoever_binds_a_queue(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options::default());
    let endpoints = commands(bench.prefix(), "mourned");
    transport.declare(&endpoints).await.expect("declares");
    let (connection, amqp) = client(&broker.url().expect("there is one")).await;
    let (mine, dead) = (format!("{}.mine", bench.prefix()), format!("{}.dead", endpoints.channels[0].name));
    amqp.queue_declare((*mine).into(), Default::default(), FieldTable::default()).await.expect("declares");
    let bound = amqp.queue_bind((*mine).into(), (*dead).into(), "#".into(), Default::default(), FieldTable::default());
    bound.await.expect("binds");
    let to = Destination::Dead(endpoints.subscriptions[0].name.clone());
    assert_eq!(transport.publish(&to, &rows(&to, 1)).await, [Ok(Published::Confirmed)]);
    let got = amqp.basic_get((*mine).into(), Default::default()).await.expect("asks");
    assert!(got.is_some(), "the copy is in the other queue, too");
    amqp.queue_delete((*mine).into(), Default::default()).await.expect("deletes");
    connection.close(200, "done".into()).await.expect("closes");
    transport.close().await;
    bench.clear().await;
}

/// 4.x would bury at 20 returns what nobody ever looked at; our limit keeps innocents.
async fn many_cuts_under_a_full_prefetch_bury_nobody(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options::default());
    let endpoints = commands(bench.prefix(), "cut");
    transport.declare(&endpoints).await.expect("declares");
    let (subscription, to) = (&endpoints.subscriptions[0], channel(&endpoints));
    let sent = rows(&to, 100);
    assert!(transport.publish(&to, &sent).await.iter().all(Result::is_ok));
    let room = Room { count: 100, bytes: usize::MAX };
    for _ in 0..25 {
        let mut consumer = transport.subscribe(subscription).await.expect("listens");
        let held = tokio::time::timeout(Duration::from_secs(20), consumer.receive(room)).await;
        let held = held.expect("nobody was buried").expect("receives");
        bench.cut().await;
        drop(held);
        while consumer.receive(room).await.is_ok() {}
    }
    let mut consumer = transport.subscribe(subscription).await.expect("listens");
    let mut came = std::collections::HashSet::new();
    while came.len() < sent.len() {
        let received = tokio::time::timeout(Duration::from_secs(20), consumer.receive(room)).await;
        for delivery in received.expect("all of it comes").expect("receives") {
            let Content::Raw(raw) = &delivery.content else { panic!("raw") };
            came.insert(raw.properties.message_id.clone());
            ack(delivery);
        }
    }
    drop(consumer);
    transport.close().await;
    bench.clear().await;
}

/// An exchange that a foreign team made as something else is refused at the start, not at the first publish.
async fn an_exchange_is_checked_before_the_first_publish(broker: Broker) {
    let Some(bench) = RabbitBench::on(broker) else { return };
    let transport = bench.transport(Options::default());
    let to = Destination::Channel(format!("{}.nowhere", bench.prefix()).as_str().into());
    for answer in transport.publish(&to, &rows(&to, 3)).await {
        assert!(matches!(answer, Err(PublishError::Unroutable(_))), "{answer:?}");
    }
    let (connection, amqp) = client(&broker.url().expect("there is one")).await;
    let Destination::Channel(name) = &to else { unreachable!() };
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let direct = lapin::ExchangeKind::Direct;
    amqp.exchange_declare((**name).into(), direct, options, FieldTable::default()).await.expect("declares");
    // There now, and nobody bound to it.
    for answer in transport.publish(&to, &rows(&to, 3)).await {
        assert!(matches!(&answer, Err(PublishError::Unroutable(why)) if why.contains("312")), "{answer:?}");
    }
    amqp.exchange_delete((**name).into(), Default::default()).await.expect("deletes");
    connection.close(200, "done".into()).await.expect("closes");
    transport.close().await;
}

super::on_each_version! {
    one_missing_exchange_fails_no_other_destination
    a_full_queue_refuses_and_takes_again
    a_channel_chooses_what_its_headers_begin_with
    a_return_is_told_to_its_own_row
    a_dead_copy_is_for_whoever_binds_a_queue
    many_cuts_under_a_full_prefetch_bury_nobody
    an_exchange_is_checked_before_the_first_publish
}
