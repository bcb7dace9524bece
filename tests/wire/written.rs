//! Envelope Wrapper: what we put on the wire and into rows.

use super::*;
use chrono::TimeDelta;
use pitcrew::message::Hop;

#[test]
fn a_maker_learns_before_sending_what_every_reader_would_refuse() {
    let good = || Envelope::new("t", "/s", "{}");
    let with = |change: fn(&mut Envelope)| {
        let mut envelope = good();
        change(&mut envelope);
        wire::check(&envelope).map_err(|e| e.to_string()).unwrap_err()
    };
    assert_eq!(wire::check(&good()), Ok(()));
    assert_eq!(with(|e| e.subject = Some("\0".into())), "attribute `subject` has a NUL character");
    assert_eq!(
        with(|e| e.version = 0),
        "attribute `schemaversion` is `0`; a whole number from 1 to 4294967295 is needed"
    );
    assert_eq!(
        with(|e| e.time = e.time.map(|t| t + TimeDelta::days(4_000_000))),
        "attribute `time` is outside the years 0 to 9999"
    );
    for name in ["id", "data", "Mine", "my-own", ""] {
        let mut envelope = good();
        envelope.extensions.insert(name.into(), "v".into());
        assert_eq!(wire::check(&envelope).unwrap_err().attribute, name);
        assert_eq!(
            wire::headers(&envelope, Prefix::Ce),
            wire::headers(&Envelope { extensions: BTreeMap::new(), ..envelope }, Prefix::Ce)
        );
    }
}

#[test]
fn a_reason_of_any_length_leaves_our_copy_readable() {
    let mut envelope = Envelope::new("t", "/s", "{}");
    envelope.hop.reason = Some(format!("a\0{}", "é".repeat(3000)));
    let reason = read(&wire::to_raw(&envelope, Prefix::Ce)).hop.reason.unwrap();
    assert!(reason.starts_with("a é") && reason.len() == 4096, "{} bytes", reason.len());
}

#[test]
fn hop_headers_say_only_what_their_absence_does_not() {
    let names = |envelope: &Envelope| {
        wire::headers(envelope, Prefix::CloudEvents)
            .into_iter()
            .map(|(n, _)| n)
            .filter(|n| n.starts_with("pitcrew-"))
            .collect::<Vec<_>>()
    };
    let mut envelope = Envelope::new("t", "/s", "{}");
    assert!(names(&envelope).is_empty());
    envelope.hop = Hop { attempt: 2, reason: Some("why".into()), ..Hop::default() };
    assert_eq!(names(&envelope), ["pitcrew-attempt", "pitcrew-reason"]);
}

#[test]
fn native_properties_fit_the_short_strings_of_amqp() {
    let mut envelope = Envelope::new("t", "/s", "{}");
    envelope.subject = Some("vin".into());
    envelope.correlation_id = Some("c".repeat(256));
    envelope.reply_to = Some("answers".into());
    let expected = Properties {
        message_id: Some(envelope.id.clone()),
        ty: Some("t".into()),
        correlation_id: None,
        content_type: Some("application/json".into()),
        reply_to: Some("answers".into()),
        app_id: None,
        timestamp: envelope.time,
        key: Some("vin".into()),
    };
    assert_eq!(wire::properties(&envelope), expected);
    assert_eq!(read(&wire::to_raw(&envelope, Prefix::CloudEvents)), envelope);
}

#[test]
fn a_row_is_one_compact_object() {
    let mut envelope = Envelope::new("demo.Greet", "/shop", "{}");
    envelope.id = "1".into();
    envelope.time = Some(time("2026-03-01T12:00:00Z"));
    envelope.hop.attempt = 2;
    let row = r#"{"ce_specversion":"1.0","ce_id":"1","ce_source":"/shop","ce_type":"demo.Greet","ce_schemaversion":"1","ce_time":"2026-03-01T12:00:00Z","content-type":"application/json","pitcrew-attempt":"2"}"#;
    assert_eq!(wire::attributes_json(&envelope), row);
    assert_eq!(wire::from_attributes_json("{}", Bytes::new()).unwrap_err().to_string(), "attribute `id` is missing");
    let nested = wire::from_attributes_json(r#"{"ce_id":{}}"#, Bytes::new()).unwrap_err().to_string();
    assert!(nested.starts_with("attribute `row` is not a JSON object of strings: "), "{nested}");
}
