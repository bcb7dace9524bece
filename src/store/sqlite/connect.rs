//! Opening the file: where it is, how its connections are set up, and what is refused before the first of them.

use super::errors::is_busy;
use crate::store::{StoreError, StoreResult};
use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How often an open that meets another process' open goes again.
const OPEN_TRIES: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// How to open a file. The defaults are right unless a test says otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a write waits for another process before it is [`StoreError::Busy`].
    pub busy_timeout: Duration,
    /// Connections that only read.
    pub readers: u32,
    /// Further pragmas of the writer, e.g. `("max_page_count", "1000")`.
    pub pragmas: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5), readers: 4, pragmas: Vec::new() }
    }
}

/// The path of a database.
#[derive(Clone, Debug)]
pub(super) struct File(PathBuf);

impl File {
    pub(super) fn parse(path_or_url: &str) -> StoreResult<Self> {
        let unfit = |why: &str| Err(StoreError::Unfit(format!("store `{path_or_url}`: {why}")));
        let after = path_or_url.strip_prefix("sqlite:");
        let path = after.map_or(path_or_url, |path| path.strip_prefix("//").unwrap_or(path));
        match path {
            "" => unfit("no path is given; write sqlite:PATH"),
            _ if path.starts_with(":memory:") => {
                unfit("a database in memory keeps no promise; give a path (tests use the memory store)")
            }
            _ if after.is_some() && path.contains('?') => {
                unfit("parameters after `?` are not understood; give the path alone")
            }
            _ => Ok(Self(path.into())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn directory(&self) -> &Path {
        self.0.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// What SQLite would only call "unable to open database file".
    fn check(&self) -> StoreResult<()> {
        let (file, directory) = (self.path().display(), self.directory().display());
        let unfit = |why: String| Err(StoreError::Unfit(format!("open the database {file}: {why}")));
        if !self.directory().is_dir() {
            return unfit(format!("there is no directory {directory}; make it: mkdir -p {directory}"));
        }
        if self.path().is_dir() {
            return unfit("it is a directory; give the path of a file in it".into());
        }
        let read_only = |path: &Path| path.metadata().is_ok_and(|m| m.permissions().readonly());
        match () {
            () if read_only(self.path()) => unfit(format!("the file is read-only; chmod u+w {file}")),
            // SQLite makes two files beside the database, so a writable file is not enough.
            () if read_only(self.directory()) => {
                unfit(format!("the directory {directory} is read-only; chmod u+w {directory}"))
            }
            () => Ok(()),
        }
    }

    fn options(&self, options: &Options) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.0)
            .busy_timeout(options.busy_timeout)
            .journal_mode(SqliteJournalMode::Wal)
            // What was committed survives a power cut: a message is acked after its commit.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .statement_cache_capacity(200)
            .row_buffer_size(512)
            .pragma("temp_store", "memory")
            .pragma("cache_size", "-16000")
    }
}

/// The one connection that writes; opened at once, so that a bad file is refused here.
pub(super) async fn writer(file: &File, options: &Options) -> StoreResult<SqlitePool> {
    file.check()?;
    let mut connect = file.options(options).create_if_missing(true).thread_name(|_| "pitcrew-sqlite-write".into());
    // A log of this size is folded into the file at once, not in every fourth commit.
    connect = connect.pragma("wal_autocheckpoint", "4000").pragma("journal_size_limit", "67108864");
    for (pragma, value) in &options.pragmas {
        connect = connect.pragma(*pragma, value.clone());
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(0)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // SQLite rolls back by itself when the disk is full or fails, which sqlx does not see: it takes the connection for one
        // inside a transaction for ever. Such a connection is thrown away; the next write opens another.
        .after_release(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
    let mut tries = 0;
    let pool = loop {
        tries += 1;
        match pool.clone().connect_with(connect.clone()).await {
            Ok(pool) => break pool,
            // Another process is making the same file: SQLite does not wait here, whatever the busy timeout.
            Err(error) if is_busy(&error) && tries < OPEN_TRIES => tokio::time::sleep(OPEN_PAUSE).await,
            Err(error) => return Err(file.failed_to_open(error)),
        }
    };
    check_log(file, &pool).await?;
    Ok(pool)
}

/// Where a file system has no shared memory, SQLite silently keeps another journal.
async fn check_log(file: &File, writer: &SqlitePool) -> StoreResult<()> {
    let mode: String =
        sqlx::query_scalar("pragma journal_mode").fetch_one(writer).await.map_err(|e| file.failed_to_open(e))?;
    if mode == "wal" {
        return Ok(());
    }
    let path = file.path().display();
    Err(StoreError::Unfit(format!(
        "open the database {path}: its file system allows no write-ahead log (journal_mode is {mode}); put it on a local disk"
    )))
}

/// Connections that read beside the writer. Opened when they are needed.
pub(super) fn readers(file: &File, options: &Options) -> SqlitePool {
    let connect = file.options(options).pragma("query_only", "on").thread_name(|n| format!("pitcrew-sqlite-read-{n}"));
    SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .min_connections(0)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(connect)
}
