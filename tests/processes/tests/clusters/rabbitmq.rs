//! Three nodes of RabbitMQ 4 with quorum queues: the one that leads the busy queue is killed, stands still, is cut off from the others.

use crate::{TURN, scene::Scene};
use pitcrew::testing::poll_pause;
use processes::{
    machine::{free_ports, rabbitmq4_root},
    shop::{LIMIT, broker, has_time, signal},
};
use std::{
    fs::{self, File},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Three nodes, each of which may be killed. Dropped, everything of them is gone.
struct Cluster {
    nodes: Vec<Node>,
    mapper: Child,
}

struct Node {
    dir: TempDir,
    port: u16,
    root: PathBuf,
    server: Option<Child>,
}

impl Cluster {
    /// `None`, said so: `tests/run` was told to leave RabbitMQ out, or there are no programs of a 4.x.
    async fn start() -> Option<Self> {
        broker("PITCREW_RABBITMQ4_URL")?;
        let root = rabbitmq4_root()?;
        let first = free_ports(10);
        let ports = [first, first + 3, first + 6];
        let names = (1..)
            .zip(ports)
            .map(|(n, port)| format!("cluster_formation.classic_config.nodes.{n} = {}\n", name_of(port)));
        // The minority stops by itself, as the handbook of RabbitMQ wants it of three nodes.
        let settings = format!(
            "cluster_partition_handling = pause_minority\ncluster_formation.peer_discovery_backend = classic_config\n{}",
            names.collect::<String>()
        );
        let node = |port: u16| {
            let dir = tempfile::tempdir().expect("a folder");
            let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file is written");
            file("extra.conf", &settings);
            file("epmd", &(first + 9).to_string());
            file(".erlang.cookie", "PITCREWTESTS");
            let cookie = dir.path().join(".erlang.cookie");
            fs::set_permissions(cookie, fs::Permissions::from_mode(0o400)).expect("it is ours");
            Node { dir, port, root: root.clone(), server: None }
        };
        let nodes: Vec<Node> = ports.into_iter().map(node).collect();
        let mapper = nodes[0].run("epmd");
        let mut cluster = Self { nodes, mapper };
        let until = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", first + 9)).is_err() && Instant::now() < until {
            poll_pause().await;
        }
        for node in &mut cluster.nodes {
            node.server = Some(node.run("server"));
        }
        for node in &cluster.nodes {
            node.serves().await;
        }
        cluster.nodes[0].ctl(&["await_online_nodes", "3"]);
        Some(cluster)
    }

    /// What a worker is given: all of them.
    fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("amqp://guest:guest@{}", hosts.join(","))
    }

    /// The node that leads this queue.
    fn leader_of(&self, queue: &str) -> usize {
        let queues = self.nodes[0].ctl(&["list_queues", "name", "leader"]);
        let line = queues.lines().find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'));
        let leads = |node: &Node| line.is_some_and(|leader| leader.trim() == name_of(node.port));
        self.nodes.iter().position(leads).unwrap_or_else(|| panic!("nobody leads {queue}: {queues}"))
    }
}

impl Node {
    fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    fn script(&self) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../services/rabbitmq-node"));
        command.arg(self.dir.path()).arg(self.port.to_string()).arg(&self.root).stdin(Stdio::null());
        command
    }

    /// It becomes what it starts, so that a kill of the child is a kill of the node.
    fn run(&self, what: &str) -> Child {
        let log = self.dir.path().join(format!("{what}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        self.script().arg(what).stdout(log.try_clone().expect("the log")).stderr(log).spawn().expect("it starts")
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.script().arg("ctl").args(arguments).output().expect("rabbitmqctl runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    async fn serves(&self) {
        let until = Instant::now() + LIMIT;
        while !self.listens() {
            let said = || fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
            assert!(Instant::now() < until, "node {} does not start: {}", self.port, said());
            poll_pause().await;
        }
    }

    fn server(&self) -> &Child {
        self.server.as_ref().expect("it runs")
    }

    /// As a crash of its machine: no goodbye, nothing flushed.
    fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().expect("it is killed");
        server.wait().expect("it is gone");
    }

    /// It and the others refuse one another, as if the net between them were torn; clients reach all of them.
    fn cut_off(&self) {
        self.ctl(&["eval", "[begin erlang:set_cookie(N, torn), erlang:disconnect_node(N) end || N <- rabbit_nodes:list_members(), N =/= node()]."]);
    }

    fn join_again(&self) {
        self.ctl(&[
            "eval",
            "[erlang:set_cookie(N, erlang:get_cookie()) || N <- rabbit_nodes:list_members(), N =/= node()].",
        ]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let servers = self.nodes.iter_mut().filter_map(|node| node.server.as_mut());
        for child in servers.chain([&mut self.mapper]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn name_of(port: u16) -> String {
    format!("pitcrew-{port}@localhost")
}

/// Two workers that were given all three nodes, and something that `fails` the one which leads the queue of commands, while commands
/// come by another.
async fn adds_up(what: &str, fails: impl AsyncFnOnce(&mut Node, &mut Scene)) {
    if !has_time("starts three nodes of RabbitMQ") {
        return;
    }
    let _turn = TURN.lock().await;
    let Some(mut cluster) = Cluster::start().await else { return };
    let Some(mut scene) = Scene::on(cluster.url()).await else { return };
    let leader = cluster.leader_of(&scene.bench.shop.commands());
    scene.sends_by(&cluster.nodes[(leader + 1) % 3].url()).await;
    scene.begins().await;
    fails(&mut cluster.nodes[leader], &mut scene).await;
    scene.adds_up(what).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_leads_the_busy_queue_is_killed() {
    adds_up("RabbitMQ: the leader of three is killed with SIGKILL, away for 10 s and more", async |leader, scene| {
        leader.kill();
        scene.under_load(Duration::from_secs(10)).await;
        scene.catches_up().await;
        leader.server = Some(leader.run("server"));
        leader.serves().await;
        scene.under_load(Duration::from_secs(2)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_leads_the_busy_queue_stands_still() {
    adds_up("RabbitMQ: the leader of three is stopped for 30 s, and goes on", async |leader, scene| {
        signal(leader.server(), "STOP");
        scene.under_load(Duration::from_secs(30)).await;
        signal(leader.server(), "CONT");
        scene.under_load(Duration::from_secs(2)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_leads_the_busy_queue_is_cut_off_from_the_others() {
    adds_up("RabbitMQ: the leader of three is alone behind a torn net for 15 s and more", async |leader, scene| {
        leader.cut_off();
        let cut = Instant::now();
        scene.under_load(Duration::from_secs(15)).await;
        assert!(!leader.listens(), "a minority that has not stopped after {:?}", cut.elapsed());
        scene.catches_up().await;
        leader.join_again();
        leader.serves().await;
        scene.under_load(Duration::from_secs(2)).await;
    })
    .await;
}
