//! Without services: the broker inside the worker, over an SQLite file.

use crate::{WORKER, screen::Screen};
use pitcrew::{
    clock,
    sqlx::{self, Connection, SqliteConnection},
};
use processes::{
    Work,
    shop::{Shop, plain},
};
use std::{collections::BTreeMap, path::Path};

async fn shop() -> Shop {
    Shop::on_sqlite(WORKER, "embedded", "").await
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(directory).expect("a directory").flatten();
    let of = |file: std::fs::DirEntry| {
        (file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path()).expect("it can be read"))
    };
    files.map(of).collect()
}

async fn change(shop: &Shop, sql: &'static str) {
    let mut connection = SqliteConnection::connect(&shop.file().display().to_string()).await.expect("it opens");
    sqlx::query(sql).execute(&mut connection).await.expect("it is changed");
    connection.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_at_work_is_green_from_top_to_bottom() {
    let shop = shop().await;
    let mut worker = shop.start();
    worker.is_at_work().await;
    shop.send(plain(0..5)).await;
    shop.until("all done", async || {
        let counts = shop.store.counts().await.expect("counts");
        (counts.done >= 10 && counts.outbox == 0).then_some(())
    })
    .await;
    let screen = Screen::of(&shop, &[]);
    let orange: Vec<_> = screen.lines.iter().filter(|line| line.standing != "ok").collect();
    assert!(orange.is_empty(), "{}", screen.text);
    assert!(screen.text.ends_with(&format!("\n0 bad, 0 warn, {} ok\n", screen.lines.len())), "{}", screen.text);
    for (of, words) in [
        ("config", "a worker listens to"),
        ("broker", "embedded"),
        ("store", "schema version 3"),
        ("workers", "1 alive"),
        ("lag", &format!("{}: nothing waits", shop.commands())),
        ("outbox", "empty"),
        ("retries", "nothing waits for another attempt"),
        ("dead", "no letter waits"),
        ("handlers", "no handler is paused"),
        ("audit", "nobody did anything"),
    ] {
        screen.line(of, words);
    }
    let workers = &screen.line("workers", "1 alive").facts;
    assert_eq!(workers[0]["alive"], true, "{workers}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_what_fails_and_what_is_paused_are_told_with_what_to_type() {
    // Nothing comes again while the test looks.
    let ladder = "retry = { attempts = 3, first = \"1d\", max = \"1d\", tiers = [\"1d\"], give_up_after = \"10d\" }";
    let shop = Shop::on_sqlite(WORKER, "embedded", "").await.with(|settings| {
        let begin = settings.rfind("retry = {").expect("the ladder of the commands");
        let end = begin + settings[begin..].find('\n').expect("its end");
        settings.replace_range(begin..end, ladder);
    });
    let mut worker = shop.start();
    worker.is_at_work().await;
    shop.send((0..3).map(|n| Work { n, refused: true, ..Work::default() })).await;
    shop.send((10..140).map(|n| Work { n, failing: 9, ..Work::default() })).await;
    shop.until("a storm, as the worker tells it", async || {
        let told = shop.store.hindered(clock::now() - chrono::TimeDelta::seconds(10)).await.expect("the store answers");
        (!told.is_empty()).then_some(())
    })
    .await;
    let screen = Screen::of(&shop, &[]);
    let dead = screen.line("dead", "3 of test.Work: permanent");
    assert!(dead.says.contains("it can never be done"), "{dead:?}");
    assert!(dead.then.as_ref().is_some_and(|then| then.starts_with("test-worker explain 0")), "{dead:?}");
    assert_eq!(dead.facts["count"], 3, "{dead:?}");
    let paused = screen.line("handlers", "test.Work on ");
    assert_eq!(paused.standing, "warn");
    assert!(paused.says.contains("most of its last attempts failed"), "{paused:?}");
    let retries = screen.line("retries", " to come; the next is ");
    assert!(retries.says.contains(" of test.Work, in 23h, after attempt 1: attempt 1 was to fail"), "{retries:?}");
    assert_eq!(screen.code, 0, "none of it keeps others from working: {}", screen.text);
    screen.advice_works(&shop);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_nobody_takes_are_red_and_a_killed_worker_is_told() {
    let shop = shop().await;
    assert_eq!(Screen::of(&shop, &[]).line("workers", "none is alive, and nothing waits").standing, "warn");
    shop.send(plain(0..4)).await;
    let screen = Screen::of(&shop, &[]);
    assert_eq!(screen.line("workers", "none is alive, and messages wait").standing, "bad");
    assert_eq!(screen.line("lag", "4 in queue").standing, "ok", "they came just now: {}", screen.text);
    assert_eq!(screen.code, 1);
    screen.advice_works(&shop);

    change(&shop, "update outbox set created = created - 90000000").await;
    assert_eq!(Screen::of(&shop, &[]).line("lag", "4 in queue, 90s late").standing, "warn");
    change(&shop, "update outbox set created = created - 3600000000").await;
    let late = Screen::of(&shop, &[]);
    assert_eq!(late.line("lag", "4 in queue, 61m late").standing, "bad");
    late.advice_works(&shop);

    let mut worker = shop.start_with("[handlers.\"test.Work\"]\nstuck = true\n");
    worker.is_at_work().await;
    worker.kill().await;
    change(&shop, "update worker set beat = beat - 60000000").await;
    let screen = Screen::of(&shop, &[]);
    assert!(screen.line("workers", "none is alive: ").says.contains("and has not signed off"), "{}", screen.text);
    screen.advice_works(&shop);
}

/// The row is the message here, so what cannot leave is a row for whom nobody listens to.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_refused_is_told_with_its_problem() {
    let shop = shop().await;
    shop.send(plain(0..1)).await;
    let row = shop.store.waiting(clock::now(), 1).await.expect("the store answers").remove(0);
    shop.store.note(row.row.seq, 7, "the destination\x1b[2J refuses").await.expect("it is noted");
    let screen = Screen::of(&shop, &[]);
    let line = screen.line("outbox", "was tried 7 times: the destination [2J refuses");
    assert_eq!(line.standing, "warn");
    screen.advice_works(&shop);
    change(&shop, "update outbox set created = created - 120000000").await;
    assert_eq!(Screen::of(&shop, &[]).line("outbox", "was tried 7 times").standing, "bad");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_makes_nothing_and_changes_nothing() {
    let shop = shop().await;
    shop.send(plain(0..2)).await;
    shop.store.close().await;
    let place = shop.file().parent().expect("a directory").to_owned();
    let before = contents(&place);
    Screen::of(&shop, &[]);
    let absent = Screen::of(&shop, &["--store", "sqlite:nowhere.db"]);
    let foreign = place.join("foreign.db");
    std::fs::write(&foreign, "this is no database, and it is longer than the header of one would have to be")
        .expect("a file");
    let unread = Screen::of(&shop, &["--store", "sqlite:foreign.db"]);
    std::fs::remove_file(foreign).expect("it goes");
    assert!(contents(&place) == before, "{:?} and not {:?}", contents(&place).keys(), before.keys());
    assert_eq!(unread.line("store", "foreign.db").standing, "bad");
    let store = absent.line("store", "there is no database sqlite:nowhere.db yet");
    assert_eq!((store.standing.as_str(), absent.code), ("warn", 0));
    absent.advice_works(&shop);
    // Nor would `migrate` make the folder of one.
    let homeless = Screen::of(&shop, &["--store", "sqlite:not/there/a.db"]);
    let red = homeless.line("store", "there is no folder not/there for the database");
    assert_eq!((red.standing.as_str(), red.then.as_deref()), ("bad", Some("mkdir -p not/there")));
    homeless.advice_works(&shop);
    let housed = Screen::of(&shop, &["--store", "sqlite:not/there/a.db"]);
    assert_eq!(housed.line("store", "there is no database").standing, "warn");
    housed.advice_works(&shop);
    assert_eq!(Screen::of(&shop, &["--store", "sqlite:nowhere.db"]).line("store", "schema version 3").standing, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_would_refuse_in_the_configuration_is_red() {
    let shop = Shop::on_sqlite(WORKER, "embedded", "").await.with(|settings| {
        *settings += "[handlers.\"car.Nobody\"]\ndeadline = \"1h\"\n[store.retention]\ninbox = \"1h\"\n";
    });
    let screen = Screen::of(&shop, &[]);
    let refused = screen.line("config", "a start is refused: ");
    assert_eq!((refused.standing.as_str(), screen.code), ("bad", 1), "{}", screen.text);
    screen.line("config", "car.Nobody");
    screen.line("config", "inbox");
    screen.line("store", "schema version 3");
    screen.advice_works(&shop);
    // What cannot be read at all is one line a mistake, and everything that is wrong is there.
    let shop = shop.with(|settings| settings.insert_str(0, "servise = \"x\"\n"));
    let screen = Screen::of(&shop, &[]);
    assert!(screen.line("config", "servise").then.as_ref().is_some_and(|then| then.contains("config check")));
}
