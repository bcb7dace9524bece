//! Golden cases of the fraud worker, and the worker itself in memory.
//!
//! `tests/fraud/cases.json`: each case is an honest listing with a few things changed (JSON Merge Patch, RFC 7396), what is known
//! beside it, and what must come out. `UPDATE_GOLDEN=1 cargo test -p car-workers --test fraud` writes what comes out now: read
//! the difference before you commit it.

use car_workers::{
    fraud::{
        FraudScorer,
        contract::{FraudReview, FraudReviewScored, Outcome, ScoreFraudReview},
        market::{Market, MarketConfig},
        scoring::{Scoring, ScoringConfig},
        signals::{self, Evidence},
    },
    recommendation::catalogue::Catalogue,
};
use pitcrew::{Handlers, testing::TestWorker};
use serde_json::{Map, Value, json};
use std::path::Path;

const CASES: &str = include_str!("fraud/cases.json");

/// What an honest seller says of an honest car.
fn honest() -> Value {
    json!({
        "id": "l-1",
        "seller": { "id": "s-1", "name": "Ada", "since": "2019-03-01T08:00:00Z" },
        "make": "Toyota", "model": "Prius", "year": 2014,
        "vin": "JTDKN3DU0E0000001",
        "price": { "amount": 7000, "currency": "EUR" },
        "odometer_km": 140_000,
        "text": "Well kept, one owner, winter tyres. 140 000 km.",
        "photos": [
            { "id": "p1", "fingerprint": "0123456789abcdef" },
            { "id": "p2", "fingerprint": "fedcba9876543210" }
        ],
        "listed_at": "2025-06-01T10:00:00Z"
    })
}

fn history() -> Value {
    json!({
        "vin": "JTDKN3DU0E0000001", "provider": "golden", "known": true, "decoded": {},
        "entries": [], "flags": [], "asked_at": "2025-06-01T09:00:00Z", "writes": 1
    })
}

