//! Each worker of the demo alone, and the auditor on a database of each that was doctored.

use super::{adds_up, config, demo, line};
use car_workers::demo::{
    account::{Account, Database, Sent},
    kinds::{Kind, Target},
};
use pitcrew::sqlx::{self, SqlitePool};
use serde_json::Value;
use std::path::Path;

/// What `--only` leaves is this worker's, poison and all; each dead command has a letter that says why.
#[track_caller]
fn alone(kind: Kind, commands: &str, sent: u64, dead: u64) {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("demo");
    let place = ["--json", "--no-kill", "--dir", dir.to_str().unwrap()];
    let output = demo(&[&place[..], &["--only", kind.name(), "--commands", commands]].concat());
    adds_up(&output, sent, 0);
    let line = line(&output);
    let workers = line["workers"].as_object().unwrap();
    assert_eq!(workers.keys().collect::<Vec<_>>(), [kind.effects()], "{line}");
    let count = |key: &str| workers[kind.effects()][key].as_u64().unwrap();
    assert_eq!((count("sent"), count("dead"), count("told")), (sent, dead, sent - dead), "{line}");
    let troubles = &line["troubles"][kind.effects()];
    let reasons = if dead == 0 { serde_json::json!({}) } else { serde_json::json!({ "permanent": dead }) };
    assert_eq!(troubles["dead"], reasons, "{line}");
    assert_eq!(troubles["twice"].as_u64(), line["duplicates"].as_u64(), "{line}");
    assert_eq!(troubles["retries"].as_u64(), line["retries"].as_u64(), "{line}");
}

#[test]
fn photos_alone_add_up() {
    // Drawing takes its time in a build that is not optimised; the tenth photo is the first that is none.
    let (commands, sent, dead) =
        if std::env::var_os("PITCREW_ALL").is_some() { ("1000", 10, 1) } else { ("300", 3, 0) };
    alone(Kind::Image, commands, sent, dead);
}

#[test]
fn histories_alone_add_up() {
    alone(Kind::History, "300", 30, 3);
}

#[test]
fn reviews_alone_add_up() {
    alone(Kind::Fraud, "300", 30, 3);
}

#[test]
fn the_report_tells_what_went_wrong_and_explains_a_dead_command() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("demo");
    let output = demo(&["--no-kill", "--only", "history", "--commands", "100", "--dir", dir.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let after = |head: &str| told.split_once(head).unwrap_or_else(|| panic!("no {head} in {told}")).1.to_owned();
    let story = after("\nA command that is dead on purpose:\n");
    let story = story.split_once("\n\n  ").unwrap().0;
    assert!(story.contains("car.FetchVehicleHistory") && story.contains("  dead: permanent: "), "{story}");
    let table = after("twice  came again  dead, and why\n");
    let row: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!((row[0], &row[3..]), ("histories", &["1", "permanent"][..]), "{table}");
}

/// A small honest run of the three, and what was sent in it and is done. Which command wrote which document of its worker
/// does not matter here: every one of them has its own.
async fn honest_run(dir: &Path) -> Sent {
    let only = ["--only", "image,history,fraud", "--commands", "200"];
    adds_up(&demo(&[&["--json", "--no-kill", "--dir", dir.to_str().unwrap()][..], &only].concat()), 42, 0);
    let Database::Sqlite(pool) = Database::open(&config(dir)).await.unwrap() else { panic!("SQLite is the default") };
    let mut sent = Sent::default();
    for kind in [Kind::Image, Kind::History, Kind::Fraud] {
        let inbox = sqlx::query_scalar("select id from inbox where type = ? and fate = 'done'").bind(kind.ty());
        let ids: Vec<String> = inbox.fetch_all(&pool).await.unwrap();
        let documents = sqlx::query_as("select id, body from document where collection = ?").bind(kind.collection());
        let documents: Vec<(String, String)> = documents.fetch_all(&pool).await.unwrap();
        assert_eq!(ids.len(), documents.len());
        for (id, (document, body)) in ids.into_iter().zip(documents) {
            let body: Value = serde_json::from_str(&body).unwrap();
            let about = if kind == Kind::Fraud { body["listing_id"].as_str().unwrap() } else { &document }.to_owned();
            sent.commands.insert(id, Target { kind, document, about, poison: false });
        }
    }
    pool.close().await;
    sent
}

/// The account of a copy of the database in which `sql` was done.
async fn doctored(dir: &Path, sent: &Sent, sql: &str) -> Account {
    let copy = tempfile::tempdir().unwrap();
    for file in ["demo.db", "demo.db-wal"] {
        if dir.join(file).exists() {
            std::fs::copy(dir.join(file), copy.path().join(file)).unwrap();
        }
    }
    let pool = SqlitePool::connect(&format!("sqlite:{}", copy.path().join("demo.db").display())).await.unwrap();
    if !sql.is_empty() {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }
    let database = Database::Sqlite(pool);
    let account = Account::take(&database, sent, 0).await.unwrap();
    database.close().await;
    account
}

#[tokio::test]
async fn the_auditor_sees_what_was_doctored_whosever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("demo");
    let sent = honest_run(&dir).await;
    let honest = doctored(&dir, &sent, "").await;
    assert!(honest.adds_up(), "{honest:?}");
    for kind in [Kind::Image, Kind::History, Kind::Fraud] {
        let (ty, collection) = (kind.ty(), kind.collection());
        let one = format!(
            "collection = '{collection}' and id = (select min(id) from document where collection = '{collection}')"
        );
        for (what, sql, lost, double, ended) in [
            (
                "a second write",
                format!("update document set body = replace(body, '\"writes\":1', '\"writes\":2') where {one}"),
                0,
                1,
                0,
            ),
            ("done without an effect", format!("delete from document where {one}"), 1, 0, 0),
            (
                "no fate",
                format!(
                    "delete from inbox where type = '{ty}' and id = (select min(id) from inbox where type = '{ty}' and fate = 'done')"
                ),
                1,
                0,
                1,
            ),
        ] {
            let account = doctored(&dir, &sent, &sql).await;
            assert!(!account.adds_up(), "{what} of {ty} is seen");
            for (worker, count) in &account.workers {
                let its = if *worker == kind.effects() { (lost, double, ended) } else { (0, 0, 0) };
                let missing = honest.workers[worker].done - count.done;
                assert_eq!((count.lost, count.double, missing), its, "{what} of {ty}, in the row of the {worker}");
            }
        }
    }
}
