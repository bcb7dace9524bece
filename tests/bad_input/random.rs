//! Anything: random bytes under random headers. Each delivery has one fate, and what belongs to that fate is there.

use super::*;
use proptest::{collection::vec, option, prelude::*, sample::select};

fn name() -> impl Strategy<Value = String> {
    let known: &'static [&'static str] = &[
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_subject",
        "ce_time",
        "ce_schemaversion",
        "ce_expirytime",
        "ce_partitionkey",
        "ce_idempotencykey",
        "ce_replyto",
        "ce_datacontenttype",
        "ce_data",
        "ce-id",
        "cloudEvents_id",
        "cloudEvents:specversion",
        "cloudEvents_type",
        "pitcrew-attempt",
        "pitcrew-failures",
        "pitcrew-first-failure",
        "pitcrew-reason",
        "traceparent",
        "tracestate",
        "content-type",
        "x-death",
    ];
    prop_oneof![9 => select(known).prop_map(str::to_owned), 1 => ".{0,12}"]
}

fn value() -> impl Strategy<Value = Option<Bytes>> {
    let known: &'static [&'static str] = &[
        "",
        "1",
        "2",
        "4294967295",
        "-1",
        "1.0",
        Keep::TYPE,
        "notes.Kept",
        "/shop",
        "2026-03-01T12:00:00Z",
        "9999-12-31T23:59:59Z",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "application/json",
        "a\0b",
        "é",
        "{}",
    ];
    let bytes = prop_oneof![
        6 => select(known).prop_map(|text| text.as_bytes().to_vec()),
        2 => vec(any::<u8>(), 0..40),
        1 => (1usize..6_000).prop_map(|len| vec![b'x'; len]),
    ];
    option::weighted(0.95, bytes.prop_map(Bytes::from))
}

fn body() -> impl Strategy<Value = Bytes> {
    let known: &'static [&'static str] = &[
        GOOD,
        r#"{"text":"a\u0000b","into":"document"}"#,
        r#"{"text":"a","into":"event"}"#,
        r#"{"specversion":"1.0","id":"s","source":"/s","type":"notes.Keep","data":{"text":"a"}}"#,
        r#"{"specversion":"1.0","id":"s","type":"notes.Keep","schemaversion":3,"data_base64":"e30="}"#,
        "[[[[[[",
    ];
    prop_oneof![
        6 => select(known).prop_map(|text| Bytes::from_static(text.as_bytes())),
        3 => vec(any::<u8>(), 0..200).prop_map(Bytes::from),
        1 => (1usize..3_000).prop_map(|deep| Bytes::from("[".repeat(deep))),
    ]
}

fn anything() -> impl Strategy<Value = Raw> {
    let content_type =
        option::of(select(&[STRUCTURED, "application/json", "application/cloudevents-batch+json", "\0"][..]));
    let native = option::weighted(0.2, select(&["1", "", "notes.Keep"][..]));
    // Half of them begin as a good message, so that what is wrong is met behind the door, too.
    (any::<bool>(), vec((name(), value()), 0..6), body(), content_type, native).prop_map(
        |(from_good, headers, body, content_type, native)| {
            let mut raw = if from_good { raw(&[], body) } else { Raw { body, ..Raw::default() } };
            for (name, value) in headers {
                raw.headers.retain(|(other, _)| *other != name);
                raw.headers.push((name, value));
            }
            raw.properties.content_type = content_type.map(str::to_owned);
            raw.properties.message_id = native.map(str::to_owned);
            raw.properties.ty = native.map(str::to_owned);
            raw
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_ends_in_one_letter_or_one_effect(deliveries in vec(anything(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let worker = TestWorker::new(handlers()).await;
            for raw in deliveries {
                let (effects, letters) = (kept(&worker).await, times(&worker).await);
                let outcome = worker.deliver_raw(Keep::TYPE, raw.clone()).await;
                let new = (kept(&worker).await - effects, times(&worker).await - letters);
                let expected = match outcome.fate {
                    Fate::Done => (1, 0),
                    Fate::Dead(_) | Fate::Quarantined => (0, 1),
                    Fate::Duplicate | Fate::Expired => (0, 0),
                    ref other => panic!("{other:?} of {raw:?}"),
                };
                assert_eq!(new, expected, "{:?} ({}) of {raw:?}", outcome.fate, outcome.error());
            }
            worker.deliver(&Keep { text: "bread".into(), into: String::new() }).await.assert_done();
        });
    }
}

/// Letters, each as often as it came.
async fn times(worker: &TestWorker) -> u32 {
    worker.letters().await.iter().map(|letter| letter.count).sum()
}
