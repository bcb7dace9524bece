//! Envelope Wrapper: what is written is read the same, what is wrong is named, and nothing that arrives can panic.

#[path = "wire/docs.rs"]
mod docs;
#[path = "wire/refused.rs"]
mod refused;
#[path = "wire/round_trip.rs"]
mod round_trip;
#[path = "wire/written.rs"]
mod written;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pitcrew::Envelope;
use pitcrew::message::KeyTime;
use pitcrew::message::wire::{self, Prefix, Properties, Raw, STRUCTURED};
use std::collections::{BTreeMap, BTreeSet};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER_PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const UUID_V7: &str = "01966a3e-5a00-7000-8000-000000000001";

fn raw(headers: &[(&str, &str)]) -> Raw {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), Some(Bytes::copy_from_slice(v.as_bytes())))).collect();
    Raw { headers, ..Raw::default() }
}

/// A good message under `ce_`, with `more` headers.
fn good(more: &[(&str, &str)]) -> Raw {
    let base = [("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/shop"), ("ce_type", "demo.Greet")];
    raw(&[&base, more].concat())
}

fn json(body: impl Into<Bytes>) -> Raw {
    let properties = Properties { content_type: Some(STRUCTURED.into()), ..Properties::default() };
    Raw { properties, body: body.into(), ..Raw::default() }
}

/// `envelope` in structured mode: trace context is in the body, hop data in headers.
fn structured(envelope: &Envelope) -> Raw {
    let hop = wire::headers(envelope, Prefix::Ce).into_iter().filter(|(name, _)| name.starts_with("pitcrew-"));
    let headers = hop.map(|(name, value)| (name, Some(value.into()))).collect();
    Raw { headers, ..json(wire::structured(envelope)) }
}

#[track_caller]
fn read(raw: &Raw) -> Envelope {
    wire::parse(raw, "car.commands").unwrap_or_else(|e| panic!("{e}\n{raw:?}"))
}

