//! Message History in pages, and what of it retention has passed: the inbox along its key.

use super::{SqliteStore, decode, micros};
use crate::store::{Handled, Sink, Span};
use sqlx::sqlite::SqliteRow;

/// Rows of one file. They are deleted at once, and no commit waits longer for that than for another commit.
macro_rules! file {
    () => {
        "10000"
    };
}
const FILE: usize = 10_000;

/// An ID is never empty, so this is before the first.
const FIRST: (&str, &str, &str) = ("", "", "");

pub(super) async fn page(
    store: &SqliteStore,
    span: &Span,
    after: Option<&Handled>,
    limit: usize,
) -> sqlx::Result<Vec<Handled>> {
    let (since, until) = (micros(span.since), micros(span.until));
    let mut page = Vec::new();
    if after.is_none_or(|after| after.sent.is_none()) {
        let select = sqlx::query(
            "select * from inbox where key_time = 0 and at >= ? and at < ? and (consumer, source, id) > (?, ?, ?)
             order by consumer, source, id limit ?",
        );
        let (consumer, source, id) = after.map_or(FIRST, place);
        let select = select.bind(since).bind(until).bind(consumer).bind(source).bind(id).bind(count(limit));
        read(&select.fetch_all(store.readers()?).await?, &mut page)?;
    }
    if page.len() < limit {
        let select = sqlx::query(
            "select * from inbox where key_time >= ?1 and key_time < ?2 and (key_time, consumer, source, id) > (?1, ?3, ?4, ?5)
             order by key_time, consumer, source, id limit ?6",
        );
        let after = after.and_then(|after| Some((micros(after.sent?), place(after))));
        let (from, (consumer, source, id)) = after.unwrap_or((since.max(1), FIRST));
        let select = select.bind(from).bind(until).bind(consumer).bind(source).bind(id);
        read(&select.bind(count(limit - page.len())).fetch_all(store.readers()?).await?, &mut page)?;
    }
    Ok(page)
}

/// Exports what is older, file by file, and deletes what is in a file. The reason, if the sink does not take it.
pub(super) async fn export(
    store: &SqliteStore,
    sink: &Sink,
    until: i64,
    exported: &mut Vec<String>,
) -> sqlx::Result<(u64, Option<std::io::Error>)> {
    let mut trimmed = 0;
    for (select, delete) in [
        (
            concat!(
                "select * from inbox where key_time > 0 and key_time < ?1 and at < ?1
                 order by key_time, consumer, source, id limit ",
                file!()
            ),
            "delete from inbox where key_time > 0 and key_time < ?1 and at < ?1
             and (key_time, consumer, source, id) <= (?2, ?3, ?4, ?5)",
        ),
        (
            concat!(
                "select * from inbox where key_time = 0 and at < ?1 order by key_time, consumer, source, id limit ",
                file!()
            ),
            "delete from inbox where key_time = 0 and at < ?1 and (key_time, consumer, source, id) <= (?2, ?3, ?4, ?5)",
        ),
    ] {
        loop {
            let mut old = Vec::new();
            read(&sqlx::query(select).bind(until).fetch_all(store.readers()?).await?, &mut old)?;
            // Outside of any transaction: who waits for a slow disk must not hold the only writer.
            match sink.write("inbox", &old).await {
                Ok(name) => exported.extend(name),
                Err(error) => return Ok((trimmed, Some(error))),
            }
            if let Some(last) = old.last() {
                // Nothing that old comes in between: its fate would be decided now.
                let (consumer, source, id) = place(last);
                let delete = sqlx::query(delete).bind(until).bind(last.sent.map_or(0, micros));
                let mut tx = store.begin_write().await?;
                let gone = delete.bind(consumer).bind(source).bind(id).execute(&mut *tx).await?;
                tx.commit().await?;
                trimmed += gone.rows_affected();
            }
            if old.len() < FILE {
                break;
            }
        }
    }
    Ok((trimmed, None))
}

/// The same of what operators did, which is little.
pub(super) async fn export_audit(
    store: &SqliteStore,
    sink: &Sink,
    until: i64,
    exported: &mut Vec<String>,
) -> sqlx::Result<(u64, Option<std::io::Error>)> {
    let old = sqlx::query("select * from audit where at < ? order by at, rowid").bind(until);
    let old = old.fetch_all(store.readers()?).await?.iter().map(decode::audit).collect::<sqlx::Result<Vec<_>>>()?;
    let old: Vec<_> = old.into_iter().map(crate::store::Audit::whole).collect();
    match sink.write("operators", &old).await {
        Ok(name) => exported.extend(name),
        Err(error) => return Ok((0, Some(error))),
    }
    let mut tx = store.begin_write().await?;
    let gone = sqlx::query("delete from audit where at < ?").bind(until).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok((gone.rows_affected(), None))
}

fn place(handled: &Handled) -> (&str, &str, &str) {
    (&handled.row.consumer, &handled.row.source, &handled.row.id)
}

fn read(rows: &[SqliteRow], into: &mut Vec<Handled>) -> sqlx::Result<()> {
    for row in rows {
        into.push(decode::handled(row)?);
    }
    Ok(())
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
