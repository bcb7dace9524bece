//! Control Bus: what people ask of the store, and what they decide.

use super::{SqliteStore, bulk::key_time, decode, micros, replays, writes};
use crate::store::{
    Audit, AuditFilter, Counts, DeadFilter, DeadLetter, History, LetterHead, LetterKey, LetterState, OutboxEntry,
    OutboxRow,
};
use serde_json::json;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

/// How far the clock of a worker may be behind that of the producer of the message it handles.
const CLOCK_SKEW_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

macro_rules! list {
    ($columns:literal) => {
        concat!(
            "select ",
            $columns,
            " from dead_letter where (?1 = '[]' or state in (select value from json_each(?1)))
             and (?2 is null or channel = ?2) and (?3 is null or type = ?3) and (?4 is null or reason = ?4)
             and (?5 is null or id = ?5) and (?6 is null or consumer = ?6)
             and (?7 is null or last_at <= ?7) and (?8 is null or last_at >= ?8)
             order by last_at desc, id limit ?9"
        )
    };
}

pub(super) async fn dead_letters(
    store: &SqliteStore,
    filter: &DeadFilter,
    limit: usize,
) -> sqlx::Result<Vec<DeadLetter>> {
    list(store, list!("*"), filter, limit).await?.iter().map(decode::letter).collect()
}

pub(super) async fn letter_heads(
    store: &SqliteStore,
    filter: &DeadFilter,
    limit: usize,
) -> sqlx::Result<Vec<LetterHead>> {
    let heads = list!(
        "consumer, source, id, attempt, payload_hash, state, channel, subscription, type, version, reason, error, attributes,
         count, first_at, last_at, worker, build"
    );
    list(store, heads, filter, limit).await?.iter().map(decode::letter_head).collect()
}

async fn list(
    store: &SqliteStore,
    what: &'static str,
    filter: &DeadFilter,
    limit: usize,
) -> sqlx::Result<Vec<SqliteRow>> {
    let states = json!(filter.states.iter().map(|state| state.word()).collect::<Vec<_>>()).to_string();
    let select = sqlx::query(what);
    let select = select.bind(states).bind(&filter.channel).bind(&filter.ty).bind(&filter.reason).bind(&filter.id);
    let select = select.bind(&filter.consumer).bind(filter.until.map(micros)).bind(filter.since.map(micros));
    select.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(store.readers()?).await
}

