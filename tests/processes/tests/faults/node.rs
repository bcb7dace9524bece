//! A Kafka of a test's own, which it may kill, stop and start again.

use pitcrew::testing::poll_pause;
use processes::{
    machine::{free_ports, kafka_jars},
    shop::{LIMIT, broker, signal},
};
use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};
use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// Dropped, everything of it is gone.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    jars: PathBuf,
    port: u16,
    lives: u32,
    server: Child,
}

impl Node {
    /// `None`, said so: `tests/run` was told to leave Kafka out, or there are no programs to start one.
    pub(crate) async fn start() -> Option<Self> {
        broker("PITCREW_KAFKA_URL")?;
        let jars = kafka_jars()?;
        let dir = tempfile::tempdir().expect("a folder");
        let port = free_ports(2);
        let server = run(&dir, &jars, port, 0);
        let mut node = Self { dir, jars, port, lives: 0, server };
        node.serves().await;
        Some(node)
    }

    pub(crate) fn url(&self) -> String {
        format!("kafka://127.0.0.1:{}", self.port)
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        let brokers = format!("127.0.0.1:{}", self.port);
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client")
    }

    /// `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.server, name);
    }

    /// As a crash: no goodbye.
    pub(crate) fn kill(&mut self) {
        self.server.kill().expect("it is killed");
        self.server.wait().expect("it is gone");
    }

    /// Begins again on what it had.
    pub(crate) async fn start_again(&mut self) {
        self.lives += 1;
        self.server = run(&self.dir, &self.jars, self.port, self.lives);
        self.serves().await;
    }

    /// Its own log says when it does; its port alone is open before.
    async fn serves(&mut self) {
        let (log, until) = (self.dir.path().join(format!("{}.log", self.lives)), Instant::now() + LIMIT);
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("Kafka Server started") {
                return;
            }
            let status = self.server.try_wait().expect("it can be asked");
            assert!(status.is_none() && Instant::now() < until, "{status:?}: {said}");
            poll_pause().await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// It becomes the broker, so that a kill of the child is a kill of the broker.
fn run(dir: &tempfile::TempDir, jars: &PathBuf, port: u16, life: u32) -> Child {
    let log = File::create(dir.path().join(format!("{life}.log"))).expect("a log");
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../services/kafka-node"));
    command.arg(jars).arg(dir.path()).arg(port.to_string()).arg((port + 1).to_string()).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("the log")).stderr(log).spawn().expect("it starts")
}
