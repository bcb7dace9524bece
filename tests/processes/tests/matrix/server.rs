//! A Postgres of a test's own, from the machine's programs, so that it may be stopped, killed and filled.

use crate::cell::pass;
use pitcrew::sqlx::{self, AssertSqlSafe, Connection, PgConnection, Row, postgres::PgConnectOptions};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// Where its data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    OfTheMachine,
    /// A file system of its own, of so many megabytes.
    Of(u32),
}

pub(crate) struct Server {
    programs: PathBuf,
    folder: TempDir,
    pub(crate) port: u16,
    process: Option<Child>,
    mounted: bool,
}

impl Server {
    /// `None`, said so: it cannot be had here.
    pub(crate) async fn start(disk: Disk) -> Option<Self> {
        let mut server = Self::placed(disk)?;
        // A write-ahead log of small files, so that a small disk holds it.
        let made = server
            .program("initdb")
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1"])
            .arg("-D")
            .arg(server.data())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.serve().await;
        Some(server)
    }

    /// A place for one, with nothing in it yet.
    fn placed(disk: Disk) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped: no programs of a Postgres server on this machine");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("it is ours");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a port").port();
        let mut server = Self { programs, folder, port, process: None, mounted: false };
        fs::create_dir(server.disk()).expect("a folder");
        if let Disk::Of(megabytes) = disk {
            let size = format!("size={megabytes}m");
            let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(server.disk()).output();
            server.mounted = mount.is_ok_and(|mount| mount.status.success());
            if !server.mounted {
                eprintln!("skipped: a file system of its own cannot be mounted here");
                return None;
            }
        }
        fs::create_dir(server.data()).expect("a folder");
        fs::set_permissions(server.data(), fs::Permissions::from_mode(0o700)).expect("it is ours");
        if is_root() {
            let owned = Command::new("chown").arg("postgres:").arg(server.data()).status();
            if !owned.is_ok_and(|status| status.success()) {
                eprintln!("skipped: Postgres refuses to run as root, and there is no user postgres");
                return None;
            }
        }
        Some(server)
    }

    /// A copy of the primary at this port, which follows it.
    pub(crate) async fn standby_of(port: u16) -> Option<Self> {
        let mut server = Self::placed(Disk::OfTheMachine)?;
        let primary = format!("host=127.0.0.1 port={port} user=postgres sslmode=disable");
        let copied = server
            .program("pg_basebackup")
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .args(["--create-slot", "--slot=standby", "--dbname", &primary, "--pgdata"])
            .arg(server.data())
            .output()
            .expect("pg_basebackup runs");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        server.serve().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it again, as often as it takes: what is left of one that was killed goes by itself.
    pub(crate) async fn serve(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.process.is_none() {
            let log = File::options().create(true).append(true).open(self.log()).expect("a log");
            let mut postgres = self.program("postgres");
            postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "fsync=on",
                "shared_buffers=16MB",
                "min_wal_size=4MB",
                "max_wal_size=16MB",
                "log_min_messages=warning",
            ] {
                postgres.args(["-c", setting]);
            }
            let mut child = postgres.stderr(log).spawn().expect("postgres runs");
            loop {
                assert!(Instant::now() < until, "Postgres does not start: {}", self.said());
                // The eighth line of its pid file is its state.
                let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
                let its = state.lines().next() == Some(&*child.id().to_string());
                let serves = |state: &str| state.starts_with("ready") || state.starts_with("standby");
                if its && state.lines().nth(7).is_some_and(serves) {
                    self.process = Some(child);
                    break;
                }
                if child.try_wait().expect("it can be asked").is_some() {
                    break;
                }
                pass(STEP).await;
            }
        }
    }

    /// Sends it a signal and waits for its end: `INT` is its fast shutdown.
    pub(crate) async fn end(&mut self, signal: &str) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        processes::shop::signal(&process, signal);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.try_wait().expect("it can be asked") {
                return status;
            }
            assert!(Instant::now() < until, "Postgres does not end: {}", self.said());
            pass(STEP).await;
        }
    }

    /// As a crash of its machine: none of its processes has a word left.
    pub(crate) async fn vanish(&mut self) -> ExitStatus {
        let id = self.process.as_ref().expect("it runs").id();
        // Stood still it begins no other.
        processes::shop::signal(self.process.as_ref().expect("it runs"), "STOP");
        let others = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("Linux tells");
        let killed = Command::new("sh").args(["-c", &format!("kill -KILL {others}")]).status();
        assert!(killed.is_ok_and(|status| status.success()), "{others}");
        self.end("KILL").await
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended =
            self.process.as_mut().is_some_and(|process| process.try_wait().is_ok_and(|status| status.is_some()));
        if ended {
            self.process = None;
        }
        ended
    }

    /// One statement of an operator: the first column, as text.
    pub(crate) async fn does(&self, sql: &str) -> Vec<String> {
        // What is done to the role's sessions is not done to this one.
        let options = self.url().parse::<PgConnectOptions>().expect("an address").options([("statement_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&options).await.expect("it answers");
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let first = |row: &sqlx::postgres::PgRow| row.try_get::<String, _>(0).unwrap_or_default();
        rows.iter().map(first).collect()
    }

    /// Ends all connections but the one that asks: how many.
    pub(crate) async fn terminate_all(&self) -> usize {
        let others = "with others as materialized (
            select pid from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'
        ) select pid::text from others where pg_terminate_backend(pid)";
        self.does(others).await.len()
    }

    /// Nobody can write to its disk any more, until what this gives back is dropped.
    pub(crate) fn fill(&self) -> Balloon {
        let path = self.disk().join("balloon");
        let mut balloon = File::create(&path).expect("a file");
        let (piece, mut rest) = (vec![0; 1 << 16], 1 << 16);
        while rest > 0 {
            match balloon.write(&piece[..rest]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => rest /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        Balloon(path)
    }

    /// How often its log says this.
    pub(crate) fn said_times(&self, words: &str) -> usize {
        self.said().matches(words).count()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }

    /// Postgres refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            processes::shop::signal(&process, "QUIT"); // its processes end with it
            let _ = process.wait();
        }
        if self.mounted {
            let _ = Command::new("umount").arg(self.disk()).status();
        }
    }
}

/// Room that is taken away.
pub(crate) struct Balloon(PathBuf);

impl Drop for Balloon {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The folder of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| version(path));
    newest.map(|path| path.join("bin")).filter(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
