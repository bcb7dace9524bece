//! Every worker of the car platform, killed at each point of its walk and around each call that it makes outside: nothing is lost, nothing
//! is done twice, and what is repeated outside is known by its key, harmless, or a person's to decide.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use car_workers::{
    fraud::{FraudScorer, contract::FraudReviewScored},
    history::{
        Historian,
        contract::{FetchVehicleHistory, VehicleHistoryFetched},
        simulator::{Simulator, vin_of},
    },
    image::{
        ImageProcessor,
        contract::{ListingImageProcessed, ProcessListingImage, Source},
        drawing::Scene,
        recipe,
    },
    notification::{
        Caller, Mailer, Notifier,
        address_book::AddressBook,
        contract::{CallWebhook, Letter, Notification, Recipient, SendMail, SetContact},
        webhook::KEY,
    },
    recommendation::{Recommender, contract::RecommendationBriefGenerated},
};
use pitcrew::{
    Handlers, Message,
    config::Config,
    testing::{CrashReport, External, crash_everywhere},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

fn message<M: Message>(json: Value) -> M {
    serde_json::from_value(json).expect("a message")
}

/// With one section of `[handlers."…"]`.
fn config(ty: &str, section: Value) -> Config {
    let mut config = Config::default();
    config.handlers.insert(ty.into(), serde_json::from_value(section).expect("a section"));
    config
}

/// It survived, and was killed at every point that a message passes.
fn survived(report: &CrashReport) {
    println!("{report}");
    report.assert_survived();
    for point in pitcrew::fault::Point::ALL {
        let sends = !matches!(point.name(), "before-publish" | "after-publish" | "after-sweep");
        assert!(!sends || report.fired(point.name()) > 0, "{} never struck:\n{report}", point.name());
    }
}

/// The worlds that a run leaves outside, one after another.
fn seen_in_each<T: Send + 'static>(look: impl Fn() -> T + 'static) -> (Arc<Mutex<Vec<T>>>, impl Fn() + 'static) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    (seen, move || keep.lock().unwrap().push(look()))
}

#[test]
fn briefs_and_who_is_told_of_them_survive() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told.log");
    let lines = |file: &Path| -> Vec<Notification> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    };
    let log = file.clone();
    let (told, next) = seen_in_each(move || {
        let told = lines(&log);
        let _ = std::fs::remove_file(&log);
        told
    });
    let handlers = || {
        Handlers::new()
            .handle_with(Recommender::build)
            .emits::<RecommendationBriefGenerated>()
            .handle(AddressBook)
            .handle_with(Notifier::<RecommendationBriefGenerated>::build)
            .emits::<SendMail>()
            .emits::<CallWebhook>()
    };
    let buyer = |id: &str| json!({ "brief_id": id, "buyer": { "id": "ada", "name": "Ada" }, "yearly_km": 15_000 });
    let report = crash_everywhere(handlers)
        .config(config(RecommendationBriefGenerated::TYPE, json!({ "path": file, "sync": false })))
        .before_each(next)
        .given(&message::<SetContact>(json!({ "user": "ada", "name": "Ada L." })))
        .deliver(&message::<car_workers::recommendation::contract::GenerateRecommendationBrief>(buyer("b-1")))
        .run();
    survived(&report);
    // The line is outside: at least one in each run, and those of one event carry its ID, by which a reader drops the second.
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(told.len() > 10);
    for lines in &told[1..] {
        let ids: BTreeSet<&str> = lines.iter().map(|line| &*line.letter.id).collect();
        assert_eq!((ids.len(), lines.is_empty()), (1, false), "{lines:?}");
    }
    assert!(told.iter().any(|lines| lines.len() > 1), "a crash between the line and the commit repeats it");
}

#[test]
fn fraud_reviews_survive() {
    let review = |review: &str, listing: &str, seller: &str| {
        message(json!({ "review_id": review, "listing": {
            "id": listing,
            "seller": { "id": seller, "name": "Ada", "since": "2019-03-01T08:00:00Z" },
            "make": "Toyota", "model": "Prius", "year": 2014,
            "price": { "amount": 7000, "currency": "EUR" },
            "odometer_km": 140_000,
            "text": "Well kept.",
            "photos": [{ "id": "p1", "fingerprint": "0123456789abcdef" }],
            "listed_at": "2025-06-01T10:00:00Z"
        } }))
    };
    let handlers = || Handlers::new().handle_with(FraudScorer::build).emits::<FraudReviewScored>();
    let report = crash_everywhere(handlers)
        .deliver::<car_workers::fraud::contract::ScoreFraudReview>(&review("r-1", "l-1", "s-1"))
        .deliver::<car_workers::fraud::contract::ScoreFraudReview>(&review("r-2", "l-2", "s-2"))
        .run();
    survived(&report);
}

#[test]
fn photos_survive() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let settings =
        recipe::Config { originals: at("originals"), output: at("output"), threads: 1, ..Default::default() };
    std::fs::create_dir_all(&settings.originals).unwrap();
    let photo = Scene { width: 400, height: 300, ..Scene::of(1) }.jpeg();
    std::fs::write(Path::new(&settings.originals).join("front.jpg"), photo).unwrap();
    let output = PathBuf::from(&settings.output);
    let (stored, next) = seen_in_each(move || {
        let files = files(&output);
        let _ = std::fs::remove_dir_all(&output);
        files
    });
    let handlers = || {
        let processor = ImageProcessor::new(&settings).expect("its folders");
        Handlers::new().handle(processor).emits::<ListingImageProcessed>()
    };
    let command = ProcessListingImage {
        listing_id: "l-1".into(),
        photo_id: "front".into(),
        source: Source::Key("front.jpg".into()),
    };
    let report = crash_everywhere(handlers).before_each(next).deliver(&command).in_real_time().run();
    survived(&report);
    // Objects are named by their content: a repeat writes the same, and nothing half.
    let stored = stored.lock().unwrap();
    assert!(stored.len() > 10 && !stored[1].is_empty());
    assert!(stored[1..].iter().all(|files| *files == stored[1]), "{stored:?}");
}

