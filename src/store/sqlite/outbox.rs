//! Transactional Outbox: whose row is whose.

use super::{SqliteStore, bulk::uuids, decode, micros, writes};
use crate::store::{DeadLetter, Destination, OutboxEntry, OutboxRow, Swept};
use chrono::{DateTime, Utc};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

pub(super) async fn enqueue(store: &SqliteStore, owner: Option<Uuid>, rows: &[OutboxRow]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut tx = store.begin_write().await?;
    writes::outbox(&mut tx, owner, &rows.iter().collect::<Vec<_>>()).await?;
    tx.commit().await
}

pub(super) async fn sweep(
    store: &SqliteStore,
    worker: Uuid,
    now: DateTime<Utc>,
    lost_before: DateTime<Utc>,
    limit: usize,
) -> sqlx::Result<Vec<Swept>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Almost always there is nothing to take, which a reader can tell without keeping the writer from its commits.
    if !is_anything_free(store, worker, now, lost_before).await? {
        return Ok(Vec::new());
    }
    let mut tx = store.begin_write().await?;
    // A lost worker leaves the table of the living, so that its next heartbeat tells it: its rows are not its own any more.
    let lost = sqlx::query("delete from worker where id <> ? and beat < ?").bind(worker).bind(micros(lost_before));
    lost.execute(&mut *tx).await?;
    let free = free_rows(&mut tx, worker, now, limit).await?;
    let rows = sqlx::query("select * from outbox where seq in (select unhex(value) from json_each(?)) order by seq");
    let rows = rows.bind(uuids(&free)).fetch_all(&mut *tx).await?;
    let take = sqlx::query("update outbox set owner = ? where seq in (select unhex(value) from json_each(?))");
    take.bind(worker).bind(uuids(&free)).execute(&mut *tx).await?;
    let mut swept = Vec::with_capacity(rows.len());
    for row in &rows {
        match read(row) {
            Ok(read) => swept.push(read),
            // It stays ours and is shown with its problem: one bad row must not hold up those behind it.
            Err(error) => set_problem(&mut tx, row.try_get("seq")?, &error.to_string()).await?,
        }
    }
    tx.commit().await?;
    Ok(swept)
}

fn read(row: &SqliteRow) -> sqlx::Result<Swept> {
    let owner: Option<Uuid> = row.try_get("owner")?;
    Ok(Swept { row: decode::outbox_row(row)?, begun: owner.is_some(), tries: row.try_get("tries")? })
}

/// All owners of rows but `?1` that are not among the living (and have not been silent since `?2`). The index is walked from
/// owner to owner, so that a million rows of the living cost nothing.
macro_rules! lost_owners {
    () => {
        "with recursive owners (owner) as (
             select min(owner) from outbox where owner is not null
             union all
             select (select min(o.owner) from outbox o where o.owner > owners.owner and o.owner is not null)
             from owners where owners.owner is not null
         )
         select owner from owners where owner is not null and owner <> ?1
         and not exists (select 1 from worker w where w.id = owner and w.beat >= ?2)"
    };
}

