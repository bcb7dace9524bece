//! The cells of a full inbox: what the rows that it holds cost the messages that come now.

use crate::{
    arguments::Size,
    arms::{self, WARM_UP},
    broker::Broker,
    database::{Bed, Database},
    report::{Report, Target},
    work::{self, Effect},
};
use anyhow::Context as _;
use chrono::TimeDelta;
use pitcrew::{
    clock,
    message::wire::Raw,
    sqlx::{self, AssertSqlSafe},
};
use std::sync::Arc;
use uuid::{Builder, Uuid};

/// Days before today from which an inbox has rows: fewer than it remembers by default.
const DAYS: i64 = 10;
/// A B-tree that random keys have grown is about so full.
const GROWN: u32 = 70;

/// Whose IDs the messages have, of the inbox and of those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// UUIDv7: the inbox finds their day, and what comes now is at the end of today's.
    Dated,
    /// Random ones, which say nothing of their time: all of them are in one table, anywhere in its index.
    Foreign,
}

impl Ids {
    fn messages(self, from: u64, count: usize) -> Vec<Arc<Raw>> {
        match self {
            Self::Dated => work::messages(from, count),
            Self::Foreign => work::messages_with(from, count, |_| random().to_string()),
        }
    }
}

fn random() -> Uuid {
    Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid()
}

/// An inbox that was filled beforehand.
struct Full {
    bed: Bed,
    name: String,
    /// Inbox rows that were there before the first arm.
    rows: i64,
    /// Against the empty one, round by round.
    rate: Vec<f64>,
    wal: Vec<f64>,
}

/// The worker on inboxes that hold a tenth of `many` rows, and all of them, against an empty one.
pub(crate) async fn cell(database: &Database, size: Size, ids: Ids, report: &mut Report) -> anyhow::Result<()> {
    let (name, of) = match ids {
        Ids::Dated => ("inbox", format!("UUIDv7 IDs of the last {DAYS} days")),
        Ids::Foreign => ("foreign", "random IDs of somebody else".to_owned()),
    };
    report.cell(name, &format!("the work of `effect` on an inbox full of {of}, against an empty one"))?;
    let (mut full, n) = (Vec::new(), size.messages);
    for rows in [size.many / 10, size.many] {
        full.push(filled(database, ids, rows).await?);
    }
    for (round, from) in (1..=size.rounds).zip((0..).step_by(WARM_UP + n)) {
        let messages = || ids.messages(from, WARM_UP + n);
        let handled = round * (WARM_UP + n);
        let bed = database.bed().await?;
        database.checkpoint().await?;
        let seen = Some((database, bed.application_name.as_str()));
        let empty = arms::run(bed.store.clone(), seen, Effect::Document, messages()).await?;
        report.arm(round, "worker, empty inbox", empty);
        database.check(&bed, Effect::Document, WARM_UP + n).await?;
        database.clear(bed).await?;
        for full in &mut full {
            let again = database.again(&full.bed).await?;
            // What an arm writes for the first time since a checkpoint is written ahead as whole pages: each pays for its own.
            database.checkpoint().await?;
            let seen = Some((database, again.application_name.as_str()));
            let measured = arms::run(again.store.clone(), seen, Effect::Document, messages()).await?;
            report.arm(round, &format!("worker, {}", full.name), measured);
            database.check_filled(&full.bed, Effect::Document, handled, full.rows).await?;
            full.rate.push(measured.rate / empty.rate);
            full.wal.push(measured.wal / empty.wal);
        }
    }
    let (least, most) = match ids {
        Ids::Dated => (Target::AtLeast(0.9), Target::AtMost(1.5)),
        Ids::Foreign => (Target::None, Target::None), // told, so that people know what such IDs cost
    };
    for Full { bed, name, rate, wal, .. } in full {
        report.verdict(&format!("rate at {name} / empty"), &rate, "", least);
        report.verdict("  bytes written ahead a message / empty", &wal, "", most);
        database.clear(bed).await?;
    }
    Ok(())
}

