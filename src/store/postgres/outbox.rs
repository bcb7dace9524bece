//! Transactional Outbox: rows on their way out, and whose they are.

use super::{PostgresStore, errors::Sure, workers::ago};
use crate::{
    message::wire,
    store::{DeadLetter, Destination, OutboxEntry, OutboxRow, Purpose, StoreError, Swept},
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use std::sync::Arc;
use uuid::Uuid;

/// A row that is there already stays as it is: the writer repeats itself because an answer was lost.
const INSERT: &str = "insert into {s}.outbox (seq, owner, due, destination, purpose, id, source, type, causation, key, attributes,
    payload)
 select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::bytea[])
 on conflict (seq) do nothing";

pub(super) const DELETE: &str = "delete from {s}.outbox where seq = any($1)";

/// Lost owners are found by leaps through the index of owners, between those that are known to live: what these have deleted stands
/// there as long as anybody's transaction on this database is open, and is not to be walked over. For the same reason what is
/// taken is an array: each row is looked up, and no plan can merge them with the whole table. A lost worker leaves the table of the
/// living, so that its next heartbeat tells it that its rows are not its own any more. The database's clock tells who is lost
/// (`workers.rs`).
const SWEEP: &str = "with recursive known (id) as (
    select $1::uuid union select w.id from {s}.worker w where w.seen >= statement_timestamp() - $3
    union values ('00000000-0000-0000-0000-000000000000'::uuid), ('ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
 ), gap (after, before) as (
    select id, lead(id) over (order by id) from known
 ), lost (id, before) as (
    select o.owner, gap.before from gap cross join lateral
      (select owner from {s}.outbox where owner > gap.after and owner < gap.before order by owner limit 1) o
    union all
    select o.owner, lost.before from lost cross join lateral
      (select owner from {s}.outbox where owner > lost.id and owner < lost.before order by owner limit 1) o
 ), gone as (
    delete from {s}.worker w where w.seen < statement_timestamp() - $3 and w.id <> $1
 ), free as (
    select o.seq from {s}.outbox o
    where o.owner is null and coalesce(o.due, '1970-01-01 00:00:00+00'::timestamptz) <= $2
    order by coalesce(o.due, '1970-01-01 00:00:00+00'::timestamptz), o.seq limit $4 for update skip locked
 ), left_behind as (
    select o.seq from lost cross join lateral
      (select seq from {s}.outbox where owner = lost.id order by seq limit $4 for update skip locked) o
 ), taken as (
    select seq from free union all select seq from left_behind order by seq limit $4
 )
 update {s}.outbox o set owner = $1 where o.seq = any(array(select seq from taken))
 returning o.seq, o.destination, o.due, o.key, o.purpose, o.attributes, o.payload, o.tries,
   o.seq = any(array(select seq from left_behind)) as begun";

/// In the order of the index, from where the last page ended. A planner that knows no such table (it was empty a moment ago) would
/// collect everything behind there and sort it, page after page.
const ALONG_THE_INDEX: &str = "set local enable_bitmapscan = off";

const SPILLED: &str = "select seq, destination, due, key, purpose, attributes, payload from {s}.outbox
 where owner = $1 and seq > $3 and destination = $2 order by seq limit $4";

const NEXT_DUE: &str = "select due from {s}.outbox where owner is null
       and coalesce(due, '1970-01-01 00:00:00+00'::timestamptz) > '1970-01-01 00:00:00+00'::timestamptz
     order by coalesce(due, '1970-01-01 00:00:00+00'::timestamptz), seq limit 1";

/// The whole outbox is read, which is short unless a broker is away.
const WAITING: &str = "select seq, destination, due, key, purpose, attributes, payload, owner, tries, problem
 from {s}.outbox where due is null or due <= $1 order by problem is null, seq limit $2";

/// The columns of rows to write, borrowed from them.
#[derive(Default)]
struct Columns<'a> {
    seq: Vec<Uuid>,
    owner: Vec<Option<Uuid>>,
    due: Vec<Option<DateTime<Utc>>>,
    destination: Vec<String>,
    purpose: Vec<&'a str>,
    id: Vec<&'a str>,
    source: Vec<&'a str>,
    ty: Vec<&'a str>,
    causation: Vec<Option<&'a str>>,
    key: Vec<Option<&'a str>>,
    attributes: Vec<String>,
    payload: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, owner: Option<Uuid>, row: &'a OutboxRow) {
        let envelope = &*row.envelope;
        self.seq.push(row.seq);
        self.owner.push(owner.filter(|_| row.due.is_none()));
        self.due.push(row.due);
        self.destination.push(row.destination.parts().concat());
        self.purpose.push(row.purpose.word());
        self.id.push(&envelope.id);
        self.source.push(&envelope.source);
        self.ty.push(&envelope.ty);
        self.causation.push(envelope.causation_id.as_deref());
        self.key.push(row.key.as_deref());
        self.attributes.push(wire::attributes_json(envelope));
        self.payload.push(&envelope.data);
    }
}

