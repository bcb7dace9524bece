//! A database that is down, silent, empty, read-only or closed to us.

use crate::{WORKER, screen::Screen};
use pitcrew::sqlx::{self, AssertSqlSafe};
use processes::shop::{Shop, plain};
use std::net::TcpListener;

/// Nobody listens there.
const CLOSED: &str = "127.0.0.1:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_one_red_line_and_the_rest_is_shown() {
    let shop = Shop::on_sqlite(WORKER, "embedded", "").await;
    let url = format!("postgres://app:s3cret@{CLOSED}/cars?password=s3cret");
    let screen = Screen::of(&shop, &["--store", &url]);
    let store = screen.line("store", "does not answer");
    assert_eq!((store.standing.as_str(), screen.code), ("bad", 1));
    assert!(store.says.contains("Connection refused"), "{store:?}");
    assert_eq!(screen.lines.iter().filter(|line| line.standing == "bad").count(), 1, "{}", screen.text);
    assert_eq!(screen.line("broker", "embedded").standing, "ok");
    assert_eq!(screen.line("config", "a worker listens to").standing, "ok");
    assert!(!format!("{screen:?}").contains("s3cret"), "{screen:?}");
    assert!(screen.text.contains("*** stands for a password"), "{}", screen.text);
    screen.advice_works(&shop);
}

/// A listener whose connections are taken by the kernel and by nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_silent_is_waited_for_a_few_seconds() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it has an address");
    let shop = Shop::on_sqlite(WORKER, "embedded", "").await;
    let store = format!("postgres://app@{address}/cars");
    for broker in [format!("amqp://app@{address}/cars"), format!("kafka://{address}")] {
        // The screen itself asserts how long it took.
        let screen = Screen::of(&shop, &["--store", &store, "--broker", &broker]);
        for of in ["store", "broker"] {
            assert_eq!(screen.line(of, &address.to_string()).standing, "bad", "{}", screen.text);
        }
        screen.advice_works(&shop);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_is_told_with_its_version_its_schema_and_its_connections() {
    let Some(shop) = Shop::on_postgres(WORKER, "embedded", "").await else { return };
    let store = |screen: &Screen| screen.line("store", "Postgres 1").facts["about"].clone();
    let screen = Screen::of(&shop, &[]);
    let about = store(&screen);
    assert_eq!((&about["schema"], &about["wanted"]), (&3.into(), &3.into()), "{about}");
    let counted = |key: &str| about["connections"][key].as_u64().expect("a count");
    assert!((1..=counted("all")).contains(&counted("ours")) && counted("all") <= counted("most"), "{about}");

    let pool = shop.store.postgres_pool().expect("a Postgres");
    let schema = &shop.config.store.schema;
    let change = async |sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("it is changed");
    };
    // As the release before left it.
    change(format!(
        "update {schema}.meta set version = 2; drop table {schema}.dead_replay_letter, {schema}.dead_replay;
         alter table {schema}.audit drop column body_before, drop column body_after"
    ))
    .await;
    let screen = Screen::of(&shop, &[]);
    assert_eq!(screen.line("store", "schema version 2, which a start brings to 3").standing, "warn");
    screen.advice_works(&shop);
    assert_eq!(Screen::of(&shop, &[]).line("store", "schema version 3").standing, "ok", "its advice migrates");

    change(format!("update {schema}.meta set version = 9, min_schema = 9")).await;
    let screen = Screen::of(&shop, &[]);
    assert_eq!(screen.line("store", "needs a build that knows version 9 or later").standing, "bad");
    screen.advice_works(&shop);

    let elsewhere = shop.typed(&["doctor"], &[("PITCREW_STORE__SCHEMA", "nobody_was_here")]);
    let said = String::from_utf8_lossy(&elsewhere.stdout).into_owned();
    assert!(said.contains("has no tables yet") && elsewhere.status.success(), "{said}");
    let made: bool = sqlx::query_scalar("select exists (select from pg_namespace where nspname = 'nobody_was_here')")
        .fetch_one(&pool)
        .await
        .expect("it can be asked");
    assert!(!made, "it makes nothing");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_write_is_told_what_to_grant() {
    let Some(shop) = Shop::on_postgres(WORKER, "embedded", "").await else { return };
    shop.send(plain(0..1)).await;
    let pool = shop.store.postgres_pool().expect("a Postgres");
    let (schema, role) = (&shop.config.store.schema, shop.prefix.replace('-', "_") + "_reader");
    let change = async |sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("it is changed");
    };
    change(format!(
        "create role {role} login password 's3cret'; grant usage on schema {schema} to {role};
         grant select on all tables in schema {schema} to {role}"
    ))
    .await;
    let url = std::env::var("PITCREW_POSTGRES_URL").expect("it was there before");
    let (_, place) = url.split_once("://").expect("a URL");
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let url = format!("postgres://{role}:s3cret@{place}");
    let screen = Screen::of(&shop, &["--store", &url]);
    let refused = screen.line("store", "a start is refused: this role may not work on the tables attempt, ");
    assert!(refused.says.contains("grant select, insert, update, delete"), "{refused:?}");
    assert_eq!((refused.standing.as_str(), screen.code), ("bad", 1));
    assert!(screen.says("lag", "1 in queue"), "what it may read is shown: {}", screen.text);
    assert!(!format!("{screen:?}").contains("s3cret"), "{screen:?}");
    // And a start says the same.
    let start = shop.typed(&["run", "--store", &url], &[("PITCREW_HTTP__LISTEN", "")]);
    let said = String::from_utf8_lossy(&start.stderr).into_owned();
    assert!(said.contains("this role may not work on the tables") && start.status.code() == Some(1), "{said}");
    change(format!("drop owned by {role}; drop role {role}")).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_warned_about() {
    let Some(shop) = Shop::on_postgres(WORKER, "embedded", "").await else { return };
    let url = std::env::var("PITCREW_POSTGRES_URL").expect("it was there before");
    let and = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{and}options=-c%20default_transaction_read_only%3Don");
    let screen = Screen::of(&shop, &["--store", &url]);
    assert_eq!(screen.line("store", "the server is read-only").standing, "warn");
    screen.advice_works(&shop);
    shop.close().await;
}
