//! The checker checked: what a real worker did is well; then one is lost, one doubled and one orphaned, and it must say so.

use crate::{
    WORKER,
    bare::Bare,
    cell::{Bench, On},
    checker::{Account, Facts},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_sees_one_lost_one_double_and_one_orphan() {
    let Some(mut bench) = Bench::on(WORKER, "PITCREW_RABBITMQ_URL", On::Sqlite, processes::seed::told()).await else {
        return;
    };
    let worker = bench.shop.start();
    bench.send(60).await;
    bench.completes(std::time::Instant::now()).await;
    worker.stop().await;
    let (events, database) = (bench.bare.events().await, bench.database().await);
    let sent = bench.generator.sent.clone();
    let account = async || Account::of(&sent, &Facts::read(&database, events.clone(), bench.bare.left().await).await);
    assert_eq!(account().await, Account::default(), "what the worker did");

    database
        .rows("update document set body = json_set(body, '$.done', 0) where collection = 'effects' and id = '5'")
        .await;
    assert_eq!(account().await.lost, ["5 has no effects"]);
    database
        .rows("update document set body = json_set(body, '$.done', 2) where collection = 'effects' and id = '5'")
        .await;
    assert_eq!(account().await.double, ["5 has 2 effects"]);
    database
        .rows("update document set body = json_set(body, '$.done', 1) where collection = 'effects' and id = '5'")
        .await;
    assert!(account().await.is_well());

    let id = &sent.good[&6];
    database.rows(&format!("update inbox set id = 'nobody' where id = '{id}'")).await;
    let orphans = [format!("message {id} has no fate"), "a fate of nobody, which nobody sent".into()];
    assert_eq!(account().await.orphans, orphans);
    database.rows(&format!("update inbox set id = '{id}' where id = 'nobody'")).await;

    // What the broker tells: an event that never left, one that left under two IDs, and a command that nobody took.
    let facts = Facts::read(&database, events.clone(), bench.bare.left().await).await;
    let without = facts.events.iter().filter(|(n, _)| *n != 9).cloned().collect();
    assert_eq!(
        Account::of(&sent, &Facts { events: without, ..facts.clone() }).lost,
        ["9 has no events with an ID of their own"]
    );
    let mut twice = facts.clone();
    twice.events.push((9, "another".into()));
    assert_eq!(Account::of(&sent, &twice).double, ["9 has 2 events with an ID of their own"]);
    let nobody_took = bench.generator.again();
    bench.bare.publish(&nobody_took[..1]).await;
    let Bare::Rabbit { prefix, .. } = &bench.bare else { panic!("it is RabbitMQ") };
    assert_eq!(account().await.orphans, [format!("1 left behind in {prefix}.commands")]);
    database.close().await;
    bench.close().await;
}
