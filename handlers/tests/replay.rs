//! `replay` of the real worker binary on a real Kafka: what a database lost comes back from the log; the demo's auditor counts.

use car_workers::demo::{
    account::{Account, Database, Sent, State},
    commands::commands,
};
use pitcrew::{
    Client, Envelope,
    config::{Config, Sources},
    message::Intent,
    sqlx::{self, AssertSqlSafe},
    worker::{open_store, open_transport},
};
use serde_json::{Value, json};
use std::{
    fs::File,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(90);
/// Commands that are sent at once.
const WAVE: usize = 40;

/// Channels and a database of a test's own, and what was sent so far.
struct Shop {
    directory: TempDir,
    config: Config,
    database: Database,
    sent: Sent,
}

impl Shop {
    /// `None` where a service is missing.
    async fn open() -> Option<Self> {
        let Ok(broker) = std::env::var("PITCREW_KAFKA_URL") else {
            eprintln!("skipped: no Kafka (PITCREW_KAFKA_URL)");
            return None;
        };
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let name = format!("t{}", pitcrew::clock::uuid_v7().simple());
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("notifications.log");
        let settings = format!(
            "service = \"car-worker\"\n[store]\nurl = {url:?}\nschema = {name:?}\n\
             [transport.default]\nurl = {broker:?}\nkafka = {{ partitions = 4, session_timeout = \"6s\" }}\n\
             [channel.\"{name}.commands\"]\ntypes = [\"car.GenerateRecommendationBrief\"]\n\
             [channel.\"{name}.events\"]\ntypes = [\"car.RecommendationBriefGenerated\"]\n\
             [worker]\nbatch = 16\n[handlers.\"car.RecommendationBriefGenerated\"]\npath = {told:?}\n"
        );
        let file = directory.path().join("pitcrew.toml");
        std::fs::write(&file, settings).unwrap();
        let sources = Sources { file: Some(file), service: "car-worker".into(), ..Sources::default() };
        let config = Config::load(&sources).unwrap();
        let store = open_store(&config, false).await.unwrap().store;
        store.migrate().await.unwrap();
        store.close().await;
        let database = Database::open(&config).await.unwrap();
        Some(Self { directory, config, database, sent: Sent::default() })
    }

    /// Some more commands, every tenth of them twice.
    async fn send(&mut self) {
        let mut envelopes = Vec::new();
        for mut command in commands(WAVE, 7) {
            command.brief_id = format!("{}-{}", command.brief_id, self.sent.len() / WAVE);
            let envelope = Envelope::of(&command, "/shop").unwrap();
            if self.sent.note(&envelope).is_multiple_of(10) {
                envelopes.push(envelope.clone());
                self.sent.duplicates += 1;
            }
            envelopes.push(envelope);
        }
        let store = open_store(&self.config, false).await.unwrap().store;
        let transport = open_transport(&self.config).unwrap();
        let client = Client::new(store.clone(), &*transport, &car_workers::handlers(), &self.config).unwrap();
        client.send_envelopes(envelopes, None).await.unwrap();
        store.close().await;
    }

    fn start(&self) -> Worker {
        let log = File::options().create(true).append(true).open(self.directory.path().join("worker.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.arg("run").arg("--config").arg(self.directory.path().join("pitcrew.toml"));
        Worker(command.current_dir(self.directory.path()).stderr(log).spawn().unwrap())
    }

    async fn until(&self, found: impl Fn(&Self, State) -> bool) {
        let until = Instant::now() + LIMIT;
        loop {
            let state = self.database.state(&self.sent).await.unwrap();
            if found(self, state) {
                return;
            }
            assert!(Instant::now() < until, "{state:?}; {}", self.tail());
            pitcrew::testing::poll_pause().await;
        }
    }

    /// What is under way ends, and everything adds up.
    async fn finish(&mut self, workers: Vec<Worker>) {
        self.until(|shop, state| state.ended == shop.sent.len() && state.notified >= state.done && state.waiting == 0)
            .await;
        for worker in workers {
            self.stop(worker).await;
        }
        let account = Account::take(&self.database, &self.sent, 0).await.unwrap();
        assert!(account.adds_up(), "{account:?}\n{}", self.tail());
        assert_eq!(account.effects, account.done, "{account:?}");
        if let Database::Postgres(pool, schema) = &self.database {
            sqlx::query(AssertSqlSafe(format!("drop schema {schema} cascade"))).execute(pool).await.unwrap();
        }
        self.database.close().await;
    }

    /// As after a restore from a backup: of so many commands, done at the first attempt, the database knows nothing any more.
    async fn forget(&self, count: usize) {
        let Database::Postgres(pool, schema) = &self.database else { panic!("it is Postgres") };
        let chosen = format!(
            "select id from {schema}.inbox where type = 'car.GenerateRecommendationBrief' and fate = 'done' and attempt = 1
             order by id limit {count}"
        );
        let ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(chosen)).fetch_all(pool).await.unwrap();
        let briefs: Vec<&String> = ids.iter().map(|id| &self.sent.commands[id].document).collect();
        let inbox = format!("delete from {schema}.inbox where id = any($1)");
        let effects = format!(
            "delete from {schema}.document where (collection = 'brief' and id = any($1))
             or (collection = 'notification' and body ->> 'about' = any($1))"
        );
        let gone = sqlx::query(AssertSqlSafe(inbox)).bind(&ids).execute(pool).await.unwrap();
        assert_eq!(gone.rows_affected(), count as u64);
        let gone = sqlx::query(AssertSqlSafe(effects)).bind(&briefs).execute(pool).await.unwrap();
        assert_eq!(gone.rows_affected(), 2 * count as u64, "a brief and its notification each");
    }

    fn replay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.arg("replay").arg("--channel").arg(self.commands()).args(["--from", "1h", "--json"]).args(arguments);
        command.arg("--config").arg(self.directory.path().join("pitcrew.toml")).current_dir(self.directory.path());
        command
    }

    /// What a replay tells at its end, and its exit code.
    fn replayed(output: Output) -> (Value, Option<i32>) {
        let told = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&told).unwrap_or_else(|_| {
            panic!("{told}\n{}", String::from_utf8_lossy(&output.stderr));
        });
        (value, output.status.code())
    }

    /// Something of this kind was written down.
    async fn audited(&self, action: &str) {
        let Database::Postgres(pool, schema) = &self.database else { panic!("it is Postgres") };
        let count = format!("select count(*) from {schema}.audit where action = '{action}'");
        let until = Instant::now() + LIMIT;
        while sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.clone())).fetch_one(pool).await.unwrap() == 0 {
            assert!(Instant::now() < until, "nothing is written down as {action}");
            pitcrew::testing::poll_pause().await;
        }
    }

    fn commands(&self) -> String {
        self.config.channel_of("car.GenerateRecommendationBrief", Intent::Command).unwrap().as_str().to_owned()
    }

    async fn stop(&self, mut worker: Worker) {
        worker.signal("TERM");
        assert_eq!(worker.ends().await.code(), Some(0), "{}", self.tail());
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("worker.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// A worker's process; it does not outlive a test that fails.
struct Worker(Child);

impl Worker {
    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.0.id())]).status().unwrap();
        assert!(sent.success());
    }

    async fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the worker does not end");
            pitcrew::testing::poll_pause().await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_replay_brings_back_what_was_lost_and_doubles_nothing() {
    const LOST: usize = 12;
    let Some(mut shop) = Shop::open().await else { return };
    let worker = shop.start();
    for _ in 0..2 {
        shop.send().await;
    }
    shop.until(|shop, state| state.ended == shop.sent.len() && state.notified >= state.done && state.waiting == 0)
        .await;
    let notified = shop.database.state(&shop.sent).await.unwrap().notified;
    shop.stop(worker).await;
    shop.forget(LOST).await;
    let all = shop.sent.len() + shop.sent.duplicates;
    // The second of two that were sent twice is as new as the first.
    let (looked, code) = Shop::replayed(shop.replay(&["--dry-run"]).output().unwrap());
    let new = usize::try_from(looked["new"].as_u64().unwrap()).unwrap();
    assert!(new >= LOST && code == Some(0), "{looked}");
    assert_eq!(looked["duplicate"], all - new, "{looked}");

    // Interrupted on its way, it says how to go on.
    let slowly = shop.replay(&["--rate", "10"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut slowly = Worker(slowly);
    shop.audited("reread").await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        pitcrew::testing::poll_pause().await;
    }
    slowly.signal("INT");
    assert_eq!(slowly.ends().await.code(), Some(1));
    let mut told = String::new();
    std::io::Read::read_to_string(slowly.0.stdout.as_mut().unwrap(), &mut told).unwrap();
    let first: Value = serde_json::from_str(&told).unwrap();
    let read = first["read"].as_u64().unwrap();
    assert!(first["complete"] == false && (1..all as u64).contains(&read), "{first}");
    let again = first["again"].as_str().unwrap();
    let resume = again.split_once("--resume ").unwrap().1;
    let resume = resume.split(' ').next().unwrap();
    let (rest, code) = Shop::replayed(shop.replay(&["--resume", resume]).output().unwrap());
    assert!(rest["complete"] == true && rest["again"].is_null() && code == Some(0), "{rest}");
    assert!(rest["read"].as_u64().unwrap() < all as u64, "it went on and did not begin anew: {rest}");
    let done = |told: &Value| told["fates"]["done"].as_u64().unwrap_or_default();
    assert_eq!(done(&first) + done(&rest), LOST as u64, "{first} {rest}");

    // A third finds nothing to do; and with the worker back, everything adds up.
    let (third, _) = Shop::replayed(shop.replay(&[]).output().unwrap());
    assert_eq!((&third["read"], &third["fates"]), (&json!(all), &json!({ "duplicate": all })));
    let worker = shop.start();
    shop.until(|_, state| state.notified >= notified + LOST).await;
    shop.finish(vec![worker]).await;
}

/// Both act on the broker, and the database is told.
#[tokio::test]
async fn what_an_operator_does_at_the_broker_is_in_the_audit() {
    let Some(mut shop) = Shop::open().await else { return };
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.args(arguments).arg("--config").arg(shop.directory.path().join("pitcrew.toml"));
        let output = command.current_dir(shop.directory.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["topology", "apply", "--as", "ada"]);
    run(&["replay", "--channel", &shop.commands(), "--from", "1h", "--as", "grace"]);
    // Who only looks does nothing.
    run(&["topology", "plan", "--as", "nobody"]);
    run(&["replay", "--channel", &shop.commands(), "--from", "1h", "--dry-run", "--as", "nobody"]);
    let told = run(&["audit", "list", "--json"]);
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [replay, apply] = &told[..] else { panic!("two, the newest first: {told:?}") };
    let words = |audit: &Value| ["actor", "action", "target"].map(|key| audit[key].as_str().unwrap().to_owned());
    let broker = shop.config.transport.values().next().unwrap().url.to_string();
    assert_eq!(words(apply), ["ada", "declare", &broker]);
    assert_eq!(apply["reason"], "topology apply");
    assert_eq!(words(replay), ["grace", "reread", &shop.commands()]);
    assert!(replay["reason"].as_str().unwrap().contains("--from 2"), "with its time spelt out: {replay}");
    shop.finish(Vec::new()).await;
}
