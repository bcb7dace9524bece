//! Health: what a probe is told, and when.

use super::{
    WORKER,
    client::{DOOR, House},
};
use pitcrew::sqlx::{self, AssertSqlSafe};
use processes::shop::Shop;
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
