//! Worker processes with channels and a database of a test's own, and what a test asks about them.

use crate::{Effects, Work, Worked, handlers};
use car_workers::recommendation::contract::{GenerateRecommendationBrief, RecommendationBriefGenerated};
use pitcrew::{
    Client, Document, Message,
    config::{Config, Sources},
    sqlx::{self, AssertSqlSafe, Row},
    store::{DeadFilter, DeadLetter, History, Store},
    testing::poll_pause,
    worker::{open_store, open_transport},
};
use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Nothing that a test waits for takes longer, unless it is broken.
pub const LIMIT: Duration = Duration::from_secs(90);
/// The service that all of these workers are.
pub const SERVICE: &str = "shop";

/// A shop: a database, channels on a broker, and the workers that a test starts.
pub struct Shop {
    directory: TempDir,
    binary: &'static str,
    settings: String,
    /// What the names of its channels begin with.
    pub prefix: String,
    /// As its workers read it.
    pub config: Config,
    /// Its database, beside the workers.
    pub store: Arc<dyn Store>,
    client: Client,
}

/// `false`, said so: only with `PITCREW_ALL`.
pub fn has_time(what: &str) -> bool {
    let has = std::env::var_os("PITCREW_ALL").is_some();
    if !has {
        eprintln!("skipped: {what} (tests/run --all)");
    }
    has
}

/// The address of the broker that this variable of `tests/run` names. `None`, said so: there is none.
pub fn broker(variable: &str) -> Option<String> {
    let what = match variable {
        "PITCREW_RABBITMQ_URL" => "RabbitMQ",
        "PITCREW_RABBITMQ4_URL" => "RabbitMQ 4",
        "PITCREW_KAFKA_URL" => "Kafka",
        _ => panic!("no broker is called {variable}"),
    };
    let url = std::env::var(variable).ok();
    if url.is_none() {
        eprintln!("skipped: no {what} ({variable})");
    }
    url
}

/// The address of a Postgres. `None`, said so: there is none.
pub fn postgres() -> Option<String> {
    let url = std::env::var("PITCREW_POSTGRES_URL").ok();
    if url.is_none() {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
    }
    url
}

/// What all messages together came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were done at least once.
    pub done: usize,
    /// Events that were heard at least once.
    pub heard: usize,
    /// The most often that any was done, or its event heard.
    pub most: u32,
}

impl Shop {
    /// On `broker`, with a file of its own for a database: for one worker at a time. `settings` are further lines of its
    /// config, for the channel of commands first.
    pub async fn on_sqlite(binary: &'static str, broker: &str, settings: &str) -> Self {
        Self::open(binary, broker, None, settings).await
    }

    /// On `broker` with a Postgres, for many workers. `None`, said so: there is no Postgres.
    pub async fn on_postgres(binary: &'static str, broker: &str, settings: &str) -> Option<Self> {
        Some(Self::open(binary, broker, Some(postgres()?), settings).await)
    }

    /// As [`on_postgres`](Self::on_postgres), on this one.
    pub async fn on_this_postgres(binary: &'static str, broker: &str, postgres: &str, settings: &str) -> Self {
        Self::open(binary, broker, Some(postgres.to_owned()), settings).await
    }

    async fn open(binary: &'static str, broker: &str, postgres: Option<String>, settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let prefix = format!("t-{}", pitcrew::clock::uuid_v7().simple());
        let place = |file| directory.path().join(file).display().to_string();
        let store = postgres.unwrap_or_else(|| format!("sqlite:{}", place("shop.db")));
        let ladder = "retry = { attempts = 3, first = \"100ms\", max = \"200ms\", tiers = [\"100ms\", \"200ms\"] }";
        let settings = format!(
            "service = \"{SERVICE}\"\nreplyto_allowed = [\"{prefix}.replies\"]\n\
             [store]\nurl = {store:?}\nschema = {schema:?}\n\
             [transport.default]\nurl = {broker:?}\n{kafka}\
             [handlers.{heard:?}]\npath = {told:?}\n\
             [channel.\"{prefix}.events\"]\ntypes = [{worked:?}, {heard:?}]\n{ladder}\n\
             [channel.\"{prefix}.commands\"]\ntypes = [{work:?}, {brief:?}]\n{ladder}\n{settings}\n",
            kafka = match broker.starts_with("kafka") {
                true => "kafka = { partitions = 4, session_timeout = \"6s\" }\n",
                false => "",
            },
            schema = prefix.replace('-', "_"),
            told = place("notifications.log"),
            heard = RecommendationBriefGenerated::TYPE,
            worked = Worked::TYPE,
            work = Work::TYPE,
            brief = GenerateRecommendationBrief::TYPE,
        );
        let file = directory.path().join("pitcrew.toml");
        std::fs::write(&file, &settings).expect("the config is written");
        let sources = Sources { file: Some(file), service: SERVICE.into(), ..Sources::default() };
        let config = Config::load(&sources).expect("a config");
        let store = open_store(&config, false).await.expect("the store opens").store;
        store.migrate().await.expect("it migrates");
        let transport = open_transport(&config).expect("a transport");
        let client = Client::new(store.clone(), &*transport, &handlers(), &config).expect("a client");
        Self { directory, binary, settings, prefix, config, store, client }
    }

