//! Progress of what takes its time, and how a person ends it.

use anyhow::Context as _;
use std::io::{IsTerminal, Write as _, stderr};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and Ctrl-C.
pub(super) struct Signals(Signal, Signal);

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        Ok(Self(terminate, signal(SignalKind::interrupt()).context("listening for SIGINT")?))
    }

    pub(super) async fn next(&mut self) {
        tokio::select! { _ = self.0.recv() => {} _ = self.1.recv() => {} }
    }
}

/// Progress on standard error, told about once a second: one line that changes, or in a log file one now and then.
#[derive(Default)]
pub(super) struct Told {
    times: u32,
}

impl Told {
    pub(super) fn tell(&mut self, progress: &str) {
        self.times += 1;
        // Whoever is told may have gone, and the work goes on.
        if stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K{progress}");
        } else if self.times % 10 == 1 {
            let _ = writeln!(stderr(), "{progress}");
        }
    }

    pub(super) fn end(&self) {
        if self.times > 0 && stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
