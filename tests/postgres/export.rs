//! Retention with a sink: a partition is a file before it is dropped, whatever happens between the two.

use super::*;
use pitcrew::{
    store::{Maintained, Retention, Sink},
    testing::poll_pause,
};
use std::{collections::BTreeSet, path::Path, time::Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn retention(folder: &Path) -> Retention {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    Retention { inbox: days(14), letters: days(90), audit: days(400), sink: Some(Sink::new(folder)) }
}

/// The IDs in all files, sorted, and the names of the files.
fn written(folder: &Path) -> (Vec<String>, BTreeSet<String>) {
    let (mut ids, mut names) = (Vec::new(), BTreeSet::new());
    for file in std::fs::read_dir(folder).expect("the folder is read") {
        let file = file.expect("a file");
        names.insert(file.file_name().to_string_lossy().into_owned());
        for line in std::fs::read_to_string(file.path()).expect("it is read").lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
            ids.push(line["id"].as_str().expect("an ID").to_owned());
        }
    }
    ids.sort_unstable();
    (ids, names)
}

/// So many messages of today.
async fn some(bed: &Bed, count: usize) -> Vec<String> {
    let now = clock::now();
    let messages: Vec<_> = (0..count).map(|_| finished(id_at(now))).collect();
    for batch in messages.chunks(1_000) {
        commit(&bed.store, batch).await.expect("commits");
    }
    let mut ids: Vec<_> = messages.into_iter().map(|message| message.envelope.id.clone()).collect();
    ids.sort_unstable();
    ids
}

fn partition() -> String {
    clock::now().format("inbox_%Y%m%d").to_string()
}

async fn is_there(bed: &Bed, partition: &str) -> bool {
    bed.count(&format!("select count(*) from pg_class where oid = to_regclass('{{s}}.{partition}')")).await == 1
}

async fn keep_house(store: &PostgresStore, folder: &Path, days: i64) -> StoreResult<Maintained> {
    store.maintain(&retention(folder), clock::now() + TimeDelta::days(days)).await
}

#[tokio::test]
async fn a_partition_is_a_file_before_it_is_dropped() {
    let Some(bed) = Bed::make().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (today, ids) = (partition(), some(&bed, 6_001).await);
    let done = keep_house(&bed.store, folder.path(), 17).await.expect("keeps house");
    assert!(done.dropped.contains(&today) && done.kept.is_empty(), "{done:?}");
    assert!(!is_there(&bed, &today).await);
    // More than fits into memory at once; days without a message make no file.
    let (found, names) = written(folder.path());
    assert_eq!((found == ids, names.len()), (true, 1), "{names:?}");
    let name = names.first().expect("a file");
    assert!(name.starts_with(&today.replace('_', "-")) && name.ends_with(".ndjson"), "{name}");
    bed.end().await;
}

#[tokio::test]
async fn a_partition_that_the_sink_does_not_take_is_kept() {
    let Some(bed) = Bed::make().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (today, ids) = (partition(), some(&bed, 3).await);
    let missing = folder.path().join("not mounted");
    for _ in 0..2 {
        let done = keep_house(&bed.store, &missing, 17).await.expect("keeps house");
        assert!(done.kept.iter().any(|kept| kept.starts_with(&today)), "{done:?}");
        assert!(!done.dropped.contains(&today), "{done:?}");
        assert_eq!(bed.count(&format!("select count(*) from {{s}}.{today}")).await, 3);
    }
    let done = keep_house(&bed.store, folder.path(), 17).await.expect("keeps house");
    assert!(done.dropped.contains(&today) && done.kept.is_empty(), "{done:?}");
    assert_eq!(written(folder.path()).0, ids);
    bed.end().await;
}

/// Detached, and held by a reader: whoever wants to drop it waits.
async fn held(bed: &Bed, partition: &str) -> sqlx::PgConnection {
    bed.run(&format!("alter table {{s}}.inbox detach partition {{s}}.{partition}")).await;
    let mut reader = bed.store.pool().acquire().await.expect("connects").detach();
    let begin = format!("begin; select count(*) from {}.{partition}", bed.schema);
    sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut reader).await.expect("reads");
    reader
}

