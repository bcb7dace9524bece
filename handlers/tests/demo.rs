//! The demo on the real binary, and its auditor on databases that were doctored.

#[path = "demo/workers.rs"]
mod workers;

use car_workers::demo::{
    account::{Account, Database, Sent},
    kinds::Target,
};
use pitcrew::{
    config::{Config, Sources},
    message::wire,
    sqlx::{self, SqlitePool},
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Output},
};

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_car-worker")).arg("demo").args(arguments).output().expect("the demo starts")
}

fn line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("no line; {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(last).expect("the last line is JSON")
}

#[track_caller]
fn adds_up(output: &Output, sent: u64, kills: u64) {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let line = line(output);
    let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("{key} in {line}"));
    assert_eq!((number("sent"), number("kills"), number("lost"), number("double")), (sent, kills, 0, 0), "{line}");
    assert_eq!(number("done") + number("dead"), sent, "{line}");
    assert_eq!(number("effects"), number("done"), "{line}");
    assert!(number("duplicates") >= sent / 20, "{line}");
}

#[test]
fn killed_three_times_everything_has_one_effect_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("demo");
    adds_up(&demo(&["--json", "--commands", "400", "--dir", dir.to_str().unwrap()]), 400, 3);
    assert!(std::fs::read_to_string(dir.join("notifications.log")).unwrap().lines().count() >= 390);
}

#[test]
fn killed_three_times_everything_has_one_effect_on_postgres() {
    let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("demo");
    adds_up(&demo(&["--json", "--commands", "400", "--store", &url, "--dir", dir.to_str().unwrap()]), 400, 3);
    let config = config(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Database::Postgres(pool, schema) = Database::open(&config).await.unwrap() else { panic!("a Postgres") };
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop schema {schema} cascade"))).execute(&pool).await.unwrap();
    });
}

#[test]
fn killed_three_times_everything_has_one_effect_on_rabbitmq() {
    on_broker("PITCREW_RABBITMQ_URL", "RabbitMQ");
}

#[test]
fn killed_three_times_everything_has_one_effect_on_rabbitmq_4() {
    on_broker("PITCREW_RABBITMQ4_URL", "RabbitMQ 4");
}

/// A killed worker is missed after ten seconds, and there are three.
#[test]
fn killed_three_times_everything_has_one_effect_on_kafka() {
    if std::env::var_os("PITCREW_ALL").is_none() {
        eprintln!("skipped: it takes more than 20 s (PITCREW_ALL)");
        return;
    }
    on_broker("PITCREW_KAFKA_URL", "Kafka");
}