async fn is_anything_free(
    store: &SqliteStore,
    worker: Uuid,
    now: DateTime<Utc>,
    lost_before: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let free = sqlx::query_scalar(concat!(
        "select exists (select 1 from outbox where owner is null and due is null)
             or exists (select 1 from outbox where owner is null and due is not null and due <= ?3)
             or exists (select 1 from worker where id <> ?1 and beat < ?2)
             or exists (",
        lost_owners!(),
        ")"
    ));
    free.bind(worker).bind(micros(lost_before)).bind(micros(now)).fetch_one(store.readers()?).await
}

/// The first `limit` rows, in sequence, of all that nobody else will publish.
async fn free_rows(
    connection: &mut SqliteConnection,
    worker: Uuid,
    now: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    let nobodys = "select seq from outbox where owner is null and due is null order by seq limit ?";
    let mut free: Vec<Uuid> = sqlx::query_scalar(nobodys).bind(limit).fetch_all(&mut *connection).await?;
    let due = "select seq from outbox where owner is null and due is not null and due <= ? order by seq limit ?";
    free.extend(sqlx::query_scalar::<_, Uuid>(due).bind(micros(now)).bind(limit).fetch_all(&mut *connection).await?);
    // Whoever is in the table now is alive: `?2` is the beginning of time.
    let lost = sqlx::query_scalar(lost_owners!()).bind(worker).bind(i64::MIN);
    let lost: Vec<Uuid> = lost.fetch_all(&mut *connection).await?;
    for owner in lost {
        let its = "select seq from outbox where owner = ? and owner is not null order by seq limit ?";
        free.extend(sqlx::query_scalar::<_, Uuid>(its).bind(owner).bind(limit).fetch_all(&mut *connection).await?);
    }
    free.sort_unstable();
    free.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(free)
}

pub(super) async fn spilled(
    store: &SqliteStore,
    worker: Uuid,
    destination: &Destination,
    after: Option<Uuid>,
    limit: usize,
) -> sqlx::Result<Vec<OutboxRow>> {
    let select = sqlx::query(
        "select * from outbox where owner = ? and owner is not null and seq > ? and destination = ? order by seq limit ?",
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let select = select.bind(worker).bind(after.unwrap_or(Uuid::nil())).bind(destination.to_string()).bind(limit);
    let rows = select.fetch_all(store.readers()?).await?;
    let read = |row: &SqliteRow| match decode::outbox_row(row) {
        Ok(row) => Some(row),
        Err(error) => {
            tracing::error!(%error, "an outbox row cannot be read; it stays and is not published");
            None
        }
    };
    Ok(rows.iter().filter_map(read).collect())
}

pub(super) async fn confirm(store: &SqliteStore, rows: &[Uuid]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut tx = store.begin_write().await?;
    writes::remove_rows(&mut tx, rows).await?;
    tx.commit().await
}

pub(super) async fn note(store: &SqliteStore, row: Uuid, tries: u32, problem: &str) -> sqlx::Result<()> {
    let mut tx = store.begin_write().await?;
    set_problem(&mut tx, row, problem).await?;
    sqlx::query("update outbox set tries = ? where seq = ?").bind(tries).bind(row).execute(&mut *tx).await?;
    tx.commit().await
}

async fn set_problem(connection: &mut SqliteConnection, row: Uuid, problem: &str) -> sqlx::Result<()> {
    let update = sqlx::query("update outbox set problem = ? where seq = ?").bind(problem).bind(row);
    update.execute(connection).await.map(drop)
}

/// A row that is gone was published or buried before: there is nothing to bury.
pub(super) async fn bury(store: &SqliteStore, row: Uuid, letter: &DeadLetter) -> sqlx::Result<()> {
    let mut tx = store.begin_write().await?;
    let delete = sqlx::query("delete from outbox where seq = ?").bind(row).execute(&mut *tx).await?;
    if delete.rows_affected() > 0 {
        writes::letters(&mut tx, &[letter]).await?;
    }
    tx.commit().await
}

pub(super) async fn next_due(store: &SqliteStore) -> sqlx::Result<Option<DateTime<Utc>>> {
    let select = sqlx::query("select min(due) as due from outbox where owner is null and due is not null");
    decode::maybe_time(&select.fetch_one(store.readers()?).await?, "due")
}

pub(super) async fn waiting(store: &SqliteStore, now: DateTime<Utc>, limit: usize) -> sqlx::Result<Vec<OutboxEntry>> {
    let select =
        sqlx::query("select * from outbox where due is null or due <= ? order by problem is null, seq limit ?");
    let select = select.bind(micros(now)).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    Ok(super::operators::entries(&select.fetch_all(store.readers()?).await?))
}
