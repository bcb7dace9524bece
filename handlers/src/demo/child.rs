//! The worker as a process of its own, which can be killed as the kernel would.

use anyhow::Context as _;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// A worker process; it dies with the demo.
pub(super) struct Child {
    process: tokio::process::Child,
    log: PathBuf,
}

impl Child {
    pub(super) fn start(directory: &Path, config: &Path) -> anyhow::Result<Self> {
        let log = directory.join("worker.log");
        let file = File::options().create(true).append(true).open(&log).context("opening the worker's log")?;
        let process = Command::new(std::env::current_exe().context("finding this program")?)
            .arg("demo-worker")
            .arg("--config")
            .arg(config)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("starting the worker")?;
        Ok(Self { process, log })
    }

    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.process.try_wait().context("looking after the worker")
    }

    /// SIGKILL: no destructor, no flush.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("killing the worker")
    }

    /// SIGTERM, and SIGKILL if it does not end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(id) = self.process.id() {
            // Every shell knows `kill`; not every machine has a program of that name.
            let kill = format!("kill {id}");
            Command::new("sh").args(["-c", &kill]).status().await.context("ending the worker")?;
        }
        if tokio::time::timeout(Duration::from_secs(30), self.process.wait()).await.is_err() {
            self.process.kill().await.context("killing the worker")?;
        }
        Ok(())
    }

    pub(super) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}
