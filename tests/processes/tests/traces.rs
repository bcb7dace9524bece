//! Traces and metrics of real worker processes, as a collector of OpenTelemetry receives them: what hangs together, what is left out,
//! and what a collector that is away costs.
//!
//! Wants RabbitMQ and Kafka for some; the rest is SQLite and the embedded broker.

#[path = "door/client.rs"]
#[expect(dead_code, reason = "it can more than is asked here")]
mod client;
#[path = "traces/collector.rs"]
mod collector;

use client::{House, value};
use collector::{Collector, Mood, Seen};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use processes::shop::{Shop, broker, plain};
use serde_json::json;
use std::collections::BTreeSet;

/// The worker that pushes.
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");

/// Of the caller, who is no part of this.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn pushing(collector: &Collector, sample: f64) -> String {
    format!("[telemetry]\nendpoint = {:?}\nsample = {sample:?}\ninterval = \"1s\"\n", collector.url)
}

#[tokio::test]
async fn a_command_its_retry_and_what_it_causes_are_one_trace_on_the_embedded_broker() {
    one_trace("embedded", "embedded").await;
}

#[tokio::test]
async fn a_command_its_retry_and_what_it_causes_are_one_trace_on_rabbitmq_3_10() {
    if let Some(url) = broker("PITCREW_RABBITMQ_URL") {
        one_trace(&url, "rabbitmq").await;
    }
}

#[tokio::test]
async fn a_command_its_retry_and_what_it_causes_are_one_trace_on_rabbitmq_4() {
    if let Some(url) = broker("PITCREW_RABBITMQ4_URL") {
        one_trace(&url, "rabbitmq").await;
    }
}

#[tokio::test]
async fn a_command_its_retry_and_what_it_causes_are_one_trace_on_kafka() {
    if let Some(url) = broker("PITCREW_KAFKA_URL") {
        one_trace(&url, "kafka").await;
    }
}

/// From the caller of the HTTP door over both attempts to who hears the event.
async fn one_trace(broker: &str, system: &str) {
    let collector = Collector::start(Mood::Takes).await;
    let shop = Shop::on_sqlite(WORKER, broker, "").await;
    let (commands, events) = (shop.commands(), format!("{}.events", shop.prefix));
    // The caller decides, not the share.
    let house = House::of(shop, &pushing(&collector, 0.0)).await;
    let caller = format!("00-{TRACE}-{CALLER}-01");
    let asked = [("traceparent", caller.as_str()), ("tracestate", "shop=1")];
    let answer = house.post("/commands/test.Work?wait=30s", &json!({ "n": 1, "failing": 1 }), &asked).await;
    assert_eq!(answer.body["state"], "done", "{}", answer.body);
    let heard = async || (house.shop.effects(1).await.heard == 1).then_some(());
    house.shop.until("the event is heard", heard).await;
    let House { shop, worker, .. } = house;
    worker.stop().await;

    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    assert!(spans.iter().all(|span| span.resource["service.name"] == "shop"), "{spans:#?}");
    let named = |name: &str| -> Vec<&Seen> { spans.iter().filter(|span| span.name == name).collect() };
    let one = |name: &str| match named(name)[..] {
        [one] => one,
        _ => panic!("one span `{name}` was expected: {spans:#?}"),
    };
    let created = one(&format!("create {commands}"));
    assert_eq!((created.parent.as_str(), created.kind), (CALLER, SpanKind::Producer));
    assert_eq!(created.attributes["messaging.system"], system);
    assert_eq!(created.attributes["messaging.message.id"], answer.body["id"].as_str().unwrap());

    let mut attempts = named(&format!("process {commands}"));
    attempts.sort_by_key(|span| span.attributes["pitcrew.attempt"].clone());
    let [first, second] = attempts[..] else { panic!("two attempts were expected: {spans:#?}") };
    for attempt in [first, second] {
        assert_eq!((attempt.parent.as_str(), attempt.kind), (created.id.as_str(), SpanKind::Consumer));
        assert_eq!(attempt.links, [(TRACE.to_owned(), created.id.clone())]);
        assert_eq!(attempt.attributes["messaging.message.id"], created.attributes["messaging.message.id"]);
    }
    assert!(first.has_failed && !second.has_failed, "{spans:#?}");
    assert_eq!(first.attributes["error.type"], "failure");
    assert_eq!(first.attributes["pitcrew.fate"], "retry");
    assert_eq!(first.lines, ["it fails as it was told"]);
    assert_eq!(second.attributes["pitcrew.fate"], "done");

    let emitted = one(&format!("create {events}"));
    assert_eq!((emitted.parent.as_str(), emitted.kind), (second.id.as_str(), SpanKind::Producer));
    let heard = one(&format!("process {events}"));
    assert_eq!(
        (heard.parent.as_str(), &heard.attributes["pitcrew.message.type"][..]),
        (&emitted.id[..], "test.Worked")
    );
    // The command, its retry, and the event each went out once.
    let sent: Vec<_> = spans.iter().filter(|span| span.name.starts_with("send ")).collect();
    assert_eq!(sent.len(), 3, "{spans:#?}");
    assert_eq!(sent.iter().filter(|span| span.name.starts_with(&format!("send {events}"))).count(), 1, "{spans:#?}");
    assert!(sent.iter().all(|span| span.kind == SpanKind::Client && !span.links.is_empty() && !span.has_failed));
    assert_eq!(sent.iter().filter(|span| span.parent == created.id).count(), 2, "{spans:#?}");
    shop.close().await;
}

