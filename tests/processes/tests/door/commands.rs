//! What is sent over HTTP is done once, and what is wrong is told before anything is stored.

use super::client::{House, sha256};
use serde_json::{Value, json};

#[tokio::test]
async fn a_command_is_durable_when_it_is_accepted_and_its_story_can_be_read() {
    let house = House::small("").await;
    let sent = house.post("/commands/test.Work", &json!({ "n": 1 }), &[("ce-correlationid", "trip-7")]).await;
    assert_eq!((sent.status, &sent.body["state"]), (202, &json!("waiting")), "{}", sent.body);
    let id = sent.body["id"].as_str().unwrap().to_owned();
    assert_eq!(sent.headers["location"], format!("/commands/{id}"));
    assert_eq!(sent.body["correlationid"], "trip-7");
    let heard = async || {
        (house.shop.effects(1).await.heard == 1 && house.shop.store.counts().await.ok()?.outbox == 0).then_some(())
    };
    house.shop.until("done and heard", heard).await;
    let story = house.get(&format!("/commands/{id}")).await;
    assert_eq!((story.status, &story.body["state"]), (200, &json!("done")));
    assert_eq!(story.body["inbox"][0]["correlation"], "trip-7");
    assert!(story.body["events"][0]["what"].as_str().unwrap().contains("attempt 1"), "{}", story.body);
    let printed: Value = serde_json::from_str(&house.shop.operator(&["explain", &id, "--json"])).unwrap();
    assert_eq!(story.body, printed, "the same document as on the command line");
    assert_eq!(house.get("/commands/nobody").await.status, 404);
    house.close().await;
}

