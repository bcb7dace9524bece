//! The real worker binary on a real Kafka: processes come, go, are killed and stand still; the demo's auditor counts.

use car_workers::demo::{
    account::{Account, Database, Sent},
    commands::commands,
};
use pitcrew::{
    Client, Envelope,
    config::{Config, Sources},
    sqlx::{self, AssertSqlSafe},
    worker::{open_store, open_transport},
};
use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(90);
/// Commands between two events in the life of a worker.
const WAVE: usize = 40;

/// Channels and a database of a test's own, and what was sent so far.
struct Shop {
    directory: TempDir,
    config: Config,
    database: Database,
    sent: Sent,
    kills: u32,
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
        Some(Self { directory, config, database, sent: Sent::default(), kills: 0 })
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

    /// So many have ended.
    async fn ended(&self, count: usize) {
        let until = Instant::now() + LIMIT;
        while self.database.state(&self.sent).await.unwrap().ended < count {
            assert!(Instant::now() < until, "{:?}; {}", self.database.state(&self.sent).await.unwrap(), self.tail());
            pitcrew::testing::poll_pause().await;
        }
    }

    /// What is under way ends, and everything adds up.
    async fn finish(&mut self, workers: Vec<Worker>) {
        let until = Instant::now() + LIMIT;
        loop {
            let state = self.database.state(&self.sent).await.unwrap();
            if state.ended == self.sent.len() && state.notified >= state.done && state.waiting == 0 {
                break;
            }
            assert!(Instant::now() < until, "{state:?}; {}", self.tail());
            pitcrew::testing::poll_pause().await;
        }
        for worker in workers {
            self.stop(worker).await;
        }
        let account = Account::take(&self.database, &self.sent, self.kills).await.unwrap();
        assert!(account.adds_up(), "{account:?}\n{}", self.tail());
        assert_eq!(account.effects, account.done, "{account:?}");
        if let Database::Postgres(pool, schema) = &self.database {
            sqlx::query(AssertSqlSafe(format!("drop schema {schema} cascade"))).execute(pool).await.unwrap();
        }
        self.database.close().await;
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
async fn three_workers_that_are_restarted_one_by_one_lose_and_double_nothing() {
    let Some(mut shop) = Shop::open().await else { return };
    let mut workers = vec![shop.start(), shop.start(), shop.start()];
    for _ in 0..3 {
        shop.send().await;
        shop.ended(shop.sent.len() - WAVE / 2).await; // in the midst of it
        shop.stop(workers.remove(0)).await;
        workers.push(shop.start());
    }
    shop.send().await;
    shop.finish(workers).await;
}

#[tokio::test]
async fn a_killed_workers_partitions_are_taken_over() {
    let Some(mut shop) = Shop::open().await else { return };
    let mut victim = shop.start();
    shop.send().await;
    shop.ended(WAVE / 4).await;
    let neighbour = shop.start();
    victim.signal("KILL");
    assert_eq!(victim.ends().await.signal(), Some(9));
    shop.kills += 1;
    let killed = Instant::now();
    shop.send().await;
    shop.ended(shop.sent.len()).await;
    assert!(killed.elapsed() < Duration::from_secs(40), "a session of 6 s ended {:?} after the kill", killed.elapsed());
    shop.finish(vec![neighbour]).await;
}

#[tokio::test]
async fn a_worker_that_stood_still_for_longer_than_its_session_doubles_nothing() {
    if std::env::var_os("PITCREW_ALL").is_none() {
        eprintln!("skipped: takes long (PITCREW_ALL)");
        return;
    }
    let Some(mut shop) = Shop::open().await else { return };
    let (zombie, neighbour) = (shop.start(), shop.start());
    shop.send().await;
    shop.ended(WAVE / 4).await;
    zombie.signal("STOP");
    shop.send().await;
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(15) {
        pitcrew::testing::poll_pause().await;
    }
    shop.send().await;
    zombie.signal("CONT");
    shop.finish(vec![zombie, neighbour]).await;
}