pub(super) async fn resolve_letter(
    store: &SqliteStore,
    key: &LetterKey,
    to: LetterState,
    rows: &[OutboxRow],
    audit: &Audit,
) -> sqlx::Result<bool> {
    let mut tx = store.begin_write().await?;
    if !decide(&mut tx, key, to).await? {
        return Ok(false);
    }
    if to == LetterState::Discarded {
        free_operation(&mut tx, key).await?;
    }
    writes::outbox(&mut tx, None, &rows.iter().collect::<Vec<_>>()).await?;
    insert_audit(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

/// Of an open letter; `false`: it is none.
pub(super) async fn decide(connection: &mut SqliteConnection, key: &LetterKey, to: LetterState) -> sqlx::Result<bool> {
    let update = sqlx::query(
        "update dead_letter set state = ? where consumer = ? and source = ? and id = ? and attempt = ? and payload_hash = ?
         and state in ('dead', 'quarantined')",
    );
    let update = update.bind(to.word()).bind(&key.consumer).bind(&key.source).bind(&key.id).bind(key.attempt);
    Ok(update.bind(key.payload_hash.as_slice()).execute(connection).await?.rows_affected() > 0)
}

/// A quarantined message that is discarded will never be done: the next one with its idempotency key takes the key over. (One that
/// is dead has lost the key already, and a letter about another payload under its ID says nothing about it.)
async fn free_operation(connection: &mut SqliteConnection, key: &LetterKey) -> sqlx::Result<()> {
    let free = sqlx::query(
        "delete from operation as o where id = ? and consumer = ? and source = ? and exists
         (select 1 from inbox i where i.key_time = o.key_time and i.consumer = o.consumer and i.source = o.source
          and i.id = o.id and i.fate = 'quarantined' and i.payload_hash = ?)",
    );
    let free = free.bind(&key.id).bind(&key.consumer).bind(&key.source).bind(key.payload_hash.as_slice());
    free.execute(connection).await.map(drop)
}

pub(super) async fn record(store: &SqliteStore, audit: &Audit) -> sqlx::Result<()> {
    let record = sqlx::query(
        "insert into audit (actor, action, target, reason, at) select ?1, ?2, ?3, ?4, ?5 where not exists
         (select 1 from audit where action = ?2 and target = ?3 and reason = ?4)",
    );
    let record = record.bind(&audit.actor).bind(&audit.action).bind(&audit.target).bind(&audit.reason);
    let mut tx = store.begin_write().await?;
    record.bind(micros(audit.at)).execute(&mut *tx).await?;
    tx.commit().await
}

pub(super) async fn record_action(store: &SqliteStore, audit: &Audit) -> sqlx::Result<()> {
    let mut tx = store.begin_write().await?;
    insert_audit(&mut tx, audit).await?;
    tx.commit().await
}

pub(super) async fn insert_audit(connection: &mut SqliteConnection, audit: &Audit) -> sqlx::Result<()> {
    let insert = sqlx::query(
        "insert into audit (actor, action, target, reason, at, body_before, body_after) values (?, ?, ?, ?, ?, ?, ?)",
    );
    let insert = insert.bind(&audit.actor).bind(&audit.action).bind(&audit.target).bind(&audit.reason);
    let bodies = audit.bodies.as_deref();
    let insert = insert.bind(micros(audit.at)).bind(bodies.map(|bodies| &bodies.before[..]));
    insert.bind(bodies.map(|bodies| &bodies.after[..])).execute(connection).await.map(drop)
}

pub(super) async fn audit_trail(store: &SqliteStore, filter: &AuditFilter, limit: usize) -> sqlx::Result<Vec<Audit>> {
    let select = sqlx::query(
        "select * from audit where (?1 is null or at >= ?1) and (?2 is null or actor = ?2)
         order by at desc, rowid desc limit ?3",
    );
    let select = select.bind(filter.since.map(micros)).bind(&filter.actor);
    let trail = select.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(store.readers()?).await?;
    trail.iter().map(decode::audit).collect()
}

pub(super) async fn recorded(store: &SqliteStore, action: &str, limit: usize) -> sqlx::Result<Vec<Audit>> {
    let recorded =
        sqlx::query("select * from audit where action = ? order by at desc, rowid desc limit ?").bind(action);
    let recorded = recorded.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(store.readers()?).await?;
    recorded.iter().map(decode::audit).collect()
}

pub(super) async fn history(store: &SqliteStore, id: &str) -> sqlx::Result<History> {
    // One snapshot: a message that commits meanwhile is seen before or after, not half.
    let mut tx = store.readers()?.begin().await?;
    // An undated ID has an index of its own, every other one its place in the key.
    let inbox = match key_time(id) {
        0 => sqlx::query("select * from inbox where id = ? and key_time = 0 order by at, consumer, source").bind(id),
        time => sqlx::query("select * from inbox where key_time = ? and id = ? order by at, consumer, source")
            .bind(time)
            .bind(id),
    };
    let inbox = inbox.fetch_all(&mut *tx).await?;
    let attempts =
        sqlx::query("select * from attempt where id = ? order by at, rowid").bind(id).fetch_all(&mut *tx).await?;
    let letters =
        sqlx::query("select * from dead_letter where id = ? order by first_at").bind(id).fetch_all(&mut *tx).await?;
    let audit =
        sqlx::query("select * from audit where target = ? order by at, rowid").bind(id).fetch_all(&mut *tx).await?;
    let replays = replays::of_message(&mut tx, id).await?;
    let outbox = sqlx::query("select * from outbox where id = ? order by seq").bind(id).fetch_all(&mut *tx).await?;
    // What a handler sends carries an ID of its own time or later, so the search begins there instead of paying for an index.
    let from = key_time(id).saturating_sub(CLOCK_SKEW_MICROS).max(0);
    let caused =
        sqlx::query("select * from inbox where causation = ? and key_time >= ? order by at, consumer, source, id");
    let caused = caused.bind(id).bind(from).fetch_all(&mut *tx).await?;
    let caused_outbox =
        sqlx::query("select * from outbox where causation = ? order by seq").bind(id).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    Ok(History {
        inbox: inbox.iter().map(decode::inbox_row).collect::<Result<_, _>>()?,
        attempts: attempts.iter().map(decode::attempt).collect::<Result<_, _>>()?,
        outbox: entries(&outbox),
        letters: letters.iter().map(decode::letter).collect::<Result<_, _>>()?,
        audit: audit.iter().map(decode::audit).collect::<Result<_, _>>()?,
        replays,
        caused: caused.iter().map(decode::inbox_row).collect::<Result<_, _>>()?,
        caused_outbox: entries(&caused_outbox),
    })
}

pub(super) fn entries(rows: &[SqliteRow]) -> Vec<OutboxEntry> {
    let read = |row: &SqliteRow| match decode::outbox_entry(row) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::error!(%error, "an outbox row cannot be read; it stays and is not published");
            None
        }
    };
    rows.iter().filter_map(read).collect()
}

pub(super) async fn counts(store: &SqliteStore) -> sqlx::Result<Counts> {
    let select = sqlx::query(
        "select (select count(*) from inbox where fate = 'done'), (select count(*) from inbox where fate = 'retry'),
         (select count(*) from dead_letter where state = 'dead'),
         (select count(*) from dead_letter where state = 'quarantined'), (select count(*) from outbox)",
    );
    let row = select.fetch_one(store.readers()?).await?;
    let count = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(Counts { done: count(0)?, retrying: count(1)?, dead: count(2)?, quarantined: count(3)?, outbox: count(4)? })
}
