//! Workers on RabbitMQ, competing for one queue.

use crate::{WORKER, has_time};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicNackOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
};
use pitcrew::Message;
use processes::{
    Work,
    shop::{SERVICE, Shop, broker, plain, slow},
};
use std::time::{Duration, Instant};

/// A test for each version, so that a failure names both.
macro_rules! on_each_version {
    ($($test:ident)*) => {
        mod v3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test("PITCREW_RABBITMQ_URL").await;
            })*
        }

        mod v4 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test("PITCREW_RABBITMQ4_URL").await;
            })*
        }
    };
}

/// A shop on the broker that this variable names, and a client of ours.
struct Scene {
    shop: Shop,
    connection: Connection,
    channel: Channel,
}

impl Scene {
    /// `None`, said so: something is missing.
    async fn on(variable: &str, settings: &str) -> Option<Self> {
        let url = broker(variable)?;
        let shop = Shop::on_postgres(WORKER, &url, settings).await?;
        let connection = Connection::connect(&format!("{url}/%2f"), ConnectionProperties::default()).await;
        let connection = connection.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel opens");
        Some(Self { shop, connection, channel })
    }

    /// How many wait in the queue of commands, held by nobody.
    async fn ready(&self) -> u32 {
        let look = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare((*self.shop.commands()).into(), look, Default::default()).await;
        queue.expect("it is there").message_count()
    }

    /// Waits until the outbox is empty and the queue is, too: somebody holds everything.
    async fn all_is_held(&self) {
        self.shop
            .until("everything is held", async || {
                let counts = self.shop.store.counts().await.expect("counts");
                (counts.outbox == 0 && self.ready().await == 0).then_some(())
            })
            .await;
    }

    /// Takes away what the workers made.
    async fn close(self) {
        for subscription in [self.shop.commands(), format!("{}.events.{SERVICE}", self.shop.prefix)] {
            for suffix in ["", ".dead", ".retry.100ms", ".retry.200ms"] {
                let queue = format!("{subscription}{suffix}");
                self.channel.queue_delete((*queue).into(), QueueDeleteOptions::default()).await.expect("it goes");
            }
        }
        let replies = format!("{}.replies", self.shop.prefix);
        self.channel.queue_delete((*replies).into(), QueueDeleteOptions::default()).await.expect("it goes");
        for name in ["commands", "commands.dead", "events", "events.dead"] {
            let exchange = format!("{}.{name}", self.shop.prefix);
            self.channel.exchange_delete((*exchange).into(), Default::default()).await.expect("it goes");
        }
        self.connection.close(200, "cleared".into()).await.expect("closes");
        self.shop.close().await;
    }
}

/// What a killed worker held comes to its neighbour as soon as its connection is gone.
async fn a_neighbour_takes_over_what_a_killed_worker_held(variable: &str) {
    let Some(scene) = Scene::on(variable, "concurrency = 128").await else { return };
    let shop = &scene.shop;
    let mut victim = shop.start_with("[handlers.\"test.Work\"]\nstuck = true\n");
    victim.is_at_work().await;
    shop.send(plain(0..256)).await;
    scene.all_is_held().await;
    let mut neighbour = shop.start();
    neighbour.is_at_work().await;
    assert_eq!((scene.ready().await, shop.tally().await.done), (0, 0), "the victim holds all of it");
    let killed = Instant::now();
    victim.kill().await;
    shop.done(1).await;
    println!(
        "{variable}: 256 were held by the killed worker; first effect of the neighbour after {:?}",
        killed.elapsed()
    );
    assert!(killed.elapsed() < Duration::from_secs(5), "no heartbeat need be missed for it: {:?}", killed.elapsed());
    shop.each_once(256).await;
    println!("{variable}: all 256 after {:?}", killed.elapsed());
    neighbour.stop().await;
    scene.close().await;
}

async fn of_two_workers_one_is_killed_in_the_middle_of_it(variable: &str) {
    let Some(scene) = Scene::on(variable, "").await else { return };
    let shop = &scene.shop;
    let (mut one, mut two) = (shop.start(), shop.start());
    one.is_at_work().await;
    two.is_at_work().await;
    shop.send(slow(0..1_500, Duration::from_millis(20))).await;
    shop.done(300).await;
    one.kill().await;
    let killed = Instant::now();
    shop.send(plain(1_500..1_600)).await;
    shop.each_once(1_600).await;
    println!("{variable}: the rest of 1600 was done and heard {:?} after the kill", killed.elapsed());
    two.stop().await;
    scene.close().await;
}

/// Four times it takes its worker with it, three times beside innocents; then it is a dead letter and they are done.
async fn a_message_that_kills_its_worker_is_told_from_its_neighbours(variable: &str) {
    let Some(scene) = Scene::on(variable, "").await else { return };
    let shop = &scene.shop;
    let poison = Work { n: 1_000, takes: 100, kills: true, ..Work::default() };
    shop.send(slow(0..15, Duration::from_millis(400)).chain([poison]).chain(slow(15..30, Duration::from_millis(400))))
        .await;
    let mut deaths = 0;
    let last = loop {
        let mut worker = shop.start();
        let letter = shop.until("a death, or the letter", async || (!shop.letters().await.is_empty()).then_some(()));
        tokio::select! {
            status = worker.ends() => {
                assert_eq!(status.code(), None, "it did not end by itself: {}", shop.logs());
                deaths += 1;
            }
            () = letter => break worker,
        }
    };
    assert_eq!(deaths, 4, "three in company, one alone");
    shop.each_once(30).await;
    let letters = shop.letters().await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.reason, "kills_worker");
    assert!(letter.error.contains("died 4 times"), "{}", letter.error);
    assert_eq!(shop.attempts().await, ["crash"], "the innocents have no attempt that did not end done");
    last.stop().await;
    scene.close().await;
}

