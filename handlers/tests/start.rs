//! The real worker binary, started before its database is there.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(30);
const WAITS: &str = "this start waits";

/// A worker whose database is behind `port`, and what it says.
struct Worker {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl Worker {
    fn start(url: &str, start_timeout: &str) -> Self {
        let schema = format!("t_{}", pitcrew::clock::uuid_v7().simple());
        let mut child = Command::new(env!("CARGO_BIN_EXE_car-worker"))
            .args(["run", "--store", url])
            // What a worker makes at its start is nothing for the sources.
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .env("PITCREW_STORE__SCHEMA", schema)
            .env("PITCREW_WORKER__START_TIMEOUT", start_timeout)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let (say, said) = mpsc::channel();
        let out: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in out {
            let say = say.clone();
            thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
            });
        }
        Self { child, said }
    }

    /// Waits until it says this, and gives the line.
    fn says(&self, words: &str) -> String {
        let end = Instant::now() + LIMIT;
        let mut heard = Vec::new();
        while let Ok(line) = self.said.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(words) {
                return line;
            }
            heard.push(line);
        }
        panic!("it never said `{words}`: {heard:#?}");
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }

    /// How it ended, and how long that took.
    fn ends(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        // Its pipes close when it ends: no need to ask again and again.
        while self.said.recv_timeout(LIMIT).is_ok() {}
        (self.child.wait().expect("it ends"), began.elapsed())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port where nobody listens yet.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// From now on this port leads to the database.
fn lead(port: u16, to: String) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(&to) else { continue };
            for (mut from, mut into) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))]
                .map(|(from, into)| (from.expect("clones"), into.expect("clones")))
            {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Write);
                });
            }
        }
    });
}

#[test]
fn a_worker_waits_for_its_database_and_then_works() {
    let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
        eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
        return;
    };
    let (head, rest) = url.rsplit_once('@').expect("postgres://user@host:port/name");
    let (authority, name) = rest.split_once('/').expect("a database is named");
    let port = free_port();
    let mut worker = Worker::start(&format!("{head}@127.0.0.1:{port}/{name}"), "60s");
    worker.says(WAITS);
    lead(port, authority.to_owned());
    worker.says("at work");
    worker.terminate();
    assert!(worker.ends().0.success());
}

#[test]
fn a_worker_that_waits_ends_when_it_is_told() {
    let mut worker = Worker::start(&format!("postgres://postgres@127.0.0.1:{}/cars", free_port()), "1h");
    worker.says(WAITS);
    worker.terminate();
    let (status, took) = worker.ends();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
}

#[test]
fn a_worker_that_may_not_wait_says_where_it_knocked() {
    let port = free_port();
    let mut worker = Worker::start(&format!("postgres://postgres:secret@127.0.0.1:{port}/cars"), "0s");
    let line = worker.says(&format!("127.0.0.1:{port}"));
    assert!(!line.contains(WAITS) && !line.contains("secret"), "{line}");
    let (status, _) = worker.ends();
    assert_eq!((status.code(), status.signal()), (Some(1), None));
}
