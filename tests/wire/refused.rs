//! Envelope Wrapper: bad input, and the sentence that each gets.

use super::*;

#[test]
fn each_wrong_header_is_named_with_its_reason() {
    let long = "x".repeat(4097);
    let table: &[(&str, &str, &str)] = &[
        ("ce_id", "", "attribute `id` is empty"),
        ("ce_id", "a\nb", "attribute `id` has a control character"),
        ("ce_id", &long[..201], "attribute `id` is 201 bytes long; at most 200 are allowed"),
        ("ce_source", "", "attribute `source` is empty"),
        ("ce_type", "", "attribute `type` is empty"),
        ("ce_type", &long[..256], "attribute `type` is 256 bytes long; at most 255 are allowed"),
        ("ce_specversion", "0.3", "attribute `specversion` is `0.3`; only `1.0` is understood"),
        ("ce_specversion", "", "attribute `specversion` is ``; only `1.0` is understood"),
        ("ce_schemaversion", "0", "attribute `schemaversion` is `0`; a whole number from 1 to 4294967295 is needed"),
        ("ce_schemaversion", "+1", "attribute `schemaversion` is `+1`; a whole number from 1 to 4294967295 is needed"),
        (
            "ce_schemaversion",
            "1.0",
            "attribute `schemaversion` is `1.0`; a whole number from 1 to 4294967295 is needed",
        ),
        (
            "ce_time",
            "now\n",
            "attribute `time` is `now\\n`; a time of RFC 3339 is needed, such as 2026-03-01T12:00:00Z",
        ),
        ("ce_time", "0000-01-01T00:00:00+01:00", "attribute `time` is outside the years 0 to 9999"),
        (
            "ce_expirytime",
            "2026-03-01",
            "attribute `expirytime` is `2026-03-01`; a time of RFC 3339 is needed, such as 2026-03-01T12:00:00Z",
        ),
        ("ce_subject", "a\0b", "attribute `subject` has a NUL character"),
        ("ce_actor", &long, "attribute `actor` is 4097 bytes long; at most 4096 are allowed"),
        ("ce_mine", &long, "attribute `mine` is 4097 bytes long; at most 4096 are allowed"),
        ("ce_datacontenttype", &long[..256], "attribute `datacontenttype` is 256 bytes long; at most 255 are allowed"),
        ("ce_data", "{}", "attribute `data` is a reserved name; in binary mode the payload is the body"),
        ("pitcrew-attempt", "0", "attribute `pitcrew-attempt` is `0`; a whole number from 1 to 4294967295 is needed"),
        ("pitcrew-attempt", "", "attribute `pitcrew-attempt` is ``; a whole number from 1 to 4294967295 is needed"),
        (
            "Pitcrew-Failures",
            "-1",
            "attribute `pitcrew-failures` is `-1`; a whole number from 0 to 4294967295 is needed",
        ),
        (
            "pitcrew-first-failure",
            "1",
            "attribute `pitcrew-first-failure` is `1`; a time of RFC 3339 is needed, such as 2026-03-01T12:00:00Z",
        ),
        ("pitcrew-reason", &long, "attribute `pitcrew-reason` is 4097 bytes long; at most 4096 are allowed"),
        ("pitcrew-origin", "\0", "attribute `pitcrew-origin` has a NUL character"),
    ];
    for (name, value, sentence) in table {
        let mut raw = good(&[]);
        raw.headers.retain(|(other, _)| other != name);
        raw.headers.push(((*name).to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))));
        assert_eq!(refused(&raw), *sentence);
    }
}

#[test]
fn a_header_that_counts_needs_a_value_in_utf8_once() {
    for (name, shown) in [("ce_subject", "subject"), ("ce_Mine", "mine"), ("pitcrew-worker", "pitcrew-worker")] {
        let with = |values: &[Option<Bytes>]| {
            let mut raw = good(&[]);
            raw.headers.extend(values.iter().map(|value| (name.to_owned(), value.clone())));
            refused(&raw)
        };
        assert_eq!(with(&[None]), format!("attribute `{shown}` has no value"));
        assert_eq!(with(&[Some(Bytes::from_static(b"\xff"))]), format!("attribute `{shown}` is not UTF-8"));
        let once = || Some(Bytes::from_static(b"a"));
        assert_eq!(with(&[once(), once()]), format!("attribute `{shown}` is there twice"));
    }
}

#[test]
fn a_header_of_ours_that_this_build_does_not_know_may_hold_anything() {
    let mut raw = good(&[]);
    for name in ["pitcrew-again", "pitcrew-next", "Pitcrew-\x1b[2J"] {
        for value in [None, Some(Bytes::from_static(b"\xff")), Some(Bytes::from_static(b"\0"))] {
            raw.headers.push((name.to_owned(), value));
        }
    }
    assert_eq!(read(&raw), read(&good(&[])));
    assert!(raw.is_again());
}