#[tokio::test]
async fn what_its_beginner_does_not_record_is_recorded_nowhere() {
    let collector = Collector::start(Mood::Takes).await;
    let house = House::small(&pushing(&collector, 1.0)).await;
    let caller = format!("00-{TRACE}-{CALLER}-00");
    let done = house.post("/commands/test.Work?wait=20s", &json!({ "n": 1 }), &[("traceparent", &caller)]).await;
    assert_eq!(done.body["state"], "done");
    let of_own = house.post("/commands/test.Work?wait=20s", &json!({ "n": 2 }), &[]).await;
    assert_eq!(of_own.body["state"], "done");
    house.worker.stop().await;
    let spans = collector.spans();
    assert!(!spans.is_empty() && spans.iter().all(|span| span.trace != TRACE), "{spans:#?}");
    let id = of_own.body["id"].as_str().unwrap();
    let of_it = |span: &&Seen| span.attributes.get("messaging.message.id").is_some_and(|of| of == id);
    assert_eq!(spans.iter().filter(of_it).count(), 2, "created and processed: {spans:#?}");
    house.shop.close().await;
}

#[tokio::test]
async fn a_share_of_what_begins_here_is_recorded_whole_or_not_at_all() {
    let collector = Collector::start(Mood::Takes).await;
    let house = House::small(&pushing(&collector, 0.5)).await;
    house.shop.send(plain(0..300)).await;
    for n in 0..300 {
        let heard = async || (house.shop.effects(n).await.heard == 1).then_some(());
        house.shop.until("the event is heard", heard).await;
    }
    house.worker.stop().await;
    let spans = collector.spans();
    let of_kind = |word: &str| -> BTreeSet<String> {
        let of_it = spans.iter().filter(|span| span.name.starts_with(word) && span.name.ends_with(".commands"));
        of_it.map(|span| span.trace.clone()).collect()
    };
    let begun = of_kind("process ");
    // 300 throws of a coin: outside of this less than once in 10^11 runs.
    assert!((90..=210).contains(&begun.len()), "{} traces", begun.len());
    for trace in &begun {
        let of_it: Vec<_> =
            spans.iter().filter(|span| span.trace == *trace && !span.name.starts_with("send")).collect();
        assert_eq!(of_it.len(), 4, "processed, created, heard, and noted by the author: {of_it:#?}");
    }
    let noted: Vec<_> = spans.iter().filter(|span| span.name == "note").collect();
    assert!(noted.iter().all(|span| begun.contains(&span.trace)), "an author's span begins no trace: {noted:#?}");
    house.shop.close().await;
}

#[tokio::test]
async fn what_is_published_together_links_to_all_that_it_carries() {
    let collector = Collector::start(Mood::Takes).await;
    let house = House::small(&pushing(&collector, 1.0)).await;
    house.shop.send(plain(0..200)).await;
    for n in 0..200 {
        let heard = async || (house.shop.effects(n).await.heard == 1).then_some(());
        house.shop.until("the event is heard", heard).await;
    }
    house.worker.stop().await;
    let spans = collector.spans();
    let created: BTreeSet<_> = spans
        .iter()
        .filter(|span| span.name.starts_with("create "))
        .map(|span| (span.trace.clone(), span.id.clone()))
        .collect();
    let together: Vec<_> =
        spans.iter().filter(|span| span.attributes.contains_key("messaging.batch.message_count")).collect();
    assert!(!together.is_empty(), "200 messages went out one by one");
    let mut carried = BTreeSet::new();
    for batch in spans.iter().filter(|span| span.name.starts_with("send ")) {
        let count = batch.attributes.get("messaging.batch.message_count").map_or(1, |count| count.parse().unwrap());
        assert_eq!(batch.links.len(), std::cmp::min(count, 128), "{batch:?}");
        carried.extend(batch.links.iter().cloned());
    }
    assert!(carried.is_subset(&created) && carried.len() >= 72, "{} of {}", carried.len(), created.len());
    house.shop.close().await;
}