#[track_caller]
fn refused(raw: &Raw) -> String {
    wire::parse(raw, "car.commands").map(|e| format!("not refused: {e:?}")).unwrap_or_else(|e| e.to_string())
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

// ---- which attributes count ----

#[test]
fn every_prefix_is_read_in_any_case() {
    for prefix in Prefix::ALL.map(Prefix::as_str) {
        for case in [str::to_owned, str::to_uppercase, str::to_lowercase] as [fn(&str) -> String; 3] {
            let mut raw = good(&[("ce_partitionKey", "k")]);
            for (name, _) in &mut raw.headers {
                *name = case(&name.replacen("ce_", prefix, 1));
            }
            let envelope = read(&raw);
            assert_eq!((&*envelope.id, &*envelope.source, &*envelope.ty), ("1", "/shop", "demo.Greet"), "{raw:?}");
            assert_eq!(envelope.partition_key.as_deref(), Some("k"), "{raw:?}");
        }
    }
}

#[test]
fn of_two_sets_one_is_read_and_the_other_ignored() {
    for (at, prefix) in Prefix::ALL.iter().enumerate() {
        for later in &Prefix::ALL[at + 1..] {
            let set = |p: &Prefix, id: &str| {
                let named = [("specversion", "1.0"), ("id", id), ("source", "/s"), ("type", "t")];
                named.map(|(n, v)| (format!("{}{n}", p.as_str()), Some(Bytes::from(v.to_owned()))))
            };
            let mut headers = [set(later, "later"), set(prefix, "first")].concat();
            headers.push((format!("{}time", later.as_str()), Some("not read at all".into())));
            assert_eq!(read(&Raw { headers, ..Raw::default() }).id, "first", "{prefix:?} before {later:?}");
        }
    }
}

#[test]
fn a_set_without_specversion_does_not_count() {
    let envelope = read(&good(&[("cloudEvents_id", "2"), ("cloudEvents_type", "other")]));
    assert_eq!((&*envelope.id, &*envelope.ty), ("1", "demo.Greet"));
}

#[test]
fn headers_win_over_the_body_and_the_body_over_native_properties() {
    let native = Properties {
        message_id: Some("native".into()),
        ty: Some("native".into()),
        content_type: Some("Application/CloudEvents+JSON; charset=utf-8".into()),
        ..Properties::default()
    };
    let body = Bytes::from(r#"{"specversion":"1.0","id":"body","source":"/s","type":"t","data":1}"#);
    let mut raw = Raw { properties: native, body: body.clone(), ..good(&[]) };
    let envelope = read(&raw);
    assert_eq!((&*envelope.id, envelope.data), ("1", body));
    raw.headers.clear();
    let envelope = read(&raw);
    assert_eq!((&*envelope.id, &*envelope.data), ("body", &b"1"[..]));
    raw.properties.content_type = Some("application/json".into());
    let envelope = read(&raw);
    assert_eq!((&*envelope.id, envelope.data), ("native", raw.body));
}

#[test]
fn native_properties_alone_make_a_message() {
    let properties = Properties {
        message_id: Some("42".into()),
        ty: Some("demo.Greet".into()),
        correlation_id: Some("c".into()),
        content_type: Some("application/json".into()),
        reply_to: Some("answers".into()),
        app_id: Some("shop".into()),
        timestamp: Some(time("2026-03-01T12:00:00Z")),
        key: Some("k".into()),
    };
    let envelope = read(&Raw { properties: properties.clone(), headers: vec![], body: "{}".into() });
    let expected = Envelope {
        id: "42".into(),
        time: properties.timestamp,
        correlation_id: properties.correlation_id,
        content_type: properties.content_type,
        reply_to: properties.reply_to,
        partition_key: properties.key,
        ..Envelope::new("demo.Greet", "/shop", "{}")
    };
    assert_eq!(envelope, expected);
}

#[test]
fn typed_values_are_read_as_their_text() {
    let envelope = read(&good(&[("ce_schemaversion", "3"), ("ce_subject", "17"), ("ce_flag", "true")]));
    assert_eq!((envelope.version, envelope.subject.as_deref()), (3, Some("17")));
    let body =
        r#"{"specversion":"1.0","id":5,"source":"/s","type":"t","schemaVersion":3,"flag":true,"n":-7,"subject":null}"#;
    let envelope = read(&json(body));
    assert_eq!((&*envelope.id, envelope.version, envelope.subject), ("5", 3, None));
    let extensions = [("flag", "true"), ("n", "-7")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(envelope.extensions, BTreeMap::from(extensions));
}

#[test]
fn foreign_extensions_are_kept_and_foreign_headers_are_not() {
    let more = [
        ("ce_dataschema", "/s.json"),
        ("ce_iodebeziumtxdatacollectionorder", "1"),
        ("ce_empty", ""),
        ("ce_x-y", "no attribute"),
        ("x-death", "harm"),
        ("CC", "harm"),
        ("pitcrew-of-tomorrow", "later"),
    ];
    let mut raw = good(&more);
    raw.headers.push(("CC".into(), None));
    raw.headers.push(("x-opt".into(), Some(Bytes::from_static(b"\xff"))));
    let envelope = read(&raw);
    let kept: Vec<_> = envelope.extensions.keys().map(String::as_str).collect();
    assert_eq!(kept, ["dataschema", "iodebeziumtxdatacollectionorder"]);
    let written: BTreeSet<_> = wire::headers(&envelope, Prefix::Ce).into_iter().map(|(name, _)| name).collect();
    let expected =
        ["dataschema", "id", "iodebeziumtxdatacollectionorder", "schemaversion", "source", "specversion", "type"];
    assert_eq!(written, expected.map(|name| format!("ce_{name}")).into());
}

// ---- what is absent ----

#[test]
fn an_absent_source_is_the_app_else_the_channel() {
    for (app, source) in
        [(Some("shop"), "/shop"), (Some("/shop"), "/shop"), (Some(""), "/car.commands"), (None, "/car.commands")]
    {
        let mut raw = raw(&[("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_type", "t")]);
        raw.properties.app_id = app.map(str::to_owned);
        assert_eq!(read(&raw).source, source);
    }
}

#[test]
fn an_absent_time_is_the_ids_else_the_brokers_else_unknown() {
    let at = |id: &str, timestamp: Option<&str>, more: &[(&str, &str)]| {
        let mut raw = raw(&[&[("ce_specversion", "1.0"), ("ce_id", id), ("ce_type", "t")], more].concat());
        raw.properties.timestamp = timestamp.map(time);
        read(&raw).time
    };
    let KeyTime::At(inside) = KeyTime::of(UUID_V7) else { panic!("{UUID_V7}") };
    let broker = "2026-03-01T12:00:00.123456Z";
    assert_eq!(at(UUID_V7, Some(broker), &[]), Some(inside));
    assert_eq!(at("1", Some(broker), &[]), Some(time(broker)));
    assert_eq!(at("1", None, &[]), None);
    let cut = at("1", None, &[("ce_time", "2026-03-01t13:00:00.123456999+01:00")]);
    assert_eq!(cut, Some(time(broker)), "cut to microseconds");
    // On a copy of ours the broker's timestamp is the copy's: what was unknown stays unknown.
    assert_eq!(at("1", Some(broker), &[("pitcrew-attempt", "2")]), None);
    // A UUIDv7 can lead beyond the years that RFC 3339 can write.
    assert_eq!(at("ffffffff-ffff-7000-8000-000000000000", None, &[]), None);
}

#[test]
fn attributes_win_over_native_properties() {
    let mut raw = good(&[("ce_correlationid", "a"), ("ce_replyto", "b"), ("ce_subject", "s")]);
    let other = Some("other".to_owned());
    raw.properties =
        Properties { correlation_id: other.clone(), reply_to: other.clone(), key: other, ..Properties::default() };
    let envelope = read(&raw);
    assert_eq!(envelope.correlation_id.as_deref(), Some("a"));
    assert_eq!(envelope.reply_to.as_deref(), Some("b"));
    assert_eq!(envelope.partition_key, None, "the subject orders");
}

// ---- trace context ----

#[test]
fn w3c_headers_win_over_the_extension_and_an_invalid_one_is_dropped() {
    let trace = |more: &[(&str, &str)]| {
        let envelope = read(&good(more));
        (envelope.traceparent, envelope.tracestate)
    };
    let some = |parent: &str, state: Option<&str>| (Some(parent.to_owned()), state.map(str::to_owned));
    let extension = [("ce_traceparent", OTHER_PARENT), ("ce_tracestate", "b=2")];
    assert_eq!(trace(&extension), some(OTHER_PARENT, Some("b=2")));
    let both = [&extension[..], &[("TraceParent", PARENT)]].concat();
    assert_eq!(trace(&both), some(PARENT, None), "a state of another parent is none");
    assert_eq!(trace(&[("traceparent", PARENT), ("tracestate", "a=1")]), some(PARENT, Some("a=1")));
    assert_eq!(trace(&[("traceparent", OTHER_PARENT), ("traceparent", PARENT)]), some(PARENT, None));
    let longer = format!("cc{}-later", &PARENT[2..]);
    assert_eq!(trace(&[("traceparent", &longer)]), some(&longer, None));
    let wrong = [
        "",
        "garbage",
        &PARENT.to_uppercase(),
        &PARENT[1..],
        &format!("{PARENT}-later"),
        &format!("ff{}", &PARENT[2..]),
        &PARENT.replace("00f067aa0ba902b7", "0000000000000000"),
        &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
    ];
    for wrong in wrong {
        assert_eq!(trace(&[("traceparent", wrong), ("tracestate", "a=1")]), (None, None), "{wrong}");
    }
    assert_eq!(trace(&[("traceparent", PARENT), ("tracestate", "a=\u{e9}")]), some(PARENT, None));
}

// ---- the payload ----

#[test]
fn structured_data_is_the_slice_as_received() {
    let payload = |data: &str| read(&json(format!(r#"{{"specversion":"1.0","id":"1","type":"t"{data}}}"#))).data;
    assert_eq!(payload(r#", "data" : { "a":1.50,  "b":"\u00e9" } "#), r#"{ "a":1.50,  "b":"\u00e9" }"#);
    assert_eq!(payload(r#","data":null"#), "null");
    assert_eq!(payload(r#","data_base64":"AP8=""#), &b"\x00\xff"[..]);
    assert_eq!(payload(r#","data_base64":null,"data":1"#), "1");
    assert_eq!(payload(""), "");
}

#[test]
fn only_json_stands_in_the_structured_body_as_it_is() {
    let body = |content_type: &str, data: &'static str| {
        let envelope = Envelope { content_type: Some(content_type.into()), ..Envelope::new("t", "/s", data) };
        serde_json::from_slice::<serde_json::Value>(&wire::structured(&envelope)).unwrap()
    };
    assert_eq!(body("application/json", "[1]")["data"], serde_json::json!([1]));
    assert_eq!(body("text/plain", "[1]")["data_base64"], "WzFd");
    assert_eq!(body("application/json", "[1] ")["data_base64"], "WzFdIA==");
    assert_eq!(body("application/json", "[1")["data_base64"], "WzE=");
    assert_eq!(body("application/json", "").get("data_base64"), None);
}

#[test]
fn deep_json_is_an_error_or_a_payload_but_no_overflow() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let deep = str::from_utf8(&deep).unwrap();
    let event = |name: &str| json(format!(r#"{{"specversion":"1.0","id":"1","type":"t","{name}":{deep}}}"#));
    assert_eq!(refused(&event("depth")), "attribute `depth` is an array; a string, an integer or a boolean is needed");
    let envelope = read(&event("data"));
    assert_eq!(envelope.data, deep);
    assert_eq!(read(&structured(&envelope)), envelope);
    assert!(serde_json::from_slice::<serde_json::Value>(&envelope.data).is_err(), "its reader has a limit");
    assert!(refused(&json(deep.to_owned())).starts_with("attribute `body` is not a JSON object: "));
}
