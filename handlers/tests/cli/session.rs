//! A terminal session in a directory of its own: what was typed and what came back, with what varies taken out.

use pitcrew::{
    sqlx::{self, Connection, SqliteConnection},
    testing::poll_pause,
};
use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

pub(crate) struct Session {
    pub(crate) directory: tempfile::TempDir,
    transcript: String,
    /// IDs in the order in which they were first seen.
    seen: Vec<String>,
    last: String,
    /// The word before the one that is looked at.
    previous: String,
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("it ends by itself");
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Session {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, transcript: String::new(), seen: Vec::new(), last: String::new(), previous: String::new() }
    }

    /// The binary in this directory, with nothing of the outer environment that it would read.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.args(arguments).current_dir(self.directory.path()).env("COLUMNS", "80").env("USER", "tester");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PITCREW_")) {
            command.env_remove(name);
        }
        // No door: which port is free is not for a snapshot.
        command.env("PITCREW_HTTP__LISTEN", "");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&mut self, arguments: &[&str]) -> Ran {
        let ran = Ran::from(self.command(arguments).output().unwrap());
        self.write_down("", arguments, &ran);
        ran
    }

    pub(crate) fn unseen(&self, arguments: &[&str]) {
        assert!(self.command(arguments).output().unwrap().status.success(), "{arguments:?}");
    }

    pub(crate) fn with_input(&mut self, input: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have ended before it read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let ran = Ran::from(child.wait_with_output().unwrap());
        let shown: String = input.escape_debug().take(60).collect();
        self.write_down(&format!("echo '{shown}{}' | ", if input.len() > 60 { "…" } else { "" }), arguments, &ran);
        ran
    }

    /// As a person sees it, who types `answer`.
    pub(crate) fn on_terminal(&self, arguments: &[&str], answer: &str) -> Ran {
        let line = [&[env!("CARGO_BIN_EXE_car-worker")], arguments].concat().join(" ");
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(self.directory.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        std::fs::write(self.directory.path().join(path), text).unwrap();
    }

    /// What the last command printed last: an ID, for example.
    pub(crate) fn last_line(&self) -> String {
        self.last.clone()
    }

    pub(crate) fn worker(&self) -> Worker {
        self.start(&["run"])
    }

    pub(crate) fn worker_at(&self, config: &str) -> Worker {
        self.start(&["run", "--config", config])
    }

    fn start(&self, arguments: &[&str]) -> Worker {
        let log = std::fs::File::create(self.directory.path().join("worker.log")).unwrap();
        let child = self.command(arguments).stderr(log).spawn().unwrap();
        let worker = Worker(child);
        wait_until(|| std::fs::read_to_string(self.directory.path().join("worker.log")).unwrap().contains("at work"));
        worker
    }

    pub(crate) fn until(&self, arguments: &[&str], found: impl Fn(&str) -> bool) {
        wait_until(|| found(&Ran::from(self.command(arguments).output().unwrap()).out));
    }

    pub(crate) fn outbox(&self) -> i64 {
        self.count("select count(*) from outbox")
    }

    pub(crate) fn outbox_of(&self, purpose: &str) -> i64 {
        self.count(&format!("select count(*) from outbox where purpose = '{purpose}'"))
    }

    fn count(&self, sql: &str) -> i64 {
        let path = self.directory.path().join("pitcrew.db").display().to_string();
        let sql = sql.to_owned();
        block_on(async move {
            let mut connection = SqliteConnection::connect(&path).await.unwrap();
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
        })
    }

    /// Runs SQL on the database.
    pub(crate) fn sqlite(&self, sql: &str) {
        let path = self.directory.path().join("pitcrew.db").display().to_string();
        let sql = sql.to_owned();
        block_on(async move {
            let mut connection = SqliteConnection::connect(&path).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        });
    }

    /// Enters an ID before it is printed, so that it keeps its number whatever the order of the output.
    pub(crate) fn name(&mut self, id: &str) {
        self.seen.push(id.to_owned());
    }

    fn write_down(&mut self, before: &str, arguments: &[&str], ran: &Ran) {
        let quoted = |word: &&str| match word {
            word if word.is_empty() || word.contains([' ', '"']) => format!("'{word}'"),
            word if word.len() > 60 => format!("{}…", &word[..12]),
            word => (*word).to_owned(),
        };
        let typed: Vec<String> = arguments.iter().map(quoted).collect();
        let ended = if ran.code == 0 { String::new() } else { format!("[exit {}]\n", ran.code) };
        let text = format!("$ {before}car-worker {}\n{}{}{ended}\n", typed.join(" "), ran.out, ran.err);
        self.last = ran.out.lines().last().unwrap_or_default().to_owned();
        let here = self.directory.path().canonicalize().unwrap();
        let text = self.steady(&text.replace(&here.display().to_string(), "DIR"));
        self.transcript.push_str(&text);
    }

    /// What varies from run to run has a name instead.
    fn steady(&mut self, text: &str) -> String {
        let mut steady = String::new();
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
        let mut rest = text;
        while let Some(at) = rest.find(is_part) {
            let (between, from) = rest.split_at(at);
            let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            steady.push_str(between);
            let tail = word.len() - word.trim_end_matches([':', '.']).len();
            let (word, tail) = word.split_at(word.len() - tail);
            steady.push_str(&self.name_of(between, word, after));
            self.previous = word.to_owned();
            steady.push_str(tail);
            // An age takes its column, however many digits it has.
            rest = if steady.ends_with("  AGE") { &after[3usize.saturating_sub(word.len())..] } else { after };
        }
        steady + rest
    }

    fn name_of(&mut self, before: &str, word: &str, after: &str) -> String {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let seconds = word.strip_suffix('s').is_some_and(|number| digits(number) && number.len() <= 2);
        if uuid::Uuid::parse_str(word).is_ok() && word.len() == 36 {
            let known = self.seen.iter().position(|id| id == word);
            let n = known.unwrap_or_else(|| {
                self.seen.push(word.to_owned());
                self.seen.len() - 1
            });
            return format!("{:0>36}", format!("-ID-{}", n + 1)); // as wide as it was, for tables
        }
        match word {
            _ if word.len() > 19 && chrono::DateTime::parse_from_rfc3339(word).is_ok() => "TIME".into(),
            _ if chrono::NaiveDate::parse_from_str(word, "%Y-%m-%d").is_ok() && after.starts_with(" (UTC)") => {
                "DAY".into()
            }
            _ if word.len() == 12 && chrono::NaiveTime::parse_from_str(word, "%H:%M:%S%.3f").is_ok() => "TIME".into(),
            _ if digits(word) && after.starts_with(" ms ") => "N".into(),
            _ if digits(word) && self.previous == "process" => "PID".into(),
            _ if before.ends_with('…') && word.len() == 6 => "WORKER".into(),
            _ if seconds && before.ends_with("  ") && after.starts_with("  ") => "AGE".into(),
            _ if self.previous == "in" && after.starts_with(')') => "SOON".into(),
            _ => word.to_owned(),
        }
    }

    /// The transcript is the one that is kept.
    #[track_caller]
    pub(crate) fn is(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/{name}.txt"));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &self.transcript).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let (kept_lines, lines) = (kept.lines().collect::<Vec<_>>(), self.transcript.lines().collect::<Vec<_>>());
        let same = kept_lines.iter().zip(&lines).take_while(|(kept, line)| kept == line).count();
        let show = |lines: &[&str]| {
            lines.iter().skip(same.saturating_sub(3)).take(8).map(|l| format!("    {l}\n")).collect::<String>()
        };
        assert!(
            kept == self.transcript,
            "{} differs from line {} on; kept:\n{}now:\n{}if that is right: UPDATE_SNAPSHOTS=1",
            path.display(),
            same + 1,
            show(&kept_lines),
            show(&lines),
        );
    }
}

/// A worker process, killed if the test ends before it.
pub(crate) struct Worker(Child);

impl Worker {
    /// SIGTERM; the answer is its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(holds: impl Fn() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < limit, "not within {PATIENCE:?}");
        block_on(poll_pause());
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
