//! Three brokers of Kafka (KRaft), three replicas of everything, of which two must be in sync: one that leads a busy partition is killed,
//! and only one is left.

use crate::{TURN, cell::pass, scene::Scene};
use pitcrew::testing::poll_pause;
use processes::{
    machine::{free_ports, kafka_jars},
    shop::{LIMIT, broker, has_time},
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Who is in the quorum of the controllers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quorum {
    /// All three, as brokers and controllers at once.
    All,
    /// The first alone, so that it goes on without the others.
    First,
}

struct Cluster {
    nodes: Vec<Node>,
}

/// One that may be killed. Dropped, everything of it is gone.
struct Node {
    dir: TempDir,
    jars: PathBuf,
    port: u16,
    lives: u32,
    server: Option<Child>,
}

impl Cluster {
    /// `None`, said so: `tests/run` was told to leave Kafka out, or there are no programs to start one.
    async fn start(quorum: Quorum) -> Option<Self> {
        broker("PITCREW_KAFKA_URL")?;
        let jars = kafka_jars()?;
        let first = free_ports(6);
        let ports: Vec<(u16, u16)> = (1..).zip([first, first + 2, first + 4]).collect();
        let controllers = ports.iter().filter(|(id, _)| quorum == Quorum::All || *id == 1);
        let voters: Vec<String> = controllers.map(|(id, port)| format!("{id}@127.0.0.1:{}", port + 1)).collect();
        let node = |(id, port): (u16, u16)| {
            let mut settings = format!(
                "node.id={id}\ncontroller.quorum.voters={}\noffsets.topic.replication.factor=3\n\
                 default.replication.factor=3\nmin.insync.replicas=2\n",
                voters.join(",")
            );
            if quorum == Quorum::First && id != 1 {
                settings += &format!("process.roles=broker\nlisteners=PLAINTEXT://127.0.0.1:{port}\n");
            }
            let dir = tempfile::tempdir().expect("a folder");
            fs::write(dir.path().join("extra.properties"), settings).expect("a file is written");
            Node { dir, jars: jars.clone(), port, lives: 0, server: None }
        };
        let mut cluster = Self { nodes: ports.into_iter().map(node).collect() };
        for node in &mut cluster.nodes {
            node.begin();
        }
        for node in &mut cluster.nodes {
            node.serves().await;
        }
        Some(cluster)
    }

    /// What a worker is given: all of them.
    fn url(&self) -> String {
        format!("kafka://{}", self.brokers())
    }

    fn brokers(&self) -> String {
        let brokers: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        brokers.join(",")
    }

    /// The node that leads the first partition of this topic.
    fn leader_of(&mut self, topic: &str) -> &mut Node {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), LIMIT).expect("they answer");
        let leader = metadata.topics()[0].partitions()[0].leader();
        &mut self.nodes[usize::try_from(leader).expect("somebody leads") - 1]
    }
}

impl Node {
    /// It becomes the broker, so that a kill of the child is a kill of the broker.
    fn begin(&mut self) {
        self.lives += 1;
        let log = File::create(self.log()).expect("a log");
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../services/kafka-node"));
        command.arg(&self.jars).arg(self.dir.path()).stdin(Stdio::null());
        command.arg(self.port.to_string()).arg((self.port + 1).to_string());
        let server = command.stdout(log.try_clone().expect("the log")).stderr(log).spawn();
        self.server = Some(server.expect("it starts"));
    }

    /// Its own log says when it does; its port alone is open before.
    async fn serves(&mut self) {
        let until = Instant::now() + LIMIT;
        loop {
            let said = fs::read_to_string(self.log()).unwrap_or_default();
            if said.contains("Kafka Server started") {
                return;
            }
            let status = self.server.as_mut().expect("it runs").try_wait().expect("it can be asked");
            assert!(status.is_none() && Instant::now() < until, "{status:?}: {said}");
            poll_pause().await;
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join(format!("{}.log", self.lives))
    }

    /// As a crash: no goodbye.
    fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().expect("it is killed");
        server.wait().expect("it is gone");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
    }
}

/// Three brokers and two workers on them.
async fn scene(quorum: Quorum) -> Option<(Cluster, Scene)> {
    let cluster = Cluster::start(quorum).await?;
    let mut scene = Scene::on(cluster.url()).await?;
    scene.begins().await;
    Some((cluster, scene))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_that_leads_a_busy_partition_is_killed() {
    if !has_time("starts three brokers of Kafka") {
        return;
    }
    let _turn = TURN.lock().await;
    let Some((mut cluster, mut scene)) = scene(Quorum::All).await else { return };
    let leader = cluster.leader_of(&scene.bench.shop.commands());
    leader.kill();
    scene.under_load(Duration::from_secs(20)).await;
    scene.catches_up().await;
    leader.begin();
    leader.serves().await;
    scene.under_load(Duration::from_secs(2)).await;
    scene.adds_up("Kafka: the leader of a partition is killed with SIGKILL, away for 20 s and more").await;
}

/// Nothing may be written then, and nothing is lost: what handlers send waits in the outbox, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fewer_replicas_in_sync_than_it_takes_the_relay_waits_and_says_so() {
    if !has_time("starts three brokers of Kafka") {
        return;
    }
    let _turn = TURN.lock().await;
    let Some((mut cluster, mut scene)) = scene(Quorum::First).await else { return };
    for node in &mut cluster.nodes[1..] {
        node.kill();
    }
    scene.bench.send_by_outbox(40).await;
    let shop = &scene.bench.shop;
    let line = shop.until("the outbox waits and says why", async || {
        let doctor = shop.typed(&["doctor"], &[]);
        let said = String::from_utf8_lossy(&doctor.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, waits) = said.split_once(" outbox ")?;
        waits.contains(" was tried ").then(|| waits.split('→').next().unwrap_or_default().to_owned())
    });
    println!("doctor, with one of three brokers left: outbox {}", line.await);
    pass(Duration::from_secs(10)).await;
    for node in &mut cluster.nodes[1..] {
        node.begin();
    }
    for node in &mut cluster.nodes[1..] {
        node.serves().await;
    }
    scene.under_load(Duration::from_secs(2)).await;
    scene.adds_up("Kafka: one of three brokers left for 10 s and more, two must be in sync").await;
}
