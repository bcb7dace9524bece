//! What the broker buries: collected once, with its reason, and replayed.

use super::{
    bench::{Broker, client, unique},
    rig::{Count, PATIENCE, Rig},
};
use lapin::{
    BasicProperties,
    options::{BasicNackOptions, BasicPublishOptions},
};
use pitcrew::{
    Message,
    store::{DeadFilter, DeadLetter, Store, memory::MemoryStore},
    testing::poll_pause,
};
use std::{sync::Arc, time::Instant};

async fn letters(store: &dyn Store, count: usize) -> Vec<DeadLetter> {
    let began = Instant::now();
    loop {
        let letters = store.dead_letters(&DeadFilter::default(), 100).await.expect("letters");
        if letters.len() >= count {
            return letters;
        }
        assert!(began.elapsed() < PATIENCE, "{} of {count} letters", letters.len());
        poll_pause().await;
    }
}

/// Puts bytes into a queue and has the broker bury them: a reject, as a foreign consumer does it.
async fn buried_by_the_broker(url: &str, queue: &str, body: &[u8], properties: BasicProperties) {
    let (connection, channel) = client(url).await;
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body, properties).await.expect("publishes");
    let began = Instant::now();
    let got = loop {
        if let Some(got) = channel.basic_get(queue.into(), Default::default()).await.expect("asks") {
            break got;
        }
        assert!(began.elapsed() < PATIENCE, "it does not come");
        poll_pause().await;
    };
    let reject = BasicNackOptions { requeue: false, ..Default::default() };
    channel.basic_nack(got.delivery.delivery_tag, reject).await.expect("rejects");
    connection.close(200, "done".into()).await.expect("closes");
}

async fn what_the_broker_buried_becomes_one_letter(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let rig = Rig::start(&url, Arc::new(MemoryStore::new()), |_| {}).await;
    // A queue beside the worker's, which buries into the same channel: the worker itself would be faster than the reject.
    let aside = format!("{}.aside", unique());
    let (connection, channel) = client(&url).await;
    let mut arguments = lapin::types::FieldTable::default();
    let text = |text: &str| lapin::types::AMQPValue::LongString(text.into());
    arguments.insert("x-dead-letter-exchange".into(), text(&format!("{}.dead", rig.commands())));
    arguments.insert("x-dead-letter-routing-key".into(), text(&rig.commands()));
    channel.queue_declare((*aside).into(), Default::default(), arguments).await.expect("declares");
    let properties = BasicProperties::default().with_message_id("m-1".into()).with_type(Count::TYPE.into());
    buried_by_the_broker(&url, &aside, br#"{"n":7}"#, properties).await;
    buried_by_the_broker(&url, &aside, b"\xff no message", BasicProperties::default()).await;
    let mut found = letters(&*rig.store, 2).await;
    found.sort_by(|a, b| a.reason.cmp(&b.reason));
    let [message, garbage] = &*found else { panic!("{found:?}") };
    assert_eq!((message.reason.as_str(), message.key.consumer.as_str()), ("buried", Count::TYPE));
    assert!(message.error.contains("rejected") && message.error.contains(&aside), "{}", message.error);
    assert_eq!((garbage.reason.as_str(), &*garbage.payload), ("undecodable", b"\xff no message".as_slice()));
    assert!(message.count == 1 && garbage.count == 1);
    channel.queue_delete((*aside).into(), Default::default()).await.expect("deletes");
    connection.close(200, "done".into()).await.expect("closes");
    rig.end().await;
}

/// The letter is written by the commit; the copy of it that comes through the dead letter channel is not a second death.
async fn a_death_of_our_own_is_one_letter_and_its_copy_is_taken_away(broker: Broker) {
    let Some(url) = broker.url() else { return };
    let rig = Rig::start(&url, Arc::new(MemoryStore::new()), |config| {
        config.channel.values_mut().for_each(|channel| channel.retry.attempts = 2);
    })
    .await;
    rig.send(0..3, 9).await;
    letters(&*rig.store, 3).await;
    // The copies were published and collected: nothing is left to come.
    let began = Instant::now();
    let dead = format!("{}.dead", rig.commands());
    while rig.store.counts().await.expect("counts").outbox > 0 {
        assert!(began.elapsed() < PATIENCE, "the copies do not leave");
        poll_pause().await;
    }
    while rig.transport.depth(&dead).await.expect("depth").ready != Some(0) {
        assert!(began.elapsed() < PATIENCE, "the copies are not collected");
        poll_pause().await;
    }
    let found = letters(&*rig.store, 3).await;
    assert!(
        found.len() == 3 && found.iter().all(|letter| letter.count == 1 && letter.reason == "exhausted"),
        "{found:?}"
    );
    rig.end().await;
}

super::on_each_version! {
    what_the_broker_buried_becomes_one_letter
    a_death_of_our_own_is_one_letter_and_its_copy_is_taken_away
}
