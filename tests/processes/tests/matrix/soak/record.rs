//! What is measured while a soak runs: of processes by /proc, of the database by its own catalogue, of brokers by their own words.

use super::{
    broker,
    judge::{Bound, Series},
};
use pitcrew::sqlx::{self, AssertSqlSafe, Connection, PgConnection, Row};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// Memory: less than half of a leak of 1 MB a minute. What comes to less than 4 MB in half a run cannot be told from an allocator.
const MEMORY: Bound = Bound::Leak { a_minute: 0.4, noise: 4.0 };
const HANDLES: Bound = Bound::Leak { a_minute: 0.2, noise: 3.0 };
const ROWS: Bound = Bound::Leak { a_minute: 5.0, noise: 50.0 };
const BYTES: Bound = Bound::Leak { a_minute: 0.4, noise: 4.0 };
/// Inbox, documents and letters are kept: each command may cost no more than those before it.
const KEPT: Bound = Bound::Share(0.1);

/// Tables whose rows stay, by the settings for 14 days and longer; all others are for what is under way.
const KEEPING: &str = "'inbox', 'inbox_undated', 'attempt', 'document', 'dead_letter', 'operation', 'audit'";

/// One broker with its workers, as it is looked at.
pub(crate) struct Watched {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) schema: String,
    /// The worker that is never killed.
    pub(crate) survivor: u32,
    /// The broker is away, by our own hand.
    pub(crate) is_away: Arc<AtomicBool>,
    /// Commands that were confirmed to their source.
    pub(crate) sent: Arc<AtomicU64>,
}

#[derive(Default)]
pub(crate) struct Record(BTreeMap<String, Series>);

impl Record {
    fn add(&mut self, name: &str, unit: &'static str, bound: Bound, at: f64, value: f64) {
        let new = || Series { name: name.into(), unit, bound, samples: Vec::new() };
        self.0.entry(name.into()).or_insert_with(new).samples.push((at, value));
    }

    pub(crate) fn series(&self) -> impl Iterator<Item = &Series> {
        self.0.values()
    }
}

/// Measures again and again, until nobody waits for it any more.
pub(crate) async fn measure(record: Arc<Mutex<Record>>, postgres: String, watched: Vec<Watched>, every: Duration) {
    let began = Instant::now();
    loop {
        let at = began.elapsed();
        for one in &watched {
            let minutes = began.elapsed().as_secs_f64() / 60.0;
            let named = |what: &str| format!("{} {what}", one.name);
            let mut found = Vec::new();
            if let Some((memory, handles)) = process(one.survivor) {
                found.push((named("worker memory"), "MB", MEMORY, memory));
                found.push((named("worker handles"), "open", HANDLES, handles));
            }
            if !one.is_away.load(SeqCst)
                && let Ok(waiting) = broker::waiting(&one.url, &one.prefix).await
            {
                found.push((named("messages waiting"), "messages", ROWS, waiting as f64));
            }
            if let Ok(Ok(tables)) = tokio::time::timeout(Duration::from_secs(5), tables(&postgres, &one.schema)).await {
                found.push((named("passing tables"), "rows", ROWS, tables.rows));
                found.push((named("passing tables, size"), "MB", BYTES, tables.passing / 1e6));
                let sent = one.sent.load(SeqCst);
                if sent > 0 {
                    found.push((named("kept, a command"), "bytes", KEPT, tables.kept / sent as f64));
                }
                if one.name == watched[0].name {
                    found.push(("database connections".into(), "open", HANDLES, tables.connections));
                }
            }
            let mut record = record.lock().expect("nobody panicked");
            for (name, unit, bound, value) in found {
                record.add(&name, unit, bound, minutes, value);
            }
        }
        crate::cell::pass(every.saturating_sub(began.elapsed() - at)).await;
    }
}

/// Resident megabytes, and open file handles.
fn process(id: u32) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = resident.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    let handles = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
    Some((kilobytes / 1024.0, handles as f64))
}

struct Tables {
    /// In those for what is under way.
    rows: f64,
    passing: f64,
    kept: f64,
    connections: f64,
}

async fn tables(url: &str, schema: &str) -> Result<Tables, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let passing =
        ["outbox", "claim", "worker"].map(|table| format!("(select count(*) from {schema}.{table})")).join(" + ");
    let sql = format!(
        "with sizes as (
            select coalesce(pg_partition_root(oid), oid)::regclass::oid as root, pg_table_size(oid) + pg_indexes_size(oid) as bytes
            from pg_class where relnamespace = '{schema}'::regnamespace and relkind in ('r', 'p')
        ), named as (
            select (select relname from pg_class where oid = root) in ({KEEPING}) as kept, bytes from sizes
        )
        select ({passing})::float8,
               coalesce(sum(bytes) filter (where not kept), 0)::float8, coalesce(sum(bytes) filter (where kept), 0)::float8,
               (select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid())::float8
        from named"
    );
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(Tables { rows: row.get(0), passing: row.get(1), kept: row.get(2), connections: row.get(3) })
}
