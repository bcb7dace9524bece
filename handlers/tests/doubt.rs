//! In doubt: the real worker, killed between handing over a mail and the server's answer. Nobody knows whether the mail went, so a
//! person decides.

#[expect(dead_code, reason = "TLS and logins are for the tests of the mailer")]
#[path = "notification/smtp.rs"]
mod smtp;

use serde_json::{Value, json};
use smtp::SmtpServer;
use std::{
    fs::File,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a database, and the binary in it.
struct Bench(TempDir);

impl Bench {
    fn new(server: &SmtpServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mail = server.section();
        let settings = format!(
            "service = \"car-worker\"\n[handlers.\"car.SendMail\"]\nhost = {}\nport = {}\nsecurity = {}\nfrom = {}\n",
            mail["host"], mail["port"], mail["security"], mail["from"]
        );
        std::fs::write(folder.path().join("pitcrew.toml"), settings).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.args(arguments).args(["--config", "pitcrew.toml"]).current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PITCREW_")) {
            command.env_remove(name);
        }
        command
    }

    /// Its exit code, and all that it says.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.tell(arguments, "")
    }

    fn tell(&self, arguments: &[&str], input: &str) -> (Option<i32>, String) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    fn send(&self, ty: &str, data: &Value) -> String {
        let (code, told) = self.tell(&["send", ty, "--data", "-"], &data.to_string());
        assert_eq!(code, Some(0), "{told}");
        told.lines().last().unwrap().to_owned()
    }

    fn worker(&self) -> Worker {
        let log = File::options().create(true).append(true).open(self.path().join("worker.log")).unwrap();
        Worker(self.command(&["run"]).stderr(log).spawn().unwrap())
    }

    /// The open letters, once there are some; or none, once there are none.
    fn letters(&self, some: bool) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (_, told) = self.run(&["dead", "list", "--json"]);
            let letters: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if letters.is_empty() != some {
                return letters;
            }
            let log = || std::fs::read_to_string(self.path().join("worker.log")).unwrap();
            assert!(Instant::now() < until, "{told}\n{}", log());
            // tidy: sleeps, because a process is asked again, which no signal of this one tells.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// It does not outlive a test that fails.
struct Worker(Child);

impl Worker {
    fn killed(mut self) {
        self.0.kill().unwrap(); // SIGKILL
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mail_whose_worker_was_killed_before_the_answer_waits_for_a_person() {
    let Some(server) = SmtpServer::plain() else { return };
    let bench = Bench::new(&server);
    let worker = bench.worker();
    let contact = |mail: &str| json!({ "user": "ada", "name": "Ada", "mail": mail });
    let wait = |ty: &str, data: &Value| {
        let (code, told) = bench.tell(&["send", ty, "--data", "-", "--wait", "30s"], &data.to_string());
        assert_eq!(code, Some(0), "{told}");
    };
    wait("car.SetContact", &contact("hang@example.org"));
    let letter = json!({
        "id": "e-1", "to": { "id": "ada", "name": "Ada" }, "about": "b-1", "subject": "Hello", "text": "Hello Ada"
    });
    let id = bench.send("car.SendMail", &json!({ "letter": letter }));
    assert_eq!(server.next_mail()["to"], json!(["hang@example.org"]));
    worker.killed();

    // The next worker finds that it was begun, and does not begin it again.
    let worker = bench.worker();
    let letters = bench.letters(true);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["id"], &letters[0]["reason"]), (&json!(id), &json!("in_doubt")), "{letters:?}");
    assert_eq!(server.mails_left(), 0, "no second mail");

    // A replay says what would be repeated, and does nothing.
    let (code, told) = bench.run(&["dead", "replay", &id]);
    assert_eq!(code, Some(1), "{told}");
    for part in [&*id, "in_doubt", "`smtp`", "--repeat-external"] {
        assert!(told.contains(part), "{part} is not named: {told}");
    }
    assert_eq!((bench.letters(true).len(), server.mails_left()), (1, 0));
    let (code, told) = bench.run(&["dead", "replay", "--all", "--yes"]);
    assert_eq!((code, server.mails_left()), (Some(1), 0), "not by --all either: {told}");

    // Somebody has looked into the server's log, and says so.
    wait("car.SetContact", &contact("ada@example.org"));
    let (code, told) = bench.run(&["dead", "replay", &id, "--repeat-external"]);
    assert_eq!(code, Some(0), "{told}");
    let mail = server.next_mail();
    assert_eq!(mail["to"], json!(["ada@example.org"]));
    assert!(mail["data"].as_str().unwrap().contains("Message-ID: <e-1@example.org>"), "the key is the same: {mail}");
    assert_eq!(bench.letters(false).len(), 0);
    worker.killed();
}
