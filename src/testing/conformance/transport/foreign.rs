//! Cases: what others put into a queue comes as it is; whether it is a message is not the transport's to judge.

use super::{Subject, ear::AMPLE, samples::*};
use crate::{
    message::wire::{self, Prefix, Raw},
    transport::Content,
};
use bytes::Bytes;

pub(super) async fn foreign_bytes_come_as_they_are(on: Subject) {
    let queue = on.queue("foreign").await;
    let mut ear = on.listen(&queue).await;
    let garbage: [&[u8]; 4] = [b"", b"{}", &[0, 159, 146, 150], b"<order/>"];
    for body in garbage {
        on.bench.put(&queue, Raw { body: body.to_vec().into(), ..Raw::default() }).await;
        let mut received = ear.receive(AMPLE).await.expect("a receive succeeds");
        let delivery = received.pop().expect("it came");
        let Content::Raw(raw) = &delivery.content else { panic!("bytes of others come raw") };
        assert_eq!(raw.body, body);
        assert!(wire::parse(raw, &queue.channel).is_err(), "nothing was added that makes it a message");
        super::ear::ack(delivery);
    }
    ear.hears_nothing().await;
}

pub(super) async fn a_message_of_another_producer_can_be_read(on: Subject) {
    let queue = on.queue("producers").await;
    let mut ear = on.listen(&queue).await;
    for prefix in Prefix::ALL {
        let sent = full();
        on.bench.put(&queue, wire::to_raw(&sent, prefix)).await;
        let heard = ear.take(1).await.remove(0);
        assert_eq!(heard.envelope, sent, "with {prefix:?}");
        heard.ack();
    }
}

pub(super) async fn foreign_headers_stop_nobody(on: Subject) {
    let queue = on.queue("headers").await;
    let mut ear = on.listen(&queue).await;
    let value = |text: &[u8]| Some(Bytes::copy_from_slice(text));
    let headers = [
        ("x-death", value(b"a lot")),
        ("CC", value(b"elsewhere")),
        ("empty", value(b"")),
        ("bytes", value(&[255, 0, 254])),
        ("ce_id", value(&[255])),
        ("no-value", None),
    ];
    let raw = Raw {
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        body: b"?".as_slice().into(),
        ..Raw::default()
    };
    on.bench.put(&queue, raw).await;
    let received = ear.receive(AMPLE).await.expect("a receive succeeds");
    received.into_iter().for_each(super::ear::ack);
    let sent = messages(3);
    on.send(&queue, &sent).await;
    let heard = ear.take(3).await;
    super::ear::assert_each_once(&sent, &heard);
    heard.into_iter().for_each(super::ear::Heard::ack);
    ear.hears_nothing().await;
}
