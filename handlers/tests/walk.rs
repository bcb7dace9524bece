//! One command, from `send` to the message that its user gets, with the real binary: on the broker inside the process, on RabbitMQ and
//! on Kafka. What it leaves behind is the same on all of them, byte for byte apart from times and made-up IDs, and what people see
//! on the way is what `docs/walk.md` shows.

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use car_workers::notification::webhook::{self, KEY, SIGNATURE, WINDOW};
use pitcrew::{
    clock,
    sqlx::{self, Connection, SqliteConnection},
    testing::poll_pause,
};
use regex::{Captures, Regex};
use std::{
    fs::File,
    io::Write,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret that both of us know";
const PAGE: &str = include_str!("../../docs/walk.md");
const COMMANDS: [&str; 7] = [
    "car.GenerateRecommendationBrief",
    "car.ProcessListingImage",
    "car.FetchVehicleHistory",
    "car.ScoreFraudReview",
    "car.SetContact",
    "car.SendMail",
    "car.CallWebhook",
];
const EVENTS: [&str; 4] = [
    "car.RecommendationBriefGenerated",
    "car.ListingImageProcessed",
    "car.VehicleHistoryFetched",
    "car.FraudReviewScored",
];

/// What can be told of a walk when it is over, with names in place of times and IDs.
#[derive(Debug, PartialEq)]
struct Walked {
    /// What was typed and what came back, a step each.
    steps: Vec<String>,
    /// What was posted to the user.
    posted: String,
    /// The inbox and the documents.
    left: String,
}

/// Times and IDs vary from run to run. An ID is named by when it was seen first.
#[derive(Default)]
struct Names {
    ids: Vec<String>,
    /// Of channels: nobody else on the broker has them.
    prefix: String,
}

impl Names {
    fn steady(&mut self, text: &str) -> String {
        let mut text = if self.prefix.is_empty() { text.to_owned() } else { text.replace(&self.prefix, "car") };
        for (varies, name) in [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
            (r"\d{4}-\d\d-\d\d \(UTC\)", "DAY"),
            (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
            (r"\d+\.\d ms", "N ms"),
            (r"worker …[0-9a-f]{6}", "worker …"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
            (r"t=\d+,v1=[0-9a-f]{64}", "SIGNATURE"),
        ] {
            text = Regex::new(varies).unwrap().replace_all(&text, name).into_owned();
        }
        let name = |found: &Captures| {
            let known = self.ids.iter().position(|id| *id == found[0]);
            let n = known.unwrap_or_else(|| {
                self.ids.push(found[0].to_owned());
                self.ids.len() - 1
            });
            format!("ID-{}", n + 1)
        };
        uuid().replace_all(&text, name).into_owned()
    }
}

fn uuid() -> Regex {
    Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap()
}

/// A folder in which somebody types.
struct Desk {
    folder: TempDir,
    names: Names,
    steps: Vec<String>,
}

impl Desk {
    fn new(broker: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = format!(
            "service = \"car-worker\"\n[transport.default]\nurl = {broker:?}\n\
             [handlers.\"car.CallWebhook\"]\nsecret = {SECRET:?}\nallow = [\"127.0.0.1\"]\n"
        );
        let mut names = Names::default();
        if broker != "embedded" {
            names.prefix = format!("t{}", clock::uuid_v7().simple());
            for (kind, types) in [("commands", &COMMANDS[..]), ("events", &EVENTS[..])] {
                settings += &format!("[channel.\"{}.{kind}\"]\ntypes = {types:?}\n", names.prefix);
            }
        }
        std::fs::write(folder.path().join("pitcrew.toml"), settings).unwrap();
        Self { folder, names, steps: Vec::new() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        command.args(arguments).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PITCREW_")) {
            command.env_remove(name);
        }
        command
    }

    fn once(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// Types it until it ends as it should, for the next message may still be on its way; the last one is the step.
    async fn step(&mut self, arguments: &[&str], input: &str, is_over: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        let output = loop {
            let output = self.once(arguments, input);
            if is_over(&output) {
                break output;
            }
            let log = std::fs::read_to_string(self.folder.path().join("worker.log")).unwrap();
            assert!(Instant::now() < until, "{arguments:?}: {output}\n{log}");
            poll_pause().await;
        };
        let piped = if input.is_empty() { String::new() } else { format!("echo '{input}' | ") };
        let step = format!("$ {piped}car-worker {}\n{}", arguments.join(" "), output.trim_end());
        let step = self.names.steady(&step);
        self.steps.push(step);
        output
    }

    async fn worker(&self) -> Worker {
        let path = self.folder.path().join("worker.log");
        let worker = Worker(self.command(&["run"]).stderr(File::create(&path).unwrap()).spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(&path).unwrap();
            if log.contains("at work") {
                return worker;
            }
            assert!(Instant::now() < until, "{log}");
            poll_pause().await;
        }
    }

    /// The inbox and the documents, in an order that no run changes.
    async fn left(&mut self) -> String {
        let path = self.folder.path().join("pitcrew.db").display().to_string();
        let mut connection = SqliteConnection::connect(&path).await.unwrap();
        let sql = "select type || ' ' || fate || ', attempt ' || attempt from inbox order by type";
        let mut rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        let sql = "select collection || ' ' || id || ' ' || cast(body as text) from document order by collection, id";
        rows.extend(sqlx::query_scalar::<_, String>(sql).fetch_all(&mut connection).await.unwrap());
        // What the broker has confirmed goes a second later, at the latest.
        let (sql, until) = ("select count(*) from outbox", Instant::now() + PATIENCE);
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap() > 0 {
            assert!(Instant::now() < until, "rows wait in the outbox");
            poll_pause().await;
        }
        connection.close().await.unwrap();
        self.names.steady(&rows.join("\n"))
    }
}

/// It does not outlive a test that fails.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Calls = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// The user's own system: it takes what is posted.
async fn receiver() -> (String, Calls) {
    let calls = Calls::default();
    let take = |State(calls): State<Calls>, headers: HeaderMap, body: Bytes| async move {
        calls.lock().unwrap().push((headers, body));
        StatusCode::NO_CONTENT
    };
    let app = Router::new().route("/in", post(take)).with_state(calls.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, calls)
}

async fn walk(broker: &str) -> Walked {
    let (url, calls) = receiver().await;
    let mut desk = Desk::new(broker);
    let _worker = desk.worker().await;
    let contact = format!(r#"{{"user":"ada","name":"Ada","webhook":"{url}"}}"#);
    let send = ["send", "car.SetContact", "--data", "-", "--id", "contact-1", "--wait"];
    desk.step(&send, &contact, |told| told.contains("done")).await;
    let order =
        r#"{"brief_id":"b-1","buyer":{"id":"ada","name":"Ada"},"yearly_km":9000,"weights":{"economy":1},"top":3}"#;
    let send = ["send", "car.GenerateRecommendationBrief", "--data", "-", "--id", "order-1", "--wait"];
    desk.step(&send, order, |told| told.contains("done")).await;

    let told = desk.step(&["explain", "order-1"], "", |told| told.contains("Generated is done")).await;
    let event = uuid().find(&told).expect("the event's ID").as_str().to_owned();
    let told = desk.step(&["explain", &event], "", |told| told.contains("car.CallWebhook is done")).await;
    let call = uuid().find_iter(&told).map(|id| id.as_str()).find(|id| *id != event).expect("the call's ID").to_owned();
    desk.step(&["explain", &call], "", |told| told.contains("done: by car.CallWebhook")).await;

    let posted = {
        let calls = calls.lock().unwrap();
        let [(headers, body)] = &calls[..] else { panic!("one call, and not {}", calls.len()) };
        let signature = headers[SIGNATURE].to_str().unwrap();
        webhook::verify(SECRET.as_bytes(), signature, body, clock::now(), WINDOW).unwrap();
        let key = headers[KEY].to_str().unwrap();
        assert_eq!(key, event, "the receiver knows a repeat by the event's ID");
        format!("{KEY}: {key}\n{SIGNATURE}: {signature}\n\n{}", String::from_utf8_lossy(body))
    };
    let posted = desk.names.steady(&posted);
    let left = desk.left().await;
    Walked { steps: desk.steps, posted, left }
}

/// The blocks of the page that show a terminal, and what the user's system got.
fn page() -> (Vec<String>, String) {
    let mut names = Names::default();
    let blocks = PAGE.split("```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let steps = blocks.map(|block| names.steady(block)).collect();
    let posted = PAGE.split("```http\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("what is posted");
    (steps, names.steady(posted))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_happens() {
    let walked = walk("embedded").await;
    let (steps, posted) = page();
    assert_eq!(walked.steps, steps, "docs/walk.md shows something else");
    assert_eq!(walked.posted, posted, "docs/walk.md shows something else");
}

/// The same is left behind, and the same is posted, as with the broker inside the process.
async fn as_without_a_broker(variable: &str) {
    let Ok(url) = std::env::var(variable) else {
        eprintln!("skipped: no broker ({variable})");
        return;
    };
    let (with, without) = (walk(&url).await, walk("embedded").await);
    assert_eq!(with.left, without.left);
    assert_eq!(with.posted, without.posted);
    assert_eq!(with.steps, without.steps);
    assert_eq!(with.left.lines().count(), 8, "{}", with.left);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_rabbitmq_it_comes_to_the_same() {
    as_without_a_broker("PITCREW_RABBITMQ_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_rabbitmq_4_it_comes_to_the_same() {
    as_without_a_broker("PITCREW_RABBITMQ4_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_it_comes_to_the_same() {
    as_without_a_broker("PITCREW_KAFKA_URL").await;
}
