//! What people see: words, ages, tables, errors.

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use std::io::{BufRead, ErrorKind, IsTerminal, Write};

/// A command line that can never work: the process ends with 2, as for a flag that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misuse(pub(super) String);

/// The chain of an error, outermost first, one line each.
pub(super) fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a line; a reader that has gone (`| head`) ends the process quietly, a full disk as a failure: half a list that counts as a
/// whole one is worse than none.
pub(super) fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.as_ref()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            self::error(&anyhow::Error::new(error).context("writing to standard output"));
            std::process::exit(1);
        }
    }
}

/// Prints what is no line for people, with the same end.
pub(super) fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written,
    }
}

/// Whether what is printed is shown to a person.
pub(super) fn is_shown() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether a person can be asked.
pub(super) fn is_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a person whether to do `what`; a no is said. Without a terminal it is a misuse: `asks` says that it would have asked.
pub(super) fn confirmed(what: &str, asks: &str) -> anyhow::Result<bool> {
    if !is_terminal() {
        return Err(Misuse(format!("{asks}, and there is no terminal; add --yes")).into());
    }
    eprint!("{what}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    let is_yes = answer.trim().eq_ignore_ascii_case("y");
    if !is_yes {
        line("nothing was done");
    }
    Ok(is_yes)
}

/// `3s`, `12m`, `5h`, `2d`.
pub(super) fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - since).num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// RFC 3339 to the millisecond.
pub(super) fn clock_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `in 12s`, `3m ago`.
pub(super) fn distance(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if at > now { format!("in {}", age(now, at)) } else { format!("{} ago", age(at, now)) }
}

/// Columns aligned, the last one as long as it is.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    std::iter::once(&head)
        .chain(rows)
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// Broken between words, for a terminal that shows a whole report.
pub(super) fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => line.extend([" ", word]),
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

/// Characters of a line of a report.
pub(super) const WIDTH: usize = 100;

/// A word in its colour: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(super) fn coloured(word: &str, colour: Colour) -> String {
    let wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    if wanted { format!("\x1b[{}m{word}\x1b[0m", colour as u8) } else { word.to_owned() }
}

/// By their numbers of ANSI X3.64.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// At most `most` characters, and none that speaks to the terminal.
pub(super) fn short(text: &str, most: usize) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= most { text } else { text.chars().take(most.saturating_sub(1)).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_one_unit() {
        let at = |s| DateTime::from_timestamp(s, 0).unwrap();
        assert_eq!(
            [5, 119, 120, 7_200, 200_000].map(|s| age(at(0), at(s))),
            ["5s", "119s", "2m", "2h", "2d"].map(String::from)
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["a".to_owned(), "long text".into()], vec!["bbb".into(), "x".into()]];
        assert_eq!(table(&["ID", "WHY"], &rows), ["ID   WHY", "a    long text", "bbb  x"]);
        assert_eq!(short("one two", 4), "one…");
        assert_eq!(short("a\n\x1b[31mb\u{9b}c", 40), "a  [31mb c");
    }
}
