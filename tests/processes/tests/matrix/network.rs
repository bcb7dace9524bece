//! A network that fails between a worker and its database or broker, above all between COMMIT and its answer: 0 lost, 0 double.
//! Kafka tells its clients its own address, so that none can be put between.

use crate::{
    WORKER,
    cell::{Bench, On, pass},
    checker::{Account, Facts},
};
use processes::proxy::{Commit, Proxy, Wire};
use std::time::{Duration, Instant};

/// Every how-manieth commit is cut.
const EVERY: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Database(Option<Commit>),
    Broker,
}

/// A worker behind a proxy, and a network that `fails`; then all of it adds up. What the proxy counted.
async fn adds_up(broker: &str, between: Between, fails: impl AsyncFn(&Proxy)) -> Option<u32> {
    let mut bench = Bench::on(WORKER, broker, On::Postgres, processes::seed::told()).await?;
    let database = std::env::var("PITCREW_POSTGRES_URL").expect("it is there");
    let (url, wire, commits) = match between {
        Between::Database(commits) => (database, Wire::Postgres, commits.map(|which| (which, EVERY))),
        Between::Broker => (bench.url.clone(), Wire::Bytes, None),
    };
    let (before, rest) = url.rsplit_once('@').expect("a user");
    let (address, path) =
        rest.split_once('/').map_or((rest, String::new()), |(address, path)| (address, format!("/{path}")));
    let proxy = Proxy::to(address.into(), wire, commits).await;
    let through = format!("{before}@127.0.0.1:{}{path}", proxy.port);
    let mut worker = match between {
        Between::Database(_) => bench.shop.start_through(Some(&format!("{through}?sslmode=disable")), None),
        Between::Broker => bench.shop.start_through(None, Some(&through)),
    };
    let began = Instant::now();
    worker.is_at_work().await;
    for _ in 0..4 {
        bench.send(40).await;
        fails(&proxy).await;
    }
    let again = bench.generator.again();
    bench.put(again).await;
    let took = bench.completes(began).await;
    let cut = proxy.commits_cut();
    worker.stop().await;
    // What it held when its last commit was cut is in its queue again, for one who has a network.
    let mut neighbour = bench.shop.start();
    neighbour.is_at_work().await;
    bench.completes(began).await;
    neighbour.stop().await;
    let (reader, left, events) = (bench.database().await, bench.bare.left().await, bench.bare.events().await);
    let account = Account::of(&bench.generator.sent, &Facts::read(&reader, events, left).await);
    println!("{broker}  {between:?}: {cut} commits cut, over after {} ms, {account:?}", took.as_millis());
    assert!(account.is_well(), "{account:?}; {}", bench.shop.logs());
    reader.close().await;
    bench.close().await;
    Some(cut)
}

const RABBITMQ: &str = "PITCREW_RABBITMQ4_URL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_cut_off_is_neither_lost_nor_done_twice() {
    let broken = Between::Database(Some(Commit::AnswerLost));
    let Some(cut) = adds_up(RABBITMQ, broken, async |_| pass(Duration::from_millis(300)).await).await else { return };
    assert!(cut > 0, "no commit was cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrives_is_neither_lost_nor_done_twice() {
    let broken = Between::Database(Some(Commit::Lost));
    let Some(cut) = adds_up(RABBITMQ, broken, async |_| pass(Duration::from_millis(300)).await).await else { return };
    assert!(cut > 0, "no commit was cut");
}

/// Slow, then silent in the middle of it, then cut.
async fn fails_in_every_way(proxy: &Proxy) {
    proxy.delay(Duration::from_millis(20));
    pass(Duration::from_millis(200)).await;
    proxy.delay(Duration::ZERO);
    proxy.fall_silent();
    pass(Duration::from_millis(300)).await;
    proxy.cut();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_silent_and_cut_way_to_the_database_loses_and_doubles_nothing() {
    adds_up(RABBITMQ, Between::Database(None), fails_in_every_way).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_silent_and_cut_way_to_the_broker_loses_and_doubles_nothing() {
    adds_up(RABBITMQ, Between::Broker, fails_in_every_way).await;
}
