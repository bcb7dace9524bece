//! Error classes: what SQLite's result codes mean for a message.

use super::connect::File;
use crate::store::StoreError;
use anyhow::anyhow;

/// Primary result codes (the low byte of the extended ones).
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const NOTADB: i32 = 26;
}

impl File {
    /// While the store is in use. What is not surely the data's fault is held.
    pub(super) fn failed(&self, error: sqlx::Error) -> StoreError {
        let said = anyhow!("{}: {}{}", self.path().display(), text(&error), self.hint(&error));
        match &error {
            sqlx::Error::Encode(_) => StoreError::Refused(said),
            // No connection within the time allowed, or one that must be made anew: nothing was begun.
            sqlx::Error::PoolTimedOut | sqlx::Error::InvalidSavePointStatement => StoreError::Busy(said),
            _ => match primary(&error) {
                Some(code::CONSTRAINT | code::MISMATCH | code::TOOBIG) => StoreError::Refused(said),
                // JSON that `json_each` cannot read: nested deeper than SQLite goes. It never will.
                Some(code::ERROR) if text(&error).contains("malformed JSON") => StoreError::Refused(said),
                Some(code::BUSY | code::LOCKED) => StoreError::Busy(said),
                _ => StoreError::Away(said),
            },
        }
    }

    /// At the start, where an operator reads it and nothing is held yet.
    pub(super) fn failed_to_open(&self, error: sqlx::Error) -> StoreError {
        match primary(&error) {
            Some(code::PERM | code::READONLY | code::CORRUPT | code::CANTOPEN | code::NOTADB) => {
                let file = self.path().display();
                StoreError::Unfit(format!("open the database {file}: {}{}", text(&error), self.hint(&error)))
            }
            _ => self.failed(error),
        }
    }

    fn hint(&self, error: &sqlx::Error) -> String {
        let directory = self.directory().display();
        match primary(error) {
            Some(code::FULL) => format!("; free space on the disk of {directory}"),
            Some(code::IOERR) => format!("; look at the disk of {directory}"),
            Some(code::READONLY | code::CANTOPEN | code::PERM) => {
                format!(
                    "; the file, its `-wal` and `-shm` and the directory {directory} must be writable for this user"
                )
            }
            Some(code::CORRUPT | code::NOTADB) => {
                "; it is damaged or no SQLite database: move it away and restore a copy, \
                or save what can be read with `sqlite3 FILE .recover`"
                    .into()
            }
            Some(code::BUSY | code::LOCKED) => "; another process is writing".into(),
            _ => String::new(),
        }
    }
}

pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary(error), Some(code::BUSY | code::LOCKED))
}

fn primary(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<i32>().ok()? & 0xff)
}

/// Without sqlx's own preamble.
fn text(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(database) => match database.code() {
            Some(code) => format!("{} (code {code})", database.message()),
            None => database.message().to_owned(),
        },
        None => error.to_string(),
    }
}