#[tokio::test]
async fn who_waits_gets_the_outcome() {
    let house = House::small("").await;
    let done = house.post("/commands/test.Work?wait=20s", &json!({ "n": 1 }), &[]).await;
    assert_eq!((done.status, &done.body["state"]), (200, &json!("done")), "{}", done.body);
    let dead = house.post("/commands/test.Work?wait=20s", &json!({ "n": 2, "refused": true }), &[]).await;
    assert_eq!((dead.status, &dead.body["state"]), (200, &json!("dead")));
    assert_eq!(dead.body["reason"], "permanent: it can never be done");
    let slow = house.post("/commands/test.Work?wait=50ms", &json!({ "n": 3, "takes": 3000 }), &[]).await;
    assert_eq!((slow.status, &slow.body["state"]), (202, &json!("waiting")), "not in time");
    for wait in ["soon", "9h", ""] {
        assert_eq!(house.post(&format!("/commands/test.Work?wait={wait}"), &json!({ "n": 4 }), &[]).await.status, 400);
    }
    house.close().await;
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_nothing_is_stored() {
    let house = House::small("").await;
    let wrong = json!({ "n": -1, "takes": "long", "refused": 3 });
    let refused = house.post("/commands/test.Work", &wrong, &[]).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    let mut pointers: Vec<&str> =
        refused.body["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    pointers.dedup();
    assert_eq!(pointers, ["/n", "/refused", "/takes"]);
    assert_eq!(house.post("/commands/test.Wrok", &json!({}), &[]).await.status, 404);
    let event = house.post("/commands/test.Worked", &json!({ "n": 1, "attempt": 1 }), &[]).await;
    assert_eq!(event.status, 404);
    assert!(event.body["detail"].as_str().unwrap().contains("is an event"), "{}", event.body);
    let raw = |kind: &'static str, body: Vec<u8>| {
        house.ask(house.http.post(format!("{}/commands/test.Work", house.url)).header("content-type", kind).body(body))
    };
    assert_eq!(raw("application/json", b"{\"n\": 1".to_vec()).await.status, 400);
    for key in ["a\tkey", "", " "] {
        let refused = house.post("/commands/test.Work", &json!({ "n": 5 }), &[("idempotency-key", key)]).await;
        assert_eq!(refused.status, 400, "{key:?}: {}", refused.body);
    }
    assert_eq!(raw("application/json", b"{\"n\": 1, \"x\": \"\\u0000\"}".to_vec()).await.status, 422);
    assert_eq!(raw("text/plain", b"{\"n\": 1}".to_vec()).await.status, 415, "what a form of another page could send");
    assert_eq!(raw("application/json", vec![b' '; 1_000_001]).await.status, 413);
    let far = house.post("/commands/test.Work", &json!({ "n": 1 }), &[("host", "evil.example")]).await;
    assert_eq!(far.status, 403, "DNS rebinding");
    assert_eq!(house.get("/nothing").await.status, 404);
    let counts = house.shop.store.counts().await.unwrap();
    assert_eq!((counts.outbox, counts.done, counts.dead), (0, 0, 0));
    house.close().await;
}

#[tokio::test]
async fn the_same_key_is_the_same_command_and_another_payload_a_conflict() {
    let mut houses = vec![House::small("").await];
    houses.extend(House::on_postgres("").await);
    for house in houses {
        let key = [("idempotency-key", "order-7")];
        let work = json!({ "n": 7, "takes": 300 });
        // At once, so that they meet in one transaction as well.
        let same = |_| house.post("/commands/test.Work", &work, &key);
        let answers = futures::future::join_all((0..20).map(same)).await;
        let first = &answers[0];
        for answer in &answers {
            assert_eq!((answer.status, &answer.body["id"]), (202, &first.body["id"]), "{}", answer.body);
        }
        let other = house.post("/commands/test.Work", &json!({ "n": 8 }), &key).await;
        assert_eq!((other.status, &other.body["id"]), (409, &first.body["id"]), "{}", other.body);
        house.shop.until("done", async || (house.shop.effects(7).await.done == 1).then_some(())).await;
        // Canonical: neither the order of the fields nor white space makes another payload.
        let body = "{ \"takes\": 300,\n \"n\": 7 }";
        let again = house.http.post(format!("{}/commands/test.Work?wait=5s", house.url)).body(body);
        let again = house.ask(again.header("content-type", "application/json").header(key[0].0, key[0].1)).await;
        assert_eq!((again.status, &again.body["id"], &again.body["state"]), (200, &first.body["id"], &json!("done")));
        assert_eq!(house.post("/commands/test.Work", &json!({ "n": 8 }), &key).await.status, 409);
        assert_eq!(house.shop.effects(7).await.done, 1);
        assert_eq!(house.shop.effects(8).await.done, 0);
        // Whose command can never be done has lost the key.
        let key = [("idempotency-key", "order-9")];
        let dead = house.post("/commands/test.Work?wait=20s", &json!({ "n": 9, "refused": true }), &key).await;
        assert_eq!(dead.body["state"], "dead", "{}", dead.body);
        let done = house.post("/commands/test.Work?wait=20s", &json!({ "n": 9 }), &key).await;
        assert_eq!(done.body["state"], "done", "{}", done.body);
        house.close().await;
    }
}

#[tokio::test]
async fn a_token_lets_in_for_its_roles_only_and_its_name_is_the_actor() {
    let token = |name: &str, roles: &str| {
        format!("\n[http.tokens.{name}]\nsha256 = \"{}\"\nroles = [{roles}]\n", sha256(&format!("{name}-token")))
    };
    let sections = token("shop", "\"send\"") + &token("board", "\"read\"");
    let house = House::small(&sections).await;
    let (shop, board) = ("Bearer shop-token", "bearer board-token");
    let send = |token| {
        let body = json!({ "n": 1 });
        let request = house.http.post(format!("{}/commands/test.Work", house.url)).json(&body);
        house.ask(request.header("authorization", token))
    };
    let read =
        |path: String, token| house.ask(house.http.get(format!("{}{path}", house.url)).header("authorization", token));
    let refused = house.post("/commands/test.Work", &json!({ "n": 1 }), &[]).await;
    assert_eq!((refused.status, &refused.headers["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
    assert_eq!(send("Bearer other").await.status, 401);
    assert_eq!(send("Basic shop-token").await.status, 401);
    assert_eq!(send(board).await.status, 403);
    let sent = send(shop).await;
    assert_eq!(sent.status, 202);
    let path = format!("/commands/{}", sent.body["id"].as_str().unwrap());
    assert_eq!(read(path.clone(), shop).await.status, 403);
    for path in ["/metrics", "/overview", "/openapi.json"] {
        assert_eq!(house.get(path).await.status, 401, "{path}");
        assert_eq!(read(path.into(), board).await.status, 200, "{path}");
    }
    for path in ["/livez", "/readyz", "/"] {
        assert_eq!(house.get(path).await.status, 200, "{path} is for everybody");
    }
    house.shop.until("done", async || (house.shop.effects(1).await.done == 1).then_some(())).await;
    assert_eq!(read(path, board).await.body["inbox"][0]["actor"], "shop");
    let shown = house.shop.operator(&["config", "show"]);
    assert!(!shown.contains(&sha256("shop-token")), "{shown}");
    house.close().await;
}

#[tokio::test]
async fn a_door_to_the_world_without_tokens_is_refused_with_the_fix() {
    let shop = processes::shop::Shop::on_sqlite(super::WORKER, "embedded", "").await;
    let mut worker = shop.start_with("\n[http]\nlisten = \"0.0.0.0:0\"\n");
    assert_eq!(worker.ends().await.code(), Some(1));
    let said = worker.said();
    assert!(said.contains("[http] listen: 0.0.0.0:0 can be reached from elsewhere"), "{said}");
    assert!(said.contains("add [http.tokens.NAME]"), "{said}");
    shop.close().await;
}
