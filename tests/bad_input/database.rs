//! A database in trouble under a worker at work: what it cannot write it holds, and nothing is lost or done twice.

use super::*;
use pitcrew::{
    Client, Handler, Running, Worker,
    store::{
        Store,
        sqlite::{Options, SqliteStore},
    },
    testing::poll_pause,
    transport::embedded::Embedded,
};
use sqlx::{Connection, Executor, SqliteConnection};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// A worker on a file; its handlers wait for a permit, and are counted when they ask for it.
struct Beside {
    directory: tempfile::TempDir,
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}

impl Beside {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("data")).unwrap();
        Self { directory, gate: Arc::new(Semaphore::new(0)), begun: Arc::default() }
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn path(&self) -> PathBuf {
        self.folder().join("notes.db")
    }

    async fn open(&self, options: Options) -> Arc<SqliteStore> {
        let store = SqliteStore::open(self.path().to_str().unwrap(), options).await.unwrap();
        store.migrate().await.unwrap();
        Arc::new(store)
    }

    fn handlers(&self) -> Handlers {
        Handlers::new().handle(Gated { gate: self.gate.clone(), begun: self.begun.clone() }).emits::<Kept>()
    }

    async fn start(&self, store: Arc<SqliteStore>) -> Running {
        Worker::new(Config::default(), self.handlers()).start(store, Arc::new(Embedded::default())).await.unwrap()
    }

    fn client(&self, store: Arc<SqliteStore>) -> Client {
        Client::new(store, &Embedded::default(), &self.handlers(), &Config::default()).unwrap()
    }
}

struct Gated {
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}
impl Handler<Keep> for Gated {
    async fn handle(&self, m: Keep, cx: &mut Context) -> pitcrew::Result {
        self.begun.fetch_add(1, SeqCst);
        drop(self.gate.acquire().await?);
        cx.save(&Note { id: cx.meta().id.clone(), text: m.text.clone() })?;
        keep(m, cx).await
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < limit, "{what}: not within 30 s");
        poll_pause().await;
    }
}

/// As an operator's tool sees the file.
async fn look(path: &Path, sql: &'static str) -> i64 {
    let mut connection = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

const DONE: &str = "select count(*) from inbox where fate = 'done'";
const OUTBOX: &str = "select count(*) from outbox";
const EFFECTS: &str = "select coalesce((select cast(body as integer) from document where collection = 'count'), 0)";
const NOTES: &str = "select count(*) from document where collection = 'note'";

/// Everything that was sent is done, with one effect each.
async fn all_done(path: &Path, sent: i64) {
    until("all are done", async || look(path, DONE).await == sent && look(path, OUTBOX).await == 0).await;
    assert_eq!((look(path, EFFECTS).await, look(path, NOTES).await), (sent, sent), "one effect each");
    assert_eq!(look(path, "select count(*) from dead_letter").await, 0, "none is dead for what is no fault of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_holds_what_is_finished() {
    let on = Beside::new();
    let store = on.open(Options { busy_timeout: Duration::from_millis(30), ..Options::default() }).await;
    let worker = on.start(store.clone()).await;
    let client = on.client(store);
    for _ in 0..20 {
        client.send(&Keep { text: "milk".into(), into: String::new() }).await.unwrap();
    }
    until("they are begun", async || on.begun.load(SeqCst) == 20).await;
    let mut other = SqliteConnection::connect(on.path().to_str().unwrap()).await.unwrap();
    other.execute("begin immediate").await.unwrap();
    on.gate.add_permits(1_000);
    // Longer than the busy timeout: commits were refused in between.
    let began = Instant::now();
    until("the timeout passes", async || began.elapsed() > Duration::from_millis(200)).await;
    assert_eq!(look(&on.path(), DONE).await, 0);
    let refused = client.send(&Keep { text: "late".into(), into: String::new() }).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("another process is writing"));
    other.execute("rollback").await.unwrap();
    all_done(&on.path(), 20).await;
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_holds_what_does_not_fit() {
    let on = Beside::new();
    on.gate.add_permits(10_000);
    let roomy = on.open(Options::default()).await;
    let client = on.client(roomy.clone());
    for _ in 0..60 {
        client.send(&Keep { text: "x".repeat(20_000), into: "document".into() }).await.unwrap();
    }
    let pages: i64 = look(&on.path(), "select page_count from pragma_page_count").await;
    let full = vec![("max_page_count", (pages + 60).to_string())];
    let worker = on.start(on.open(Options { pragmas: full, ..Options::default() }).await).await;
    until("it is full", async || on.begun.load(SeqCst) >= 60 && look(&on.path(), DONE).await < 60).await;
    worker.shutdown().await;
    let done = look(&on.path(), DONE).await;
    assert!(done < 60, "it was never full");
    assert_eq!(done + look(&on.path(), OUTBOX).await, 60, "the rest is where it was");
    // The operator has made room.
    let worker = on.start(roomy).await;
    until("all are done", async || look(&on.path(), DONE).await == 60).await;
    assert_eq!(look(&on.path(), EFFECTS).await, 60);
    worker.shutdown().await;
}

/// A connection goes on writing to a file that is no longer there, and what it commits dies with the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_disappears_is_noticed_before_the_commit() {
    let on = Beside::new();
    let store = on.open(Options::default()).await;
    let worker = on.start(store.clone()).await;
    let client = on.client(store.clone());
    for _ in 0..10 {
        client.send(&Keep { text: "milk".into(), into: String::new() }).await.unwrap();
    }
    until("they are begun", async || on.begun.load(SeqCst) == 10).await;
    let away = on.directory.path().join("elsewhere");
    std::fs::rename(on.folder(), &away).unwrap();
    on.gate.add_permits(1_000);
    let refused = client.send(&Keep { text: "late".into(), into: String::new() }).await;
    let told = format!("{:#}", refused.unwrap_err());
    assert!(told.contains("was moved away or deleted; put it back"), "{told}");
    assert_eq!(look(&away.join("notes.db"), DONE).await, 0, "nothing is committed where nobody looks");

    // Another file under the old name is not the one that was opened.
    std::fs::create_dir(on.folder()).unwrap();
    std::fs::write(on.path(), "").unwrap();
    assert!(client.send(&Keep { text: "late".into(), into: String::new() }).await.is_err());
    let read = store.counts().await.unwrap_err();
    assert!(format!("{read:#}").contains("was moved away or deleted"), "nothing is opened to read either: {read:#}");
    std::fs::remove_dir_all(on.folder()).unwrap();

    std::fs::rename(&away, on.folder()).unwrap();
    all_done(&on.path(), 10).await;
    worker.shutdown().await;
}
