//! `audit export`: what became of every message, page by page, so that millions of them need no more memory than some.

use super::{
    super::{Globals, output},
    time,
};
use crate::{
    clock,
    store::{Handled, InboxRow, Span, Store},
};
use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Rows in memory at once.
const PAGE: usize = 1_000;

/// What became of every command and event: one line for each handler of it, with its last attempt. First those without a
/// time in their ID, then the others by that time.
#[derive(clap::Args)]
#[command(after_help = "\
TIME is RFC 3339, or a duration: so long ago. It is when a message was sent,
the time in its ID (UUIDv7); for an ID without one, when its fate was decided.

The store keeps this for [store.retention] inbox (14d, two days of grace);
`config show` says what is in force. What is older is in [audit] sink, in the
same NDJSON, if that is set, and gone if not.

Each line has: sent at consumer type version id source fate reason attempt
duration_ms actor subject correlation causation trace worker build. CSV has
them in this order below a line of names; what is absent is empty.

Examples:
  {bin} audit export --since 24h | jq 'select(.fate == \"dead\")'
  {bin} audit export --since 30d --until 7d --format csv --out some.csv")]
pub(in crate::cli) struct Export {
    /// Sent since, e.g. 24h or 2026-05-03T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: DateTime<Utc>,
    /// Sent before
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<DateTime<Utc>>,
    /// ndjson: one JSON object a line; csv: RFC 4180, in UTF-8
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// Into this file, which is there once it is whole; -: to standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Ndjson,
    Csv,
}

impl Export {
    pub(super) async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let to_stdout = self.out == Path::new("-");
        if to_stdout && self.format == Format::Csv && output::is_shown() {
            // JSON escapes what a terminal would obey, CSV does not, and senders choose what is in it.
            let text = "CSV goes to a file or a pipe: --out FILE".to_owned();
            return Err(output::Misuse(text).into());
        }
        if self.until.is_some_and(|until| until <= self.since) {
            let text = "--until is no later than --since, so nothing is in between (of two durations the longer one is earlier)";
            return Err(output::Misuse(text.into()).into());
        }
        let opened = globals.store().await?;
        let written = if to_stdout { self.to_stdout(&*opened.store).await } else { self.to_file(&*opened.store).await };
        opened.store.close().await;
        let rows = written?;
        if !to_stdout {
            output::line(format!("{rows} lines in {}", self.out.display()));
        }
        Ok(true)
    }

    async fn to_stdout(&self, store: &dyn Store) -> anyhow::Result<u64> {
        self.each_page(store, |bytes| output::bytes(bytes).context("writing to standard output")).await
    }

    /// Under another name until it is whole: nobody takes half of it for all.
    async fn to_file(&self, store: &dyn Store) -> anyhow::Result<u64> {
        self.out.file_name().context("--out names no file")?;
        // A device or a pipe is written to, and never replaced.
        if std::fs::metadata(&self.out).is_ok_and(|there| !there.is_file()) {
            let opened = File::options().write(true).open(&self.out);
            let mut file = opened.with_context(|| format!("writing {}", self.out.display()))?;
            let written = self.each_page(store, |bytes| Ok(file.write_all(bytes)?)).await;
            return written.with_context(|| format!("writing {}", self.out.display()));
        }
        // Of a link, what it leads to; and of two at once, each its own.
        let out = std::fs::canonicalize(&self.out).unwrap_or_else(|_| self.out.clone());
        let part = out.with_file_name(format!(".{}.part", clock::uuid_v7().simple()));
        let written = async {
            let mut file = BufWriter::new(File::create_new(&part)?);
            let rows = self.each_page(store, |bytes| Ok(file.write_all(bytes)?)).await?;
            file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
            std::fs::rename(&part, &out)?;
            anyhow::Ok(rows)
        };
        let written = written.await;
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written.with_context(|| format!("writing {}", self.out.display()))
    }

    async fn each_page(
        &self,
        store: &dyn Store,
        mut write: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        // No ID is of a later time, and every store can tell this one.
        let end_of_time = DateTime::from_timestamp(253_402_300_799, 0).unwrap_or_default();
        let span = Span { since: self.since, until: self.until.unwrap_or(end_of_time) };
        if self.format == Format::Csv {
            write(&csv_line(&COLUMNS)?)?;
        }
        let (mut rows, mut after) = (0, None);
        loop {
            let page = store.handled(&span, after.as_ref(), PAGE).await?;
            let mut text = Vec::new();
            for handled in &page {
                match self.format {
                    Format::Ndjson => {
                        serde_json::to_writer(&mut text, handled)?;
                        text.push(b'\n');
                    }
                    Format::Csv => text.extend(csv_line(&cells(handled))?),
                }
            }
            write(&text)?;
            rows += page.len() as u64;
            if page.len() < PAGE {
                return Ok(rows);
            }
            after = page.into_iter().next_back();
        }
    }
}

const COLUMNS: [&str; 18] = [
    "sent",
    "at",
    "consumer",
    "type",
    "version",
    "id",
    "source",
    "fate",
    "reason",
    "attempt",
    "duration_ms",
    "actor",
    "subject",
    "correlation",
    "causation",
    "trace",
    "worker",
    "build",
];

fn cells(handled: &Handled) -> [String; 18] {
    let Handled { sent, row, reason } = handled.clone();
    let InboxRow { consumer, source, id, ty, version, attempt, fate, actor, subject, correlation, .. } = row;
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    [
        sent.map(time).unwrap_or_default(),
        time(row.at),
        consumer,
        ty,
        version.to_string(),
        id,
        source,
        fate,
        reason.unwrap_or_default(),
        attempt.to_string(),
        row.duration_ms.to_string(),
        actor.unwrap_or_default(),
        subject.unwrap_or_default(),
        correlation.unwrap_or_default(),
        row.causation.unwrap_or_default(),
        row.trace.unwrap_or_default(),
        row.worker.to_string(),
        row.build,
    ]
}

fn csv_line<T: AsRef<[u8]>>(cells: &[T]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells)?;
    Ok(writer.into_inner().map_err(|error| error.into_error())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_may_hold_what_separates_cells() {
        let told = csv_line(&["plain", "a,b", "say \"no\"", "two\nlines", "", "Škoda"]).unwrap();
        assert_eq!(String::from_utf8(told).unwrap(), "plain,\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",,Škoda\r\n");
    }
}
