//! Cases: a whole worker over the transport: one effect each, in order, within bounds, and nothing lost between two workers.

use super::{
    Subject,
    faulty::{Fault, Faulty},
    service::{Act, Service, command, handlers, note},
    subject::eventually,
};
use crate::{Client, Context, Envelope, Handler, Handlers, client, clock};
use chrono::TimeDelta;
use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// Commands on documents of their own.
fn commands(count: usize) -> Vec<Envelope> {
    (0..count).map(|n| command(&format!("document {n}"), "do")).collect()
}

/// Each of [`commands`] was handled once, and so was its event by each subscription.
async fn one_effect_each(service: &Service, count: usize) {
    service.settled(3 * count as u64).await;
    for n in 0..count {
        let lines = service.diary(&format!("document {n}")).await;
        assert_eq!(lines.len(), 1, "effects on document {n}: {lines:?}");
        for who in ["heard", "audited"] {
            let told = service.diary(&format!("{who} document {n}")).await;
            assert_eq!(told.len(), 1, "document {n} was {who} {} times", told.len());
        }
    }
}

pub(super) async fn each_command_has_one_effect(on: Subject) {
    let service = Service::new(on).await;
    let worker = service.start().await;
    service.send(commands(200)).await;
    one_effect_each(&service, 200).await;
    worker.shutdown().await;
}

pub(super) async fn a_key_keeps_its_order_through_a_worker(on: Subject) {
    const KEYS: usize = 20;
    const EACH: usize = 50;
    if !on.promises().order_per_key {
        return;
    }
    let service = Service::new(on).await;
    let worker = service.start().await;
    let say = |n: usize| (0..KEYS).map(move |key| command(&format!("key {key}"), &format!("step {n}")));
    service.send((0..EACH).flat_map(say).collect()).await;
    let steps: Vec<String> = (0..EACH).map(|n| format!("step {n}")).collect();
    service.settled((3 * KEYS * EACH) as u64).await;
    for key in 0..KEYS {
        let done: Vec<String> = steps.iter().map(|step| format!("{step} attempt 1")).collect();
        assert_eq!(service.diary(&format!("key {key}")).await, done, "key {key}");
        // What a key's handlers send leaves in the order of their commits, and is a key of the next channel.
        assert_eq!(service.diary(&format!("heard key {key}")).await, steps, "what was told of key {key}");
    }
    worker.shutdown().await;
}

