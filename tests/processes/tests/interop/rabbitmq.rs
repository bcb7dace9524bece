//! `pika` on both versions of RabbitMQ.

use crate::{
    WORKER,
    expected::{Expected, Unreadable, caused_by},
    python::{python, script},
};
use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};
use processes::shop::{Shop, broker};

const PREFIX: &str = "cloudEvents_";

/// Done as any other, whatever form it came in.
const DONE: &[&str] = &[
    "binary cloudEvents_",
    "binary cloudEvents:",
    "binary ce-",
    "binary ce_",
    "binary CE-",
    "structured",
    "structured utf-8",
    "native",
    "native answered",
    "typed",
    "foreign",
    "traced",
];

const UNREADABLE: &[Unreadable] = &[
    (b"\xff\x00 garbage", 1, "attribute `id` is missing: no `specversion` header"),
    (b"", 1, "attribute `id` is missing: no `specversion` header"),
    (b"{cut off", 1, "attribute `body` is not a JSON object: key must be a string"),
    (b"[]", 1, "attribute `content-type` is `application/cloudevents-batch+json`; a batch is not read"),
    // A table is no attribute: it is as good as absent.
    (b"id is a table", 1, "attribute `id` is missing"),
    (b"subject without a value", 1, "attribute `subject` has no value"),
    (b"subject in latin-1", 1, "attribute `subject` is not UTF-8"),
    (b"type alone", 1, "attribute `id` is missing: no `specversion` header"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_python_is_understood_and_answered_on_3_10() {
    understood("PITCREW_RABBITMQ_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_python_is_understood_and_answered_on_4() {
    understood("PITCREW_RABBITMQ4_URL").await;
}

async fn understood(variable: &str) {
    let Some(url) = broker(variable) else { return };
    let Some(python) = python() else { return };
    let shop = Shop::on_sqlite(WORKER, &url, "").await;
    let mut worker = shop.start();
    worker.is_at_work().await;
    let expected = Expected::of(PREFIX, DONE, &[], UNREADABLE).answered("native answered");
    let heard = expected.heard();
    let counts = [heard.events, heard.letters, heard.replies].map(|count| count.to_string());
    let arguments = [vec![url.clone(), shop.prefix.clone()], counts.into()].concat();
    let output = script(python, "rabbitmq.py", arguments).await;
    expected.hold(&shop, &output).await;

    // What is particular to AMQP.
    let event = caused_by(&output, "events", PREFIX, "typed");
    assert!(
        event["body"].as_str().expect("a body").contains("2023-11-14T22:13:20Z"),
        "a typed time is its text: {event}"
    );
    assert_eq!(event["key"], "test.Worked", "the type is the routing key");
    assert_eq!(event["native"]["type"], "test.Worked", "{event}");
    assert_eq!(event["native"]["message_id"], event["headers"]["cloudEvents_id"], "{event}");
    assert_eq!(event["native"]["content_type"], "application/json", "{event}");
    let event = caused_by(&output, "events", PREFIX, "native");
    assert!(event["body"].as_str().expect("a body").contains("2023-11-14T22:13:20Z"), "the native timestamp: {event}");
    let event = caused_by(&output, "events", PREFIX, "traced");
    let parent = event["headers"]["traceparent"].as_str().expect("a trace");
    assert_eq!(&parent[3..35], "4bf92f3577b34da6a3ce929d0e0e4736", "the trace goes on");
    let reply = caused_by(&output, "replies", PREFIX, "native answered");
    assert_eq!(reply["native"]["correlation_id"], "order-8", "{reply}");
    assert_eq!(shop.history("native").await.inbox[0].source, "/interop", "the app-id");

    worker.stop().await;
    clear(&url, &shop).await;
    shop.close().await;
}

/// Takes away what the worker made.
pub(crate) async fn clear(url: &str, shop: &Shop) {
    let connection =
        Connection::connect(&format!("{url}/%2f"), ConnectionProperties::default()).await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel opens");
    for subscription in [shop.commands(), format!("{}.events.{}", shop.prefix, processes::shop::SERVICE)] {
        for suffix in ["", ".dead", ".retry.100ms", ".retry.200ms"] {
            let queue = format!("{subscription}{suffix}");
            channel.queue_delete((*queue).into(), QueueDeleteOptions::default()).await.expect("it goes");
        }
    }
    let replies = format!("{}.replies", shop.prefix);
    channel.queue_delete((*replies).into(), QueueDeleteOptions::default()).await.expect("it goes");
    for name in ["commands", "commands.dead", "events", "events.dead"] {
        let exchange = format!("{}.{name}", shop.prefix);
        channel.exchange_delete((*exchange).into(), Default::default()).await.expect("it goes");
    }
    connection.close(200, "cleared".into()).await.expect("closes");
}