    /// The same with other settings, for what is started or typed from now on.
    pub fn with(mut self, change: impl FnOnce(&mut String)) -> Self {
        change(&mut self.settings);
        std::fs::write(self.directory.path().join("pitcrew.toml"), &self.settings).expect("the config is written");
        self
    }

    /// The channel of commands, and its queue or group.
    pub fn commands(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    /// Writes these into the outbox; a worker sends them.
    pub async fn send(&self, works: impl IntoIterator<Item = Work>) {
        let envelope = |work: Work| pitcrew::Envelope::of(&work, "/test").expect("it is written");
        let envelopes: Vec<_> = works.into_iter().map(envelope).collect();
        for page in envelopes.chunks(500) {
            self.client.send_envelopes(page.to_vec(), None).await.expect("they are sent");
        }
    }

    /// As [`send`](Self::send), of messages that somebody else has written.
    pub async fn write(&self, envelopes: Vec<pitcrew::Envelope>) {
        self.client.send_envelopes(envelopes, None).await.expect("they are sent");
    }

    /// The file of its database, if that is SQLite.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("shop.db")
    }

    /// A client that publishes by itself what it sends, so that no worker need live for it.
    pub async fn direct(&self) -> Client {
        let transport = open_transport(&self.config).expect("a transport");
        let client = Client::new(self.store.clone(), &*transport, &handlers(), &self.config).expect("a client");
        client.publishing(transport)
    }

    /// Starts a worker; it may not be at work yet.
    pub fn start(&self) -> Process {
        self.start_with("")
    }

    /// As [`start`](Self::start), with further sections in its config.
    pub fn start_with(&self, sections: &str) -> Process {
        self.start_in(sections, &[])
    }

    /// A worker that kills itself at this point of the walk (`after-commit:3`: `pitcrew::fault::Point`).
    pub fn start_armed(&self, fault: &str) -> Process {
        self.start_in("", &[("PITCREW_FAULT", fault)])
    }

    /// A worker that reaches its database and its broker by other addresses, where they are given.
    pub fn start_through(&self, database: Option<&str>, broker: Option<&str>) -> Process {
        let addresses = [("PITCREW_STORE__URL", database), ("PITCREW_TRANSPORT__DEFAULT__URL", broker)];
        let given: Vec<_> = addresses.into_iter().filter_map(|(name, address)| Some((name, address?))).collect();
        self.start_in("", &given)
    }