/// The file is there and the partition not yet gone: as after a crash between the two.
#[tokio::test]
async fn a_file_that_is_written_again_is_the_same_file() {
    let Some(bed) = Bed::make().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (today, ids) = (partition(), some(&bed, 3).await);
    let mut reader = held(&bed, &today).await;
    let done = keep_house(&bed.store, folder.path(), 17).await.expect("keeps house");
    assert!(!done.dropped.contains(&today) && done.exported.len() == 1, "{done:?}");
    sqlx::raw_sql("rollback").execute(&mut reader).await.expect("ends");
    let again = keep_house(&bed.store, folder.path(), 17).await.expect("keeps house");
    assert!(again.dropped.contains(&today), "{again:?}");
    assert_eq!(again.exported, done.exported);
    let (found, names) = written(folder.path());
    assert_eq!((found, names.len()), (ids, 1), "{names:?}");
    bed.end().await;
}

/// The second finds what the first has written and not yet dropped.
#[tokio::test]
async fn two_workers_at_once_lose_and_double_no_line() {
    let Some(bed) = Bed::make().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (today, ids) = (partition(), some(&bed, 2_000).await);
    let other = bed.another().await;
    let mut reader = held(&bed, &today).await;
    let race = async {
        // One has written it and waits to drop it.
        let until = Instant::now() + PATIENCE;
        while written(folder.path()).1.iter().all(|name| !name.ends_with(".ndjson")) {
            assert!(Instant::now() < until, "no file");
            poll_pause().await;
        }
        // It loses the right to be the only one, and does not know it.
        let right = format!(
            "from pg_locks where locktype = 'advisory' and granted
             and (classid::bigint << 32 | objid::bigint) = hashtextextended('pitcrew housekeeping:{}', 0)",
            bed.schema
        );
        assert_eq!(bed.count(&format!("select count(pg_terminate_backend(pid)) {right}")).await, 1);
        while bed.count(&format!("select count(*) {right}")).await > 0 {
            assert!(Instant::now() < until, "it keeps the right");
            poll_pause().await;
        }
        let free = async {
            let waits =
                format!("select count(*) from pg_locks where not granted and relation = to_regclass('{{s}}.{today}')");
            // The first gives up after 5 s: on a machine that is too slow for this there is less of a race, and the same end.
            let begun = Instant::now();
            while bed.count(&waits).await < 2 && begun.elapsed() < Duration::from_secs(4) {
                poll_pause().await;
            }
            sqlx::raw_sql("rollback").execute(&mut reader).await.expect("ends");
        };
        tokio::join!(keep_house(&other, folder.path(), 17), free).0
    };
    let (first, second) = tokio::join!(keep_house(&bed.store, folder.path(), 17), race);
    // The first has lost a connection, and may say so.
    for done in first.iter().chain([&second.expect("keeps house")]) {
        assert_eq!(done.kept, Vec::<String>::new());
    }
    keep_house(&other, folder.path(), 17).await.expect("keeps house");
    assert!(!is_there(&bed, &today).await);
    let (found, names) = written(folder.path());
    assert_eq!((found == ids, found.len(), names.len()), (true, 2_000, 1), "{names:?}");
    other.close().await;
    bed.end().await;
}

#[tokio::test]
async fn rows_without_a_partition_leave_in_files_of_some_thousands() {
    let Some(bed) = Bed::make().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let messages: Vec<_> = (0..6_000).map(|n| finished(format!("order-{n:05}"))).collect();
    for batch in messages.chunks(1_000) {
        commit(&bed.store, batch).await.expect("commits");
    }
    let done = keep_house(&bed.store, folder.path(), 16).await.expect("keeps house");
    assert_eq!((done.trimmed, done.exported.len()), (6_000, 2), "{done:?}");
    let (found, _) = written(folder.path());
    assert_eq!(found, messages.iter().map(|message| message.envelope.id.clone()).collect::<Vec<_>>());
    assert_eq!(bed.count("select count(*) from {s}.inbox").await, 0);
    bed.end().await;
}
