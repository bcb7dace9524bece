//! The history worker in a whole worker without services, against a provider that does what the script says. In real time: the
//! calls are real.

use car_workers::history::{
    Historian,
    contract::{EntryKind, FetchVehicleHistory, VehicleHistory, VehicleHistoryFetched},
    provider::{Answer, Provider, ProviderConfig, ProviderError},
    simulator::{Fault, Simulator, vin_of},
    vin::Vin,
};
use car_workers::secret::Secret;
use pitcrew::{
    Handlers, Message, Outage,
    config::{ChannelConfig, Config, RetryPolicy},
    store::{AttemptKind, Fate},
    testing::{Outcome, TestWorker},
};
use serde_json::json;
use std::time::Duration;

/// One that the simulator knows, and one that it does not.
const KNOWN: u32 = 1;

async fn worker(simulator: &Simulator) -> TestWorker {
    let mut config = Config::default();
    let section = json!({ "url": simulator.url(), "name": "acme", "api_key": "s3cret" });
    config.handlers.insert(FetchVehicleHistory::TYPE.into(), serde_json::from_value(section).unwrap());
    let first = Duration::from_millis(10);
    let retry = RetryPolicy { first, max: Duration::from_millis(20), tiers: vec![first], ..RetryPolicy::default() };
    config.channel.insert("car.commands".parse().unwrap(), ChannelConfig { retry, ..ChannelConfig::default() });
    let handlers = Handlers::new().handle_with(Historian::build).emits::<VehicleHistoryFetched>();
    TestWorker::with_config(handlers, config).await
}

async fn fetch(worker: &TestWorker, vin: &str) -> Outcome {
    worker.deliver(&FetchVehicleHistory { vin: vin.into(), listing_id: Some("l-1".into()) }).await
}

async fn kept(worker: &TestWorker, vin: &str) -> VehicleHistory {
    worker.document(vin).await.expect("a document")
}

/// A provider of these settings, asked once about a car that is known.
async fn ask(settings: serde_json::Value) -> Result<Answer, ProviderError> {
    let config: ProviderConfig = serde_json::from_value(settings).unwrap();
    Provider::new(config).unwrap().fetch(&Vin::parse(&vin_of(KNOWN)).unwrap(), None).await
}

// ---- good

#[tokio::test]
async fn a_history_is_kept_and_told_and_the_second_time_nothing_has_changed() {
    let simulator = Simulator::start().await.unwrap();
    simulator.require_key("s3cret");
    let worker = worker(&simulator).await;
    let vin = vin_of(KNOWN);
    let outcome = fetch(&worker, &format!(" {} ", vin.to_lowercase())).await;
    outcome.assert_done();
    let [told] = &outcome.emitted::<VehicleHistoryFetched>()[..] else { panic!("one event") };
    assert_eq!(
        (&*told.vin, &*told.provider, told.known, told.listing_id.as_deref()),
        (&*vin, "acme", true, Some("l-1"))
    );
    assert_eq!(told.decoded.maker.as_deref(), Some("Ford"));
    assert_eq!(told.entries[0].kind, EntryKind::Title);
    assert!(told.entries.len() > 1 && told.entries.is_sorted_by_key(|entry| entry.date));
    let first = kept(&worker, &vin).await;
    assert_eq!((first.told(Some("l-1".into())), first.writes), (told.clone(), 1));

    let outcome = fetch(&worker, &vin).await;
    outcome.assert_done();
    assert_eq!((simulator.calls_of(&vin), simulator.not_modified()), (2, 1));
    let second = kept(&worker, &vin).await;
    assert_eq!((&second.entries, second.writes), (&first.entries, 2));
    assert!(second.asked_at > first.asked_at);
    assert_eq!(outcome.emitted::<VehicleHistoryFetched>()[0].entries, first.entries);
}

#[tokio::test]
async fn the_same_command_twice_has_one_effect() {
    let simulator = Simulator::start().await.unwrap();
    let worker = worker(&simulator).await;
    let outcome = fetch(&worker, &vin_of(KNOWN)).await;
    outcome.assert_done();
    worker.deliver_envelope((*outcome.envelope).clone()).await.assert_duplicate();
    assert_eq!(kept(&worker, &vin_of(KNOWN)).await.writes, 1);
}

