//! The laws of the walk, one message at a time: which fate follows from what was delivered and what the handler said.

use chrono::{DateTime, TimeDelta, Utc};
use pitcrew::{
    Command, Context, Document, Envelope, Event, Handlers, Message, OrElse,
    config::{ChannelConfig, Config, HandlerConfig, RetryPolicy},
    message::wire,
    store::{Fate, Purpose, Reason},
    testing::TestWorker,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A count of work; `say` tells the handler how to end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Work {
    on: String,
    say: String,
}
impl Message for Work {
    type Kind = Command;
    const TYPE: &'static str = "shop.Work";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Worked {
    on: String,
}
impl Message for Worked {
    type Kind = Event;
    const TYPE: &'static str = "shop.Worked";
}

/// Writes are counted by a write that is not idempotent.
#[derive(Serialize, Deserialize)]
struct Count {
    on: String,
    writes: u32,
}
impl Document for Count {
    const COLLECTION: &'static str = "count";
    fn id(&self) -> impl std::fmt::Display {
        &self.on
    }
}

async fn work(m: Work, cx: &mut Context) -> pitcrew::Result {
    cx.update(&m.on, |old: Option<Count>| Count { on: m.on.clone(), writes: old.map_or(0, |c| c.writes) + 1 }).await?;
    cx.emit(&Worked { on: m.on.clone() })?;
    cx.reply(&Worked { on: m.on })?;
    match m.say.as_str() {
        "no" => Err(anyhow::anyhow!("it cannot be")).permanent()?,
        "fail" => return Err(anyhow::anyhow!("it is down").context("asking the provider").into()),
        "later" => Err(anyhow::anyhow!("not yet")).retry_after(Duration::from_secs(60))?,
        "at the end of time" => Err(anyhow::anyhow!("not yet")).retry_after(Duration::MAX)?,
        "in a year of no calendar" => cx.send_after(&Work { on: "b".into(), say: "yes".into() }, Duration::MAX)?,
        "fail once" if cx.attempt() == 1 => return Err(anyhow::anyhow!("at first").into()),
        _ => {}
    }
    Ok(())
}

fn handlers() -> Handlers {
    Handlers::new().handle(work).emits::<Worked>()
}

fn config(change: impl FnOnce(&mut ChannelConfig)) -> Config {
    let mut channel = ChannelConfig::default();
    change(&mut channel);
    let mut config = Config::default();
    config.channel.insert("shop.commands".parse().unwrap(), channel);
    config
}

fn envelope(on: &str, say: &str) -> Envelope {
    Envelope::of(&Work { on: on.into(), say: say.into() }, "/shop").unwrap()
}

async fn writes(worker: &TestWorker, on: &str) -> u32 {
    worker.document::<Count>(on).await.map_or(0, |count| count.writes)
}

fn id_at(time: DateTime<Utc>) -> String {
    pitcrew::clock::uuid_v7_at(time).to_string()
}

// ---- one ID, one effect

#[tokio::test(start_paused = true)]
async fn five_times_one_id_with_five_different_times_is_one_effect() {
    let worker = TestWorker::new(handlers()).await;
    let mut message = envelope("a", "yes");
    worker.deliver_envelope(message.clone()).await.assert_done();
    for days in [0, 1, 13, 400] {
        message.time = message.time.map(|time| time - TimeDelta::days(days));
        worker.deliver_envelope(message.clone()).await.assert_duplicate();
    }
    message.time = None;
    worker.deliver_envelope(message.clone()).await.assert_duplicate();
    assert_eq!(writes(&worker, "a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_delivered_at_once_is_one_effect() {
    let worker = TestWorker::new(handlers()).await;
    let message = envelope("a", "yes");
    let twins = (0..20).map(|_| worker.deliver_envelope(message.clone()));
    let outcomes = futures::future::join_all(twins).await;
    assert_eq!(writes(&worker, "a").await, 1);
    assert!(outcomes.iter().any(|outcome| outcome.fate == Fate::Done), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_id_of_another_source_is_another_message() {
    let worker = TestWorker::new(handlers()).await;
    let mut message = envelope("a", "yes");
    worker.deliver_envelope(message.clone()).await.assert_done();
    message.source = "/garage".into();
    worker.deliver_envelope(message).await.assert_done();
    assert_eq!(writes(&worker, "a").await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_with_another_payload_is_dead_and_never_a_duplicate() {
    for undated in [false, true] {
        let worker = TestWorker::new(handlers()).await;
        let mut message = envelope("a", "yes");
        if undated {
            message.id = "order-17".into();
        }
        worker.deliver_envelope(message.clone()).await.assert_done();
        message.data = r#"{"on":"b","say":"yes"}"#.into();
        worker.deliver_envelope(message.clone()).await.assert_dead("id_reused");
        assert_eq!((writes(&worker, "a").await, writes(&worker, "b").await), (1, 0));
        let history = worker.history(&message.id).await;
        assert_eq!(history.inbox[0].fate, "done", "the first one's fate stands");
    }
}

#[tokio::test(start_paused = true)]
async fn the_attempt_number_is_the_fence() {
    let worker = TestWorker::new(handlers()).await;
    let original = envelope("a", "fail once");
    let first = worker.deliver_envelope(original.clone()).await;
    first.assert_retry();
    worker.deliver_envelope(original.clone()).await.assert_duplicate(); // its ack was lost
    worker.next_attempt(&first).await.assert_done();
    worker.deliver_envelope(original.clone()).await.assert_duplicate();
    let mut late = original;
    late.hop.attempt = 7;
    worker.deliver_envelope(late).await.assert_duplicate(); // done is final
    assert_eq!(writes(&worker, "a").await, 1);
}

// ---- business operation keys

#[tokio::test(start_paused = true)]
async fn one_operation_key_is_one_effect_whatever_the_ids() {
    let worker = TestWorker::new(handlers()).await;
    let keyed = |say: &str| Envelope { idempotency_key: Some("order-17".into()), ..envelope("a", say) };
    worker.deliver_envelope(keyed("yes")).await.assert_done();
    let mut spaced = keyed("yes");
    spaced.data = r#"{ "say": "yes", "on": "a" }"#.into();
    worker.deliver_envelope(spaced).await.assert_duplicate();
    worker.deliver_envelope(keyed("other")).await.assert_dead("key_conflict");
    assert_eq!(writes(&worker, "a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_operation_key_whose_message_died_is_taken_over() {
    let worker = TestWorker::new(handlers()).await;
    let keyed = |say: &str| Envelope { idempotency_key: Some("order-17".into()), ..envelope("a", say) };
    worker.deliver_envelope(keyed("no")).await.assert_dead("permanent");
    worker.deliver_envelope(keyed("yes")).await.assert_done();
    assert_eq!(writes(&worker, "a").await, 1);
}

// ---- retries

#[tokio::test(start_paused = true)]
async fn a_message_that_always_fails_is_dead_after_its_attempts_and_tells_each() {
    let worker = TestWorker::with_config(handlers(), config(|c| c.retry.attempts = 3)).await;
    let mut outcome = worker.deliver_envelope(envelope("a", "fail")).await;
    for _ in 0..1 {
        outcome = worker.next_attempt(&outcome).await;
    }
    let last = worker.next_attempt(&outcome).await;
    last.assert_dead("exhausted");
    assert_eq!(last.error(), "asking the provider: it is down", "the whole chain");
    let history = worker.history(&last.envelope.id).await;
    assert_eq!(history.attempts.len(), 3);
    assert_eq!(writes(&worker, "a").await, 0);
    assert!(history.caused.is_empty() && history.caused_outbox.is_empty(), "what failed has sent nothing");
}

#[tokio::test(start_paused = true)]
async fn asking_to_come_later_is_no_failure_but_ends_with_patience() {
    let retry = RetryPolicy { attempts: 2, give_up_after: Duration::from_secs(600), ..RetryPolicy::default() };
    let worker = TestWorker::with_config(handlers(), config(|c| c.retry = retry)).await;
    let mut outcome = worker.deliver_envelope(envelope("a", "later")).await;
    let mut rounds = 1;
    while let Fate::Retry(at) = outcome.fate {
        assert!(at - outcome.attempt.as_ref().unwrap().at >= TimeDelta::seconds(60), "never earlier than asked");
        outcome = worker.next_attempt(&outcome).await;
        assert_eq!(outcome.envelope.hop.failures, 0);
        rounds += 1;
    }
    outcome.assert_dead("gave_up");
    assert!((8..=11).contains(&rounds), "{rounds} rounds of a minute in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_retry_copy_keeps_everything_but_its_attempt() {
    let worker = TestWorker::new(handlers()).await;
    let mut message = envelope("a", "fail once");
    message.actor = Some("ada".into());
    message.extensions.insert("tenant".into(), "north".into());
    message.hop.replay = Some("019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77".into());
    message.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let first = worker.deliver_envelope(message.clone()).await;
    let second = worker.next_attempt(&first).await;
    let mut back = (*second.envelope).clone();
    assert_eq!((back.hop.attempt, back.hop.failures), (2, 1));
    assert_eq!(back.hop.replay, message.hop.replay, "it is still part of that replay");
    assert!(back.hop.reason.as_deref().is_some_and(|reason| reason.contains("at first")));
    back.hop = message.hop.clone();
    assert_eq!(back, message);
}

#[tokio::test(start_paused = true)]
async fn a_message_past_its_expiry_is_not_run_and_one_that_would_come_too_late_not_again() {
    let worker = TestWorker::new(handlers()).await;
    let gone = Envelope { expires: Some(Utc::now() - TimeDelta::minutes(1)), ..envelope("a", "yes") };
    assert_eq!(worker.deliver_envelope(gone).await.fate, Fate::Expired);
    let soon = Envelope { expires: Some(Utc::now() + TimeDelta::seconds(30)), ..envelope("b", "later") };
    assert_eq!(worker.deliver_envelope(soon).await.fate, Fate::Expired);
    assert_eq!((writes(&worker, "a").await, writes(&worker, "b").await), (0, 0));
}

// ---- replay

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_id_and_time_raises_the_attempt_and_is_allowed_at_any_age() {
    let worker = TestWorker::with_config(handlers(), config(|c| c.retry.attempts = 1)).await;
    let dead = worker.deliver_envelope(envelope("a", "fail once")).await;
    dead.assert_dead("exhausted");
    tokio::time::advance(Duration::from_hours(24 * 60)).await;
    let letters = worker.letters().await;
    let again = worker.replay(&letters[0]).await;
    assert_eq!((&again.envelope.id, again.envelope.time), (&dead.envelope.id, dead.envelope.time));
    assert_eq!((again.envelope.hop.attempt, again.envelope.hop.failures), (2, 0));
    // Its handler fails at attempt 1 only by failures, which a replay forgets: it dies once more, beside the first letter.
    again.assert_dead("exhausted");
    assert_eq!(worker.letters().await.len(), 2);
}

// ---- age

#[tokio::test(start_paused = true)]
async fn older_than_the_inbox_remembers_is_dead_where_the_consumer_was_there_already() {
    let worker = TestWorker::new(handlers()).await;
    let made = Utc::now();
    tokio::time::advance(Duration::from_hours(24 * 15)).await;
    let old = Envelope { id: id_at(made + TimeDelta::seconds(1)), ..envelope("a", "yes") };
    worker.deliver_envelope(old).await.assert_dead("too_old");
    let before_the_consumer = Envelope { id: id_at(made - TimeDelta::days(1)), ..envelope("b", "yes") };
    worker.deliver_envelope(before_the_consumer).await.assert_done();
    assert_eq!((writes(&worker, "a").await, writes(&worker, "b").await), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_id_from_the_future_is_dead_and_one_of_tomorrow_is_not() {
    let worker = TestWorker::new(handlers()).await;
    let far = Envelope { id: id_at(Utc::now() + TimeDelta::days(3)), ..envelope("a", "yes") };
    worker.deliver_envelope(far).await.assert_dead("from_the_future");
    let near = Envelope { id: id_at(Utc::now() + TimeDelta::hours(20)), ..envelope("b", "yes") };
    worker.deliver_envelope(near).await.assert_done();
    assert_eq!((writes(&worker, "a").await, writes(&worker, "b").await), (0, 1));
}

// ---- strangers

#[tokio::test(start_paused = true)]
async fn a_type_without_a_handler_is_dead_unless_the_config_lists_it() {
    let stranger = || Envelope { ty: "shop.Unheard".into(), ..envelope("a", "yes") };
    let worker = TestWorker::new(handlers()).await;
    worker.deliver_envelope(stranger()).await.assert_dead("unknown_type");
    worker.shutdown().await;

    let listed = config(|channel| channel.types = vec![Work::TYPE.into(), "shop.Unheard".into()]);
    let worker = TestWorker::with_config(handlers(), listed).await;
    assert_eq!(worker.deliver_envelope(stranger()).await.fate, Fate::Quarantined);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_here_handles_is_passed_over() {
    let hear = async |_: Worked, _: &mut Context| -> pitcrew::Result { Ok(()) };
    let worker = TestWorker::new(Handlers::new().handle(hear)).await;
    let other = Envelope::new("shop.Moved", "/shop", "{}");
    let id = other.id.clone();
    assert_eq!(worker.deliver_envelope(other).await.fate, Fate::Ignored);
    assert!(worker.history(&id).await.inbox.is_empty(), "no row");
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_quarantine_is_driven_again_by_a_build_that_knows_it() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Work2 {
        on: String,
    }
    impl Message for Work2 {
        type Kind = Command;
        const TYPE: &'static str = Work::TYPE;
        const VERSION: u32 = 2;
    }
    let before = TestWorker::new(handlers()).await;
    let newer = Envelope { version: 2, ..envelope("a", "yes") };
    let id = newer.id.clone();
    assert_eq!(before.deliver_envelope(newer).await.fate, Fate::Quarantined);
    let store = before.store().clone();
    before.shutdown().await;

    let work2 = async |m: Work2, cx: &mut Context| -> pitcrew::Result {
        cx.save(&Count { on: m.on, writes: 1 })?;
        Ok(())
    };
    let now = TestWorker::on(store, Handlers::new().handle(work2), Config::default()).await;
    now.idle().await;
    let history = now.history(&id).await;
    assert_eq!((history.inbox[0].fate.as_str(), history.inbox[0].attempt), ("done", 2));
    assert_eq!(history.audit[0].action, "redrive");
    assert_eq!(writes(&now, "a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_quarantine_comes_in_the_order_in_which_it_came_first() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Digit {
        on: u32,
    }
    impl Message for Digit {
        type Kind = Command;
        const TYPE: &'static str = Work::TYPE;
        const VERSION: u32 = 2;
    }
    let before = TestWorker::new(handlers()).await;
    for on in 1..=5 {
        let mut newer = Envelope::of(&Digit { on }, "/shop").unwrap();
        newer.subject = Some("one key".into());
        assert_eq!(before.deliver_envelope(newer).await.fate, Fate::Quarantined);
        pitcrew::testing::poll_pause().await; // a time of its own
    }
    let store = before.store().clone();
    before.shutdown().await;

    let write = async |m: Digit, cx: &mut Context| -> pitcrew::Result {
        let digits = |old: Option<Count>| 10 * old.map_or(0, |old| old.writes) + m.on;
        Ok(cx.update("digits", |old| Count { on: "digits".into(), writes: digits(old) }).await?)
    };
    let now = TestWorker::on(store, Handlers::new().handle(write), Config::default()).await;
    now.idle().await;
    assert_eq!(writes(&now, "digits").await, 12_345);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_message_are_kept_with_the_reason() {
    let worker = TestWorker::new(handlers()).await;
    let raw = wire::Raw { body: vec![0, 159, 146, 150].into(), ..wire::Raw::default() };
    for count in 1..=3 {
        let outcome = worker.deliver_raw(Work::TYPE, raw.clone()).await;
        outcome.assert_dead("undecodable");
        let letters = worker.letters().await;
        assert_eq!((letters.len(), letters[0].count), (1, count), "one letter for the same bytes");
        assert_eq!(letters[0].payload, raw.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_of_another_shape_is_dead_with_the_path_of_the_mistake() {
    let worker = TestWorker::new(handlers()).await;
    let odd = Envelope { data: r#"{"on":"a","say":7}"#.into(), ..envelope("a", "yes") };
    let outcome = worker.deliver_envelope(odd).await;
    outcome.assert_dead("invalid_payload");
    assert!(outcome.error().contains("say"), "{}", outcome.error());
    assert_eq!(outcome.fate, Fate::Dead(Reason::InvalidPayload));
}

// ---- what travels on

#[tokio::test(start_paused = true)]
async fn what_a_handler_sends_inherits_trace_actor_and_cause() {
    let worker = TestWorker::new(handlers()).await;
    let mut message = envelope("a", "yes");
    message.actor = Some("ada".into());
    message.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    message.tracestate = Some("vendor=1".into());
    let outcome = worker.deliver_envelope(message.clone()).await;
    let [sent] = outcome.sent.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(sent.actor, message.actor);
    assert_eq!((&sent.traceparent, &sent.tracestate), (&message.traceparent, &message.tracestate));
    assert_eq!(sent.causation_id.as_ref(), Some(&message.id));
    assert_eq!(sent.correlation_id.as_ref(), Some(&message.id), "the first message names the conversation");
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_to_an_allowed_channel_and_to_no_other() {
    let allowed = Config { replyto_allowed: vec!["shop.answers".parse().unwrap()], ..Config::default() };
    let worker = TestWorker::with_config(handlers(), allowed).await;
    let asked = |channel: &str| Envelope { reply_to: Some(channel.into()), ..envelope("a", "yes") };
    let outcome = worker.deliver_envelope(asked("shop.answers")).await;
    outcome.assert_done();
    assert_eq!(outcome.emitted::<Worked>().len(), 2, "the event and the answer");
    worker.deliver_envelope(asked("elsewhere")).await.assert_dead("elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_command_for_later_waits_as_a_row_and_its_id_carries_that_time() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Later {}
    impl Message for Later {
        type Kind = Command;
        const TYPE: &'static str = "shop.Later";
    }
    let later = async |_: Later, cx: &mut Context| -> pitcrew::Result {
        let work = Work { on: "a".into(), say: "yes".into() };
        cx.send_after(&work, Duration::from_hours(6))?;
        Ok(())
    };
    let worker = TestWorker::new(handlers().handle(later).emits::<Work>()).await;
    worker.deliver(&Later {}).await.assert_done();
    let rows = worker.outbox();
    assert_eq!((rows.len(), rows[0].purpose), (1, Purpose::Message));
    let due = rows[0].due.unwrap();
    let pitcrew::message::KeyTime::At(id_time) = rows[0].envelope.key_time() else { panic!("a UUIDv7") };
    assert!((due - id_time).num_milliseconds().abs() <= 1, "older than the inbox remembers it is not, when it comes");
    worker.idle().await;
    assert_eq!(writes(&worker, "a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_try_its_fate_and_its_letter_are_one_moment() {
    let worker = TestWorker::new(handlers()).await;
    let dead = worker.deliver_envelope(envelope("a", "no")).await;
    let history = worker.history(&dead.envelope.id).await;
    let times = (history.attempts[0].1.at, history.letters[0].last_at);
    assert_eq!((history.inbox[0].at, history.inbox[0].at), times);
    let retried = worker.deliver_envelope(envelope("b", "fail")).await;
    let history = worker.history(&retried.envelope.id).await;
    assert_eq!(history.inbox[0].at, history.attempts[0].1.at);
}

#[tokio::test(start_paused = true)]
async fn a_delay_longer_than_time_itself_is_given_up() {
    let worker = TestWorker::new(handlers()).await;
    let outcome = worker.deliver_envelope(envelope("a", "at the end of time")).await;
    assert_eq!(outcome.fate, Fate::Dead(Reason::GaveUp));
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Odd {
    subject: String,
}
impl Message for Odd {
    type Kind = Event;
    const TYPE: &'static str = "shop.Odd";
    fn subject(&self) -> Option<String> {
        Some(self.subject.clone())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct SayOdd {
    subject: String,
}
impl Message for SayOdd {
    type Kind = Command;
    const TYPE: &'static str = "shop.SayOdd";
}

#[tokio::test(start_paused = true)]
async fn a_message_that_no_receiver_would_read_is_refused_where_it_is_sent() {
    async fn say(m: SayOdd, cx: &mut Context) -> pitcrew::Result {
        cx.emit(&Odd { subject: m.subject })?;
        Ok(())
    }
    let worker = TestWorker::new(Handlers::new().handle(say).emits::<Odd>()).await;
    for (subject, fate) in [
        ("a car", Fate::Done),
        ("a\u{0}b", Fate::Dead(Reason::Permanent)),
        (&*"x".repeat(100_000), Fate::Dead(Reason::Permanent)),
    ] {
        let outcome = worker.deliver(&SayOdd { subject: subject.into() }).await;
        for row in worker.outbox() {
            let stored = wire::attributes_json(&row.envelope);
            let read = wire::from_attributes_json(&stored, row.envelope.data.clone());
            assert!(read.is_ok(), "what was written can be read: {:?} {read:?}", subject.get(..10));
        }
        assert_eq!(outcome.fate, fate, "{:?}", subject.get(..10));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_cap_of_its_handler_keeps_no_slot_from_another() {
    static GATE: Semaphore = Semaphore::const_new(0);
    async fn slow(_: SayOdd, _: &mut Context) -> pitcrew::Result {
        drop(GATE.acquire().await);
        Ok(())
    }
    let mut config = config(|channel| channel.concurrency = 2);
    let capped = HandlerConfig { concurrency: Some(1), ..HandlerConfig::default() };
    config.handlers.insert(SayOdd::TYPE.into(), capped);
    let worker = TestWorker::with_config(handlers().handle(slow), config).await;
    let slow: Vec<_> = (0..5).map(|_| SayOdd { subject: "a car".into() }).collect();
    let all = futures::future::join_all(slow.iter().map(|slow| worker.deliver(slow)));
    let quick = async {
        pitcrew::testing::poll_pause().await; // the slow ones wait for each other
        let began = pitcrew::clock::instant();
        worker.deliver_envelope(envelope("a", "yes")).await.assert_done();
        assert!(began.elapsed() < Duration::from_secs(1), "it waited {:?}", began.elapsed());
        GATE.add_permits(1);
    };
    tokio::join!(all, quick);
}