async fn filled(database: &Database, ids: Ids, rows: usize) -> anyhow::Result<Full> {
    let (bed, began) = (database.bed().await?, std::time::Instant::now());
    let days = if ids == Ids::Dated { make_days(database, &bed).await? } else { 0 };
    let fill = match ids {
        Ids::Dated => dated(&bed.schema),
        Ids::Foreign => foreign(&bed.schema),
    };
    let rows = i64::try_from(rows)?;
    let since = clock::now() - TimeDelta::days(DAYS);
    sqlx::raw_sql(AssertSqlSafe(grown(&bed.schema, ids))).execute(&database.admin).await?;
    let fill = sqlx::query(AssertSqlSafe(fill)).bind(rows).bind(since);
    fill.execute(&database.admin).await.context("filling the inbox")?;
    // The arms are not to find out which rows are old.
    let vacuum = format!("vacuum analyze {}.inbox", bed.schema);
    sqlx::raw_sql(AssertSqlSafe(vacuum)).execute(&database.admin).await?;
    let name = format!("{rows} inbox rows");
    println!("   -  {name:<44} filled in {:.1} s", began.elapsed().as_secs_f64());
    Ok(Full { bed, name, rows: rows + days, rate: Vec::new(), wal: Vec::new() })
}

/// A worker makes the partition of a day when the first message of that day comes, so each past day is sent one. The answer: how many.
async fn make_days(database: &Database, bed: &Bed) -> anyhow::Result<i64> {
    let of_day = |day: i64| {
        let id = clock::uuid_v7_at(clock::now() - TimeDelta::days(day));
        work::messages_with(u64::MAX / 2, 1, |_| id.to_string())
    };
    let days: Vec<_> = (1..=DAYS).flat_map(of_day).collect();
    let (broker, store) = (Arc::new(Broker::default()), database.again(bed).await?.store);
    let running = arms::start(store, broker.clone(), Effect::Wait).await?;
    let count = days.len();
    broker.push(days);
    broker.moved(count, 0).await;
    running.shutdown().await;
    Ok(i64::try_from(count)?)
}

/// Before a fill in the order of the keys: the index comes out as if random ones had grown it.
fn grown(schema: &str, ids: Ids) -> String {
    match ids {
        Ids::Dated => String::new(), // in their order they come in life, too
        Ids::Foreign => format!("alter index {schema}.inbox_undated_pkey set (fillfactor = {GROWN})"),
    }
}

/// The columns of a row that has been handled, from `m`: its `id`, `key_time`, `at`, number `n`, and hash.
fn insert(schema: &str, of: &str) -> String {
    format!(
        "insert into {schema}.inbox (key_time, id, source, payload_hash, at, subject, consumer, attempt, fate, type, version,
           duration_ms, worker, build)
         select key_time, id, '/shop', hash, at, 's' || n % 10000, 'bench.Work', 1, 'done', 'bench.Work', 1, 0.01,
           'b2d5a1f0-0000-4000-8000-000000000000', '0.1.0'
         from ({of}) m"
    )
}

/// UUIDv7 IDs, spread evenly from $2 until now: the time in milliseconds, then what is random.
fn dated(schema: &str) -> String {
    insert(
        schema,
        "select n, date_trunc('milliseconds', at) as key_time, at, hash,
           substr(ms, 1, 8) || '-' || substr(ms, 9, 4) || '-7' || substr(r, 1, 3) || '-8' || substr(r, 4, 3) || '-' || substr(r, 7, 12) as id
         from (select n, at, hash, encode(hash, 'hex') as r,
             lpad(to_hex(floor(extract(epoch from at) * 1000)::int8), 12, '0') as ms
           from (select n, $2 + n * (now() - $2) / ($1 + 1) as at, sha256(n::text::bytea) as hash from generate_series(1, $1) n) a) b",
    )
}

/// Random IDs, in their order, which is a hundred times faster to write than without any.
fn foreign(schema: &str) -> String {
    insert(
        schema,
        "select n, '1970-01-01 00:00:00+00'::timestamptz as key_time, at, hash,
           lpad(to_hex(((n - random()) * 4294967296 / ($1 + 1))::int8), 8, '0') || '-' || substr(r, 1, 4) || '-4' || substr(r, 5, 3)
             || '-8' || substr(r, 8, 3) || '-' || substr(r, 11, 12) as id
         from (select n, $2 + n * (now() - $2) / ($1 + 1) as at, sha256(n::text::bytea) as hash,
             encode(sha256(n::text::bytea), 'hex') as r
           from generate_series(1, $1) n) a",
    )
}
