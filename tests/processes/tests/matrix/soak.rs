//! A soak: the car worker's binary at a steady load for as long as it is told, while workers are killed and frozen, networks cut,
//! brokers and the database killed and restarted, at random. At the end the checker adds up, and the judge looks for what grew.
//!
//! `tests/run --soak 1h`; nothing of it but the judge's own tests runs without.

#[path = "soak/broker.rs"]
mod broker;
#[path = "soak/judge.rs"]
mod judge;
#[path = "soak/place.rs"]
mod place;
#[path = "soak/record.rs"]
mod record;
#[path = "soak/source.rs"]
mod source;

use crate::{
    cell::pass,
    server::{Disk, Server},
};
use broker::Broker;
use pitcrew::config::parse_duration;
use place::Place;
use processes::seed::Dice;
use record::{Record, measure};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

/// Commands before the soak, by which is measured what the workers can do.
const BURST: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    Frozen,
    DatabaseCut,
    DatabaseSilent,
    BrokerCut,
    BrokerKilled,
    DatabaseRestarted,
    DatabaseKilled,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Killed,
        Self::Frozen,
        Self::DatabaseCut,
        Self::DatabaseSilent,
        Self::BrokerCut,
        Self::BrokerKilled,
        Self::DatabaseRestarted,
        Self::DatabaseKilled,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Killed => "SIGKILL of a worker",
            Self::Frozen => "SIGSTOP and SIGCONT of a worker",
            Self::DatabaseCut => "connections to the database cut",
            Self::DatabaseSilent => "database silent for 2 s, then cut",
            Self::BrokerCut => "connections to RabbitMQ cut",
            Self::BrokerKilled => "broker killed, started again",
            Self::DatabaseRestarted => "database restarted",
            Self::DatabaseKilled => "database killed, started again",
        })
    }
}

/// How long, and how many commands a second on each broker.
struct Plan {
    length: Duration,
    rate: Option<f64>,
}

/// `None`, said so: nobody wants one.
fn plan() -> Option<Plan> {
    let Ok(text) = std::env::var("PITCREW_SOAK") else {
        eprintln!("skipped: a soak takes as long as it is told (tests/run --soak 1h)");
        return None;
    };
    let length = parse_duration(&text).unwrap_or_else(|| panic!("PITCREW_SOAK is a time such as 20m, not `{text}`"));
    assert!(length >= Duration::from_secs(60), "a soak of less than 1m says nothing: most is too seldom measured");
    let rate = std::env::var("PITCREW_SOAK_RATE").ok();
    let rate = rate.map(|text| text.parse().unwrap_or_else(|_| panic!("PITCREW_SOAK_RATE is a number, not `{text}`")));
    Some(Plan { length, rate })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_and_nothing_is_lost_however_long_it_runs() {
    let Some(plan) = plan() else { return };
    let seed = processes::seed::told();
    let had = (Server::start(Disk::OfTheMachine).await, Broker::rabbit().await, Broker::kafka().await);
    let (Some(mut server), Some(rabbit), Some(kafka)) = had else { panic!("a soak needs all of them, of its own") };
    let mut places = vec![
        Place::open("RabbitMQ", rabbit, &server.url(), seed).await,
        Place::open("Kafka", kafka, &server.url(), seed + 1).await,
    ];
    // Both at once, for they share the machine.
    let able = futures::future::join_all(places.iter_mut().map(|place| place.is_able(BURST))).await;
    for (place, able) in places.iter_mut().zip(able) {
        place.rate = plan.rate.unwrap_or(able / 2.0);
        let how = if plan.rate.is_some() { "as PITCREW_SOAK_RATE says" } else { "half of it" };
        println!(
            "{}: {BURST} commands that waited were done at {able:.0} a second; the soak sends {:.1}, {how}",
            place.name, place.rate
        );
    }

    let record = Arc::new(Mutex::new(Record::default()));
    // 240 samples tell noise from growth; more often than each second they tell nothing.
    let every = (plan.length / 240).max(Duration::from_secs(1));
    let watched = places.iter().map(Place::watched).collect();
    let measuring = tokio::spawn(measure(record.clone(), server.url(), watched, every));
    let sources: Vec<_> = places.iter_mut().map(Place::send_steadily).collect();
    let struck = strike(&plan, seed, &mut server, &mut places).await;
    let mut sent = Vec::new();
    for (place, source) in places.iter().zip(sources) {
        place.ends.store(true, SeqCst);
        sent.push(source.await.expect("it goes on"));
    }
    measuring.abort();

    let ended = Instant::now();
    let mut is_well = true;
    for (place, source) in places.into_iter().zip(sent) {
        is_well &= place.adds_up(&server.url(), source, ended).await;
    }
    println!("\nfaults:");
    for (fault, times) in &struck {
        println!("{fault:<36}  {times:>5}");
    }
    println!("\n{}", judge::HEAD);
    let minutes = plan.length.as_secs_f64() / 60.0;
    for series in record.lock().expect("nobody panicked").series() {
        let verdict = series.judged(minutes);
        println!("{verdict}");
        is_well &= verdict.is_flat;
    }
    assert!(is_well, "not all is well: see above");
}

/// One fault after another, until the time is over: how often each struck.
async fn strike(plan: &Plan, seed: u64, server: &mut Server, places: &mut [Place]) -> BTreeMap<Fault, u32> {
    let (mut dice, mut pack, mut struck) = (Dice::of(seed), Vec::new(), BTreeMap::new());
    let gap = (plan.length / 60).clamp(Duration::from_secs(2), Duration::from_secs(30));
    let began = Instant::now();
    loop {
        // From half of it to one and a half.
        let next = gap / 2 + gap.mul_f64(dice.below(1_000) as f64 / 1_000.0);
        pass(next.min(plan.length.saturating_sub(began.elapsed()))).await;
        if began.elapsed() >= plan.length {
            return struck;
        }
        let place = &mut places[usize::try_from(dice.below(2)).expect("an index")];
        // As cards from a pack: each is drawn before one is drawn again.
        if pack.is_empty() {
            pack.extend(Fault::ALL);
        }
        let fault = pack.swap_remove(usize::try_from(dice.below(pack.len() as u64)).expect("an index"));
        // Kafka tells its clients its own address: no proxy can be put before it.
        let fault = if fault == Fault::BrokerCut && !place.has_broker_proxy() { Fault::DatabaseCut } else { fault };
        let at = began.elapsed().as_secs();
        let away = Duration::from_millis(200 + dice.below(3_000));
        match fault {
            Fault::Killed => place.kill_one().await,
            Fault::Frozen => place.freeze_one(dice.below(2) == 0, away * 3).await,
            Fault::DatabaseCut => place.database.cut(),
            Fault::DatabaseSilent => {
                place.database.fall_silent();
                pass(Duration::from_secs(2)).await;
                place.database.cut();
            }
            Fault::BrokerCut => place.cut_broker(),
            Fault::BrokerKilled => place.kill_broker(away).await,
            Fault::DatabaseRestarted | Fault::DatabaseKilled => {
                let signal = if fault == Fault::DatabaseKilled { "KILL" } else { "INT" };
                server.end(signal).await;
                pass(away).await;
                server.serve().await;
            }
        }
        *struck.entry(fault).or_default() += 1;
        let place = if matches!(fault, Fault::DatabaseRestarted | Fault::DatabaseKilled) { "both" } else { place.name };
        println!("{:>3}:{:02}  {fault:<36}  {place}", at / 60, at % 60);
    }
}
