//! Message History: what people ask of the store.

use super::{
    PostgresStore,
    days::{self, UNDATED},
    errors::{Sure, Trouble},
    handled::read_inbox,
    inbox::u32_of,
    outbox::read_entry,
};
use crate::{
    message::KeyTime,
    store::{Attempt, AttemptKind, Audit, AuditFilter, Bodies, Counts, History, InboxRow, StoreError},
};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use std::time::Duration;

const INBOX: &str =
    "select consumer, source, id, type, version, attempt, fate, actor, subject, correlation, causation, trace, at,
    duration_ms, worker, build
 from {s}.inbox where id = $1 and key_time = any($2) order by at, consumer, source";

/// What a handler sent has an ID made while it ran, or later if it is due later.
const CAUSED: &str =
    "select consumer, source, id, type, version, attempt, fate, actor, subject, correlation, causation, trace, at,
    duration_ms, worker, build
 from {s}.inbox where causation = $1 and key_time >= $2 and key_time < $3 order by key_time, at, consumer limit 1000";

/// Without an index for rows that are about to leave: the whole outbox is read, which is short unless a broker is away.
const OUTBOX: &str = "select seq, destination, due, key, purpose, attributes, payload, owner, tries, problem, id = $1
 from {s}.outbox where id = $1 or causation = $1 order by seq limit 2000";

/// If that takes too long: what waits for its time, or for a worker.
const WAITING: &str = "select seq, destination, due, key, purpose, attributes, payload, owner, tries, problem, true
 from {s}.outbox where id = $1 and owner is null order by seq limit 1000";

const ATTEMPTS: &str = "select consumer, attempt, kind, error, at, duration_ms, worker, build, next
 from {s}.attempt where id = $1 order by at, attempt";

const AUDIT: &str =
    "select actor, action, target, reason, at, body_before, body_after from {s}.audit where target = $1 order by at";

/// Beside a letter, in the transaction that resolves it, and alone.
const INSERT_AUDIT: &str = "insert into {s}.audit (at, actor, action, target, reason, body_before, body_after)
 values ($1, $2, $3, $4, $5, $6, $7)";

const RECORD: &str = "insert into {s}.audit (at, actor, action, target, reason) select $1, $2, $3, $4, $5
 where not exists (select 1 from {s}.audit where target = $4 and action = $3 and reason = $5)";

/// Read as a whole: people act seldom.
const TRAIL: &str = "select actor, action, target, reason, at, body_before, body_after from {s}.audit
 where ($1::timestamptz is null or at >= $1) and ($2::text is null or actor = $2) order by at desc limit $3";

const RECORDED: &str = "select actor, action, target, reason, at, body_before, body_after from {s}.audit
 where action = $1 order by at desc limit $2";

const COUNTS: &str = "select (select count(*) from {s}.inbox where fate = 'done'),
    (select count(*) from {s}.inbox where fate = 'retry'),
    (select count(*) from {s}.dead_letter where state = 'dead'),
    (select count(*) from {s}.dead_letter where state = 'quarantined'),
    (select count(*) from {s}.outbox)";

const KINDS: [AttemptKind; 8] = [
    AttemptKind::Failure,
    AttemptKind::Timeout,
    AttemptKind::Panic,
    AttemptKind::Crash,
    AttemptKind::Later,
    AttemptKind::Conflict,
    AttemptKind::Interrupted,
    AttemptKind::Rejected,
];

impl PostgresStore {
    pub(super) async fn write_down(&self, audit: &Audit) -> Sure<()> {
        let record = sqlx::query(self.sql.get(RECORD)).bind(audit.at).bind(&audit.actor).bind(&audit.action);
        record.bind(&audit.target).bind(&audit.reason).execute(&self.other.get()).await?;
        Ok(())
    }

    pub(super) async fn write_action(&self, audit: &Audit) -> Sure<()> {
        let mut connection = self.other.get().acquire().await?;
        self.insert_audit(&mut connection, audit).await
    }

    pub(super) async fn insert_audit(&self, on: &mut PgConnection, audit: &Audit) -> Sure<()> {
        let insert = sqlx::query(self.sql.get(INSERT_AUDIT)).bind(audit.at).bind(&audit.actor).bind(&audit.action);
        let bodies = audit.bodies.as_deref();
        let insert = insert.bind(&audit.target).bind(&audit.reason).bind(bodies.map(|bodies| &bodies.before[..]));
        insert.bind(bodies.map(|bodies| &bodies.after[..])).execute(on).await?;
        Ok(())
    }

    pub(super) async fn trail(&self, filter: &AuditFilter, limit: usize) -> Sure<Vec<Audit>> {
        let trail = sqlx::query(self.sql.get(TRAIL)).bind(filter.since).bind(&filter.actor);
        let trail = trail.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        trail.fetch_all(&self.other.get()).await?.iter().map(read_audit).collect()
    }

    pub(super) async fn written_down(&self, action: &str, limit: usize) -> Sure<Vec<Audit>> {
        let recorded = sqlx::query(self.sql.get(RECORDED)).bind(action).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        recorded.fetch_all(&self.other.get()).await?.iter().map(read_audit).collect()
    }

