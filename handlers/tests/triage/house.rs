//! A database with dead letters of the platform's commands, the real binary, and a worker beside it.

use pitcrew::{
    Envelope,
    config::{Config, Sources},
    message::wire,
    sqlx::{self, AssertSqlSafe},
    store::{
        Attempt, AttemptKind, AuditFilter, Batch, DeadFilter, DeadLetter, Effects, Fate, Finished, History, LetterKey,
        LetterState, Reason, Replay, ReplayTally, Store,
    },
    worker::open_store,
};
use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const TYPE: &str = "car.GenerateRecommendationBrief";

/// What a command printed; a signal is its negative number.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or_default());
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

pub(crate) struct House {
    pub(crate) directory: TempDir,
    pub(crate) store: Arc<dyn Store>,
    schema: Option<String>,
}

impl House {
    pub(crate) async fn on_sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("shop.db").display());
        Self::open(directory, &url, None).await
    }

    pub(crate) async fn on_postgres() -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let schema = format!("t_{}", pitcrew::clock::uuid_v7().simple());
        Some(Self::open(tempfile::tempdir().unwrap(), &url, Some(schema)).await)
    }

    async fn open(directory: TempDir, url: &str, schema: Option<String>) -> Self {
        let told = directory.path().join("notifications.log");
        let settings = format!(
            "service = \"car-worker\"\n[store]\nurl = {url:?}\nschema = {:?}\n\
             [handlers.\"car.RecommendationBriefGenerated\"]\npath = {told:?}\n",
            schema.as_deref().unwrap_or("pitcrew")
        );
        let file = directory.path().join("pitcrew.toml");
        std::fs::write(&file, settings).unwrap();
        let sources = Sources { file: Some(file), service: "car-worker".into(), ..Sources::default() };
        let config = Config::load(&sources).unwrap();
        let store = open_store(&config, false).await.unwrap().store;
        store.migrate().await.unwrap();
        Self { directory, store, schema }
    }

    pub(crate) async fn drop(self) {
        if let (Some(schema), Some(pool)) = (&self.schema, self.store.postgres_pool()) {
            sqlx::query(AssertSqlSafe(format!("drop schema {schema} cascade"))).execute(&pool).await.unwrap();
        }
        self.store.close().await;
    }

    /// So many commands that died, each a millisecond after the other. Those that are `good` are done if they run again, the others
    /// are no such command.
    pub(crate) async fn die(&self, letters: usize, good: bool) -> Vec<String> {
        let messages: Vec<Finished> = (0..letters).map(|n| died(n, good)).collect();
        for message in &messages {
            let batch = Batch { worker: uuid::Uuid::nil(), messages: std::slice::from_ref(message), confirmed: &[] };
            self.store.commit(&batch).await.unwrap();
        }
        messages.iter().map(|message| message.envelope.id.clone()).collect()
    }

    /// The binary with this house's configuration, and nothing of the outer environment that it would read.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.args(arguments).current_dir(self.directory.path()).env("USER", "tester");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PITCREW_")) {
            command.env_remove(name);
        }
        for name in ["VISUAL", "EDITOR"] {
            command.env_remove(name);
        }
        command.env("PITCREW_HTTP__LISTEN", "").stdin(Stdio::null());
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).ends().await
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        Process(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    pub(crate) async fn with_input(&self, input: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command
            .env("TMPDIR", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have ended before it read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Process(Some(child)).ends().await
    }

    /// A worker that is at work.
    pub(crate) async fn worker(&self) -> Process {
        let path = self.directory.path().join("worker.log");
        let log = std::fs::File::create(&path).unwrap();
        let worker = Process(Some(self.command(&["run"]).stderr(log).spawn().unwrap()));
        let is_at_work = async || std::fs::read_to_string(&path).unwrap().contains("at work").then_some(());
        self.until("the worker is at work", is_at_work).await;
        worker
    }

    pub(crate) async fn until<T>(&self, what: &str, holds: impl AsyncFn() -> Option<T>) -> T {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            assert!(Instant::now() < until, "never: {what}");
            pitcrew::testing::poll_pause().await;
        }
    }

    pub(crate) async fn history(&self, id: &str) -> History {
        self.store.history(id).await.unwrap()
    }

    /// The latest attempt of a message and its fate.
    pub(crate) async fn attempt_of(&self, id: &str) -> (u32, String) {
        let inbox = self.history(id).await.inbox;
        assert_eq!(inbox.len(), 1, "{inbox:?}");
        (inbox[0].attempt, inbox[0].fate.clone())
    }

    pub(crate) async fn letters(&self, id: &str) -> Vec<DeadLetter> {
        let mut letters = self.history(id).await.letters;
        letters.sort_by_key(|letter| letter.key.attempt);
        letters
    }

    pub(crate) async fn replays(&self) -> Vec<Replay> {
        self.store.replays(100).await.unwrap()
    }

    /// The newest job.
    pub(crate) async fn replay(&self) -> Option<Replay> {
        self.replays().await.into_iter().next()
    }

    pub(crate) async fn tally(&self, replay: &Replay) -> ReplayTally {
        self.store.tally_replay(replay.id, 0, u32::MAX).await.unwrap()
    }

    /// All that an operator could have changed, to be compared.
    pub(crate) async fn rows(&self) -> String {
        let letters = self.store.dead_letters(&DeadFilter::default(), 1_000).await.unwrap();
        let states: Vec<_> = letters.iter().map(|letter| (&letter.key, letter.state)).collect();
        let audit = self.store.audit_trail(&AuditFilter::default(), 1_000).await.unwrap();
        let (counts, replays) = (self.store.counts().await.unwrap(), self.replays().await.len());
        format!("{states:?} {audit:?} {counts:?} {replays}")
    }
}

