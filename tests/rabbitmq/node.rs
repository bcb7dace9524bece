//! A broker of this test's own, which it may kill, stop and start again.

use super::bench::Broker;
use pitcrew::testing::poll_pause;
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Dropped, everything of it is gone.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    /// All that it listens to.
    ports: Vec<u16>,
    root: Option<String>,
    mapper: Child,
    server: Child,
}

impl Node {
    /// `None`, said so: this version's programs are not on this machine, or `tests/run` was told to leave RabbitMQ out.
    pub(crate) async fn start(broker: Broker, settings: &str) -> Option<Self> {
        Self::with(broker, &[("extra.conf", settings)]).await
    }

    /// With these files in its folder (see `tests/services/rabbitmq-node`).
    pub(crate) async fn with(broker: Broker, files: &[(&str, &str)]) -> Option<Self> {
        broker.url()?;
        let root = match broker {
            Broker::V3 => None,
            Broker::V4 => std::env::var("PITCREW_RABBITMQ4_ROOT").ok().or_else(cached),
        };
        let programs = format!("{}/usr/lib/rabbitmq/lib", root.as_deref().unwrap_or_default());
        if !std::path::Path::new(&programs).exists() || matches!((broker, &root), (Broker::V4, None)) {
            eprintln!("skipped: a given broker cannot be killed, and there are no programs of {broker:?} to start one");
            return None;
        }
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("a file is written");
        }
        let port = five_free_ports();
        let mapper = run(&dir, port, root.as_deref(), "epmd");
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port + 1)).is_err() && began.elapsed() < PATIENCE {
            poll_pause().await;
        }
        let server = run(&dir, port, root.as_deref(), "server");
        let named = |word: &str, port| files.iter().any(|(_, text)| text.contains(word)).then_some(port);
        let ports = [Some(port), named("@TLS", port + 3), named("@MANAGEMENT", port + 4)];
        let node = Self { dir, port, ports: ports.into_iter().flatten().collect(), root, mapper, server };
        node.is_up().await;
        Some(node)
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    pub(crate) fn tls_port(&self) -> u16 {
        self.port + 3
    }

    pub(crate) fn management_port(&self) -> u16 {
        self.port + 4
    }

    /// As a crash of its machine: no goodbye, nothing flushed.
    pub(crate) fn kill(&mut self) {
        self.server.kill().expect("it is killed");
        self.server.wait().expect("it is gone");
    }

    /// Begins again on what it had.
    pub(crate) async fn start_again(&mut self) {
        self.server = run(&self.dir, self.port, self.root.as_deref(), "server");
        self.is_up().await;
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.server.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) {
        let mut command = script(&self.dir, self.port, self.root.as_deref());
        let output = command.arg("ctl").args(arguments).output().expect("rabbitmqctl runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn is_up(&self) {
        let began = Instant::now();
        let listens = |port: &u16| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok();
        while !self.ports.iter().all(listens) {
            assert!(began.elapsed() < PATIENCE, "the broker does not start");
            poll_pause().await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.mapper] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(120);

fn cached() -> Option<String> {
    let cache = std::env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|_| std::env::var("HOME").map(|home| PathBuf::from(home).join(".cache"))).ok()?;
    let root = cache.join("pitcrew/rabbitmq-trixie");
    root.exists().then(|| root.display().to_string())
}

fn script(dir: &tempfile::TempDir, port: u16, root: Option<&str>) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/rabbitmq-node"));
    command.arg(dir.path()).arg(port.to_string()).args(root).stdin(Stdio::null());
    command
}

/// It becomes what it starts, so that a kill of the child is a kill of the broker.
fn run(dir: &tempfile::TempDir, port: u16, root: Option<&str>, what: &str) -> Child {
    let log = std::fs::File::create(dir.path().join(format!("{what}.log"))).expect("a log");
    script(dir, port, root).arg(what).stdout(log.try_clone().expect("the log")).stderr(log).spawn().expect("it starts")
}

/// Below the range from which the kernel hands out ports to outgoing connections.
fn five_free_ports() -> u16 {
    loop {
        let [.., high, low] = pitcrew::clock::uuid_v7().into_bytes();
        let port = 20_000 + u16::from_be_bytes([high, low]) % 12_000;
        if (port..port + 5).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}