/// The channels have the names of the real ones: nobody else may use them on this broker meanwhile.
fn on_broker(variable: &str, what: &str) {
    let Ok(url) = std::env::var(variable) else {
        eprintln!("skipped: no {what} ({variable})");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("demo");
    adds_up(&demo(&["--json", "--commands", "400", "--broker", &url, "--dir", dir.to_str().unwrap()]), 400, 3);
}

#[test]
fn someones_own_commands_are_worked_and_a_bad_line_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.ndjson");
    let commands = car_workers::demo::commands::commands(3, 1);
    let lines: Vec<String> = commands
        .map(|command| {
            let envelope = pitcrew::Envelope::of(&command, "/mine").unwrap();
            String::from_utf8(wire::structured(&envelope).to_vec()).unwrap()
        })
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let dir = directory.path().join("good");
    let good = demo(&["--json", "--no-kill", "--input", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
    adds_up(&good, 3, 0);

    std::fs::write(&file, format!("{}\n{{\"specversion\":\"1.0\"}}\n", lines[0])).unwrap();
    let dir = directory.path().join("bad");
    let bad = demo(&["--input", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&bad.stderr);
    assert!(!bad.status.success() && error.contains("mine.ndjson:2") && error.contains("attribute `"), "{error}");
}

fn config(dir: &Path) -> Config {
    let sources = Sources { file: Some(dir.join("pitcrew.toml")), service: "car-worker".into(), ..Sources::default() };
    Config::load(&sources).unwrap()
}

/// A small honest run, and what was sent in it, read back from its inbox.
async fn honest_run(dir: &Path) -> (Database, SqlitePool, Sent) {
    let only = ["--only", "recommendation", "--commands", "40"];
    adds_up(&demo(&[&["--json", "--no-kill", "--dir", dir.to_str().unwrap()][..], &only].concat()), 40, 0);
    let database = Database::open(&config(dir)).await.unwrap();
    let Database::Sqlite(pool) = &database else { panic!("SQLite is the default") };
    let pool = pool.clone();
    let inbox = "select id, subject from inbox where type = 'car.GenerateRecommendationBrief'";
    let rows: Vec<(String, String)> = sqlx::query_as(inbox).fetch_all(&pool).await.unwrap();
    let commands = rows.into_iter().map(|(id, brief)| (id, Target::brief(&brief))).collect();
    let sent = Sent { commands, duplicates: 2, ..Sent::default() };
    (database, pool, sent)
}

#[tokio::test]
async fn the_auditor_sees_what_was_doctored() {
    let directory = tempfile::tempdir().unwrap();
    let (database, pool, sent) = honest_run(&directory.path().join("demo")).await;
    let honest = Account::take(&database, &sent, 0).await.unwrap();
    assert!(honest.adds_up(), "{honest:?}");
    assert_eq!(honest.sent, 40);

    let doctor = async |sql: &str| {
        let changed = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap();
        assert!(changed.rows_affected() > 0, "{sql}");
        Account::take(&database, &sent, 0).await.unwrap()
    };
    let one_brief = "(select id from document where collection = 'brief' and body like '%\"writes\":1%' limit 1)";
    let double = doctor(&format!(
        "update document set body = replace(body, '\"writes\":1', '\"writes\":2') where id = {one_brief}"
    ))
    .await;
    assert_eq!((double.double, double.lost, double.adds_up()), (1, 0, false), "a second write is seen");

    let lost = doctor(&format!("delete from document where id = {one_brief}")).await;
    assert_eq!((lost.lost, lost.adds_up()), (1, false), "done without an effect is lost");

    let silent =
        doctor("delete from document where id = (select id from document where collection = 'notification' limit 1)")
            .await;
    assert!(silent.untold >= 1, "an event that nobody heard is seen: {silent:?}");

    let victim = "(select id from inbox where type = 'car.GenerateRecommendationBrief' and fate = 'done' limit 1)";
    let orphan = doctor(&format!("delete from inbox where id = {victim}")).await;
    assert!(orphan.lost >= 1 && orphan.done < honest.done, "a command without a fate is lost: {orphan:?}");
    database.close().await;
}

/// Without the fence the same commands have a second effect, and the account says so: the zero is no accident.
#[tokio::test]
async fn without_the_fence_the_auditor_sees_doubles() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("demo");
    let (database, pool, sent) = honest_run(&dir).await;
    let commands: Vec<(String, Vec<u8>)> = {
        // The very commands of the run, made again from its seed, under the IDs that they had.
        let ids: std::collections::HashMap<&str, &str> =
            sent.commands.iter().map(|(id, target)| (target.document.as_str(), id.as_str())).collect();
        car_workers::demo::commands::commands(40, 7)
            .filter_map(|c| Some(((*ids.get(c.brief_id.as_str())?).to_owned(), serde_json::to_vec(&c).unwrap())))
            .collect()
    };
    sqlx::raw_sql("delete from inbox").execute(&pool).await.unwrap();
    let config_file = dir.join("pitcrew.toml");
    for (n, (id, data)) in commands.into_iter().take(5).enumerate() {
        let file = dir.join(format!("{n}.json"));
        std::fs::write(&file, data).unwrap();
        let again = Command::new(env!("CARGO_BIN_EXE_car-worker"))
            .args(["send", "car.GenerateRecommendationBrief", "--id", &id, "--data", file.to_str().unwrap()])
            .arg("--config")
            .arg(&config_file)
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    }
    let mut worker = Command::new(env!("CARGO_BIN_EXE_car-worker"))
        .arg("run")
        .arg("--config")
        .arg(&config_file)
        .current_dir(&dir)
        .spawn()
        .unwrap();
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let doubles = loop {
        let account = Account::take(&database, &sent, 0).await.unwrap();
        if account.double >= 4 || std::time::Instant::now() > limit {
            break account.double;
        }
        pitcrew::testing::poll_pause().await;
    };
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(doubles >= 4, "only {doubles} of 5 commands that were handled again have a second effect");
    database.close().await;
}
