//! The real worker binary, killed with SIGKILL where it hurts and anywhere else, and ended by signals; the demo's auditor counts.

use car_workers::demo::{
    account::{Account, Database, Sent},
    commands::commands,
};
use pitcrew::{
    Client, Envelope, Handlers,
    config::{Config, Sources},
    sqlx::{self, AssertSqlSafe, Connection, SqliteConnection},
    transport::embedded::Embedded,
    worker::open_store,
};
use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
/// Commands before each kill.
const WAVE: usize = 40;
/// Where the commit, the ack and the publish are, at a passing when many messages are under way.
const POINTS: [&str; 6] =
    ["before-commit:2", "inside-commit:2", "after-commit:2", "after-ack:1", "before-publish:3", "after-publish:2"];

fn deep() -> bool {
    std::env::var_os("PITCREW_ALL").is_some()
}

/// A database with commands for the worker of a shop, and what was sent so far.
struct Shop {
    directory: TempDir,
    config: Config,
    database: Database,
    handlers: Handlers,
    sent: Sent,
    kills: u32,
}

impl Shop {
    async fn on_sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("shop.db").display());
        Self::open(directory, &url, "pitcrew").await
    }

    async fn on_postgres() -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let schema = format!("t_{}", pitcrew::clock::uuid_v7().simple());
        Some(Self::open(tempfile::tempdir().unwrap(), &url, &schema).await)
    }

    async fn open(directory: TempDir, url: &str, schema: &str) -> Self {
        let told = directory.path().join("notifications.log");
        let settings = format!(
            "service = \"car-worker\"\n[store]\nurl = {url:?}\nschema = {schema:?}\n\
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
        let (handlers, sent) = (car_workers::handlers(), Sent::default());
        Self { directory, config, database, handlers, sent, kills: 0 }
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
        let client = Client::new(store.clone(), &Embedded::default(), &self.handlers, &self.config).unwrap();
        client.send_envelopes(envelopes, None).await.unwrap();
        store.close().await;
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("worker.log")
    }

    fn start(&self, fault: Option<&str>) -> Worker {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.arg("run").arg("--config").arg(self.directory.path().join("pitcrew.toml"));
        if let Some(fault) = fault {
            command.env("PITCREW_FAULT", fault);
        }
        Worker(command.current_dir(self.directory.path()).stderr(log).spawn().unwrap())
    }

    /// The worker is dead. On Postgres the time passes after which it is taken for lost; on SQLite its lock went with it.
    async fn bury(&mut self, status: ExitStatus) {
        assert_eq!(status.signal(), Some(9), "it was killed: {status}; {}", self.tail());
        self.kills += 1;
        if let Database::Postgres(pool, schema) = &self.database {
            let silent = format!("update {schema}.worker set seen = seen - interval '1 minute'");
            sqlx::query(AssertSqlSafe(silent)).execute(pool).await.unwrap();
        }
    }

    /// Another worker finishes, ends by SIGTERM, and everything adds up.
    async fn finish(&mut self) {
        let mut worker = self.start(None);
        let until = Instant::now() + LIMIT;
        loop {
            let state = self.database.state(&self.sent).await.unwrap();
            if state.ended == self.sent.len() && state.notified >= state.done && state.waiting == 0 {
                break;
            }
            assert!(worker.status().is_none(), "it ended by itself: {}", self.tail());
            assert!(Instant::now() < until, "{state:?}; {}", self.tail());
            pitcrew::testing::poll_pause().await;
        }
        worker.signal("TERM");
        assert_eq!(worker.ends().await.code(), Some(0), "{}", self.tail());
        let account = Account::take(&self.database, &self.sent, self.kills).await.unwrap();
        assert!(account.adds_up(), "{account:?}\n{}", self.tail());
        assert_eq!(account.effects, account.done, "{account:?}");
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    async fn drop(self) {
        if let Database::Postgres(pool, schema) = &self.database {
            sqlx::query(AssertSqlSafe(format!("drop schema {schema} cascade"))).execute(pool).await.unwrap();
        }
        self.database.close().await;
    }
}

/// A worker's process; it does not outlive a test that fails.
struct Worker(Child);

impl Worker {
    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.0.id())]).status().unwrap();
        assert!(sent.success());
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    async fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.status() {
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
async fn killed_at_its_commits_acks_and_publishes_everything_has_one_effect_on_sqlite() {
    at_points(Shop::on_sqlite().await).await;
}

#[tokio::test]
async fn killed_at_its_commits_acks_and_publishes_everything_has_one_effect_on_postgres() {
    let Some(shop) = Shop::on_postgres().await else { return };
    at_points(shop).await;
}

async fn at_points(mut shop: Shop) {
    for point in POINTS {
        shop.send().await;
        let status = shop.start(Some(point)).ends().await;
        shop.bury(status).await;
        shop.finish().await;
    }
    shop.drop().await;
}

#[tokio::test]
async fn killed_at_any_moment_everything_has_one_effect_on_sqlite() {
    at_random(Shop::on_sqlite().await).await;
}

#[tokio::test]
async fn killed_at_any_moment_everything_has_one_effect_on_postgres() {
    let Some(shop) = Shop::on_postgres().await else { return };
    at_random(shop).await;
}

async fn at_random(mut shop: Shop) {
    for _ in 0..if deep() { 25 } else { 2 } {
        shop.send().await;
        // Any moment of the work: from its beginning to when half of it has ended.
        let at = shop.sent.len() - WAVE + usize::from(shop.sent.len().to_le_bytes()[0] ^ moment()) % (WAVE / 2);
        let mut worker = shop.start(None);
        let until = Instant::now() + LIMIT;
        while shop.database.state(&shop.sent).await.unwrap().ended < at {
            assert!(Instant::now() < until, "{}", shop.tail());
            pitcrew::testing::poll_pause().await;
        }
        println!("killed when {at} of {} had ended", shop.sent.len());
        worker.signal("KILL");
        let status = worker.ends().await;
        shop.bury(status).await;
        shop.finish().await;
    }
    shop.drop().await;
}

/// A byte that differs from run to run: the random part of a UUID.
fn moment() -> u8 {
    pitcrew::clock::uuid_v7().as_bytes()[15]
}

#[tokio::test]
async fn a_second_signal_ends_the_worker_at_once_on_sqlite() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let mut shop = Shop::on_sqlite().await;
        let mut worker = shop.start(None);
        let Database::Sqlite(pool) = &shop.database else { panic!("it is a SQLite") };
        let living = || async { sqlx::query("select id from worker").fetch_all(pool).await.unwrap().len() };
        until(async || living().await == 1 && shop.tail().contains("at work")).await;
        // While somebody else writes, the worker cannot sign off: its ordered end takes its time.
        let path = shop.directory.path().join("shop.db");
        let mut writer = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        sqlx::query("begin immediate").execute(&mut writer).await.unwrap();
        worker.signal(first);
        until(async || shop.tail().contains("a second signal ends at once")).await;
        assert_eq!(worker.status(), None, "it ends in order");
        let began = Instant::now();
        worker.signal(second);
        let status = worker.ends().await;
        assert_eq!(status.code(), Some(130), "{status}; {}", shop.tail());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        sqlx::query("rollback").execute(&mut writer).await.unwrap();
        writer.close().await.unwrap();
        shop.send().await;
        shop.finish().await; // nothing was lost, and the lock of the file was not left behind
        shop.drop().await;
    }
}

async fn until(holds: impl AsyncFn() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < limit, "it never came to be");
        pitcrew::testing::poll_pause().await;
    }
}

#[tokio::test]
async fn a_fault_point_that_is_none_is_refused() {
    let mut shop = Shop::on_sqlite().await;
    shop.send().await;
    let status = shop.start(Some("after-comit:3")).ends().await;
    assert!(status.code() == Some(2) && shop.tail().contains("after-comit:3"), "{status}: {}", shop.tail());
}
