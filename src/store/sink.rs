//! Message Store, its end: a folder that takes what retention is about to drop, as NDJSON.
//!
//! A file is written under a name of its own, synced, and renamed: whoever looks finds it whole or not at all. Its last name is made
//! of what it holds, so that whoever writes the same again (another worker, a retry after a crash) writes the same file.

use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{fs, io::AsyncWriteExt};

/// A folder. It must exist: one that is made where a volume is not mounted would take everything to the wrong disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    folder: PathBuf,
}

/// A file that nobody sees yet. Dropped unfinished, it goes.
pub(crate) struct Writing {
    folder: PathBuf,
    temporary: PathBuf,
    file: fs::File,
    hash: Sha256,
    is_renamed: bool,
}

impl Sink {
    /// Files go to `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where files go.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) async fn begin(&self) -> io::Result<Writing> {
        let temporary = self.folder.join(format!(".{}.part", crate::clock::uuid_v7().simple()));
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary).await?;
        Ok(Writing { folder: self.folder.clone(), temporary, file, hash: Sha256::new(), is_renamed: false })
    }

    /// One file, if there is a row. `name` is what its name begins with.
    pub(crate) async fn write<T: Serialize>(&self, name: &str, rows: &[T]) -> io::Result<Option<String>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let mut writing = self.begin().await?;
        writing.add(rows).await?;
        writing.finish(name).await.map(Some)
    }
}

impl Writing {
    /// One line a row.
    pub(crate) async fn add<T: Serialize>(&mut self, rows: &[T]) -> io::Result<()> {
        let mut lines = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut lines, row)?;
            lines.push(b'\n');
        }
        self.hash.update(&lines);
        self.file.write_all(&lines).await
    }

    /// The name under which it is there for good.
    pub(crate) async fn finish(mut self, name: &str) -> io::Result<String> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let hash: String = self.hash.finalize_reset().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{name}-{hash}.ndjson");
        fs::rename(&self.temporary, self.folder.join(&name)).await?;
        self.is_renamed = true;
        // The new name is durable only with its folder.
        fs::File::open(&self.folder).await?.sync_all().await?;
        Ok(name)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_renamed {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
