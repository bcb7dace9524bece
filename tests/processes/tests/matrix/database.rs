//! A database that fails under load: restarted, killed, its connections ended, its statements cut short, its commits refused, its disk
//! full. Two workers live through it, and 0 are lost, 0 double, nothing is left behind.

use crate::{
    WORKER,
    cell::Bench,
    server::{Disk, Server},
};
use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

const RABBITMQ: &str = "PITCREW_RABBITMQ4_URL";

/// Two workers, and a database that `fails` while commands go on coming: how often it did. Then all of it adds up.
async fn adds_up(what: &str, disk: Disk, fails: impl AsyncFn(&mut Server, &mut Bench) -> usize) {
    let Some(mut server) = Server::start(disk).await else { return };
    let Some(mut bench) = Bench::at(WORKER, RABBITMQ, Some(server.url()), processes::seed::told()).await else {
        return;
    };
    let mut workers = vec![bench.shop.start(), bench.shop.start()];
    for worker in &mut workers {
        worker.is_at_work().await;
    }
    bench.send(60).await;
    let fired = fails(&mut server, &mut bench).await;
    let over = Instant::now();
    let (recovered, died, account) = bench.account(workers, over).await;
    let sent = bench.generator.sent.good.len() + bench.generator.sent.poison.len();
    let (lost, double, orphans) = (account.lost.len(), account.double.len(), account.orphans.len());
    println!(
        "{what}: fired {fired}, sent {sent}, lost {lost}, double {double}, left or orphaned {orphans}, workers that ended {died}, \
         recovered in {} ms",
        recovered.as_millis()
    );
    assert!(account.is_well(), "{what}: {account:?}; {}", bench.shop.logs());
    assert!(fired > 0, "{what} did not strike; {}", bench.shop.logs());
    assert_eq!(died, 0, "{what}: no worker ends because its database is away; {}", bench.shop.logs());
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_restarted_loses_and_doubles_nothing() {
    adds_up("Postgres restarted, twice", Disk::OfTheMachine, async |server, bench| {
        for _ in 0..2 {
            bench.under_load(Duration::from_millis(300)).await;
            server.end("INT").await;
            bench.under_load(Duration::from_millis(700)).await;
            server.serve().await;
        }
        server.said_times("received fast shutdown request")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_loses_and_doubles_nothing() {
    adds_up("Postgres killed with SIGKILL, twice", Disk::OfTheMachine, async |server, bench| {
        for _ in 0..2 {
            bench.under_load(Duration::from_millis(300)).await;
            let status = server.end("KILL").await;
            assert_eq!(status.signal(), Some(9));
            bench.under_load(Duration::from_millis(700)).await;
            server.serve().await;
        }
        server.said_times("database system was not properly shut down")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_ends_lose_and_double_nothing() {
    adds_up("pg_terminate_backend, all connections, 8 times", Disk::OfTheMachine, async |server, bench| {
        let mut ended = 0;
        for _ in 0..8 {
            bench.under_load(Duration::from_millis(250)).await;
            ended += server.terminate_all().await;
        }
        ended
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_are_cut_short_lose_and_double_nothing() {
    adds_up("statement_timeout of 1 ms for 3 s", Disk::OfTheMachine, async |server, bench| {
        server.does("alter role postgres set statement_timeout = '1ms'").await;
        server.terminate_all().await;
        bench.under_load(Duration::from_secs(3)).await;
        let cut = server.said_times("canceling statement due to statement timeout");
        server.does("alter role postgres reset statement_timeout").await;
        server.terminate_all().await;
        cut
    })
    .await;
}

/// A worker's sessions are READ COMMITTED whatever the role's default is, so that a trigger refuses instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_cannot_be_serialised_lose_and_double_nothing() {
    adds_up("two in three commits refused with 40001 for 3 s", Disk::OfTheMachine, async |server, bench| {
        server.does("alter role postgres set default_transaction_isolation = 'serializable'").await;
        server.terminate_all().await;
        let inbox = format!("{}.inbox", bench.shop.config.store.schema);
        let refuse = "create function refuse() returns trigger language plpgsql as $$ begin
            if random() < 0.66 then raise exception 'refused by a test' using errcode = '40001'; end if;
            return null;
        end $$";
        server.does(refuse).await;
        server
            .does(&format!("create trigger refuse after insert or update on {inbox} execute function refuse()"))
            .await;
        bench.under_load(Duration::from_secs(3)).await;
        server.does(&format!("drop trigger refuse on {inbox}")).await;
        server.does("alter role postgres reset default_transaction_isolation").await;
        server.said_times("refused by a test")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_loses_and_doubles_nothing() {
    adds_up("disk full for 3 s", Disk::Of(160), async |server, bench| {
        bench.under_load(Duration::from_millis(300)).await;
        let balloon = server.fill();
        bench.under_load(Duration::from_secs(3)).await;
        drop(balloon);
        // A log that cannot be written ends the whole server.
        if server.has_ended() {
            server.serve().await;
        }
        server.said_times("No space left on device")
    })
    .await;
}
