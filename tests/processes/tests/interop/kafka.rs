//! `confluent-kafka` on Kafka.

use crate::{
    WORKER,
    expected::{Expected, Readable, Unreadable, caused_by},
    python::{python, script},
};
use processes::shop::{Shop, broker};

const PREFIX: &str = "ce_";

const DONE: &[&str] = &[
    "keyed",
    "no key",
    "key in bytes",
    "binary cloudEvents_",
    "binary ce-",
    "structured",
    "record time",
    "own time",
    "foreign",
    "odd headers",
    "traced",
    "bad trace",
];

const OTHERS: &[Readable] = &[("tombstone", "dead", 1, Some(("invalid_payload", "EOF while parsing a value")))];

const UNREADABLE: &[Unreadable] = &[
    // One in each partition, first of all.
    (b"\xff\x00 garbage", 4, "attribute `id` is missing: no `specversion` header"),
    (b"", 1, "attribute `id` is missing: no `specversion` header"),
    (b"{cut off", 1, "attribute `body` is not a JSON object: key must be a string"),
    (b"[]", 1, "attribute `content-type` is `application/cloudevents-batch+json`; a batch is not read"),
    (b"subject without a value", 1, "attribute `subject` has no value"),
    (b"subject in latin-1", 1, "attribute `subject` is not UTF-8"),
    (b"id twice", 1, "attribute `id` is there twice"),
    (b"no headers", 1, "attribute `id` is missing: no `specversion` header"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_python_is_understood_and_answered() {
    let Some(url) = broker("PITCREW_KAFKA_URL") else { return };
    let Some(python) = python() else { return };
    let shop = Shop::on_sqlite(WORKER, &url, "").await;
    let mut worker = shop.start();
    worker.is_at_work().await;
    let expected = Expected::of(PREFIX, DONE, OTHERS, UNREADABLE);
    let heard = expected.heard();
    let counts = [heard.events, heard.letters, heard.replies].map(|count| count.to_string());
    let brokers = url.trim_start_matches("kafka://").to_owned();
    let output = script(python, "kafka.py", [vec![brokers, shop.prefix.clone()], counts.into()].concat()).await;
    expected.hold(&shop, &output).await;

    // What is particular to a log.
    for (cause, time) in [("record time", "2023-11-14T22:13:20Z"), ("own time", "2023-11-14T22:00:00Z")] {
        let event = caused_by(&output, "events", PREFIX, cause);
        assert!(event["body"].as_str().expect("a body").contains(time), "{cause}: {event}");
        assert_eq!(event["headers"]["content-type"], "application/json", "{event}");
    }
    let event = caused_by(&output, "events", PREFIX, "traced");
    let parent = event["headers"]["traceparent"].as_str().expect("a trace");
    assert_eq!(&parent[3..35], "4bf92f3577b34da6a3ce929d0e0e4736", "the trace goes on");

    worker.stop().await;
    shop.close().await;
}
