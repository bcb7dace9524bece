//! Opening the file: where it is, how its connections are set up, and what is refused before the first of them.

use super::errors::is_busy;
use crate::store::{StoreError, StoreResult};
use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
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

/// A file as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// The path of a database, and what was found there.
#[derive(Clone, Debug)]
pub(super) struct File {
    path: PathBuf,
    opened: Arc<OnceLock<Identity>>,
}

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
            _ => Ok(Self { path: path.into(), opened: Arc::default() }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn directory(&self) -> &Path {
        self.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Remembers which file was opened under this path.
    pub(super) fn remember(&self) -> StoreResult<()> {
        let identity = Identity::of(self.path()).map_err(|e| self.failed_to_open(e.into()))?;
        self.opened.get_or_init(|| identity);
        Ok(())
    }

    /// The file that was opened is still the one under this path. SQLite does not ask: it goes on writing to one that was moved
    /// away or deleted, and what is committed there is lost. Worse, a connection to a new file under the old name would remove
    /// the log of the right one, if that comes back, when it ends.
    pub(super) fn check_in_place(&self) -> std::io::Result<()> {
        let gone = "the database that was opened here was moved away or deleted; put it back, or end the worker";
        match (self.opened.get(), Identity::of(self.path())) {
            (None, _) => Ok(()),
            (Some(opened), Ok(now)) if *opened == now => Ok(()),
            (Some(_), Ok(_)) => Err(std::io::Error::other(gone)),
            (Some(_), Err(error)) => Err(std::io::Error::new(error.kind(), format!("{gone} ({error})"))),
        }
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

    /// What an operator should know of the place, from the kernel's list of mounts.
    pub(super) fn warning(&self) -> Option<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let directory = self.directory().canonicalize().ok()?;
        let why = match file_system(&mounts, &directory)? {
            "tmpfs" | "ramfs" => "is in memory: what is committed there is gone when the machine restarts",
            kind if ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"].contains(&kind) => {
                "is a network file system, where locks and the write-ahead log are not safe"
            }
            _ => return None,
        };
        Some(format!("the database {}: its directory {why}; put it on a local disk", self.path().display()))
    }

    fn options(&self, options: &Options) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
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

/// Connections of somebody who only looks: they make no file and no table, and leave the journal as it is.
pub(super) async fn onlookers(file: &File, options: &Options) -> StoreResult<SqlitePool> {
    file.check()?;
    let connect = SqliteConnectOptions::new().filename(&file.path).busy_timeout(options.busy_timeout);
    let connect = connect.pragma("query_only", "on").thread_name(|n| format!("pitcrew-sqlite-look-{n}"));
    let pool = SqlitePoolOptions::new().max_connections(options.readers.max(1)).min_connections(0);
    pool.connect_with(connect).await.map_err(|error| file.failed_to_open(error))
}

/// The kind of file system that `directory` is on: that of the longest mount point above it.
fn file_system<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    };
    let above = mounts.lines().filter_map(mount).filter(|(point, _)| directory.starts_with(point));
    above.max_by_key(|(point, _)| point.as_os_str().len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_be_written_in_three_ways() {
        for text in ["/var/lib/shop.db", "sqlite:/var/lib/shop.db", "sqlite:///var/lib/shop.db"] {
            assert_eq!(File::parse(text).unwrap().path(), Path::new("/var/lib/shop.db"));
        }
        assert_eq!(File::parse("sqlite:shop.db").unwrap().directory(), Path::new("."));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for text in ["", "sqlite:", "sqlite::memory:", ":memory:", "sqlite://shop.db?mode=ro"] {
            assert!(matches!(File::parse(text), Err(StoreError::Unfit(_))), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_committed_survives_a_power_cut() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::parse(&directory.path().join("shop.db").to_string_lossy()).unwrap();
        let writer = writer(&file, &Options::default()).await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(&writer).await.unwrap();
        assert_eq!(synchronous, 2, "full");
    }

    #[test]
    fn the_nearest_mount_tells_the_file_system() {
        let mounts = "/dev/sda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nhost:/x /tmp/share nfs4 rw 0 0\n";
        for (directory, kind) in [("/srv", "ext4"), ("/tmp/a", "tmpfs"), ("/tmp/share/a", "nfs4"), ("/tmpx", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(directory)), Some(kind));
        }
    }
}