impl PostgresStore {
    /// A row that waits for its time belongs to nobody until then.
    pub(super) async fn write_outbox<'a>(
        &self,
        on: &mut PgConnection,
        owner: Option<Uuid>,
        rows: impl Iterator<Item = &'a OutboxRow>,
    ) -> Sure<()> {
        let mut columns = Columns::default();
        rows.for_each(|row| columns.push(owner, row));
        if columns.seq.is_empty() {
            return Ok(());
        }
        sqlx::query(self.sql.get(INSERT))
            .bind(columns.seq)
            .bind(columns.owner)
            .bind(columns.due)
            .bind(columns.destination)
            .bind(columns.purpose)
            .bind(columns.id)
            .bind(columns.source)
            .bind(columns.ty)
            .bind(columns.causation)
            .bind(columns.key)
            .bind(columns.attributes)
            .bind(columns.payload)
            .execute(on)
            .await?;
        Ok(())
    }

    pub(super) async fn post(&self, owner: Option<Uuid>, rows: &[OutboxRow]) -> Sure<()> {
        let mut connection = self.other.get().acquire().await?;
        self.write_outbox(&mut connection, owner, rows.iter()).await
    }

    pub(super) async fn take(
        &self,
        worker: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
        limit: usize,
    ) -> Sure<Vec<Swept>> {
        self.days.told(now);
        let rows = sqlx::query(self.sql.get(SWEEP)).bind(worker).bind(now).bind(ago(lost_before)).bind(clamp(limit));
        let mut swept = Vec::new();
        for row in rows.fetch_all(&self.other.get()).await? {
            let tries = super::inbox::u32_of(row.try_get(7)?);
            match read(&row) {
                Ok(read) => swept.push(Swept { row: read, begun: row.try_get(8)?, tries }),
                // It stays ours and is shown with its problem: one bad row must not hold up those behind it.
                Err(trouble) => {
                    let problem = StoreError::from(trouble).to_string();
                    self.note_problem(row.try_get(0)?, tries, &problem).await?;
                }
            }
        }
        swept.sort_unstable_by_key(|swept| swept.row.seq);
        Ok(swept)
    }

    pub(super) async fn read_spilled(
        &self,
        worker: Uuid,
        destination: &Destination,
        after: Option<Uuid>,
        limit: usize,
    ) -> Sure<Vec<OutboxRow>> {
        let rows = sqlx::query(self.sql.get(SPILLED)).bind(worker).bind(destination.to_string());
        let rows = rows.bind(after.unwrap_or(Uuid::nil())).bind(clamp(limit));
        let read = |row: &PgRow| match read(row) {
            Ok(row) => Some(row),
            Err(trouble) => {
                tracing::error!(error = %StoreError::from(trouble), "an outbox row stays and is not published");
                None
            }
        };
        let mut tx = self.other.get().begin().await?;
        sqlx::raw_sql(ALONG_THE_INDEX).execute(&mut *tx).await?;
        let rows = rows.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(rows.iter().filter_map(read).collect())
    }

    pub(super) async fn delete_outbox(&self, on: &mut PgConnection, mut rows: Vec<Uuid>) -> Sure<()> {
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable();
        sqlx::query(self.sql.get(DELETE)).bind(rows).execute(on).await?;
        Ok(())
    }

    pub(super) async fn delete_confirmed(&self, rows: &[Uuid]) -> Sure<()> {
        let mut connection = self.other.get().acquire().await?;
        self.delete_outbox(&mut connection, rows.to_vec()).await
    }

    pub(super) async fn note_problem(&self, row: Uuid, tries: u32, problem: &str) -> Sure<()> {
        // What a broker said must not keep us from saying that it said something.
        sqlx::query(self.sql.get("update {s}.outbox set tries = $2, problem = $3 where seq = $1"))
            .bind(row)
            .bind(i64::from(tries))
            .bind(super::letters::clean(problem))
            .execute(&self.other.get())
            .await?;
        Ok(())
    }

    /// A row that is gone was published or buried before: there is nothing to bury.
    pub(super) async fn give_up(&self, row: Uuid, letter: &DeadLetter) -> Sure<()> {
        let mut tx = self.other.get().begin().await?;
        let gone = sqlx::query(self.sql.get(DELETE)).bind(vec![row]).execute(&mut *tx).await?;
        if gone.rows_affected() == 1 {
            self.file(&mut tx, std::iter::once(letter)).await?;
        }
        Ok(tx.commit().await?)
    }

    pub(super) async fn read_waiting(&self, now: DateTime<Utc>, limit: usize) -> Sure<Vec<OutboxEntry>> {
        let rows = sqlx::query(self.sql.get(WAITING)).bind(now).bind(clamp(limit)).fetch_all(&self.other.get()).await?;
        rows.iter().map(read_entry).collect()
    }

    pub(super) async fn first_due(&self) -> Sure<Option<DateTime<Utc>>> {
        Ok(sqlx::query_scalar(self.sql.get(NEXT_DUE)).fetch_optional(&self.other.get()).await?)
    }
}

pub(super) fn clamp(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Seq, destination, due, key, purpose, attributes, payload.
fn read(row: &PgRow) -> Sure<OutboxRow> {
    let odd = |what: String| StoreError::Unfit(format!("the outbox holds a row that this build cannot read: {what}"));
    let (seq, destination, purpose): (Uuid, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(4)?);
    let (attributes, payload): (&str, Vec<u8>) = (row.try_get(5)?, row.try_get(6)?);
    let envelope =
        wire::from_attributes_json(attributes, payload.into()).map_err(|error| odd(format!("{seq}: {error}")))?;
    Ok(OutboxRow {
        seq,
        destination: destination.parse().map_err(|error| odd(format!("{seq}: {error}")))?,
        due: row.try_get(2)?,
        key: row.try_get(3)?,
        purpose: Purpose::of_word(purpose).ok_or_else(|| odd(format!("{seq}: purpose `{purpose}`")))?,
        envelope: Arc::new(envelope),
    })
}

/// As [`read`], then owner, tries, problem.
pub(super) fn read_entry(row: &PgRow) -> Sure<OutboxEntry> {
    let tries = super::inbox::u32_of(row.try_get(8)?);
    Ok(OutboxEntry { row: read(row)?, owner: row.try_get(7)?, tries, problem: row.try_get(9)? })
}
