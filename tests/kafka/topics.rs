//! Topics: what a start makes and what it refuses, and what is answered to a message that has nowhere to go.

use crate::bed::{Bed, take, work};
use pitcrew::{
    message::wire::Prefix,
    store::Destination,
    transport::{
        Content, Endpoints, Finding, PublishError, Standing, Transport, TransportError,
        kafka::{Kafka, Options},
    },
};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_start_without_its_topics_is_refused_where_it_may_not_make_them() {
    let Some(bed) = Bed::new() else { return };
    let strict = Kafka::new(Options { declare: false, ..bed.options() });
    let refusal = strict.declare(&bed.endpoints()).await;
    let Err(TransportError::Unfit(why)) = refusal else { panic!("{refusal:?}") };
    let name = &bed.queue.name;
    assert!(why.contains(&format!("{name}, {name}.dead, {name}.retry.1s")), "{why}");
    bed.connect(bed.options()).await.close().await;
    strict.declare(&bed.endpoints()).await.expect("now they are there");
}

#[tokio::test]
async fn a_topic_that_could_lose_a_message_is_refused() {
    let Some(bed) = Bed::new() else { return };
    let topic = NewTopic::new(&bed.queue.channel, 1, TopicReplication::Fixed(1))
        .set("retention.ms", "999")
        .set("cleanup.policy", "compact,delete")
        .set("min.insync.replicas", "2");
    bed.admin().create_topics(&[topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let refusal = Kafka::new(bed.options()).declare(&bed.endpoints()).await;
    let Err(TransportError::Unfit(why)) = refusal else { panic!("{refusal:?}") };
    for setting in ["retention.ms", "cleanup.policy", "min.insync.replicas"] {
        assert!(why.contains(setting), "{why}");
    }
    let lax = Kafka::new(Options { warn_only: true, ..bed.options() });
    lax.declare(&bed.endpoints()).await.expect("told of, and taken");
}

#[tokio::test]
async fn a_plan_says_what_is_missing_what_is_there_and_what_is_in_danger_and_makes_nothing() {
    let Some(bed) = Bed::new() else { return };
    let (name, transport) = (&bed.queue.name, Kafka::new(bed.options()));
    let look = async || {
        let seen = transport.inspect(&bed.endpoints()).await.expect("the broker answers");
        assert_eq!(seen.reach, "", "whoever may do everything sees everything");
        seen.findings
    };
    let finding = |thing: String, standing| Finding { thing, standing };
    for _ in 0..2 {
        let topics = [name.to_string(), format!("{name}.dead"), format!("{name}.retry.1s")];
        let missing = topics.map(|topic| finding(format!("topic `{topic}`: 1 partition"), Standing::Missing));
        assert_eq!(look().await, missing, "looking makes nothing");
    }
    let weak = NewTopic::new(name, 3, TopicReplication::Fixed(1)).set("retention.ms", "999");
    bed.admin().create_topics(&[weak], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    // A tier that was in the ladder once, with a copy that nobody has read.
    let mut older = bed.queue.clone();
    older.delays.push(Duration::from_secs(3));
    let before = Kafka::new(Options { warn_only: true, ..bed.options() });
    before.declare(&Endpoints { subscriptions: vec![older], ..bed.endpoints() }).await.expect("told of, and taken");
    bed.retry(&before, Duration::from_secs(3)).await;
    before.close().await;
    let there = "1 partition, 1 replica, min.insync.replicas 1, kept 7d, cleanup delete";
    let short = "keeps records for 999ms, the retry ladder needs 1s: raise its retention.ms";
    let thing = "3 partitions (a new one would get 1), 1 replica, min.insync.replicas 1, kept 999ms, cleanup delete";
    let gone = "its delay is not among the tiers any more; 1 copy left in it, which a worker still reads";
    assert_eq!(
        look().await,
        [
            finding(format!("topic `{name}`: {thing}"), Standing::Differs(short.into())),
            finding(format!("topic `{name}.dead`: {there}"), Standing::Fits),
            finding(format!("topic `{name}.retry.1s`: {there}"), Standing::Fits),
            finding(format!("topic `{name}.retry.3s`: {gone}"), Standing::Stray),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_waits_in_a_tier_that_was_taken_away_still_comes() {
    let Some(bed) = Bed::new() else { return };
    let mut older = bed.queue.clone();
    older.delays.push(Duration::from_secs(2));
    let before = Kafka::new(bed.options());
    before.declare(&Endpoints { subscriptions: vec![older], ..bed.endpoints() }).await.unwrap();
    bed.retry(&before, Duration::from_secs(2)).await;
    before.close().await;
    let after = bed.connect(bed.options()).await;
    let mut consumer = after.subscribe(&bed.queue).await.unwrap();
    work(&mut *consumer, 1).await;
    after.close().await;
}

#[tokio::test]
async fn a_message_to_a_topic_that_is_not_there_is_unroutable_and_soon() {
    let Some(bed) = Bed::new() else { return };
    let transport = bed.connect(bed.options()).await;
    let began = Instant::now();
    for to in ["channel:nowhere", "dead:nowhere", "subscription:nowhere"] {
        let destination: Destination = to.parse().unwrap();
        let answer = bed.try_send(&transport, &destination).await;
        assert!(matches!(answer, Err(PublishError::Unroutable(_))), "{to}: {answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "the client alone would need its message timeout to find out");
    transport.close().await;
}

/// For readers that know one prefix only: in the channel and in its retries.
#[tokio::test]
async fn a_channel_chooses_what_its_headers_begin_with() {
    let Some(bed) = Bed::new() else { return };
    let prefixes = [(bed.queue.channel.to_string(), Prefix::CeDash)].into();
    let transport = bed.connect(Options { prefixes, ..bed.options() }).await;
    let mut consumer = transport.subscribe(&bed.queue).await.expect("it listens");
    for to in [bed.destination(), Destination::Subscription(bed.queue.name.clone())] {
        bed.try_send(&transport, &to).await.expect("it is sent");
    }
    let seen = take(&mut *consumer, 2).await;
    for delivery in &seen {
        let Content::Raw(raw) = &delivery.content else { panic!("{delivery:?}") };
        let names: Vec<_> = raw.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"ce-id") && !names.iter().any(|name| name.starts_with("ce_")), "{names:?}");
    }
    drop((seen, consumer));
    transport.close().await;
}

#[tokio::test]
async fn without_a_broker_the_outcome_is_unknown() {
    let nobody = Kafka::new(Options::new("127.0.0.1:1"));
    let Some(bed) = Bed::new() else { return };
    let answer = bed.try_send(&nobody, &bed.destination()).await;
    assert!(matches!(answer, Err(PublishError::Unknown(_))), "{answer:?}");
}
