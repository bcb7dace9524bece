//! Object Mother: messages with everything filled in; a case changes what it is about.

use crate::{
    Envelope, clock,
    message::{Hop, wire},
};
use chrono::TimeDelta;

pub(super) const TYPE: &str = "conformance.Do";

/// A new message.
pub(super) fn message() -> Envelope {
    Envelope::new(TYPE, "/conformance", r#"{"n":1}"#)
}

/// New messages with a payload that tells which one it is, of no key.
pub(super) fn messages(count: usize) -> Vec<Envelope> {
    (0..count).map(|n| Envelope { data: format!(r#"{{"n":{n}}}"#).into(), ..message() }).collect()
}

/// Messages of one ordering key.
pub(super) fn of_key(key: &str, count: usize) -> Vec<Envelope> {
    messages(count).into_iter().map(|e| Envelope { subject: Some(key.into()), ..e }).collect()
}

/// A message with a payload of this size.
pub(super) fn of_size(bytes: usize) -> Envelope {
    Envelope { data: vec![b'x'; bytes].into(), content_type: Some("text/plain".into()), ..message() }
}

/// Every attribute there is, with characters that a header might not survive.
pub(super) fn full() -> Envelope {
    let now = clock::now();
    let text = |text: &str| Some(text.to_owned());
    let envelope = Envelope {
        version: 3,
        subject: text("Straße 1/ä€😀 %41"),
        actor: text("user:ada"),
        correlation_id: text("checkout-9"),
        causation_id: text("0"),
        partition_key: text("buyer 17"),
        idempotency_key: text("brief=\"17\"; x"),
        expires: Some(now + TimeDelta::days(2)),
        reply_to: text("shop.answers"),
        data_ref: text("s3://bucket/key?a=b&c=d"),
        content_type: text("application/json; charset=utf-8"),
        traceparent: text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: text("vendor=1,other=a:b"),
        extensions: [("x1", "one"), ("tenant", " zwei ")].map(|(n, v)| (n.into(), v.into())).into(),
        hop: Hop {
            attempt: 7,
            failures: 4,
            first_failure: Some(now - TimeDelta::hours(5)),
            due: None,
            reason: text("failure: ask the provider: it is down"),
            origin: text("shop.commands"),
            worker: text("a worker"),
            build: text("1.2.3"),
            replay: text("019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77"),
        },
        ..message()
    };
    wire::check(&envelope).expect("a message that may be sent");
    envelope
}
