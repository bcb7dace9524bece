//! Brokers of a soak's own, that it may kill, and how many messages wait in them.

use crate::bare::{self, DELAYS};
use crate::node::Node as Kafka;
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use pitcrew::testing::poll_pause;
use processes::shop::LIMIT;
use std::{
    fs::File,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) enum Broker {
    Rabbit(Rabbit),
    Kafka(Kafka),
}

impl Broker {
    /// RabbitMQ 4. `None`, said so: it cannot be had here.
    pub(crate) async fn rabbit() -> Option<Self> {
        Some(Self::Rabbit(Rabbit::start().await?))
    }

    /// `None`, said so: it cannot be had here.
    pub(crate) async fn kafka() -> Option<Self> {
        Some(Self::Kafka(Kafka::start().await?))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Rabbit(node) => format!("amqp://guest:guest@127.0.0.1:{}", node.port),
            Self::Kafka(node) => node.url(),
        }
    }

    /// As a crash of its machine: no goodbye.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Rabbit(node) => {
                node.server.kill().expect("it is killed");
                node.server.wait().expect("it is gone");
            }
            Self::Kafka(node) => node.kill(),
        }
    }

    pub(crate) async fn start_again(&mut self) {
        match self {
            Self::Rabbit(node) => {
                node.server = node.run("server");
                node.is_up().await;
            }
            Self::Kafka(node) => node.start_again().await,
        }
    }
}

/// How many messages wait, in queues or topics of commands, events and retries together. An error: the broker is away.
pub(crate) async fn waiting(url: &str, prefix: &str) -> anyhow::Result<u64> {
    if let Some(brokers) = url.strip_prefix("kafka://") {
        let (brokers, prefix) = (brokers.to_owned(), prefix.to_owned());
        let left = tokio::task::spawn_blocking(move || bare::lag(&brokers, &prefix)).await?;
        return Ok(left.values().sum());
    }
    let url = format!("{url}/%2f");
    let connection =
        tokio::time::timeout(PATIENCE, Connection::connect(&url, ConnectionProperties::default())).await??;
    let channel = connection.create_channel().await?;
    let mut waiting = 0;
    for subscription in bare::subscriptions(prefix) {
        for queue in DELAYS.map(|delay| format!("{subscription}.{delay}")).into_iter().chain([subscription]) {
            let look = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = channel.queue_declare((*queue).into(), look, FieldTable::default()).await?;
            waiting += u64::from(queue.message_count());
        }
    }
    connection.close(200, "looked".into()).await?;
    Ok(waiting)
}

/// A node of RabbitMQ 4; dropped, everything of it is gone.
pub(crate) struct Rabbit {
    dir: tempfile::TempDir,
    port: u16,
    root: PathBuf,
    mapper: Child,
    server: Child,
}

impl Rabbit {
    async fn start() -> Option<Self> {
        let root = std::env::var("PITCREW_RABBITMQ4_ROOT").map(PathBuf::from).ok().or_else(cached);
        let Some(root) = root.filter(|root| root.join("usr/sbin/rabbitmq-server").exists()) else {
            eprintln!("skipped: no programs of a RabbitMQ 4 on this machine (tests/run makes a Debian with them)");
            return None;
        };
        let (dir, port) = (tempfile::tempdir().expect("a folder"), three_free_ports());
        let mapper = run(&dir, port, &root, "epmd");
        // The node registers with its port mapper as the first thing it does.
        answers(port + 1).await;
        let server = run(&dir, port, &root, "server");
        let node = Self { dir, port, root, mapper, server };
        node.is_up().await;
        Some(node)
    }

    fn run(&self, what: &str) -> Child {
        run(&self.dir, self.port, &self.root, what)
    }

    async fn is_up(&self) {
        answers(self.port).await;
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.mapper] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn answers(port: u16) {
    let until = Instant::now() + LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nobody listens on {port}");
        poll_pause().await;
    }
}

/// Where `tests/services/rabbitmq.sh` keeps it.
fn cached() -> Option<PathBuf> {
    let cache = std::env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|_| std::env::var("HOME").map(|home| PathBuf::from(home).join(".cache"))).ok()?;
    Some(cache.join("pitcrew/rabbitmq-trixie"))
}

/// It becomes what it starts, so that a kill of the child is a kill of the broker.
fn run(dir: &tempfile::TempDir, port: u16, root: &PathBuf, what: &str) -> Child {
    let log = File::options().create(true).append(true).open(dir.path().join(format!("{what}.log"))).expect("a log");
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../services/rabbitmq-node"));
    command.arg(dir.path()).arg(port.to_string()).arg(root).arg(what).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("the log")).stderr(log).spawn().expect("it starts")
}

/// Below the range from which the kernel hands out ports to outgoing connections.
fn three_free_ports() -> u16 {
    loop {
        let [.., high, low] = pitcrew::clock::uuid_v7().into_bytes();
        let port = 20_000 + u16::from_be_bytes([high, low]) % 12_000;
        if (port..port + 3).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}
