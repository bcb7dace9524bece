//! What tests take from the machine for brokers of their own.

use std::{net::TcpListener, path::PathBuf};

/// The first of so many free ports in a row, below the range from which the kernel hands out ports to outgoing connections.
pub fn free_ports(count: u16) -> u16 {
    loop {
        let [.., high, low] = pitcrew::clock::uuid_v7().into_bytes();
        let port = 20_000 + u16::from_be_bytes([high, low]) % 12_000;
        if (port..port + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}

/// The jars of Kafka that `tests/services/kafka.sh` keeps, of whatever version. `None`, said so: there are none.
pub fn kafka_jars() -> Option<PathBuf> {
    let given = std::env::var_os("PITCREW_KAFKA_JARS").map(PathBuf::from);
    let jars = given.or_else(|| {
        let kept = std::fs::read_dir(cache()?).ok()?.flatten().map(|entry| entry.path());
        kept.filter(|path| path.join("complete").exists()).max()
    });
    if jars.is_none() {
        eprintln!("skipped: a given Kafka cannot be killed, and there are no jars to start one");
    }
    jars
}

/// The small Debian with RabbitMQ 4 that `tests/services/rabbitmq.sh` keeps. `None`, said so: there is none.
pub fn rabbitmq4_root() -> Option<PathBuf> {
    let given = std::env::var_os("PITCREW_RABBITMQ4_ROOT").map(PathBuf::from);
    let root = given.or_else(|| Some(cache()?.join("rabbitmq-trixie")));
    let root = root.filter(|root| root.join("usr/lib/rabbitmq/lib").exists());
    if root.is_none() {
        eprintln!("skipped: a given broker cannot be killed, and there are no programs of RabbitMQ 4 to start one");
    }
    root
}

fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Some(cache?.join("pitcrew"))
}
