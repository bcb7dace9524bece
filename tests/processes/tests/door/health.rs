//! Health: what a probe is told, and when.

use super::{
    WORKER,
    client::{DOOR, House},
};
use pitcrew::sqlx::{self, AssertSqlSafe};
use processes::{Work, shop::Shop};
use serde_json::json;

#[tokio::test]
async fn a_worker_that_ends_is_alive_and_not_ready_until_its_handlers_have_ended() {
    let mut house = House::small("").await;
    let sent = house.post("/commands/test.Work", &json!({ "n": 1, "takes": 3000 }), &[]).await;
    assert_eq!(sent.status, 202);
    let running = async || {
        let overview = house.get("/overview").await.body;
        let channels = overview["channels"].as_array().expect("channels");
        channels.iter().any(|channel| channel["running"].as_u64() > Some(0)).then_some(())
    };
    house.shop.until("running", running).await;
    house.worker.signal("TERM");
    let draining = async || {
        let answer = house.get("/readyz").await;
        (answer.status == 503).then_some(answer.body)
    };
    let told = house.shop.until("draining", draining).await;
    assert_eq!(told["ready"], false);
    assert_eq!(told["reasons"][0], "draining: this worker ends");
    assert_eq!(house.get("/livez").await.status, 200, "a worker that ends is not stuck");
    let refused = house.post("/commands/test.Work", &json!({ "n": 2 }), &[]).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(house.worker.ends().await.code(), Some(0));
    assert_eq!(house.shop.effects(1).await.done, 1, "what ran may finish");
    house.shop.close().await;
}

#[tokio::test]
async fn the_door_is_open_before_the_broker_is_there_and_says_that_it_starts() {
    let shop = Shop::on_sqlite(WORKER, "amqp://guest:guest@127.0.0.1:9", "").await;
    let mut worker = shop.start_with(DOOR);
    let url = worker.door().await;
    car_workers::http::use_ring();
    let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let ready = http.get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let told: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(told["reasons"][0], "starting: store and broker are being prepared");
    assert_eq!(http.get(format!("{url}/livez")).send().await.unwrap().status(), 200);
    let sent = http.post(format!("{url}/commands/test.Work")).json(&json!({ "n": 1 })).send().await.unwrap();
    assert_eq!(sent.status(), 503);
    worker.signal("TERM");
    assert_eq!(worker.ends().await.code(), Some(0));
    shop.close().await;
}

#[tokio::test]
async fn a_loop_that_does_not_move_is_found_and_named() {
    let Some(house) = House::on_postgres("stuck_after = \"10s\"\n").await else { return };
    assert_eq!(house.get("/livez").await.status, 200);
    let pool = house.shop.store.postgres_pool().unwrap();
    let mut tx = pool.begin().await.unwrap();
    let lock = format!("lock table {}.outbox in access exclusive mode", house.shop.config.store.schema);
    sqlx::query(AssertSqlSafe(lock)).execute(&mut *tx).await.unwrap();
    let stuck = async || {
        let answer = house.get("/livez").await;
        (answer.status == 503).then_some(answer.body)
    };
    let told = house.shop.until("stuck", stuck).await;
    assert_eq!(told["live"], false);
    assert_eq!(told["stuck"][0]["loop"], "relay", "{told}");
    assert!(told["stuck"][0]["seconds"].as_f64() > Some(10.0), "{told}");
    tx.rollback().await.unwrap();
    house.shop.until("moves again", async || (house.get("/livez").await.status == 200).then_some(())).await;
    house.close().await;
}

#[tokio::test]
async fn a_store_that_is_away_makes_a_worker_unready_with_the_reason() {
    let Some(house) = House::on_postgres("").await else { return };
    let pool = house.shop.store.postgres_pool().unwrap();
    let schema = &house.shop.config.store.schema;
    let rename = |from: &str, to: &str| AssertSqlSafe(format!("alter schema {from} rename to {to}"));
    sqlx::query(rename(schema, &format!("{schema}_away"))).execute(&pool).await.unwrap();
    let unready = async || {
        let answer = house.get("/readyz").await;
        (answer.status == 503).then_some(answer.body)
    };
    let told = house.shop.until("unready", unready).await;
    assert!(told["reasons"][0].as_str().unwrap().starts_with("store: "), "{told}");
    sqlx::query(rename(&format!("{schema}_away"), schema)).execute(&pool).await.unwrap();
    house.shop.until("ready again", async || (house.get("/readyz").await.status == 200).then_some(())).await;
    house.close().await;
}

#[tokio::test]
async fn why_a_handler_is_paused_is_told_by_a_process_beside_its_worker() {
    let nobody = "[handlers.\"car.FetchVehicleHistory\"]\nurl = \"http://127.0.0.1:9\"\n";
    let mut houses = vec![House::small(nobody).await];
    houses.extend(House::on_postgres(nobody).await);
    for house in houses {
        let explain = |id: &str| -> serde_json::Value {
            serde_json::from_str(&house.shop.operator(&["explain", id, "--json"])).expect("JSON")
        };
        house.shop.send((0..300).map(|n| Work { n, failing: 9, ..Work::default() })).await;
        // One that has just come waits behind them all; of an older one nobody knows whether it is dead by now.
        let storm = async || {
            let last = house.post("/commands/test.Work", &json!({ "n": 300, "failing": 9 }), &[]).await;
            let told = explain(last.body["id"].as_str()?);
            let hindered = &told["hindered"][0]["hindered"][0];
            hindered["at_once"].is_u64().then(|| (hindered.clone(), told["next"].to_string()))
        };
        let (hindered, next) = house.shop.until("a storm is told", storm).await;
        assert_eq!(
            (&hindered["type"], &hindered["subscription"]),
            (&json!("test.Work"), &json!(house.shop.commands()))
        );
        assert!(next.contains("because most of its last attempts failed, so it runs "), "{next}");

        let asked = json!({ "vin": "1HGCM82633A004352" });
        let asked = house.post("/commands/car.FetchVehicleHistory", &asked, &[]).await;
        let asked = asked.body["id"].as_str().unwrap_or_else(|| panic!("{}", asked.body));
        for _ in 0..40 {
            let more = json!({ "vin": "1HGCM82633A004352" });
            assert_eq!(house.post("/commands/car.FetchVehicleHistory", &more, &[]).await.status, 202);
        }
        let alone = async || {
            let told = explain(asked);
            let breaker = told["hindered"][0]["hindered"][0]["left_alone"][0]["breaker"].as_str()?.to_owned();
            Some((breaker, told["next"].to_string()))
        };
        let (breaker, next) = house.shop.until("a breaker is told", alone).await;
        assert!(next.contains(&format!("because `{breaker}` is left alone until ")), "{next}");
        house.worker.signal("KILL");
        house.shop.close().await;
    }
}