#[tokio::test]
async fn a_collector_that_refuses_costs_spans_and_no_message() {
    let collector = Collector::start(Mood::Refuses).await;
    let house = House::small(&pushing(&collector, 1.0)).await;
    house.shop.send(plain(0..100)).await;
    for n in 0..100 {
        let heard = async || (house.shop.effects(n).await.heard == 1).then_some(());
        house.shop.until("the event is heard", heard).await;
    }
    let lost = async || {
        let text = house.metrics().await;
        // Each was processed, created its event, and that was heard.
        (value(&text, "pitcrew_spans_lost_total", &["cause=\"refused\""]) >= Some(300.0)
            && value(&text, "pitcrew_metrics_pushes_failed_total", &[]) >= Some(1.0))
        .then_some(())
    };
    house.shop.until("lost spans are counted", lost).await;
    assert_eq!(house.worker.said().matches("the collector takes no spans").count(), 1, "{}", house.worker.said());
    collector.becomes(Mood::Takes);
    let done = house.post("/commands/test.Work?wait=20s", &json!({ "n": 100 }), &[]).await;
    assert_eq!(done.body["state"], "done");
    let id = done.body["id"].as_str().unwrap();
    let of_it = |span: &Seen| span.attributes.get("messaging.message.id").is_some_and(|of| of == id);
    house.shop.until("spans arrive again", async || collector.spans().iter().any(of_it).then_some(())).await;
    // The receiver has them before its answer has come.
    let told = async || house.worker.said().contains("the collector takes spans again").then_some(());
    house.shop.until("the log says so", told).await;
    house.worker.stop().await;
    house.shop.close().await;
}

#[tokio::test]
async fn a_collector_that_never_answers_keeps_neither_the_work_nor_the_end_waiting() {
    let Some(shop) = Shop::on_postgres(WORKER, "embedded", "").await else { return };
    let collector = Collector::start(Mood::Hangs).await;
    let house = House::of(shop, &pushing(&collector, 1.0)).await;
    // More spans than there is room for.
    house.shop.send(plain(0..4_000)).await;
    house.shop.each_once(4_000).await;
    let text = house.metrics().await;
    assert!(value(&text, "pitcrew_spans_lost_total", &["cause=\"full\""]) >= Some(1.0), "{text}");
    house.worker.stop().await;
    assert!(collector.spans().is_empty());
    house.shop.close().await;
}

#[tokio::test]
async fn metrics_are_pushed_under_the_name_of_the_service() {
    let collector = Collector::start(Mood::Takes).await;
    let house = House::small(&pushing(&collector, 1.0)).await;
    let done = house.post("/commands/test.Work?wait=20s", &json!({ "n": 1 }), &[]).await;
    assert_eq!(done.body["state"], "done");
    let pushed = async || (collector.metric("pitcrew.deliveries") >= Some(1.0)).then_some(());
    house.shop.until("metrics arrive", pushed).await;
    assert!(collector.services().iter().all(|service| service == "shop"), "{:?}", collector.services());
    assert_eq!(value(&house.metrics().await, "pitcrew_spans_lost_total", &["cause=\"full\""]), Some(0.0));
    house.worker.stop().await;
    house.shop.close().await;
}

// The collector answers while the command is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_from_the_command_line_begins_a_trace() {
    let collector = Collector::start(Mood::Takes).await;
    let shop = Shop::on_sqlite(WORKER, "embedded", &pushing(&collector, 1.0)).await;
    let id = shop.operator(&["send", "test.Work", "--id", "of-the-command-line", "--data", &shop.kept("{\"n\": 1}")]);
    let spans = collector.spans();
    let [created] = &spans[..] else { panic!("one span was expected: {spans:#?}") };
    assert_eq!((created.parent.as_str(), created.kind), ("", SpanKind::Producer));
    assert_eq!(created.attributes["messaging.message.id"], id.trim());
    let mut worker = shop.start();
    worker.is_at_work().await;
    shop.until("it is done", async || (shop.effects(1).await.heard == 1).then_some(())).await;
    worker.stop().await;
    let processed =
        collector.spans().into_iter().find(|span| span.name.ends_with(".commands") && span.kind == SpanKind::Consumer);
    let processed = processed.expect("it was processed");
    assert_eq!((processed.trace, processed.parent), (created.trace.clone(), created.id.clone()));
    shop.close().await;
}

#[tokio::test]
async fn a_collector_whose_address_is_none_is_refused_by_its_setting() {
    let shop = Shop::on_sqlite(WORKER, "embedded", "").await;
    for (section, said) in [
        ("[telemetry]\nendpoint = \"collector:4317\"\n", "endpoint in [telemetry]"),
        ("[telemetry]\nsample = 1.5\n", "[telemetry] sample: 1.5 is no share"),
        (
            "[telemetry]\nendpoint = \"https://127.0.0.1:1\"\nca_file = \"/nowhere.pem\"\n",
            "[telemetry] ca_file /nowhere.pem",
        ),
    ] {
        let mut worker = shop.start_with(section);
        assert_eq!(worker.ends().await.code(), Some(1), "{section}");
        assert!(worker.said().contains(said), "{section}: {}", worker.said());
    }
    shop.close().await;
}
