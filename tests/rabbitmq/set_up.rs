//! What a start makes, verifies and refuses.

use super::{
    bench::{Broker, address, client, through, unique},
    node::Node,
};
use lapin::{
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use pitcrew::{
    message::Intent,
    transport::{
        Channel, Endpoints, Subscription, Transport, TransportError,
        rabbitmq::{Options, RabbitMq},
    },
};
use std::time::Duration;

pub(crate) fn endpoints(name: &str) -> Endpoints {
    let subscription = Subscription {
        name: name.into(),
        channel: name.into(),
        intent: Intent::Command,
        types: vec!["demo.Do".into()],
        delays: vec![Duration::from_secs(1)],
    };
    let channel = Channel { name: name.into(), intent: Intent::Command, types: subscription.types.clone() };
    Endpoints { subscriptions: vec![subscription], channels: vec![channel] }
}

pub(crate) async fn declare(url: &str, options: Options, endpoints: &Endpoints) -> Result<(), TransportError> {
    let transport = RabbitMq::new(url, options)?;
    let declared = transport.declare(endpoints).await;
    transport.close().await;
    declared
}

async fn remove(url: &str, name: &str) {
    let (connection, channel) = client(url).await;
    for queue in [name.to_owned(), format!("{name}.dead"), format!("{name}.retry.1s")] {
        let _ = channel.queue_delete((*queue).into(), Default::default()).await;
    }
    for exchange in [name.to_owned(), format!("{name}.dead")] {
        let _ = channel.exchange_delete((*exchange).into(), Default::default()).await;
    }
    let _ = connection.close(200, "cleared".into()).await;
}

async fn what_is_there_with_other_arguments_is_refused(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let name = unique();
    let (connection, channel) = client(&url).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(3));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare((*name).into(), durable, arguments).await.expect("declares");
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let fanout = lapin::ExchangeKind::Fanout;
    channel.exchange_declare((*name).into(), fanout, durable, FieldTable::default()).await.expect("declares");
    connection.close(200, "declared".into()).await.expect("closes");

    let refused = declare(&url, Options::default(), &endpoints(&name)).await.expect_err("it is refused").to_string();
    // All at once, each with the difference and the ways out.
    for part in ["queue", "exchange", "x-dead-letter-exchange", "fanout", "policy", "another name"] {
        assert!(refused.contains(part), "`{part}` is not in: {refused}");
    }
    remove(&url, &name).await;
}

async fn without_the_right_to_make_it_is_verified_only(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let (name, only_verify) = (unique(), || Options { declare: false, ..Options::default() });
    let refused = declare(&url, only_verify(), &endpoints(&name)).await.expect_err("nothing is there").to_string();
    assert!(refused.contains("is missing") && refused.contains(&format!("`{name}.retry.1s`")), "{refused}");
    declare(&url, Options::default(), &endpoints(&name)).await.expect("it is made");
    declare(&url, only_verify(), &endpoints(&name)).await.expect("it is all there");
    remove(&url, &name).await;
}

async fn who_may_not_come_in_is_told_at_once(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let stranger = format!("amqp://guest:wrong-password@{}", address(&url));
    let refused = declare(&stranger, Options::default(), &endpoints("a")).await.expect_err("a wrong password");
    assert!(matches!(refused, TransportError::Unfit(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("`guest`") && text.contains("password") && !text.contains("wrong-password"), "{text}");
    let nowhere = format!("{}/no-such-vhost", url.trim_end_matches('/'));
    let refused = declare(&nowhere, Options::default(), &endpoints("a")).await.expect_err("no such vhost").to_string();
    assert!(refused.contains("no-such-vhost") && !refused.contains("guest:guest"), "{refused}");
}

/// A user that may use what is there, and one that may do nothing.
async fn missing_permissions_are_said_at_the_start(broker: Broker) {
    let Some(node) = Node::start(broker, "").await else { return };
    for (user, configure, write, read) in [("worker", "^$", ".*", ".*"), ("nobody", "^$", "^$", "^$")] {
        node.ctl(&["add_user", user, "secret"]);
        node.ctl(&["set_permissions", user, configure, write, read]);
    }
    let as_user = |user: &str| format!("amqp://{user}:secret@127.0.0.1:{}", node.port);
    let only_verify = || Options { declare: false, ..Options::default() };
    let refused = declare(&as_user("worker"), Options::default(), &endpoints("a")).await.expect_err("it may not");
    assert!(refused.to_string().contains("does not permit"), "{refused}");
    declare(&node.url(), Options::default(), &endpoints("a")).await.expect("an operator may");
    declare(&as_user("worker"), only_verify(), &endpoints("a")).await.expect("no right to configure is needed");
}

/// The client answers for the number of a channel that once failed with the failure of that time; looks at what is not there cost
/// a number each.
async fn looks_at_what_is_not_there_wear_nothing_out(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let name = unique();
    let (connection, channel) = client(&url).await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare((*name).into(), durable, FieldTable::default()).await.expect("declares");
    let transport = RabbitMq::new(&format!("{url}?channel_max=20"), Options::default()).expect("a URL");
    let mut replaced = 0;
    for round in 0..60 {
        match transport.depth(&name).await {
            Ok(depth) => assert_eq!((depth.ready, depth.dead), (Some(0), None), "round {round}"),
            Err(TransportError::Away(_)) => replaced += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
    }
    assert!((1..10).contains(&replaced), "a connection that has no number left is replaced: {replaced}");
    transport.close().await;
    channel.queue_delete((*name).into(), Default::default()).await.expect("deletes");
    connection.close(200, "cleared".into()).await.expect("closes");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_said_with_its_reason() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = through("amqp://guest:secret@127.0.0.1:1", port);
    let transport = RabbitMq::new(&url, Options::default()).unwrap();
    let away = tokio::time::timeout(Duration::from_secs(20), transport.declare(&endpoints("a"))).await;
    let away = away.expect("it gives up").expect_err("nobody is there");
    assert!(matches!(away, TransportError::Away(_)) && !away.to_string().contains("secret"), "{away}");
    transport.close().await;
}

#[test]
fn what_is_no_address_is_not_shown() {
    let refused = RabbitMq::new("amqp://user:secret@host:notaport/%zz", Options::default()).map(drop);
    let text = refused.expect_err("it is none").to_string();
    assert!(!text.contains("secret"), "{text}");
}

super::on_each_version! {
    what_is_there_with_other_arguments_is_refused
    without_the_right_to_make_it_is_verified_only
    who_may_not_come_in_is_told_at_once
    looks_at_what_is_not_there_wear_nothing_out
    missing_permissions_are_said_at_the_start
}
