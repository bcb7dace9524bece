//! Starting on a database: migrations, addresses, partitions made on the way.

use super::*;
use pitcrew::store::{AuditFilter, Migrated, Replays as _, StoreError};

#[tokio::test]
async fn eight_workers_may_migrate_at_once() {
    let Some(bed) = Bed::bare().await else { return };
    let stores = futures::future::join_all((0..8).map(|_| connect(&bed.url, &bed.schema))).await;
    let migrated = futures::future::join_all(stores.iter().map(|store| store.migrate())).await;
    let migrated: Vec<Migrated> = migrated.into_iter().map(|m| m.expect("migrates")).collect();
    assert_eq!(migrated.iter().filter(|m| m.from == 0).count(), 1, "one of them did it: {migrated:?}");
    assert!(migrated.iter().all(|m| m.to == 3), "{migrated:?}");
    futures::future::join_all(stores.iter().map(|store| store.close())).await;
    bed.end().await;
}

#[tokio::test]
async fn a_database_that_needs_a_newer_build_is_refused() {
    let Some(bed) = Bed::make().await else { return };
    bed.run("update {s}.meta set version = 9, min_schema = 1").await;
    assert_eq!(bed.store.migrate().await.expect("expand-only: an older build may go on"), Migrated { from: 9, to: 9 });
    bed.run("update {s}.meta set version = 9, min_schema = 7").await;
    let error = bed.store.migrate().await.expect_err("is refused");
    assert!(matches!(error, StoreError::Unfit(_)));
    assert!(error.to_string().contains("needs a build that knows version 7 or later"), "{error}");
    bed.end().await;
}

#[tokio::test]
async fn a_missing_partition_is_made_on_the_fly() {
    let Some(bed) = Bed::make().await else { return };
    let messages = [finished(id_at(days_ago(5))), finished(id_at(days_ago(3))), finished(id_at(days_ago(0)))];
    assert_eq!(commit(&bed.store, &messages).await.expect("commits"), [Verdict::Stored; 3]);
    assert_eq!(commit(&bed.store, &messages).await.expect("commits"), [Verdict::Duplicate; 3]);
    let name = days_ago(5).format("inbox_%Y%m%d");
    assert_eq!(bed.count(&format!("select count(*) from {{s}}.{name}")).await, 1);
    bed.end().await;
}

#[tokio::test]
async fn ids_out_of_the_span_of_partitions_are_deduplicated_too() {
    let Some(bed) = Bed::make().await else { return };
    let messages = [
        finished(id_at(days_ago(400))),
        finished(id_at(days_ago(-400))),
        finished("018f0000-0000-7000-8000-000000000000"),
        finished("order 7"),
    ];
    let partitions = "select count(*) from pg_inherits where inhparent = '{s}.inbox'::regclass";
    let before = bed.count(partitions).await;
    assert_eq!(commit(&bed.store, &messages).await.expect("commits"), [Verdict::Stored; 4]);
    assert_eq!(commit(&bed.store, &messages).await.expect("commits"), [Verdict::Duplicate; 4]);
    assert_eq!(bed.count("select count(*) from {s}.inbox_undated").await, 4);
    assert_eq!(bed.count(partitions).await, before, "an ID alone makes no partition that is far away");
    let keys: Vec<_> = messages.iter().map(Finished::key).collect();
    assert!(bed.store.seen(&keys).await.expect("answers").iter().all(Option::is_some));
    bed.end().await;
}

#[tokio::test]
async fn a_schema_of_the_release_before_is_brought_up_with_what_it_holds() {
    let Some(bed) = Bed::make().await else { return };
    let (worker, now) = (worker(), clock::now());
    bed.store.start_worker(&worker, now).await.expect("enters");
    let before = "alter table {s}.audit drop column body_before, drop column body_after;
        drop table {s}.dead_replay_letter; drop table {s}.dead_replay;
        insert into {s}.audit (at, actor, action, target, reason) values (now(), 'ada', 'discard', 'order 7', 'cancelled');";
    bed.run(&format!("{before} update {{s}}.meta set version = 2")).await;
    assert_eq!(bed.store.migrate().await.expect("migrates"), Migrated { from: 2, to: 3 });
    let trail = bed.store.audit_trail(&AuditFilter::default(), 9).await.expect("answers");
    assert!(trail.len() == 1 && trail[0].actor == "ada" && trail[0].bodies.is_none(), "{trail:?}");
    assert_eq!(bed.store.replays(9).await.expect("answers"), []);
    // What the release before writes beside this one.
    let by_it = "insert into {s}.audit (at, actor, action, target, reason) values (now(), 'bob', 'replay', 'order 8', 'mended')";
    bed.run(by_it).await;
    assert_eq!(bed.store.audit_trail(&AuditFilter::default(), 9).await.expect("answers").len(), 2);
    bed.run(&format!("{before} alter table {{s}}.worker drop column hindered; update {{s}}.meta set version = 1"))
        .await;
    assert_eq!(bed.store.migrate().await.expect("migrates"), Migrated { from: 1, to: 3 });
    assert!(bed.store.beat(worker.id, &[], now).await.expect("beats"), "it is still among the living");
    bed.end().await;
}

#[tokio::test]
async fn an_address_without_a_server_fails_fast_and_keeps_the_password_to_itself() {
    let options = Options::default;
    let error = PostgresStore::connect("postgres://me:s3cret@127.0.0.1:1/db", options()).await.expect_err("fails");
    assert!(matches!(error, StoreError::Away(_)), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1:1") && !text.contains("s3cret"), "{text}");
    let error = PostgresStore::connect("postgres://me:s3cret@[oops/db", options()).await.expect_err("fails");
    assert!(matches!(error, StoreError::Unfit(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_schema_name_that_is_more_than_a_name_is_refused() {
    let Some(bed) = Bed::bare().await else { return };
    let options = Options { schema: "x\"; drop schema public; --".into(), ..Options::default() };
    let error = PostgresStore::connect(&bed.url, options).await.expect_err("fails");
    assert!(matches!(error, StoreError::Unfit(_)), "{error:?}");
    bed.end().await;
}

#[tokio::test]
async fn a_role_that_may_not_make_a_schema_uses_the_one_made_for_it_and_else_says_so() {
    let Some(bed) = Bed::bare().await else { return };
    let role = &bed.schema;
    bed.run(&format!("create role {role} login password 'x'; grant pg_read_all_settings to {role}")).await;
    let host = bed.url.rsplit("://").next().and_then(|rest| rest.rsplit('@').next()).expect("an address");
    let url = format!("postgres://{role}:x@{host}");
    let store = connect(&url, &bed.schema).await;
    let error = store.migrate().await.expect_err("may not");
    assert!(matches!(&error, StoreError::Unfit(why) if why.contains("permission denied")), "{error:?}");
    bed.run(&format!("create schema {{s}} authorization {role}")).await;
    assert_eq!(store.migrate().await.expect("migrates"), Migrated { from: 0, to: 3 });
    assert_eq!(commit(&store, &[finished(id_at(days_ago(4)))]).await.expect("commits"), [Verdict::Stored]);
    assert_eq!(store.check(&[]).await.expect("is fit"), Vec::<String>::new());
    store.close().await;
    bed.run(&format!("drop schema {{s}} cascade; drop role {role}")).await;
    bed.end().await;
}