/// RFC 7396.
fn patched(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut object = match target {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    for (key, value) in patch {
        let old = object.remove(key);
        if !value.is_null() {
            object.insert(key.clone(), patched(old.unwrap_or_default(), value));
        }
    }
    Value::Object(object)
}

fn command(listing: &Value) -> ScoreFraudReview {
    let listing = patched(honest(), listing);
    serde_json::from_value(json!({ "review_id": "r-1", "listing": listing })).expect("a command")
}

fn market() -> Market {
    Market::new(&Catalogue::embedded().expect("the catalogue"), MarketConfig::default()).expect("the market")
}

fn reviewed(case: &Value, market: &Market) -> FraudReview {
    let known = case.get("history").map(|patch| patched(history(), patch));
    let evidence = Evidence {
        history: known.map(|history| serde_json::from_value(history).expect("a history")),
        elsewhere: case
            .get("elsewhere")
            .map_or_else(Vec::new, |seen| serde_json::from_value(seen.clone()).expect("sightings")),
    };
    let command = command(case.get("listing").unwrap_or(&json!({})));
    command.check().expect("it can be scored");
    let scoring = Scoring::new(ScoringConfig::default()).expect("the scoring");
    scoring.review(&command, signals::look(&command, &evidence, market))
}

/// What a case must give: score, outcome, and the signals that found something with what they say.
fn told(review: &FraudReview) -> Value {
    let raised = review.signals.iter().filter(|signal| signal.value > 0.0);
    let signals: Vec<_> = raised
        .map(|signal| json!({ "signal": signal.name, "value": signal.value, "sentence": signal.sentence }))
        .collect();
    json!({ "score": review.score, "outcome": review.outcome, "signals": signals })
}

#[test]
fn every_case_has_the_score_and_the_reasons_that_it_should_have() {
    let (mut cases, market): (Vec<Value>, _) = (serde_json::from_str(CASES).expect("the cases"), market());
    assert!(cases.len() >= 40);
    let mut wrong = Vec::new();
    for case in &mut cases {
        let got = told(&reviewed(case, &market));
        if case["expect"] != got {
            wrong.push(format!("{}: expected {}, got {got}", case["name"], case["expect"]));
            case["expect"] = got;
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fraud/cases.json");
        std::fs::write(path, serde_json::to_string_pretty(&cases).expect("JSON") + "\n").expect("written");
        return;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What no golden file may move: by this the file itself is read.
#[test]
fn the_outcomes_are_those_that_a_person_would_choose() {
    let (cases, market): (Vec<Value>, _) = (serde_json::from_str(CASES).expect("the cases"), market());
    let outcome = |name: &str| {
        let case = cases.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("no case `{name}`"));
        reviewed(case, &market).outcome
    };
    for honest in [
        "an honest listing",
        "a bargain is no bait",
        "far too dear is no fraud",
        "newer than the catalogue",
        "a VIN that fits",
        "the seller lists the same car again",
        "the odometer fits the history",
        "an accident that the text tells",
        "no VIN",
    ] {
        assert_eq!(outcome(honest), Outcome::Approve, "{honest}");
    }
    for doubtful in ["nearly for nothing", "the VIN of another make", "two photos are in another seller's listing"] {
        assert_eq!(outcome(doubtful), Outcome::Review, "{doubtful}");
    }
    for fraud in ["the whole play", "a stolen identity: another car's VIN, rolled back"] {
        assert_eq!(outcome(fraud), Outcome::Reject, "{fraud}");
    }
}

#[test]
fn the_more_is_found_the_higher_the_score() {
    let market = market();
    let mut last = 0.0;
    let mut listing = json!({});
    for more in [
        json!({ "vin": null }),
        json!({ "seller": { "since": "2025-05-31T08:00:00Z" } }),
        json!({ "text": "Whatsapp only" }),
        json!({ "price": { "amount": 2500 } }),
        json!({ "photos": null }),
    ] {
        // Of the patches themselves: a null in them must stay.
        for (key, value) in more.as_object().expect("an object") {
            listing[key] = value.clone();
        }
        let score = reviewed(&json!({ "listing": listing }), &market).score;
        assert!(score > last && score < 1.0, "{score} after {last}: {more}");
        last = score;
    }
}

#[test]
fn weights_and_thresholds_that_decide_nothing_stop_the_start() {
    let of = |config: Value| Scoring::new(serde_json::from_value(config).expect("a config")).map(drop);
    assert!(of(json!({ "weights": { "price": 1.0, "photo_reuse": 0.0 } })).is_ok());
    for wrong in [
        json!({ "weights": { "price": 1.1 } }),
        json!({ "weights": { "price": -0.1 } }),
        json!({ "review_from": 0.9, "reject_from": 0.8 }),
        json!({ "review_from": 0.0 }),
        json!({ "reject_from": 1.5 }),
    ] {
        assert!(of(wrong.clone()).is_err(), "{wrong}");
    }
    let catalogue = Catalogue::embedded().expect("the catalogue");
    for wrong in [json!({ "currency": "eur" }), json!({ "new_price": 0 }), json!({ "kept_per_year": 1.2 })] {
        let config: MarketConfig = serde_json::from_value(wrong.clone()).expect("a config");
        assert!(Market::new(&catalogue, config).is_err(), "{wrong}");
    }
}

#[test]
fn commands_that_nothing_can_be_scored_by_say_why() {
    for (listing, says) in [
        (json!({ "id": "" }), "listing.id"),
        (json!({ "seller": { "id": "a\nb" } }), "listing.seller.id"),
        (json!({ "year": 1492 }), "1492"),
        (json!({ "photos": vec![json!({ "id": "p", "fingerprint": "00" }); 31] }), "31"),
    ] {
        let error = command(&listing).check().expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// The same photo in listings of two sellers, and a listing that is looked at twice.
#[tokio::test]
async fn the_worker_remembers_photos_and_tells_its_score() {
    let handlers = Handlers::new().handle_with(FraudScorer::build).emits::<FraudReviewScored>();
    let worker = TestWorker::new(handlers).await;
    let first = command(&json!({}));
    worker.deliver(&first).await.assert_done();
    worker.deliver(&first).await.assert_done();
    let honest: FraudReview = worker.document("r-1").await.expect("is there");
    assert_eq!((honest.outcome, honest.score), (Outcome::Approve, 0.0), "{honest:#?}");
    assert_eq!(honest.writes, 2);

    let stolen =
        ScoreFraudReview { review_id: "r-2".into(), ..command(&json!({ "id": "l-2", "seller": { "id": "s-2" } })) };
    let outcome = worker.deliver(&stolen).await;
    outcome.assert_done();
    let review: FraudReview = worker.document("r-2").await.expect("is there");
    assert_eq!(review.outcome, Outcome::Review, "{review:#?}");
    assert!(review.signals[0].sentence.contains("listings of other sellers: l-1"), "{review:#?}");
    let [told] = &outcome.emitted::<FraudReviewScored>()[..] else { panic!("one event") };
    assert_eq!((told.outcome, &told.reasons[0]), (Outcome::Review, &review.signals[0].sentence));

    worker.deliver(&command(&json!({ "year": 1492 }))).await.assert_dead("1492");
    worker.shutdown().await;
}