#[tokio::test]
async fn a_car_that_the_provider_does_not_know_is_a_fact() {
    let simulator = Simulator::start().await.unwrap();
    let worker = worker(&simulator).await;
    let vin = vin_of(KNOWN);
    simulator.of(&vin, [Fault::Status(404)]);
    let outcome = fetch(&worker, &vin).await;
    outcome.assert_done();
    let told = &outcome.emitted::<VehicleHistoryFetched>()[0];
    assert_eq!((told.known, told.entries.len(), told.flags.len()), (false, 0, 0));
    assert_eq!(told.decoded.maker.as_deref(), Some("Ford"), "what the VIN says is known all the same");
    // Once it is known, the old answer is no cache.
    fetch(&worker, &vin).await.assert_done();
    assert!(kept(&worker, &vin).await.known);
}

// ---- bad

#[tokio::test]
async fn a_wrong_vin_is_dead_and_nobody_is_asked() {
    let simulator = Simulator::start().await.unwrap();
    let worker = worker(&simulator).await;
    for (vin, why) in [
        ("1HGCM82633A004353", "check digit"),
        ("1HGCM82633A00435", "16 characters"),
        ("", "0 characters"),
        ("1HGCM82633A0O4352", "perhaps the digit 0"),
        ("../../../admin?x=", "`.` at position 1"),
    ] {
        fetch(&worker, vin).await.assert_dead(why);
    }
    assert_eq!(simulator.calls(), 0);
}

#[tokio::test]
async fn what_the_provider_refuses_is_dead_with_its_reason() {
    let simulator = Simulator::start().await.unwrap();
    let worker = worker(&simulator).await;
    for status in [400, 403, 422, 301] {
        simulator.next([Fault::Status(status)]);
        let outcome = fetch(&worker, &vin_of(KNOWN)).await;
        outcome.assert_dead("permanent");
        assert!(outcome.error().contains(&format!("acme refused with {status}")), "{}", outcome.error());
        assert!(outcome.error().ends_with(": as the script says"), "{}", outcome.error());
    }
    simulator.require_key("another");
    let outcome = fetch(&worker, &vin_of(KNOWN)).await;
    outcome.assert_dead("acme does not take the API key (401)");
    assert!(!outcome.error().contains("s3cret"));
}

#[tokio::test]
async fn a_refused_key_opens_one_alert_until_it_is_taken() {
    let simulator = Simulator::start().await.unwrap();
    simulator.require_key("right");
    let config = ProviderConfig {
        url: Some(simulator.url()),
        api_key: Some(Secret::new("right\n")),
        ..ProviderConfig::default()
    };
    let (provider, vin) = (Provider::new(config).unwrap(), Vin::parse(&vin_of(KNOWN)).unwrap());
    simulator.next([Fault::Status(401), Fault::Status(503)]);
    let error = provider.fetch(&vin, None).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unauthorised { .. }) && error.outage().is_none());
    assert!(provider.is_alerted());
    provider.fetch(&vin, None).await.unwrap_err();
    assert!(provider.is_alerted(), "a failure proves nothing about the key");
    provider.fetch(&vin, None).await.unwrap();
    assert!(!provider.is_alerted());
}

#[tokio::test]
async fn a_failure_of_the_provider_is_retried_and_who_asks_for_time_is_given_it_uncounted() {
    let simulator = Simulator::start().await.unwrap();
    let worker = worker(&simulator).await;
    simulator.next([Fault::Status(503), Fault::Status(425), Fault::Later(429, "1".into())]);
    let vin = vin_of(KNOWN);
    let first = fetch(&worker, &vin).await;
    assert_eq!(first.attempt.as_ref().unwrap().kind, AttemptKind::Failure);
    let second = worker.next_attempt(&first).await;
    assert_eq!(second.attempt.as_ref().unwrap().kind, AttemptKind::Failure);
    let third = worker.next_attempt(&second).await;
    let attempt = third.attempt.as_ref().unwrap();
    assert_eq!(attempt.kind, AttemptKind::Later, "{}", third.error());
    assert!(
        third.error().contains("`acme` is left alone") && third.error().contains("asks for 1s"),
        "{}",
        third.error()
    );
    let Fate::Retry(due) = third.fate else { panic!("a retry") };
    assert!((due - attempt.at).num_milliseconds() >= 990, "{due}");
    let open = worker.handlers().into_iter().flat_map(|handler| handler.breakers).find(|b| &*b.name == "acme").unwrap();
    assert!(open.open_until.is_some(), "one 429 with a time speaks for all");
    let last = worker.next_attempt(&third).await;
    last.assert_done();
    assert_eq!((last.envelope.hop.attempt, last.envelope.hop.failures), (4, 2));
}

