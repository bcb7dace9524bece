//! A real SMTP server: aiosmtpd, in a process of its own.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};
use tempfile::TempDir;

const USER: &str = "cars";
const PASSWORD: &str = "s3cret";

pub(crate) struct SmtpServer {
    process: Child,
    port: u16,
    mode: &'static str,
    /// With its certificate, if it has one.
    folder: TempDir,
    mails: Receiver<String>,
}

impl SmtpServer {
    /// Without TLS and login. `None`, said so: there is no Python with aiosmtpd.
    pub(crate) fn plain() -> Option<Self> {
        Self::start("plain", &[])
    }

    /// `tls` or `starttls`, and a login.
    pub(crate) fn with_tls(mode: &'static str) -> Option<Self> {
        Self::start(mode, &[USER, PASSWORD])
    }

    fn start(mode: &'static str, login: &[&str]) -> Option<Self> {
        let maker = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/services/python-clients");
        let made = Command::new(maker).output().expect("bash runs");
        if !made.status.success() {
            eprintln!("skipped: {}", String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default());
            return None;
        }
        let python = String::from_utf8(made.stdout).expect("a path").trim().to_owned();
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/notification/smtp_server.py")).arg(mode);
        if mode != "plain" {
            let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
            let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            std::fs::write(&certificate, pair.cert.pem()).expect("a file");
            std::fs::write(&key, pair.signing_key.serialize_pem()).expect("a file");
            command.arg(certificate).arg(key).args(login);
        }
        let mut process =
            command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::piped()).spawn().expect("Python runs");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let port = lines.next().expect("its port").expect("UTF-8").parse().expect("a number");
        let (sender, mails) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Some(Self { process, port, mode, folder, mails })
    }

    /// `[handlers."car.SendMail"]`
    pub(crate) fn section(&self) -> Value {
        let security = if self.mode == "plain" { "none" } else { self.mode };
        let mut section =
            json!({ "host": "127.0.0.1", "port": self.port, "security": security, "from": "Cars <cars@example.org>" });
        if self.mode != "plain" {
            section["ca_file"] = json!(self.folder.path().join("cert.pem"));
            section["user"] = json!(USER);
            section["password"] = json!(PASSWORD);
        }
        section
    }

    /// The next one that it took.
    pub(crate) fn next_mail(&self) -> Value {
        let mail = self.mails.recv_timeout(Duration::from_secs(20)).expect("a mail within 20 s");
        serde_json::from_str(&mail).expect("JSON")
    }

    /// Those that it took and nobody has looked at.
    pub(crate) fn mails_left(&self) -> usize {
        self.mails.try_iter().count()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
