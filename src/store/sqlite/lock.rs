//! Exclusive Consumer: one worker process a file.

use super::connect::File;
use crate::store::{StoreError, StoreResult};
use std::{
    fs,
    io::{Read, Seek, Write},
    path::PathBuf,
};

/// Proof that no other worker process uses the file. The kernel takes it back when the process ends, so a killed worker leaves none;
/// the file `<database>.lock` stays and means nothing.
#[derive(Debug)]
pub struct WorkerLock {
    _held: fs::File,
    path: PathBuf,
}

impl WorkerLock {
    pub(super) fn take(database: &File) -> StoreResult<Self> {
        // A link to a database is that database; one that is not there yet is found by its own name.
        let name = fs::canonicalize(database.path()).unwrap_or_else(|_| database.path().to_owned());
        let mut name = name.into_os_string();
        name.push(".lock");
        let path = PathBuf::from(name);
        let shown = path.display();
        let unfit = |why: String| StoreError::Unfit(format!("lock the database {}: {why}", database.path().display()));
        let mut file =
            fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(|e| {
                unfit(format!("open {shown}: {e}; its directory must exist and be writable for this user"))
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("the process {pid}"),
                };
                return Err(unfit(format!(
                    "{holder} is a worker on it already, and SQLite takes one worker process a file; stop that one, give this \
                     one a file of its own, or use Postgres for several"
                )));
            }
            Err(fs::TryLockError::Error(e)) => {
                return Err(unfit(format!("lock {shown}: {e}; put the database on a local disk")));
            }
        }
        // Only for the sentence above; the lock is the kernel's.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _held: file, path })
    }

    /// The lock's own file.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}