/// Jobs that take their time and no CPU: twice the workers, twice the rate. What the first one has prefetched is not hoarded.
async fn a_second_worker_halves_the_rest_of_a_backlog(variable: &str) {
    let Some(scene) = Scene::on(variable, "concurrency = 8").await else { return };
    let shop = &scene.shop;
    shop.send(slow(0..420, Duration::from_millis(250))).await;
    let mut one = shop.start();
    one.is_at_work().await;
    shop.done(16).await;
    let alone = Instant::now();
    shop.done(96).await;
    let alone = alone.elapsed() / 80;
    let mut two = shop.start();
    two.is_at_work().await;
    let both = shop.tally().await.done;
    let began = Instant::now();
    shop.done(404).await; // the last few are not enough for all
    let each = began.elapsed() / u32::try_from(404 - both).expect("a count");
    let ratio = alone.as_secs_f64() / each.as_secs_f64();
    println!("{variable}: {alone:?} a job alone, {each:?} with a second worker: {ratio:.2} times as fast");
    assert!(ratio > 1.6, "{ratio}");
    shop.each_once(420).await;
    one.stop().await;
    two.stop().await;
    scene.close().await;
}

/// A copy that carried the broker's own notes of its death would be taken for a cycle by 3.10, and lie in the delay queue for ever.
async fn what_the_broker_buried_is_replayed_and_may_fail_again(variable: &str) {
    let Some(scene) = Scene::on(variable, "").await else { return };
    let shop = &scene.shop;
    let mut worker = shop.start();
    worker.is_at_work().await;
    worker.stop().await;
    // While no worker is there, a foreign consumer takes them from the worker's own queue and rejects them for good.
    let queue = shop.commands();
    for n in 0..40 {
        let body = serde_json::to_vec(&Work { n, failing: 1, ..Work::default() }).expect("JSON");
        let id = format!("buried-{n}");
        let native = BasicProperties::default().with_message_id((*id).into()).with_type(Work::TYPE.into());
        let options = BasicPublishOptions::default();
        let sent = scene.channel.basic_publish("".into(), (*queue).into(), options, &body, native).await;
        sent.expect("it is sent").await.expect("it is taken");
    }
    let reject = async || {
        let got = scene.channel.basic_get((*queue).into(), Default::default()).await.expect("it answers")?;
        let for_good = BasicNackOptions { requeue: false, ..Default::default() };
        scene.channel.basic_nack(got.delivery.delivery_tag, for_good).await.expect("it rejects");
        Some(())
    };
    for _ in 0..40 {
        shop.until("one to reject", reject).await;
    }
    let worker = shop.start();
    let letters = shop.until("40 letters", async || {
        let letters = shop.letters().await;
        (letters.len() == 40).then_some(letters)
    });
    assert!(letters.await.iter().all(|letter| letter.reason == "buried"));
    let replayed = Instant::now();
    shop.operator(&["dead", "replay", "--all", "--yes", "--stop-at", "100%"]);
    shop.send([Work { n: 40, failing: 1, ..Work::default() }]).await;
    shop.each_once(41).await;
    println!(
        "{variable}: 40 that had been buried, and one beside them, failed and were done {:?} after the replay",
        replayed.elapsed()
    );
    assert_eq!(shop.attempts().await, vec!["failure"; 41]);
    worker.stop().await;
    scene.close().await;
}

/// A figure more than a test: what one long job costs the short ones that come behind it.
async fn a_long_job_costs_the_short_ones_behind_it_next_to_nothing(variable: &str) {
    if !has_time("takes a minute or two") {
        return;
    }
    let Some(scene) = Scene::on(variable, "deadline = \"10m\"").await else { return };
    let shop = &scene.shop;
    let mut worker = shop.start();
    worker.is_at_work().await;
    let run = async |first: u32, before: usize| {
        let began = Instant::now();
        shop.send(plain(first..first + SHORT)).await;
        shop.done(before + SHORT as usize).await;
        began.elapsed()
    };
    let (mut without, mut with, mut done) = (Vec::new(), Vec::new(), 0);
    for round in 0..2 {
        let first = round * 100_000;
        without.push(run(first, done).await);
        done += SHORT as usize;
        // Whoever waited for it would take five times as long.
        let (long, takes) = (first + 50_000, without[0] * 4);
        shop.send(slow(long..long + 1, takes)).await;
        with.push(run(first + 20_000, done).await);
        done += SHORT as usize + 1;
        assert_eq!(shop.effects(long).await.done, 0, "the long one of {takes:?} still runs");
        shop.done(done).await;
    }
    shop.each_once(done).await;
    let least = |runs: &[Duration]| runs.iter().min().expect("two runs").as_secs_f64();
    let cost = least(&with) / least(&without) - 1.0;
    println!("{variable}: {SHORT} in {without:?}, behind a long job {with:?}: it costs {:.1} %", cost * 100.0);
    assert!(cost < 1.0, "more than the noise of a busy machine: {cost}");
    worker.stop().await;
    scene.close().await;
}

/// Short jobs behind a long one.
const SHORT: u32 = 3_000;

on_each_version! {
    a_neighbour_takes_over_what_a_killed_worker_held
    of_two_workers_one_is_killed_in_the_middle_of_it
    a_message_that_kills_its_worker_is_told_from_its_neighbours
    a_second_worker_halves_the_rest_of_a_backlog
    what_the_broker_buried_is_replayed_and_may_fail_again
    a_long_job_costs_the_short_ones_behind_it_next_to_nothing
}