    fn start_in(&self, sections: &str, environment: &[(&str, &str)]) -> Process {
        let name = format!("worker-{}", pitcrew::clock::uuid_v7().simple());
        let (file, log) =
            (self.directory.path().join(format!("{name}.toml")), self.directory.path().join(name + ".log"));
        std::fs::write(&file, format!("{}{sections}", self.settings)).expect("the config is written");
        let mut command = Command::new(self.binary);
        command.arg("run").arg("--config").arg(file).current_dir(self.directory.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PITCREW_")) {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied());
        let child = command.stderr(File::create(&log).expect("a log")).spawn().expect("a worker starts");
        Process { child, log }
    }

    /// A command beside the workers, which must succeed: what it prints.
    pub fn operator(&self, arguments: &[&str]) -> String {
        let file = self.directory.path().join("pitcrew.toml");
        let output = Command::new(self.binary).args(arguments).arg("--config").arg(file).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// A command beside the workers, with the shop's config and further environment: how it ended and what it printed.
    pub fn typed(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.clean(self.binary);
        command.args(arguments).arg("--config").arg(self.directory.path().join("pitcrew.toml"));
        command.envs(environment.iter().copied()).output().expect("it runs")
    }

    /// A line as somebody types it into a shell, where the worker's binary is on the path.
    pub fn shell(&self, line: &str) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let binaries = Path::new(self.binary).parent().expect("a directory").display();
        self.clean("sh").args(["-c", line]).env("PATH", format!("{binaries}:{path}")).output().expect("it runs")
    }

    fn clean(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).stdin(Stdio::null()).env("USER", "tester");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PITCREW_")) {
            command.env_remove(name);
        }
        command
    }

    /// A file beside its database, with this in it.
    pub fn kept(&self, text: &str) -> String {
        let path = self.directory.path().join(format!("{}.txt", pitcrew::clock::uuid_v7().simple()));
        std::fs::write(&path, text).expect("it is written");
        path.display().to_string()
    }

    /// The effects of one message.
    pub async fn effects(&self, n: u32) -> Effects {
        let stored = self.store.load(Effects::COLLECTION, &n.to_string()).await.expect("the store answers");
        stored
            .map_or(Effects { n, ..Effects::default() }, |stored| serde_json::from_str(&stored.body).expect("effects"))
    }

    /// What all messages came to.
    pub async fn tally(&self) -> Tally {
        let Some(pool) = self.store.postgres_pool() else { panic!("counted on Postgres alone") };
        let (schema, effects) = (&self.config.store.schema, Effects::COLLECTION);
        let sql = format!(
            "select count(*) filter (where done > 0), count(*) filter (where heard > 0), coalesce(max(greatest(done, heard)), 0)
             from (select (body::jsonb->>'done')::int as done, (body::jsonb->>'heard')::int as heard
                   from {schema}.document where collection = '{effects}') as effects"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&pool).await.expect("the database answers");
        let count = |n| usize::try_from(row.get::<i64, _>(n)).expect("a count");
        Tally { done: count(0), heard: count(1), most: u32::try_from(row.get::<i32, _>(2)).expect("a count") }
    }

    /// Waits until so many are done; nothing is done twice meanwhile.
    pub async fn done(&self, count: usize) {
        self.until("messages done", async || {
            let tally = self.tally().await;
            assert!(tally.most <= 1, "something was done twice: {tally:?}");
            (tally.done >= count).then_some(())
        })
        .await;
    }

    /// Waits until so many are done and heard and nothing is left to do: each exactly once.
    pub async fn each_once(&self, count: usize) {
        let (whole, until) = (Tally { done: count, heard: count, most: 1 }, Instant::now() + LIMIT);
        loop {
            let (tally, counts) = (self.tally().await, self.store.counts().await.expect("counts"));
            assert!(tally.most <= 1, "something was done twice: {tally:?}");
            if tally == whole && counts.outbox == 0 {
                return;
            }
            assert!(Instant::now() < until, "{tally:?} instead of {whole:?}, {counts:?}; {}", self.logs());
            poll_pause().await;
        }
    }

    /// Waits until `look` finds it.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < until, "not within {LIMIT:?}: {what}; {}", self.logs());
            poll_pause().await;
        }
    }

    /// Everything that is known of a message.
    pub async fn history(&self, id: &str) -> History {
        self.store.history(id).await.expect("the store answers")
    }

    /// All letters.
    pub async fn letters(&self) -> Vec<DeadLetter> {
        self.store.dead_letters(&DeadFilter::default(), 1_000).await.expect("the store answers")
    }

    /// How each attempt ended that did not end done.
    pub async fn attempts(&self) -> Vec<String> {
        let Some(pool) = self.store.postgres_pool() else { panic!("asked on Postgres alone") };
        let sql = format!("select kind from {}.attempt", self.config.store.schema);
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await.expect("the database answers")
    }

    /// What its workers said last.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.directory.path()).expect("a directory").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                all += &format!("\n--- {}\n{}", path.display(), tail(&path));
            }
        }
        all
    }

    /// Ends: its schema goes.
    pub async fn close(self) {
        if let Some(pool) = self.store.postgres_pool() {
            let sql = format!("drop schema {} cascade", self.config.store.schema);
            sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.expect("it goes");
        }
        self.store.close().await;
    }
}

fn tail(log: &PathBuf) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Messages that are done at once.
pub fn plain(numbers: Range<u32>) -> impl Iterator<Item = Work> {
    numbers.map(|n| Work { n, ..Work::default() })
}

/// Messages that take so long each.
pub fn slow(numbers: Range<u32>, takes: Duration) -> impl Iterator<Item = Work> {
    let takes = takes.as_millis().try_into().expect("not for ever");
    numbers.map(move |n| Work { n, takes, ..Work::default() })
}

/// A worker's process; it does not outlive a test that fails.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// `TERM`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is at work.
    pub async fn is_at_work(&mut self) {
        let until = Instant::now() + LIMIT;
        while !std::fs::read_to_string(&self.log).unwrap_or_default().contains("at work") {
            let status = self.child.try_wait().expect("it can be asked");
            assert!(status.is_none() && Instant::now() < until, "{status:?}: {}", tail(&self.log));
            poll_pause().await;
        }
    }

    /// The address of its HTTP door, as it says it.
    pub async fn door(&mut self) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            if let Some((_, rest)) = text.split_once("listening on ") {
                return rest.split(':').take(3).collect::<Vec<_>>().join(":");
            }
            let status = self.child.try_wait().expect("it can be asked");
            assert!(status.is_none() && Instant::now() < until, "{status:?}: {}", tail(&self.log));
            poll_pause().await;
        }
    }

    /// What it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it can be asked")
    }

    /// Waits until it has ended.
    pub async fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.status() {
                return status;
            }
            assert!(Instant::now() < until, "the worker does not end: {}", tail(&self.log));
            poll_pause().await;
        }
    }

    /// Kills it, as a crash of its machine would.
    pub async fn kill(mut self) {
        self.signal("KILL");
        self.ends().await;
    }

    /// Asks it to end, which it must do well.
    pub async fn stop(mut self) {
        self.signal("TERM");
        let status = self.ends().await;
        assert_eq!(status.code(), Some(0), "{}", tail(&self.log));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of ours.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().expect("sh runs");
    assert!(sent.success(), "SIG{name} to {}", child.id());
}