/// Runs until `most` run at once, and remembers how many ever did.
#[derive(Clone, Default)]
struct Crowd {
    most: usize,
    running: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

impl Handler<Act> for Crowd {
    async fn handle(&self, m: Act, cx: &mut Context) -> crate::Result {
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.peak.fetch_max(running, SeqCst);
        while self.peak.load(SeqCst) < self.most {
            crate::testing::poll_pause().await;
        }
        // Long enough for one more, if there were a slot for it.
        crate::testing::poll_pause().await;
        self.running.fetch_sub(1, SeqCst);
        note(cx, &m.on, m.say).await
    }
}

pub(super) async fn as_many_run_as_are_allowed_and_no_more(on: Subject) {
    let mut service = Service::new(on).await;
    service.acts(|channel| channel.concurrency = 4);
    let crowd = Crowd { most: 4, ..Crowd::default() };
    let worker = service.work(Handlers::new().handle(crowd.clone()), service.on.transport.clone()).await;
    service.send(commands(60)).await;
    service.settled(60).await;
    assert_eq!(crowd.peak.load(SeqCst), 4);
    worker.shutdown().await;
}

/// Runs until its worker is told to end.
#[derive(Clone, Default)]
struct Stubborn {
    begun: Arc<AtomicUsize>,
}

impl Handler<Act> for Stubborn {
    async fn handle(&self, m: Act, cx: &mut Context) -> crate::Result {
        self.begun.fetch_add(1, SeqCst);
        cx.cancelled().await;
        note(cx, &m.on, "by the first".into()).await
    }
}

pub(super) async fn a_shutdown_hands_the_unbegun_to_the_next_worker(on: Subject) {
    let mut service = Service::new(on).await;
    service.acts(|channel| channel.concurrency = 3);
    let stubborn = Stubborn::default();
    let first = service.work(Handlers::new().handle(stubborn.clone()), service.on.transport.clone()).await;
    let sent = commands(40);
    service.send(sent.clone()).await;
    eventually(&*service.on.bench, "three run", async || (stubborn.begun.load(SeqCst) == 3).then_some(())).await;
    first.shutdown().await;
    assert_eq!(stubborn.begun.load(SeqCst), 3, "nothing begins any more");
    let done = service.store.counts().await.expect("rows can be counted").done;
    assert_eq!(done, 3, "what ran was done, and its commit waited for");
    let next = service.on.another().await;
    let second = service.work(Handlers::new().handle(Crowd::default()), next.transport).await;
    service.settled(40).await;
    let mut by_the_first = 0;
    for (n, envelope) in sent.iter().enumerate() {
        let lines = service.diary(&format!("document {n}")).await;
        assert_eq!(lines.len(), 1, "effects on document {n}: {lines:?}");
        by_the_first += usize::from(lines[0] == "by the first");
        let history = service.history(&envelope.id).await;
        assert_eq!((history.inbox[0].attempt, history.attempts.len()), (1, 0), "a shutdown is no failure");
    }
    assert_eq!(by_the_first, 3);
    second.shutdown().await;
}

pub(super) async fn two_workers_share_a_channel(on: Subject) {
    if !on.bench.shares_store() {
        return;
    }
    let service = Service::new(on).await;
    let other = service.on.another().await;
    let (one, two) = tokio::join!(service.start(), service.work(handlers(), other.transport));
    for batch in commands(300).chunks(50) {
        service.send(batch.to_vec()).await;
    }
    one_effect_each(&service, 300).await;
    tokio::join!(one.shutdown(), two.shutdown());
}

pub(super) async fn a_worker_that_joins_or_leaves_changes_nothing(on: Subject) {
    if !on.bench.shares_store() {
        return;
    }
    let service = Service::new(on).await;
    let one = service.start().await;
    let all = commands(300);
    let mut batches = all.chunks(100);
    let mut send = async || service.send(batches.next().unwrap_or_default().to_vec()).await;
    send().await;
    let two = service.work(handlers(), service.on.another().await.transport).await;
    send().await;
    one.shutdown().await;
    send().await;
    one_effect_each(&service, 300).await;
    two.shutdown().await;
}

pub(super) async fn an_outbox_row_goes_last(on: Subject) {
    let service = Service::new(on).await;
    let script = &[Fault::Lost, Fault::AnswerLost, Fault::Lost];
    let faulty = Arc::new(Faulty::new(service.on.transport.clone(), service.store.clone(), script));
    let worker = service.work(handlers(), faulty.clone()).await;
    service.send(commands(5)).await;
    one_effect_each(&service, 5).await;
    worker.shutdown().await;
    // Where the row is the message, the first publish that arrives is enough, whatever the answer.
    let met = if service.on.promises().keeps_rows { 2 } else { 4 };
    assert!(faulty.most_times() >= met, "the faults were met");
    let gone = std::mem::take(&mut *faulty.gone.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(gone, Vec::<String>::new(), "rows were gone before their confirm was answered");
}

pub(super) async fn a_cut_connection_costs_no_message(on: Subject) {
    let service = Service::new(on).await;
    let worker = service.start().await;
    for (n, batch) in commands(300).chunks(100).enumerate() {
        service.send(batch.to_vec()).await;
        eventually(&*service.on.bench, "some are done", async || {
            let done = service.store.counts().await.expect("rows can be counted").done;
            (done as usize > 300 * n).then_some(())
        })
        .await;
        if !service.on.bench.cut().await {
            break; // nothing lies between here and the broker
        }
        if n == 2 {
            one_effect_each(&service, 300).await;
        }
    }
    worker.shutdown().await;
}

/// Says how late it came.
#[derive(Clone, Default)]
struct Watch;

impl Handler<Act> for Watch {
    async fn handle(&self, m: Act, cx: &mut Context) -> crate::Result {
        let due: i64 = m.say.parse().map_err(anyhow::Error::from)?;
        let late = (cx.now().timestamp_micros() - due) / 1_000;
        note(cx, &m.on, late.to_string()).await
    }
}

pub(super) async fn a_command_for_later_comes_in_its_time(on: Subject) {
    let service = Service::new(on).await;
    let handlers = || Handlers::new().handle(Watch);
    let worker = service.work(handlers(), service.on.transport.clone()).await;
    let client = Client::new(service.store.clone(), &*service.on.transport, &handlers(), &service.config)
        .unwrap_or_else(|refusal| panic!("no client: {refusal:#}"));
    let delays = [900, 300, 1_500, 600, 0];
    for (n, delay) in delays.iter().enumerate() {
        let due = clock::now() + TimeDelta::milliseconds(*delay);
        let act = Act { on: format!("document {n}"), say: due.timestamp_micros().to_string() };
        let options = client::Send { due: Some(due), ..client::Send::default() };
        client.send_with(&act, options).await.expect("the outbox takes what is sent");
    }
    service.settled(delays.len() as u64).await;
    // Sweep, publish and commit come on top of what the transport promises for the delays that it keeps.
    let limit = service.on.promises().delay_accuracy + Duration::from_secs(2);
    for (n, delay) in delays.iter().enumerate() {
        let lines = service.diary(&format!("document {n}")).await;
        let late: i64 = lines[0].parse().expect("a number");
        assert!(late >= 0, "due in {delay} ms, it came {} ms early", -late);
        assert!(late as u128 <= limit.as_millis(), "due in {delay} ms, it came {late} ms late");
    }
    worker.shutdown().await;
}