#[test]
fn an_edited_row_that_names_a_thing_twice_is_refused_on_one_line() {
    let row = r#"{"ce_id":"1","ce_\n\u001b[2J":"a","ce_\n\u001b[2J":"b"}"#;
    let error = wire::from_attributes_json(row, Bytes::new()).unwrap_err().to_string();
    assert_eq!(error, "attribute `\\n\\u{1b}[2J` is there twice");
}

#[test]
fn what_is_missing_is_named() {
    let none = "no `specversion` header, no content type `application/cloudevents+json` and no native property";
    assert_eq!(refused(&raw(&[])), format!("attribute `id` is missing: {none} `message-id`"));
    let mut native = raw(&[]);
    native.properties.message_id = Some("1".into());
    assert_eq!(refused(&native), format!("attribute `type` is missing: {none} `type`"));
    let unmarked = "attribute `specversion` is missing; `ce-` headers count only with `ce-specversion`";
    assert_eq!(refused(&raw(&[("ce-id", "1"), ("ce-type", "t")])), unmarked);
    assert_eq!(refused(&raw(&[("ce_specversion", "1.0"), ("ce_type", "t")])), "attribute `id` is missing");
    assert_eq!(refused(&raw(&[("ce_specversion", "1.0"), ("ce_id", "1")])), "attribute `type` is missing");
}

#[test]
fn each_wrong_structured_event_is_named_with_its_reason() {
    let kind = "a string, an integer or a boolean is needed";
    let table = [
        (r#""mine":{"a":1}"#, format!("attribute `mine` is an object; {kind}")),
        (r#""mine":[]"#, format!("attribute `mine` is an array; {kind}")),
        (r#""mine":1.5"#, format!("attribute `mine` is a number with a fraction or beyond 64 bits; {kind}")),
        (r#""mine":"\ud800""#, format!("attribute `mine` is a string that is no Unicode; {kind}")),
        (r#""subject":"a\u0000""#, "attribute `subject` has a NUL character".into()),
        (r#""id":"2""#, "attribute `id` is there twice".into()),
        (r#""ID":"1""#, "attribute `id` is there twice".into()),
        (r#""data":1,"data":1"#, "attribute `data` is there twice".into()),
        (
            r#""data":1,"data_base64":"""#,
            "attribute `data_base64` is there beside `data`; one of them is the payload".into(),
        ),
        (r#""data_base64":"?""#, "attribute `data_base64` is not a string in base64".into()),
        (r#""data_base64":1"#, "attribute `data_base64` is not a string in base64".into()),
        (r#""my_own":"x""#, "attribute `my_own` is no name of an attribute: 1 to 64 of a–z and 0–9".into()),
        (
            r#""schemaversion":0"#,
            "attribute `schemaversion` is `0`; a whole number from 1 to 4294967295 is needed".into(),
        ),
    ];
    for (member, sentence) in table {
        let body = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{member}}}"#);
        assert_eq!(refused(&json(body)), sentence);
    }
    let bodies = [
        ("", "attribute `body` is not a JSON object: EOF while parsing a value at line 1 column 0"),
        ("[1]", "attribute `body` is not a JSON object: invalid type: sequence, expected an object at line 1 column 0"),
        (r#"{"id":"1"} x"#, "attribute `body` is not a JSON object: trailing characters at line 1 column 12"),
        (r#"{"id":"1","type":"t"}"#, "attribute `specversion` is missing"),
        (r#"{"specversion":null,"id":"1","type":"t"}"#, "attribute `specversion` is missing"),
        (r#"{"specversion":"0.3","id":"1","type":"t"}"#, "attribute `specversion` is `0.3`; only `1.0` is understood"),
        (r#"{"specversion":"1.0","type":"t"}"#, "attribute `id` is missing"),
        (r#"{"specversion":"1.0","id":"1"}"#, "attribute `type` is missing"),
    ];
    for (body, sentence) in bodies {
        assert_eq!(refused(&json(body)), sentence, "{body}");
    }
}

#[test]
fn other_structured_forms_are_refused_by_name() {
    let announced = |content_type: &str| {
        let mut raw = json("[]");
        raw.properties.content_type = Some(content_type.into());
        refused(&raw)
    };
    assert_eq!(
        announced("application/cloudevents-batch+json; charset=UTF-8"),
        "attribute `content-type` is `application/cloudevents-batch+json`; a batch is not read, send one event a message as `application/cloudevents+json`"
    );
    assert_eq!(
        announced("application/cloudevents+avro"),
        "attribute `content-type` is `application/cloudevents+avro`; the only structured form that is read is `application/cloudevents+json`"
    );
}

#[test]
fn all_attributes_together_have_a_limit() {
    let big = "x".repeat(4096);
    let names: Vec<_> = (0..8).map(|n| format!("ce_ext{n}")).collect();
    let more: Vec<_> = names.iter().map(|name| (&**name, &*big)).collect();
    read(&good(&more[..7]));
    let sentence =
        "attribute `ext0` is the largest (4096 bytes) of attributes that take 32828 bytes; at most 32768 are allowed";
    assert_eq!(refused(&good(&more)), sentence);
}