    pub(super) async fn tell(&self, id: &str) -> Sure<History> {
        if id.contains('\0') {
            return Ok(History::default()); // nothing of that ID can ever have been stored
        }
        let mut connection = self.other.get().acquire().await?;
        let on = &mut *connection;
        let mut history = History {
            inbox: self.inbox_of(on, id).await?,
            letters: self.letters_of(on, id).await?,
            ..History::default()
        };
        for row in sqlx::query(self.sql.get(ATTEMPTS)).bind(id).fetch_all(&mut *on).await? {
            history.attempts.push((row.try_get(0)?, read_attempt(&row)?));
        }
        for row in self.outbox_of(on, id).await? {
            let its_own = row.try_get(10)?;
            let entries = if its_own { &mut history.outbox } else { &mut history.caused_outbox };
            entries.push(read_entry(&row)?);
        }
        for row in sqlx::query(self.sql.get(AUDIT)).bind(id).fetch_all(&mut *on).await? {
            history.audit.push(read_audit(&row)?);
        }
        history.replays = self.replays_of(on, id).await?;
        let handled = history.inbox.iter().map(|row| (row.at, row.duration_ms));
        if let Some((from, to)) = window(handled.chain(history.attempts.iter().map(|(_, a)| (a.at, millis(a))))) {
            // What is due later has an ID of later: the whole of what follows, if that is quickly read, else what is near.
            let ever = from + TimeDelta::days(36_500);
            history.caused = match self.caused(on, id, from, ever).await? {
                Some(rows) => rows,
                None => self.caused(on, id, from, to).await?.unwrap_or_default(),
            };
        }
        Ok(history)
    }

    async fn inbox_of(&self, on: &mut PgConnection, id: &str) -> Sure<Vec<InboxRow>> {
        let mut places = vec![UNDATED];
        if let KeyTime::At(time) = KeyTime::of(id) {
            places.push(time);
        }
        let rows = sqlx::query(self.sql.get(INBOX)).bind(id).bind(places).fetch_all(on).await?;
        rows.iter().map(read_inbox).collect()
    }

    /// `None`: it would have taken too long.
    async fn caused(
        &self,
        on: &mut PgConnection,
        id: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Sure<Option<Vec<InboxRow>>> {
        let query = sqlx::query(self.sql.get(CAUSED)).bind(id).bind(from).bind(to);
        match self.within(on, query).await? {
            Some(rows) => Ok(Some(rows.iter().map(read_inbox).collect::<Sure<_>>()?)),
            None => Ok(None),
        }
    }

    async fn outbox_of(&self, on: &mut PgConnection, id: &str) -> Sure<Vec<PgRow>> {
        match self.within(on, sqlx::query(self.sql.get(OUTBOX)).bind(id)).await? {
            Some(rows) => Ok(rows),
            None => Ok(sqlx::query(self.sql.get(WAITING)).bind(id).fetch_all(on).await?),
        }
    }

    /// A query without an index of its own: people wait for it, the database must not. `None`: it would have taken too long.
    async fn within(
        &self,
        on: &mut PgConnection,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Sure<Option<Vec<PgRow>>> {
        let mut tx = sqlx::Connection::begin(on).await?;
        sqlx::query("set local statement_timeout = '5s'").execute(&mut *tx).await?;
        let rows = query.fetch_all(&mut *tx).await.map_err(Trouble::from);
        tx.rollback().await?;
        match rows {
            Err(trouble) if trouble.sqlstate().as_deref() == Some("57014") => Ok(None),
            rows => rows.map(Some),
        }
    }

    pub(super) async fn count(&self) -> Sure<Counts> {
        let row = sqlx::query(self.sql.get(COUNTS)).fetch_one(&self.other.get()).await?;
        let count = |n| Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(n)?).unwrap_or_default());
        Ok(Counts { done: count(0)?, retrying: count(1)?, dead: count(2)?, quarantined: count(3)?, outbox: count(4)? })
    }
}

/// From the first begin to the last end, with room for clocks that differ.
fn window(handled: impl Iterator<Item = (DateTime<Utc>, f64)>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let room = TimeDelta::minutes(1);
    handled
        .map(|(at, ms)| {
            let ran = TimeDelta::from_std(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()).unwrap_or(room);
            (at.checked_sub_signed(ran + room).unwrap_or(UNDATED).max(days::after_undated()), at + room)
        })
        .reduce(|(from, to), (f, t)| (from.min(f), to.max(t)))
}

fn millis(attempt: &Attempt) -> f64 {
    attempt.duration.as_secs_f64() * 1e3
}

fn read_attempt(row: &PgRow) -> Sure<Attempt> {
    let kind: &str = row.try_get(2)?;
    let unknown =
        || StoreError::Unfit(format!("an attempt of kind `{kind}` was written by a newer build: use that one"));
    Ok(Attempt {
        attempt: u32_of(row.try_get(1)?),
        kind: KINDS.into_iter().find(|k| k.word() == kind).ok_or_else(unknown)?,
        error: row.try_get(3)?,
        at: row.try_get(4)?,
        duration: Duration::try_from_secs_f64(row.try_get::<f64, _>(5)? / 1e3).unwrap_or_default(),
        worker: row.try_get(6)?,
        build: row.try_get(7)?,
        next: row.try_get(8)?,
    })
}

pub(super) fn read_audit(row: &PgRow) -> Sure<Audit> {
    Ok(Audit {
        actor: row.try_get(0)?,
        action: row.try_get(1)?,
        target: row.try_get(2)?,
        reason: row.try_get(3)?,
        at: row.try_get(4)?,
        bodies: Bodies::of(row.try_get(5)?, row.try_get(6)?),
    })
}
