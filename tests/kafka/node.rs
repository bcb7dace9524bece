//! A broker of a test's own that asks who one is.

use pitcrew::testing::poll_pause;
use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What it serves, each on a port of its own: `app` may everything, `stranger` nothing.
const SETTINGS: &str = "
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:@CONTROLLER
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,OPEN:SASL_PLAINTEXT@MAP
listeners=CONTROLLER://127.0.0.1:@CONTROLLER,OPEN://127.0.0.1:@OPEN@LISTENERS
advertised.listeners=OPEN://127.0.0.1:@OPEN@LISTENERS
inter.broker.listener.name=OPEN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.open.sasl.enabled.mechanisms=PLAIN
listener.name.open.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  username=app password=app-secret user_app=app-secret user_stranger=stranger-secret;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:app;User:CN=cars
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
";

/// Dropped, everything of it is gone.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    ports: [u16; 4],
    server: Option<Child>,
}

impl Node {
    /// `None`, said so: there is nothing to start one with. `more`: further settings, with @DIR, @TLS and @CERTIFIED for the
    /// folder and two more ports, which are listened to if they are named.
    pub(crate) async fn start(files: &[(&str, &str)], more: &str) -> Option<Self> {
        let jars = jars()?;
        let mut node = Self { dir: tempfile::tempdir().expect("a folder"), ports: free_ports(), server: None };
        for (name, text) in files {
            std::fs::write(node.dir.path().join(name), text).expect("a file is written");
        }
        let secure = more.contains("@DIR");
        let map = if secure { ",TLS:SASL_SSL,CERTIFIED:SSL" } else { "" };
        let listeners = if secure { ",TLS://127.0.0.1:@TLS,CERTIFIED://127.0.0.1:@CERTIFIED" } else { "" };
        let [controller, open, tls, certified] = node.ports.map(|port| port.to_string());
        let settings = format!("{SETTINGS}{more}\nlog.dirs=@DIR/data\n").replace("@MAP", map);
        let settings = settings.replace("@LISTENERS", listeners).replace("@CONTROLLER", &controller);
        let settings = settings.replace("@OPEN", &open).replace("@TLS", &tls).replace("@CERTIFIED", &certified);
        let settings = settings.replace("@DIR", &node.dir.path().display().to_string());
        std::fs::write(node.dir.path().join("server.properties"), settings).expect("a file is written");
        let mut format = java(&jars, node.dir.path(), "kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "4L6g3nShT-eMCtK--X86sw", "--config", "server.properties"]);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            format.args(["--add-scram", &format!("{mechanism}=[name=app,password=app-secret]")]);
        }
        let formatted = format.status().expect("java runs");
        assert!(formatted.success(), "{}", node.log());
        let mut server = java(&jars, node.dir.path(), "kafka.Kafka");
        node.server = Some(server.arg("server.properties").spawn().expect("java runs"));
        node.is_up().await;
        Some(node)
    }

    async fn is_up(&mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains("Kafka Server started") {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().expect("it can be asked"));
            assert!(ended.is_none() && Instant::now() < until, "{}", self.log());
            poll_pause().await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// SASL without TLS.
    pub(crate) fn open(&self) -> u16 {
        self.ports[1]
    }

    /// SASL within TLS.
    #[cfg(feature = "kafka-tls")]
    pub(crate) fn tls(&self) -> u16 {
        self.ports[2]
    }

    /// TLS that wants a certificate of the client.
    #[cfg(feature = "kafka-tls")]
    pub(crate) fn certified(&self) -> u16 {
        self.ports[3]
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn java(jars: &Path, dir: &Path, class: &str) -> Command {
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    // Should the test be killed, the broker goes too.
    let mut java = Command::new("setpriv");
    java.args(["--pdeathsig", "KILL", "java", "-Dlog4j2.level=INFO", "-Xmx384m", "-XX:+UseSerialGC"]);
    java.args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{}/*", jars.display()), class]);
    java.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    java
}

/// Where `tests/run` keeps the broker's jars.
fn jars() -> Option<PathBuf> {
    if std::env::var_os("PITCREW_KAFKA_URL").is_none() {
        eprintln!("skipped: no Kafka (PITCREW_KAFKA_URL)");
        return None;
    }
    let given = std::env::var_os("PITCREW_KAFKA_JARS").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let jars = given.or_else(|| cache.map(|cache| cache.join("pitcrew/kafka-4.3.1")));
    let jars = jars.filter(|jars| jars.join("complete").exists());
    let java = Command::new("java").arg("-version").stderr(Stdio::null()).status().is_ok_and(|ran| ran.success());
    if jars.is_none() || !java {
        eprintln!(
            "skipped: a given broker asks nobody who he is, and there is no Kafka to start one (PITCREW_KAFKA_JARS)"
        );
    }
    jars.filter(|_| java)
}

/// Held until all are known, so that they differ.
fn free_ports() -> [u16; 4] {
    let held = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}