/// A process of the binary; it does not outlive a test that fails.
pub(crate) struct Process(Option<Child>);

impl Process {
    pub(crate) fn signal(&self, name: &str) {
        let id = self.0.as_ref().map(Child::id).unwrap();
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap().success());
    }

    pub(crate) async fn ends(&mut self) -> Ran {
        let child = self.0.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        tokio::time::timeout(LIMIT, ended).await.expect("it ends").unwrap().into()
    }

    pub(crate) async fn terminate(mut self) {
        self.signal("TERM");
        assert_eq!(self.ends().await.code, 0, "SIGTERM is an ordered end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The payload of a command, which is one or is none.
pub(crate) fn payload(good: bool) -> String {
    let economy = if good { "1" } else { "\"much\"" };
    format!(
        r#"{{"brief_id":"b-{}","buyer":{{"id":"1","name":"Ada"}},"yearly_km":9000,"weights":{{"economy":{economy}}},"top":3}}"#,
        pitcrew::clock::uuid_v7().simple()
    )
}

fn died(n: usize, good: bool) -> Finished {
    let envelope = Envelope::new(TYPE, "/shop", payload(good));
    let at = pitcrew::clock::now() + Duration::from_millis(n as u64);
    let hash = envelope.payload_hash();
    let (reason, error) = match good {
        true => (Reason::Permanent, "asking the provider: it is away"),
        false => (Reason::InvalidPayload, "no such weight"),
    };
    let attempt = Attempt {
        attempt: 1,
        kind: AttemptKind::Failure,
        error: error.into(),
        at,
        duration: Duration::ZERO,
        worker: uuid::Uuid::nil(),
        build: "1.2.3".into(),
        next: None,
    };
    let letter = DeadLetter {
        key: LetterKey {
            consumer: TYPE.into(),
            source: envelope.source.clone(),
            id: envelope.id.clone(),
            attempt: 1,
            payload_hash: hash,
        },
        state: LetterState::Dead,
        channel: "car.commands".into(),
        subscription: "car.commands".into(),
        ty: TYPE.into(),
        version: 1,
        reason: reason.word().into(),
        error: error.into(),
        attributes: wire::attributes_json(&envelope),
        payload: envelope.data.to_vec(),
        count: 1,
        first_at: at,
        last_at: at,
        worker: uuid::Uuid::nil(),
        build: "1.2.3".into(),
    };
    Finished {
        consumer: TYPE.into(),
        subscription: "car.commands".into(),
        payload_hash: hash,
        envelope: Arc::new(envelope),
        fate: Fate::Dead(reason),
        fenced: true,
        operation: None,
        effects: Effects::default(),
        attempt: Some(Box::new(attempt)),
        letter: Some(Box::new(letter)),
        row: None,
        claimed: false,
        duration: Duration::ZERO,
        at,
    }
}
