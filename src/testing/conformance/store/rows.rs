//! Cases: rows of the author's own tables, and what a table refuses.

use super::{OwnTable, Subject, samples::*};
use crate::store::*;
use serde_json::{Value, json};

const KEY: &[&str] = &["id"];
const COLUMNS: &[&str] = &["id", "n", "note"];

fn spec(table: &OwnTable) -> RowSpec {
    RowSpec { table: table.name, key: KEY, columns: COLUMNS }
}

fn put(spec: RowSpec, body: &Value) -> RowWrite {
    RowWrite { spec, key: json!([body["id"]]).to_string(), body: Some(body.to_string()) }
}

fn delete(spec: RowSpec, id: &str) -> RowWrite {
    RowWrite { spec, key: json!([id]).to_string(), body: None }
}

/// A new message that writes these rows.
fn writes(rows: impl IntoIterator<Item = RowWrite>) -> Finished {
    done(&command()).with(|m| m.effects.rows.extend(rows))
}

pub(super) async fn own_rows_are_put_and_deleted(on: Subject) {
    let Some(table) = &on.features.own_table else { return };
    let spec = spec(table);
    let (a, b) = (json!({"id": "a", "n": 1, "note": "Škoda \" 🚗"}), json!({"id": "b", "n": 2, "note": null}));
    on.store(&writes([put(spec, &a), put(spec, &b)])).await;
    assert_eq!((table.read)().await, [a.clone(), b.clone()]);
    let b = json!({"id": "b", "n": 9_007_199_254_740_993_i64, "note": "raised"});
    on.store(&writes([put(spec, &b), delete(spec, "a"), delete(spec, "never was")])).await;
    assert_eq!((table.read)().await, [b]);
}

pub(super) async fn own_rows_are_coalesced_in_batch_order(on: Subject) {
    let Some(table) = &on.features.own_table else { return };
    let spec = spec(table);
    let row = |id: &str, n: i32| put(spec, &json!({"id": id, "n": n, "note": null}));
    let batch = [
        writes([row("last wins", 1), row("put, deleted", 1), row("deleted, put", 1)]),
        writes([row("last wins", 2), delete(spec, "put, deleted"), delete(spec, "deleted, put")]),
        writes([row("last wins", 3), row("deleted, put", 3)]),
    ];
    assert_eq!(on.commit(&batch).await, [Verdict::Stored; 3]);
    let expected = ["deleted, put", "last wins"].map(|id| json!({"id": id, "n": 3, "note": null}));
    assert_eq!((table.read)().await, expected);
    // A duplicate's rows stay out of it.
    let stale = batch[0].clone().with(|m| m.effects.rows = vec![row("last wins", 99), delete(spec, "deleted, put")]);
    assert_eq!(on.commit(&[stale, writes([row("third", 3)])]).await, [Verdict::Duplicate, Verdict::Stored]);
    assert_eq!((table.read)().await[..2], expected);
}

pub(super) async fn a_column_that_is_not_listed_is_not_touched(on: Subject) {
    let Some(table) = &on.features.own_table else { return };
    let all = spec(table);
    on.store(&writes([put(all, &json!({"id": "a", "n": 1, "note": "kept"}))])).await;
    let some = RowSpec { columns: &["id", "n"], ..all };
    on.store(&writes([put(some, &json!({"id": "a", "n": 2, "note": "not listed"}))])).await;
    assert_eq!((table.read)().await, [json!({"id": "a", "n": 2, "note": "kept"})]);
}

pub(super) async fn two_row_types_of_one_table_keep_their_order(on: Subject) {
    let Some(table) = &on.features.own_table else { return };
    let all = spec(table);
    let some = RowSpec { columns: &["id", "n"], ..all };
    let row = |spec, id: &str, n: i32, note: &str| put(spec, &json!({"id": id, "n": n, "note": note}));
    let batch = [
        writes([row(all, "both", 1, "first"), row(some, "deleted", 1, ""), row(all, "put again", 1, "first")]),
        writes([row(some, "both", 2, ""), delete(all, "deleted"), delete(some, "put again")]),
        writes([row(some, "put again", 3, "")]),
    ];
    assert_eq!(on.commit(&batch).await, [Verdict::Stored; 3]);
    let rows: Vec<_> = (table.read)().await.iter().map(|row| (row["id"].clone(), row["n"].clone())).collect();
    assert_eq!(rows, [(json!("both"), json!(2)), (json!("put again"), json!(3))]);
    assert_eq!((table.read)().await[0]["note"], json!("first"), "not listed by the second, not touched");
}

pub(super) async fn a_batch_with_a_refused_row_leaves_nothing(on: Subject) {
    let Some(table) = on.features.own_table.as_ref().filter(|table| table.is_declared) else { return };
    let spec = spec(table);
    let confirmed = rows(1);
    on.enqueue(Some(on.worker), &confirmed).await;
    let good = writes([put(spec, &json!({"id": "good", "n": 1, "note": null}))]).with(|m| {
        m.effects.documents.push(save("good", "1"));
        m.effects.outbox.push(event(&m.envelope));
    });
    for bad in [json!({"id": "bad", "n": null, "note": null}), json!({"id": "bad", "n": "many", "note": null})] {
        let guilty = writes([put(spec, &bad)]);
        let batch = [good.clone(), guilty.clone()];
        let answer = on.try_commit(&batch, &seqs(&confirmed)).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
        for message in &batch {
            assert_eq!(on.seen(message).await, None);
        }
        assert_eq!(on.document(&good.effects.documents[0]).await, None);
        assert_eq!((table.read)().await, Vec::<Value>::new());
        assert_eq!(on.counts().await, Counts { outbox: 1, ..Counts::default() }, "not even what was confirmed is gone");
    }
    on.store(&good).await;
}

pub(super) async fn a_text_with_a_nul_is_kept_or_refused_whole(on: Subject) {
    let (good, bad) = (save("good", "1"), save("bad", r#"{"text":"a\u0000b"}"#));
    let batch = [writing(&good), writing(&bad)];
    match on.try_commit(&batch, &[]).await {
        Ok(verdicts) => {
            assert_eq!(verdicts, [Verdict::Stored; 2]);
            let body = on.document(&bad).await.expect("it is there").body;
            assert_eq!(serde_json::from_str::<Value>(&body).expect("it is JSON"), json!({"text": "a\0b"}));
        }
        Err(StoreError::Refused(_)) => {
            assert_eq!((on.document(&good).await, on.document(&bad).await), (None, None));
            assert_eq!((on.seen(&batch[0]).await, on.seen(&batch[1]).await), (None, None));
            on.store(&batch[0]).await;
        }
        Err(other) => panic!("{other:?}"),
    }
}

pub(super) async fn a_wrong_table_is_refused_at_start(on: Subject) {
    assert!(on.store.check(&[]).await.is_ok());
    let Some(table) = &on.features.own_table else { return };
    let right = spec(table);
    on.store.check(&[right]).await.expect("a right table passes");
    let mut wrong = vec![(RowSpec { key: &["elsewhere"], ..right }, "elsewhere")];
    if table.is_declared {
        wrong.push((RowSpec { columns: &["id", "n", "colour"], ..right }, "colour"));
        wrong.push((RowSpec { table: "conformance_no_such_table", ..right }, "conformance_no_such_table"));
    }
    for (spec, named) in wrong {
        let Err(StoreError::Unfit(why)) = on.store.check(&[spec]).await else {
            panic!("a table without `{named}` passed")
        };
        assert!(why.contains(named), "`{why}` does not name `{named}`");
    }
}
