//! Cases: the same fates, attempts and reasons on every transport. What is expected is written once.

use super::{
    Subject,
    service::{Act, Service, command, stray},
    subject::eventually,
};
use crate::{
    Context, Envelope, Handlers, Message, clock, dead_letter,
    message::{
        Intent,
        wire::{self, Prefix, Raw},
    },
    store::{Audit, DeadFilter, DeadLetter, LetterState},
};
use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A message, what becomes of it, the tries that did not end done, its letters, and what its handler wrote.
const EXPECTED: &[(&str, &str)] = &[
    ("do", "done 1 | | | do attempt 1"),
    ("twice", "done 1 | | | twice attempt 1"),
    ("fail once", "done 2 | 1 failure | | fail once attempt 2, 1 failures, from acts: failure: at first"),
    ("panic once", "done 2 | 1 panic | | panic once attempt 2, 1 failures, from acts: panic: panicked: at first"),
    (
        "hang once",
        "done 2 | 1 timeout | | hang once attempt 2, 1 failures, from acts: timeout: not ended at its deadline of 2s",
    ),
    ("later once", "done 2 | 1 later | | later once attempt 2, 0 failures, from acts: later: busy"),
    ("fail", "dead 3 | 1 failure, 2 failure, 3 failure | dead exhausted 1× ask the provider: it is down |"),
    ("no", "dead 1 | 1 failure | dead permanent 1× it cannot be |"),
    (
        "another payload",
        "dead 1 | 1 rejected | dead invalid_payload 1× invalid payload at say: invalid type: integer `7`, expected a string |",
    ),
    (
        "newer",
        "quarantined 1 | | quarantined newer_version 1× version 9 is newer than 1, the newest this build knows |",
    ),
    ("expired", "expired 1 | | |"),
    ("from the future", "dead 1 | | dead from_the_future 1× the time in its UUIDv7 is more than a day ahead |"),
    ("strange", "dead 1 | | dead unknown_type 1× no handler for the type, and the config does not list it |"),
    ("rumour", " | | |"),
];

