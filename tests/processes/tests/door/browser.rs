//! The page in a real browser, Debian's Chromium: what it shows is what there is.

use super::client::House;
use serde_json::json;
use std::{path::Path, process::Command};

/// The document after its scripts have run. `None`, said so: there is no browser.
async fn rendered(url: String, picture: Option<&'static str>) -> Option<String> {
    if !Path::new("/usr/bin/chromium").exists() {
        eprintln!("skipped: no chromium (apt-get install chromium)");
        return None;
    }
    let run = move || {
        let home = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("/usr/bin/chromium");
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--virtual-time-budget=6000", "--window-size=1120,1180", "--hide-scrollbars"]);
        command.arg(format!("--user-data-dir={}", home.path().display()));
        match picture.and_then(|_| std::env::var("PITCREW_SCREENSHOT").ok()) {
            Some(file) => command.arg(format!("--screenshot={file}")),
            None => command.arg("--dump-dom"),
        };
        let output = command.arg(url).output().expect("chromium runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    Some(tokio::task::spawn_blocking(run).await.expect("it ends"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_channels_letters_and_the_story_of_a_message() {
    let house = House::small("").await;
    for n in 0..3 {
        let dead = house.post("/commands/test.Work?wait=20s", &json!({ "n": n, "refused": true }), &[]).await;
        assert_eq!(dead.body["state"], "dead");
    }
    let sent = house.post("/commands/test.Work?wait=20s", &json!({ "n": 9, "failing": 1 }), &[]).await;
    assert_eq!(sent.body["state"], "done");
    let id = sent.body["id"].as_str().unwrap();
    let gathered = async || {
        let overview = house.get("/overview").await.body;
        (overview["dead"][0]["count"] == 3).then_some(())
    };
    house.shop.until("three letters, one group", gathered).await;
    let url = format!("{}/#{id}", house.url);
    let Some(page) = rendered(url.clone(), None).await else { return };
    for expected in [
        "<title>shop · pitcrew</title>",
        "id=\"state\"",
        ">ready<",
        "it can never be done",
        "listening",
        "attempt 1 ended as failure",
        "attempt 2",
        "done: by test.Work",
        ">permanent<",
    ] {
        assert!(page.contains(expected), "no {expected} in {page}");
    }
    if std::env::var_os("PITCREW_SCREENSHOT").is_some() {
        rendered(url, Some("screenshot")).await;
    }
    house.close().await;
}
