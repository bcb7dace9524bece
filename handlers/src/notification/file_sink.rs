//! Channel Adapter: one JSON line a notification at the end of a file.

use super::contract::Notification;
use serde::Deserialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// `[handlers."car.RecommendationBriefGenerated"]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConfig {
    /// The file, made if it is not there; its folder must be.
    pub path: PathBuf,
    /// Wait until the line is on the disk. `false` saves a disk write a notification, and a power cut may then lose lines whose
    /// events count as handled; a worker that dies loses none either way.
    pub sync: bool,
}
impl Default for SinkConfig {
    fn default() -> Self {
        Self { path: "notifications.log".into(), sync: true }
    }
}

/// Why a notification was not written. Trying again may help: a full disk gets room, a lost mount comes back.
#[derive(Debug, thiserror::Error)]
#[error("{verb} the notifications file `{path}`: {source}", path = path.display())]
pub struct SinkError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Appends to one file. Any number of workers may append to the same one on a local disk.
#[derive(Debug, Clone)]
pub struct FileSink {
    config: Arc<SinkConfig>,
}

impl FileSink {
    /// Makes the file if it is not there, and sees that it can be written.
    pub async fn open(config: SinkConfig) -> Result<Self, SinkError> {
        let sink = Self { config: Arc::new(config) };
        sink.blocking("open", |config| open(&config.path).map(drop)).await?;
        Ok(sink)
    }

    /// Where the lines go.
    pub fn path(&self) -> &Path {
        &self.config.path
    }

    /// Appends one line. After an error the line may be there in part or whole: outcome unknown, and it is written again.
    pub async fn append(&self, notification: &Notification) -> Result<(), SinkError> {
        let mut line = serde_json::to_vec(notification).map_err(|e| self.error("write", e.into()))?;
        line.push(b'\n');
        self.blocking("write", move |config| {
            // Opened for each line: the file may be rotated away under us. Append mode and one call: lines of several workers
            // stand one after another, never in one another.
            let mut file = open(&config.path)?;
            let written = file.write(&line)?;
            if written < line.len() {
                // The disk is full, most likely. Close the broken line, so that it spoils no other one.
                let _ = file.write(b"\n");
                return Err(io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {} bytes", line.len())));
            }
            if config.sync { file.sync_data() } else { Ok(()) }
        })
        .await
    }

    /// Off the threads that run handlers: a slow disk must not slow down everybody.
    async fn blocking(
        &self,
        verb: &'static str,
        io: impl FnOnce(&SinkConfig) -> io::Result<()> + Send + 'static,
    ) -> Result<(), SinkError> {
        let config = self.config.clone();
        let done = tokio::task::spawn_blocking(move || io(&config)).await;
        done.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| self.error(verb, e))
    }

    fn error(&self, verb: &'static str, source: io::Error) -> SinkError {
        SinkError { verb, path: self.config.path.clone(), source }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
