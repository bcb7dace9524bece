//! The file: where it may be, who may use it, and which build.

use super::*;
use pitcrew::store::{AuditFilter, Replays as _, StoreError};
use std::{fs, os::unix::fs::PermissionsExt};

/// What an operator reads.
async fn refusal(path: &str) -> String {
    match SqliteStore::open(path, Options::default()).await {
        Err(StoreError::Unfit(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_directory_is_named_with_the_fix() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("not/there");
    let why = refusal(&missing.join("shop.db").to_string_lossy()).await;
    assert!(why.contains(&format!("mkdir -p {}", missing.display())), "{why}");
}

#[tokio::test]
async fn a_read_only_directory_is_named_with_the_fix() {
    let on = Subject::new().await;
    on.store.close().await;
    let mode = |mode| fs::set_permissions(on.directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let why = refusal(&path(&on.directory)).await;
    assert!(why.contains(&format!("chmod u+w {}", on.directory.path().display())), "{why}");
    mode(0o755);
    assert_eq!(on.other(Options::default()).await.migrate().await.unwrap().from, 3, "nothing was lost");
}

/// A directory that even root cannot write, whatever its mode says.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_directory_that_takes_no_file_is_named() {
    let why = refusal("/sys/kernel/shop.db").await;
    assert!(why.contains("/sys/kernel") && why.contains("writable"), "{why}");
}

#[tokio::test]
async fn a_read_only_file_is_named_with_the_fix() {
    let on = Subject::new().await;
    on.store.close().await;
    let file = path(&on.directory);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let why = refusal(&file).await;
    assert!(why.contains(&format!("chmod u+w {file}")), "{why}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let letter = "Dear Sir or Madam, ".repeat(500);
    fs::write(path(&directory), &letter).unwrap();
    let why = refusal(&path(&directory)).await;
    assert!(why.contains("no SQLite database") && why.contains("shop.db"), "{why}");
    assert_eq!(fs::read_to_string(path(&directory)).unwrap(), letter);
}

#[tokio::test]
async fn a_second_worker_is_refused_and_told_who_holds_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory);
    let first = SqliteStore::lock(&file).unwrap();
    let Err(StoreError::Unfit(why)) = SqliteStore::lock(&format!("sqlite://{file}")) else { panic!("two workers") };
    assert!(why.contains(&std::process::id().to_string()) && why.contains("use Postgres"), "{why}");
    drop(first);
    let _next = SqliteStore::lock(&file).unwrap();
}

#[tokio::test]
async fn a_link_to_the_file_is_the_same_file() {
    let on = Subject::new().await;
    let link = on.directory.path().join("link.db");
    std::os::unix::fs::symlink(path(&on.directory), &link).unwrap();
    let _worker = SqliteStore::lock(&path(&on.directory)).unwrap();
    assert!(SqliteStore::lock(&link.to_string_lossy()).is_err());
}

/// The kernel gives the lock back, so nobody has to delete a file after a crash.
#[tokio::test]
async fn a_lock_file_that_a_killed_worker_left_means_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(format!("{}.lock", path(&directory)), "4711").unwrap();
    let _worker = SqliteStore::lock(&path(&directory)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_create_and_migrate_one_file_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let starts = (0..8).map(async |_| {
        let store = SqliteStore::open(&path(&directory), Options::default()).await.unwrap();
        store.migrate().await.unwrap().from
    });
    let mut from = futures::future::join_all(starts).await;
    from.sort_unstable();
    assert_eq!(from, [0, 3, 3, 3, 3, 3, 3, 3], "one of them made the tables");
}

#[tokio::test]
async fn a_database_of_the_release_before_is_brought_up_with_what_it_holds() {
    let on = Subject::new().await;
    let before = [
        "alter table audit drop column body_before",
        "alter table audit drop column body_after",
        "drop table dead_replay",
        "drop table dead_replay_letter",
        "insert into audit (actor, action, target, reason, at) values ('ada', 'discard', 'order 7', 'cancelled', 1)",
    ];
    for sql in before {
        on.execute(sql).await;
    }
    on.execute("update meta set value = 2 where key = 'schema'").await;
    let migrated = on.store.migrate().await.unwrap();
    assert_eq!((migrated.from, migrated.to), (2, 3));
    let trail = on.store.audit_trail(&AuditFilter::default(), 9).await.unwrap();
    assert!(trail.len() == 1 && trail[0].actor == "ada" && trail[0].bodies.is_none(), "{trail:?}");
    assert_eq!(on.store.replays(9).await.unwrap(), []);
    // What the release before writes beside this one.
    on.execute(before[4]).await;
    assert_eq!(on.store.audit_trail(&AuditFilter::default(), 9).await.unwrap().len(), 2);
    for sql in before {
        on.execute(sql).await;
    }
    on.execute("alter table worker drop column hindered").await;
    on.execute("update meta set value = 1 where key = 'schema'").await;
    let migrated = on.store.migrate().await.unwrap();
    assert_eq!((migrated.from, migrated.to), (1, 3));
    assert!(on.store.hindered(chrono::DateTime::UNIX_EPOCH).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_database_that_needs_a_newer_build_is_refused() {
    let on = Subject::new().await;
    on.execute("update meta set value = 7 where key = 'schema'").await;
    assert_eq!(on.store.migrate().await.unwrap().to, 7, "newer tables that this build can work on are fine");
    on.execute("update meta set value = 6 where key = 'min_schema'").await;
    let Err(StoreError::Unfit(why)) = on.store.migrate().await else { panic!("it was accepted") };
    assert!(why.contains("schema 7") && why.contains("newer build"), "{why}");
}

#[tokio::test]
async fn a_table_of_someone_else_is_not_taken_for_ours() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&path(&directory), Options::default()).await.unwrap();
    let url = format!("sqlite://{}", path(&directory));
    let mut app = SqliteConnection::connect(&url).await.unwrap();
    app.execute("create table Inbox (mail text)").await.unwrap();
    let Err(StoreError::Unfit(why)) = store.migrate().await else { panic!("it was accepted") };
    assert!(why.contains("`inbox`") && why.contains("file of its own"), "{why}");
    app.execute("drop table inbox").await.unwrap();
    assert_eq!(store.migrate().await.unwrap().from, 0, "nothing was left half done");
}

#[tokio::test]
async fn a_closed_store_leaves_one_complete_file() {
    let on = Subject::new().await;
    let sold = sale();
    on.commit(std::slice::from_ref(&sold)).await.unwrap();
    on.store.close().await;
    let copy = tempfile::tempdir().unwrap();
    fs::copy(path(&on.directory), path(&copy)).unwrap();
    let restored = SqliteStore::open(&path(&copy), Options::default()).await.unwrap();
    assert!(restored.seen(&[sold.key()]).await.unwrap()[0].is_some());
}