/// Names, and what is in them.
fn files(folder: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => all.extend(files(&entry.path())),
            false => drop(all.insert((entry.path(), std::fs::read(entry.path()).unwrap()))),
        }
    }
    all
}

#[test]
fn histories_survive() {
    let (runtime, provider) = (Runtime::new().unwrap(), External::new());
    let simulator = runtime.block_on(Simulator::start()).unwrap();
    let url = runtime.block_on(seen_on_the_way(simulator.url(), provider.clone()));
    let handlers = || Handlers::new().handle_with(Historian::build).emits::<VehicleHistoryFetched>();
    let report = crash_everywhere(handlers)
        .config(config(FetchVehicleHistory::TYPE, json!({ "url": url, "name": "acme", "api_key": "s3cret" })))
        .watching(&provider)
        .deliver(&FetchVehicleHistory { vin: vin_of(1), listing_id: Some("l-1".into()) })
        .in_real_time()
        .run();
    survived(&report);
    assert_eq!((report.fired("before `acme`"), report.fired("behind `acme`")), (1, 1), "{report}");
}

/// Tells of each connection to the provider: a question, so that another one does no harm.
async fn seen_on_the_way(to: String, provider: External) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (provider, to) = (provider.clone(), to.trim_start_matches("http://").to_owned());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                provider.call_harmless("acme").await;
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    format!("http://{here}")
}

fn letter(id: &str) -> Letter {
    Letter {
        id: id.into(),
        to: Recipient { id: "ada".into(), name: "Ada".into() },
        about: "b-1".into(),
        subject: "Hello".into(),
        text: "Hello Ada".into(),
    }
}

/// A repeat brings the letter's ID, by which the receiver knows it.
#[test]
fn webhooks_survive() {
    let (runtime, receiver) = (Runtime::new().unwrap(), External::new());
    let seen = receiver.clone();
    let take = move |headers: HeaderMap, _: Bytes| async move {
        seen.call("webhook", headers[KEY].to_str().expect("a key")).await;
        StatusCode::NO_CONTENT
    };
    let url = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/in", post(take))).await.unwrap() });
        url
    });
    let handlers = || {
        let caller = Handlers::new().handle_with(Caller::build).external("webhook");
        caller.handle(AddressBook).emits::<CallWebhook>()
    };
    let section = json!({ "secret": "a secret that both of us know", "allow": ["127.0.0.1"] });
    let report = crash_everywhere(handlers)
        .config(config(CallWebhook::TYPE, section))
        .watching(&receiver)
        .given(&message::<SetContact>(json!({ "user": "ada", "name": "Ada", "webhook": url })))
        .deliver(&CallWebhook { letter: letter("e-1") })
        .in_real_time()
        .run();
    survived(&report);
    let behind = line(&report, "behind `webhook`");
    assert!(behind.ends_with("webhook 2 (1 key)"), "{behind}");
}

fn line(report: &CrashReport, place: &str) -> String {
    let report = report.to_string();
    report.lines().find(|line| line.starts_with(place)).expect("its line").to_owned()
}

/// A mail server knows no repeat: what a crash leaves in doubt is not sent again.
#[test]
fn mails_survive() {
    let (runtime, server) = (Runtime::new().unwrap(), External::new());
    let port = runtime.block_on(smtp(server.clone()));
    let handlers = || {
        let mailer = Handlers::new().handle_with(Mailer::build).external("smtp").in_doubt_is_dead();
        mailer.handle(AddressBook).emits::<SendMail>()
    };
    let section = json!({ "host": "127.0.0.1", "port": port, "security": "none", "from": "Cars <cars@example.org>" });
    let report = crash_everywhere(handlers)
        .config(config(SendMail::TYPE, section))
        .watching(&server)
        .given(&message::<SetContact>(json!({ "user": "ada", "name": "Ada", "mail": "ada@example.org" })))
        .deliver(&SendMail { letter: letter("e-1") })
        .in_real_time()
        .run();
    survived(&report);
    let behind = line(&report, "behind `smtp`");
    assert!(behind.ends_with("1  smtp 1"), "in doubt: {behind}");
}

/// As little of RFC 5321 as a mail needs. Its port.
async fn smtp(mails: External) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mails = mails.clone();
            tokio::spawn(async move {
                let (reading, mut writing) = client.into_split();
                let mut lines = BufReader::new(reading).lines();
                writing.write_all(b"220 test\r\n").await?;
                while let Some(line) = lines.next_line().await? {
                    let answer: &[u8] = match line.get(..4).unwrap_or_default() {
                        "DATA" => {
                            writing.write_all(b"354 go on\r\n").await?;
                            while lines.next_line().await?.is_some_and(|line| line != ".") {}
                            mails.call_without_key("smtp").await;
                            b"250 taken\r\n"
                        }
                        "QUIT" => b"221 bye\r\n",
                        _ => b"250 test\r\n",
                    };
                    writing.write_all(answer).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    port
}
