//! Originals and variants in a bucket: the real binary against a server that speaks the few words of S3 that are needed. It shows
//! that this build signs, reads, writes and understands a missing object; it is no proof of any provider's S3.
//!
//! `cargo test -p car-workers --features s3 --test s3`

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use car_workers::image::drawing::Scene;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::Path as FilePath,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(60);

/// What was put, by `bucket/key`: the bytes, the content type and for how long they may be kept.
#[derive(Clone, Default)]
struct Buckets(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    objects: BTreeMap<String, (Bytes, String, String)>,
    /// So many answers from now on are 503.
    busy: u32,
    /// Requests without a signature, or with another key.
    unsigned: u32,
}

impl Buckets {
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/{*name}", get(read).put(write)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        format!("http://{address}")
    }

    fn upload(&self, name: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().objects.insert(name.into(), (bytes.into(), String::new(), String::new()));
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let mut inside = self.0.lock().unwrap();
        let signature = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !signature.starts_with("AWS4-HMAC-SHA256 Credential=key-of-the-test/") {
            inside.unsigned += 1;
            return Some(StatusCode::FORBIDDEN.into_response());
        }
        inside.busy = inside.busy.checked_sub(1)?;
        Some(StatusCode::SERVICE_UNAVAILABLE.into_response())
    }
}

/// GET and HEAD.
async fn read(State(buckets): State<Buckets>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = buckets.refusal(&headers) {
        return refusal;
    }
    match buckets.0.lock().unwrap().objects.get(&name) {
        Some((bytes, ..)) => {
            let about = [(header::ETAG, "\"1\""), (header::LAST_MODIFIED, "Fri, 27 Nov 2026 00:00:00 GMT")];
            (about, bytes.clone()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
    }
}

async fn write(State(buckets): State<Buckets>, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = buckets.refusal(&headers) {
        return refusal;
    }
    let word = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let object = (body, word(header::CONTENT_TYPE), word(header::CACHE_CONTROL));
    buckets.0.lock().unwrap().objects.insert(name, object);
    ([(header::ETAG, "\"1\"")], StatusCode::OK).into_response()
}

struct Worker(Child);
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn binary(directory: &FilePath, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("PITCREW_") || name.starts_with("AWS_") {
            command.env_remove(&*name);
        }
    }
    command.env("AWS_ENDPOINT", endpoint).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "eu-central-1");
    command.env("AWS_ACCESS_KEY_ID", "key-of-the-test").env("AWS_SECRET_ACCESS_KEY", "no secret");
    command
}

fn send(directory: &FilePath, endpoint: &str, photo: &str) -> String {
    let data = directory.join("command.json");
    let command =
        serde_json::json!({ "listing_id": "l-1", "photo_id": photo, "source": { "key": format!("l-1/{photo}.jpg") } });
    std::fs::write(&data, command.to_string()).unwrap();
    let (id, data) = (format!("photo-{photo}"), data.display().to_string());
    let sent = binary(directory, endpoint, &["send", "car.ProcessListingImage", "--id", &id, "--data", &data]).output();
    let sent = sent.unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    id
}

/// As `explain` tells it once it has ended.
async fn ended(directory: &FilePath, endpoint: &str, id: &str) -> Value {
    let began = Instant::now();
    loop {
        let told = binary(directory, endpoint, &["explain", id, "--json"]).output().unwrap();
        let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        if ["done", "dead"].iter().any(|end| told["state"] == *end) {
            return told;
        }
        assert!(began.elapsed() < LIMIT, "it has not ended: {told}");
        pitcrew::testing::poll_pause().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn originals_come_from_a_bucket_and_variants_go_to_one() {
    let (directory, buckets) = (tempfile::tempdir().unwrap(), Buckets::default());
    let (directory, endpoint) = (directory.path(), buckets.serve().await);
    let config = "[http]\nlisten = \"\"\n\n[channel.\"car.events\"]\nunrouted = \"drop\"\n\n\
                  [handlers.\"car.ProcessListingImage\"]\noriginals = \"s3://photos/from/people\"\noutput = \"s3://images\"\n";
    std::fs::write(directory.join("pitcrew.toml"), config).unwrap();
    buckets.upload("photos/from/people/l-1/front.jpg", Scene { width: 400, height: 300, ..Scene::of(1) }.jpeg());
    let (there, missing) = (send(directory, &endpoint, "front"), send(directory, &endpoint, "back"));
    // A hiccup is bridged by the client of the bucket: no attempt of the message is burnt.
    buckets.0.lock().unwrap().busy = 1;
    let log = std::fs::File::create(directory.join("worker.log")).unwrap();
    let worker = binary(directory, &endpoint, &["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let _worker = Worker(worker);

    let told = ended(directory, &endpoint, &there).await;
    assert_eq!((&told["state"], told["attempts"].as_array().map(Vec::len)), (&"done".into(), Some(0)), "{told}");
    let told = ended(directory, &endpoint, &missing).await;
    assert_eq!(told["state"], "dead", "{told}");
    let why = told["reason"].as_str().unwrap();
    assert!(why.contains("there is no `l-1/back.jpg` in s3://photos/from/people"), "{why}");

    let inside = buckets.0.lock().unwrap();
    assert_eq!((inside.unsigned, inside.busy), (0, 0), "all requests were signed, one was refused");
    // Card and full are the same picture, since the photo is small: three sizes in two formats are four objects.
    let made: Vec<_> = inside.objects.iter().filter(|(name, _)| name.starts_with("images/")).collect();
    assert_eq!(made.len(), 4, "{:?}", inside.objects.keys());
    for (name, (bytes, kind, kept)) in made {
        let (_, ending) = name.rsplit_once('.').unwrap();
        let jpeg = bytes.starts_with(&[0xFF, 0xD8]);
        assert_eq!((ending, kind.as_str()), if jpeg { ("jpg", "image/jpeg") } else { ("webp", "image/webp") });
        assert_eq!(kept, "public, max-age=31536000, immutable");
    }
}