#[tokio::test]
async fn a_malformed_answer_is_tried_three_times_and_then_dead_with_its_first_bytes() {
    let simulator = Simulator::start().await.unwrap();
    let worker = worker(&simulator).await;
    for (fault, why) in [
        (Fault::NotJson, "begins with `<html>We are having a rest"),
        (Fault::Half, "EOF while parsing"),
        (Fault::AnotherCar, "it is about `"),
        (Fault::TooLong, "over 1048576 bytes"),
        (Fault::Status(206), "status 206"),
    ] {
        let vin = vin_of(KNOWN);
        simulator.of(&vin, vec![fault; 3]);
        let first = fetch(&worker, &vin).await;
        first.assert_retry();
        let second = worker.next_attempt(&first).await;
        second.assert_retry();
        let third = worker.next_attempt(&second).await;
        third.assert_dead("permanent");
        assert!(
            third.error().contains("acme gave a malformed answer") && third.error().contains(why),
            "{}",
            third.error()
        );
    }
    let vin = vin_of(KNOWN);
    simulator.of(&vin, [Fault::Status(500), Fault::Status(500), Fault::NotJson]);
    let mut outcome = fetch(&worker, &vin).await;
    for _ in 0..2 {
        outcome = worker.next_attempt(&outcome).await;
    }
    outcome.assert_retry(); // failures of another kind do not use up its tries
    worker.next_attempt(&outcome).await.assert_done();
}

#[tokio::test]
async fn a_provider_that_is_away_is_left_alone_by_all_messages() {
    let simulator = Simulator::start().await.unwrap();
    let worker = worker(&simulator).await;
    simulator.always(Some(Fault::Status(502)));
    let deliveries = (0..100).map(|n| {
        let worker = &worker;
        async move { fetch(worker, &vin_of(n)).await }
    });
    let all = futures::future::join_all(deliveries);
    let recovery = async {
        while worker.handlers().iter().all(|handler| handler.breakers[0].open_until.is_none()) {
            pitcrew::testing::poll_pause().await;
        }
        simulator.always(None);
        simulator.calls()
    };
    let (outcomes, in_vain) = tokio::join!(all, recovery);
    let counted = outcomes.iter().filter_map(|o| o.attempt.as_ref()).filter(|a| a.kind == AttemptKind::Failure).count();
    assert!(counted <= 10, "{counted} attempts counted");
    worker.idle().await;
    assert_eq!(worker.letters().await.len(), 0);
    // What ran when it opened, and a probe or two; the exact account is kept in paused time, by tests/storm.rs of the runtime.
    assert!(in_vain <= 64 + 11 + 3, "{in_vain} calls");
    assert!(simulator.most_at_once() <= 64);
}

// ---- hostile

#[tokio::test]
async fn each_deadline_holds() {
    let simulator = Simulator::start().await.unwrap();
    let unreachable = |asked: Result<Answer, ProviderError>| match asked {
        Err(error @ ProviderError::Unreachable { .. }) => {
            assert_eq!(error.outage(), Some(Outage::Failed));
            error.to_string()
        }
        other => panic!("{other:?}"),
    };
    simulator.next([Fault::Silent]);
    let why = unreachable(ask(json!({ "url": simulator.url(), "read_timeout": "100ms" })).await);
    assert!(why.contains("took too long"), "silent: {why}");
    // Each byte comes in time, but there are hundreds of them.
    simulator.next([Fault::Drip(Duration::from_millis(20))]);
    let why =
        unreachable(ask(json!({ "url": simulator.url(), "read_timeout": "100ms", "total_timeout": "300ms" })).await);
    assert!(why.contains("took too long"), "dripping: {why}");
    simulator.next([Fault::Slow(Duration::from_millis(50))]);
    ask(json!({ "url": simulator.url(), "read_timeout": "2s" })).await.unwrap();
    simulator.next([Fault::Broken]);
    unreachable(ask(json!({ "url": simulator.url() })).await);
    let url = simulator.url();
    drop(simulator);
    // A port where nobody listens, and an address (RFC 5737) where nobody is.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    unreachable(ask(json!({ "url": format!("http://{closed}") })).await);
    let began = std::time::Instant::now();
    unreachable(ask(json!({ "url": "http://192.0.2.1", "connect_timeout": "100ms" })).await);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(url.starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_page_is_no_fact() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = [
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\noops",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{",
    ];
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut told = Vec::new();
    for _ in answers {
        let asked = ask(json!({ "url": url, "api_key": "s3cret" })).await;
        told.push(asked.unwrap_err().to_string());
    }
    assert!(told[0].contains("refused with 302"), "{told:?}");
    assert!(told[1].contains("does `url` name the API?"), "{told:?}");
    assert!(told[2].contains("304 although no ETag was sent"), "{told:?}");
    assert!(told[3].contains("was not reached") && told[4].contains("was not reached"), "{told:?}");
}
