//! Envelope Wrapper: properties that hold for every message and for whatever else may arrive.

use super::*;
use pitcrew::message::Hop;
use proptest::{collection, option, prelude::*, sample::select};

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9/._-]{1,30}", "[^\\x00]{1,30}"]
}

fn times() -> impl Strategy<Value = DateTime<Utc>> {
    // The years 0 to 9999.
    (-62_167_219_200_000_000i64..253_402_300_800_000_000).prop_map(|t| DateTime::from_timestamp_micros(t).unwrap())
}

fn traces() -> impl Strategy<Value = (Option<String>, Option<String>)> {
    let parent = (1u128.., 1u64.., any::<u8>()).prop_map(|(t, p, f)| format!("00-{t:032x}-{p:016x}-{f:02x}"));
    option::of((parent, option::of("[ -~]{1,40}"))).prop_map(|t| t.map_or((None, None), |(p, s)| (Some(p), s)))
}

fn payloads() -> impl Strategy<Value = Bytes> {
    let json = prop_oneof![
        Just("{\"a\": [1, 2.50, \"\\u00e9\"]}".to_owned()),
        Just("null".to_owned()),
        Just(" 1 ".to_owned()),
        text().prop_map(|t| serde_json::Value::String(t).to_string()),
    ];
    prop_oneof![json.prop_map(Bytes::from), collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)]
}

fn hops() -> impl Strategy<Value = Hop> {
    let texts = [(); 5].map(|()| option::of(text()));
    (1u32.., any::<u32>(), [option::of(times()), option::of(times())], texts).prop_map(
        |(attempt, failures, [first_failure, due], [reason, origin, worker, build, replay])| Hop {
            attempt,
            failures,
            first_failure,
            due,
            reason,
            origin,
            worker,
            build,
            replay,
        },
    )
}

/// Every envelope that a reader may hold.
fn envelopes() -> impl Strategy<Value = Envelope> {
    let id = prop_oneof![Just(UUID_V7.to_owned()), "[^\\pC]{1,40}", "[!-~]{1,200}"];
    let media = select(vec!["application/json", "application/json; charset=utf-8", "application/a+json", "text/plain"]);
    let extensions = collection::btree_map("x[a-z0-9]{0,40}", text(), 0..4);
    let texts: Vec<_> = (0..8).map(|_| option::of(text())).collect();
    (
        (id, text(), text(), 1u32..),
        (option::of(times()), option::of(times())),
        (texts, option::of(media), extensions),
        (traces(), hops(), payloads()),
    )
        .prop_map(|((id, source, ty, version), (time, expires), (mut texts, media, extensions), rest)| {
            let ((traceparent, tracestate), hop, data) = rest;
            let mut next = || texts.pop().flatten();
            Envelope {
                // A reader derives the time from such an ID, so none of them holds it without a time.
                time: time.or_else(|| (id == UUID_V7).then(|| self::time("2025-01-01T00:00:00Z"))),
                id,
                source,
                ty,
                version,
                subject: next(),
                actor: next(),
                correlation_id: next(),
                causation_id: next(),
                partition_key: next(),
                idempotency_key: next(),
                reply_to: next(),
                data_ref: next(),
                expires,
                content_type: media.map(str::to_owned),
                traceparent,
                tracestate,
                extensions,
                hop,
                data,
            }
        })
}

/// Headers that nearly make a message, among others that make none.
fn near_misses() -> impl Strategy<Value = Raw> {
    let names = [
        "specversion",
        "id",
        "source",
        "type",
        "schemaversion",
        "subject",
        "time",
        "expirytime",
        "traceparent",
        "data",
        "datacontenttype",
        "replyto",
        "MyExtension",
        "my_extension",
        "",
        "é",
    ];
    let plain = [
        "traceparent",
        "tracestate",
        "pitcrew-attempt",
        "pitcrew-first-failure",
        "pitcrew-reason",
        "x-death",
        "CC",
        "",
    ];
    let value = prop_oneof![
        4 => select(vec!["1.0", "1", "/s", "demo.Greet", UUID_V7, PARENT, "2026-03-01T12:00:00.5+01:00", "", "\0"])
            .prop_map(|v| Some(Bytes::from(v))),
        1 => option::of(collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)),
    ];
    let name = prop_oneof![
        (select(&Prefix::ALL[..]), select(names.to_vec())).prop_map(|(p, n)| [p.as_str(), n].concat()),
        select(plain.to_vec()).prop_map(str::to_owned),
        any::<String>(),
    ];
    let property =
        || option::of(select(vec!["1", "", "shop", "application/json", STRUCTURED, "\0"]).prop_map(str::to_owned));
    let properties = [(); 7].map(|()| property());
    let body = prop_oneof![
        Just(Bytes::from_static(b"{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\",\"Flag\":true,\"data\":[1 ]}")),
        collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from),
    ];
    let start = Just([("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_type", "t")]);
    (option::of(start), collection::vec((name, value), 0..8), properties, option::of(times()), body).prop_map(
        |(
            start,
            mut headers,
            [message_id, ty, correlation_id, content_type, reply_to, app_id, key],
            timestamp,
            body,
        )| {
            headers.extend(raw(start.as_ref().map_or(&[], |s| &s[..])).headers);
            let properties =
                Properties { message_id, ty, correlation_id, content_type, reply_to, app_id, timestamp, key };
            Raw { headers, properties, body }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_is_read_the_same_in_every_form(envelope in envelopes()) {
        prop_assert_eq!(wire::check(&envelope), Ok(()));
        for prefix in Prefix::ALL {
            prop_assert_eq!(&read(&wire::to_raw(&envelope, prefix)), &envelope);
        }
        prop_assert_eq!(&read(&structured(&envelope)), &envelope);
        let row = wire::attributes_json(&envelope);
        prop_assert_eq!(wire::from_attributes_json(&row, envelope.data.clone()), Ok(envelope));
    }

    /// A row says all that there is: nothing is derived, nothing that is empty becomes absent.
    #[test]
    fn a_row_gives_back_what_no_header_could(envelope in envelopes(), empty in any::<bool>()) {
        let odd = Envelope { time: None, traceparent: None, subject: empty.then(String::new), ..envelope };
        let row = wire::attributes_json(&odd);
        prop_assert_eq!(wire::from_attributes_json(&row, odd.data.clone()), Ok(odd));
    }

    #[test]
    fn whatever_arrives_is_refused_or_travels_on_unchanged(raw in near_misses()) {
        if let Ok(envelope) = wire::parse(&raw, "car.commands") {
            prop_assert_eq!(wire::check(&envelope), Ok(()));
            for prefix in Prefix::ALL {
                prop_assert_eq!(&read(&wire::to_raw(&envelope, prefix)), &envelope);
            }
            prop_assert_eq!(&read(&structured(&envelope)), &envelope);
        }
    }

    #[test]
    fn no_bytes_panic(body in collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        let _ = wire::parse(&json(body.clone()), "c");
        let _ = wire::parse(&json(format!("{{{text}}}")), "c");
        let _ = wire::from_attributes_json(&text, body.into());
    }
}