pub(super) async fn every_message_ends_in_the_same_fate(on: Subject) {
    let service = Service::new(on).await;
    let worker = service.start().await;
    let now = clock::now();
    let mut sent: Vec<(&str, Envelope)> = Vec::new();
    for (name, _) in EXPECTED {
        let plain = command(name, name);
        let envelope = match *name {
            "another payload" => Envelope { data: r#"{"on":"another payload","say":7}"#.into(), ..plain },
            "newer" => Envelope { version: 9, ..plain },
            "expired" => Envelope { expires: Some(now - TimeDelta::seconds(1)), ..plain },
            "from the future" => Envelope { id: clock::uuid_v7_at(now + TimeDelta::days(2)).to_string(), ..plain },
            "strange" => stray(Intent::Command),
            "rumour" => stray(Intent::Event),
            _ => plain,
        };
        match *name {
            "strange" => service.on.bench.put(&service.queue(), foreign(&envelope)).await,
            "rumour" => service.on.bench.put(&service.hearing(), foreign(&envelope)).await,
            "twice" => service.send(vec![envelope.clone(), envelope.clone()]).await,
            _ => service.send(vec![envelope.clone()]).await,
        }
        sent.push((name, envelope));
    }
    let table = async || {
        let mut table = Vec::new();
        for (name, envelope) in &sent {
            table.push((*name, line(&service, envelope, name).await));
        }
        table
    };
    let expected: Vec<_> = EXPECTED.iter().map(|(name, line)| (*name, (*line).to_owned())).collect();
    let began = clock::instant();
    while table().await != expected && began.elapsed() < service.on.bench.patience() {
        crate::testing::poll_pause().await;
    }
    assert_eq!(table().await, expected);
    for (name, envelope) in &sent {
        let history = service.history(&envelope.id).await;
        let next = history.attempts.first().and_then(|(_, attempt)| attempt.next);
        let early = next.filter(|next| history.inbox.iter().any(|row| row.at < *next));
        assert_eq!(early, None, "{name} came again before its time");
        let caused = history.caused.iter().filter(|row| row.fate == "done").count();
        let told = if history.inbox.iter().any(|row| row.fate == "done") { 2 } else { 0 };
        assert!(caused <= told, "{name} was told of {caused} times");
    }
    // What a message tells travels through the broker, and may come later than the message is done.
    let heard = async |name: &str| {
        [service.diary(&format!("heard {name}")).await, service.diary(&format!("audited {name}")).await]
    };
    let told = |name: &str, line: &str| -> [Vec<String>; 2] {
        let told: Vec<String> = if line.starts_with("done") { vec![name.to_owned()] } else { Vec::new() };
        [told.clone(), told]
    };
    for (name, line) in EXPECTED {
        while heard(name).await != told(name, line) && began.elapsed() < service.on.bench.patience() {
            crate::testing::poll_pause().await;
        }
    }
    worker.shutdown().await;
    assert_eq!(table().await, expected, "and nothing changes any more");
    for (name, line) in EXPECTED {
        assert_eq!(heard(name).await, told(name, line), "what was told of `{name}`, to each subscription");
    }
}

/// As another producer would write it.
fn foreign(envelope: &Envelope) -> Raw {
    wire::to_raw(envelope, Prefix::CloudEvents)
}

async fn line(service: &Service, envelope: &Envelope, on: &str) -> String {
    let history = service.history(&envelope.id).await;
    let inbox: Vec<_> = history.inbox.iter().map(|row| format!("{} {}", row.fate, row.attempt)).collect();
    let tries = history.attempts.iter().map(|(_, attempt)| format!("{} {}", attempt.attempt, attempt.kind.word()));
    let tries: Vec<_> = tries.collect();
    let letters: Vec<_> = history.letters.iter().map(letter_line).collect();
    let diary = service.diary(on).await;
    let line = [inbox.join(", "), tries.join(", "), letters.join(", "), diary.join(", ")].join(" | ");
    line.replace("|  |", "| |").replace("|  |", "| |").trim_end().to_owned()
}

fn letter_line(letter: &DeadLetter) -> String {
    let error = letter.error.split(" at line ").next().unwrap_or_default();
    format!("{} {} {}× {error}", letter.state.word(), letter.reason, letter.count)
}

pub(super) async fn bytes_that_are_no_message_become_one_letter(on: Subject) {
    let service = Service::new(on).await;
    let worker = service.start().await;
    let garbage = Raw { body: vec![0, 159, 146, 150].into(), ..Raw::default() };
    for _ in 0..3 {
        service.on.bench.put(&service.queue(), garbage.clone()).await;
    }
    service.on.bench.put(&service.queue(), Raw { body: "{}".into(), ..Raw::default() }).await;
    service.send(vec![command("good", "do")]).await;
    eventually(&*service.on.bench, "all of it is settled", async || {
        let letters = service.store.dead_letters(&DeadFilter::default(), 100).await.expect("letters can be read");
        let mut found: Vec<_> = letters.iter().map(|l| (l.reason.as_str(), l.count, l.payload.clone())).collect();
        found.sort();
        let all = [("undecodable", 1, b"{}".to_vec()), ("undecodable", 3, garbage.body.to_vec())];
        (found == all && !service.diary("good").await.is_empty()).then_some(())
    })
    .await;
    worker.shutdown().await;
}

pub(super) async fn the_same_id_with_another_payload_is_dead_beside_the_first(on: Subject) {
    let service = Service::new(on).await;
    let worker = service.start().await;
    let first = command("first", "do");
    let second = Envelope { data: r#"{"on":"second","say":"do"}"#.into(), ..first.clone() };
    service.send(vec![first.clone()]).await;
    eventually(&*service.on.bench, "the first is done", async || {
        service.history(&first.id).await.inbox.iter().any(|row| row.fate == "done").then_some(())
    })
    .await;
    service.send(vec![second]).await;
    let letter =
        eventually(&*service.on.bench, "the second is dead", async || service.history(&first.id).await.letters.pop())
            .await;
    assert_eq!(letter.reason, "id_reused");
    assert_eq!(line(&service, &first, "first").await, format!("done 1 | | {} | do attempt 1", letter_line(&letter)));
    assert_eq!(service.diary("second").await, Vec::<String>::new());
    worker.shutdown().await;
}

pub(super) async fn a_letter_that_is_replayed_is_done(on: Subject) {
    let service = Service::new(on).await;
    let worker = service.start().await;
    let sent = command("replayed", "not yet");
    service.send(vec![sent.clone()]).await;
    let letter =
        eventually(&*service.on.bench, "it is dead", async || service.history(&sent.id).await.letters.pop()).await;
    let row = dead_letter::rerun(&letter, dead_letter::Rerun::Replay(None)).expect("it can run again");
    let audit = Audit {
        actor: "ada".into(),
        action: "replay".into(),
        target: sent.id.clone(),
        reason: "somebody looked".into(),
        at: clock::now(),
        bodies: None,
    };
    let resolved = service.store.resolve_letter(&letter.key, LetterState::Replayed, &[row], &audit).await;
    assert!(resolved.expect("letters can be resolved"));
    service.settled(3).await; // it, and its event in two subscriptions
    let expected = "done 2 | 1 failure | replayed permanent 1× not before somebody looks | not yet attempt 2, 0 failures, \
                    from nowhere: replay";
    assert_eq!(line(&service, &sent, "replayed").await, expected);
    worker.shutdown().await;
}

pub(super) async fn a_dead_message_has_a_copy_in_the_dead_letter_channel(on: Subject) {
    if !on.promises().dead_letter_channel {
        return;
    }
    let service = Service::new(on).await;
    let worker = service.start().await;
    let sent = [command("no", "no"), Envelope { data: "7".into(), ..command("odd", "do") }];
    service.send(sent.to_vec()).await;
    let (queue, mut copies) = (service.queue(), Vec::new());
    eventually(&*service.on.bench, "both are dead and copied", async || {
        let dead = service.store.counts().await.expect("rows can be counted").dead;
        match service.on.bench.dead_letters(&queue).await {
            Some(letters) => copies.extend(letters),
            None => return (dead == 2).then_some(()), // nobody can look
        }
        (dead == 2 && copies.len() >= 2).then_some(())
    })
    .await;
    let copies: Vec<_> = copies.iter().map(|raw| wire::parse(raw, &queue.channel).expect("a message")).collect();
    for copy in &copies {
        let original = sent.iter().find(|e| e.id == copy.id).expect("one of these");
        assert_eq!((&copy.data, copy.time, copy.hop.attempt), (&original.data, original.time, 1));
        let why = if copy.data == "7" { "invalid_payload: invalid payload at" } else { "permanent: it cannot be" };
        assert!(copy.hop.reason.as_ref().is_some_and(|reason| reason.starts_with(why)), "{:?}", copy.hop);
        assert_eq!(copy.hop.origin.as_deref(), Some(&*queue.channel));
    }
    worker.shutdown().await;
}

/// [`Act`], a year later.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct NewerAct {
    on: String,
}
impl Message for NewerAct {
    type Kind = crate::Command;
    const TYPE: &'static str = Act::TYPE;
    const VERSION: u32 = 2;
}

async fn newer_act(m: NewerAct, cx: &mut Context) -> crate::Result {
    let line = format!("attempt {}", cx.meta().hop.attempt);
    super::service::note(cx, &m.on, line).await
}

pub(super) async fn what_waits_for_a_newer_build_is_driven_again_by_it(on: Subject) {
    let service = Service::new(on).await;
    let old = service.start().await;
    let sent = Envelope { version: 2, ..command("newer", "do") };
    service.send(vec![sent.clone()]).await;
    eventually(&*service.on.bench, "it is quarantined", async || service.history(&sent.id).await.letters.pop()).await;
    old.shutdown().await;
    let next = service.on.another().await;
    let new = service.work(Handlers::new().handle(newer_act), next.transport).await;
    service.settled(1).await;
    assert_eq!(service.diary("newer").await, ["attempt 2"]);
    let history = service.history(&sent.id).await;
    assert_eq!((history.inbox[0].attempt, history.audit[0].action.as_str()), (2, "redrive"));
    new.shutdown().await;
}
