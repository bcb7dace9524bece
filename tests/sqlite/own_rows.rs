//! The author's own tables in the file.

use super::*;
use pitcrew::store::{RowSpec, RowWrite, StoreError};
use serde_json::{Value, json};

const LINE: RowSpec =
    RowSpec { table: "shop.line", key: &["sale", "n"], columns: &["sale", "n", "paid", "price", "tags", "note"] };

fn write(spec: RowSpec, body: &Value) -> RowWrite {
    let key = Value::from_iter(spec.key.iter().map(|column| body[column].clone()));
    RowWrite { spec, key: key.to_string(), body: Some(body.to_string()) }
}

async fn commit(on: &Subject, rows: Vec<RowWrite>) -> StoreResult<Vec<Verdict>> {
    let mut message = sale();
    message.effects.rows = rows;
    on.commit(&[message]).await
}

#[tokio::test]
async fn json_keeps_its_types() {
    let on = Subject::new().await;
    let create = "create table line (sale text, n integer, paid integer, price real, tags text, note text,
                  primary key (sale, n)) strict";
    on.execute(create).await;
    on.store.check(&[LINE]).await.unwrap();
    let line = |n: i64, paid: bool| json!({"sale": "17", "n": n, "paid": paid, "price": 9.5, "tags": ["a", {"b": null}], "note": null, "else": 1});
    commit(&on, vec![write(LINE, &line(1, false)), write(LINE, &line(i64::MAX, true))]).await.unwrap();
    let types = "select json_array(sale, n, paid, price, json(tags), note) from line order by n";
    let stored = async || -> Vec<String> { sqlx::query_scalar(types).fetch_all(&mut on.raw().await).await.unwrap() };
    let second = format!(r#"["17",{},1,9.5,["a",{{"b":null}}],null]"#, i64::MAX);
    assert_eq!(stored().await, [r#"["17",1,0,9.5,["a",{"b":null}],null]"#, &second]);
    let gone = RowWrite { spec: LINE, key: r#"["17",1]"#.into(), body: None };
    commit(&on, vec![gone, write(LINE, &line(2, true))]).await.unwrap();
    assert_eq!(stored().await, [r#"["17",2,1,9.5,["a",{"b":null}],null]"#, &second]);
}

#[tokio::test]
async fn two_types_may_write_two_columns_of_one_row_in_a_batch() {
    let on = Subject::new().await;
    on.execute("create table car (vin text primary key, price integer, colour text) strict").await;
    let price = RowSpec { table: "car", key: &["vin"], columns: &["vin", "price"] };
    let colour = RowSpec { columns: &["vin", "colour"], ..price };
    let (mut first, mut second) = (sale(), sale());
    first.effects.rows = vec![write(price, &json!({"vin": "W", "price": 1}))];
    second.effects.rows = vec![write(colour, &json!({"vin": "W", "colour": "red"}))];
    on.commit(&[first, second]).await.unwrap();
    let car: (i64, String) =
        sqlx::query_as("select price, colour from car").fetch_one(&mut on.raw().await).await.unwrap();
    assert_eq!(car, (1, "red".into()));
}

#[tokio::test]
async fn a_row_of_key_columns_only_may_come_twice() {
    let on = Subject::new().await;
    on.execute("create table seen (vin text primary key) strict").await;
    let spec = RowSpec { table: "seen", key: &["vin"], columns: &["vin"] };
    for _ in 0..2 {
        commit(&on, vec![write(spec, &json!({"vin": "W"}))]).await.unwrap();
    }
}

#[tokio::test]
async fn a_constraint_condemns_the_message_that_breaks_it() {
    let on = Subject::new().await;
    on.execute(
        "create table line (sale text, n integer check (n > 0), paid, price, tags, note, primary key (sale, n))",
    )
    .await;
    let good = json!({"sale": "17", "n": 1, "paid": true, "price": 1, "tags": [], "note": ""});
    let mut bad = good.clone();
    bad["n"] = json!(0);
    let answer = commit(&on, vec![write(LINE, &bad)]).await;
    assert!(matches!(&answer, Err(StoreError::Refused(why)) if why.to_string().contains("CHECK")), "{answer:?}");
    commit(&on, vec![write(LINE, &good)]).await.unwrap();
}

#[tokio::test]
async fn wrong_tables_are_refused_at_the_start_all_at_once_with_the_fix() {
    let on = Subject::new().await;
    on.execute("create table line (sale text, n integer, paid, price, tags)").await;
    on.execute("create table car (vin text, plate text); create unique index some on car (vin) where plate <> ''")
        .await;
    let spec = |table, key, columns| RowSpec { table, key, columns };
    let Err(StoreError::Unfit(why)) = on
        .store
        .check(&[
            LINE,
            spec("shop.nowhere", &["id"], &["id"]),
            spec("shop.document", &["id"], &["id"]),
            spec("shop.car", &["vin"], &["vin", "plate"]),
            spec("shop.car; drop table car", &["vin"], &["vin"]),
        ])
        .await
    else {
        panic!("they passed")
    };
    let lines: Vec<_> = why.lines().collect();
    let expected = ["no column `note`", "no table `nowhere`", "pitcrew's own", "create unique index", "no identifier"];
    assert_eq!(lines.len(), expected.len(), "{why}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "`{line}` does not say `{expected}`");
    }
}

#[tokio::test]
async fn a_column_that_no_row_fills_is_warned_about() {
    let on = Subject::new().await;
    on.execute("create table car (vin text primary key, plate text not null, doors integer not null default 4)").await;
    let warnings = on.store.check(&[RowSpec { table: "car", key: &["vin"], columns: &["vin"] }]).await.unwrap();
    let about: Vec<_> = warnings.iter().filter(|warning| warning.starts_with("car:")).collect();
    assert!(matches!(about[..], [one] if one.contains("`plate`") && !one.contains("doors")), "{warnings:?}");
}
