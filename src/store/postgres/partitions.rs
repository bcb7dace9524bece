//! Sharding by time: the daily partitions of the inbox.

use super::{
    PostgresStore,
    days::{self, AHEAD, UNDATED},
    errors::Sure,
    schema,
};
use crate::store::{Finished, StoreResult};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row};
use std::collections::BTreeSet;

type Time = DateTime<Utc>;

/// Daily partitions, those whose detaching was interrupted, and what was detached and not dropped.
const FOUND: &str =
    "select c.relname, i.inhrelid is not null as attached, coalesce(i.inhdetachpending, false) as pending
 from pg_class c join pg_namespace n on n.oid = c.relnamespace
 left join pg_inherits i on i.inhrelid = c.oid
 where n.nspname = $1 and c.relkind = 'r' and c.relname ~ '^inbox_[0-9]{8}$' order by c.relname";

const MAKE: &str = "create table if not exists {s}.{t} (like {s}.inbox including all);
 alter table {s}.inbox attach partition {s}.{t} for values from ";

/// A daily partition as the catalogue tells of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) day: Time,
    pub(super) attached: bool,
    pub(super) pending: bool,
}

impl PostgresStore {
    /// What the first messages of a new schema need. Old days are made when an ID asks for them.
    pub(super) async fn make_partitions_for_today(&self) -> StoreResult<()> {
        let made = async {
            let now: Time = sqlx::query_scalar("select now()").fetch_one(&self.other.get()).await?;
            self.days.told(now);
            let day = TimeDelta::days(1);
            self.make_partitions(span(now - day, now + AHEAD + day)).await
        };
        made.await?;
        Ok(())
    }

    /// The partitions that these messages belong to, for a batch that found one missing.
    pub(super) async fn make_partitions_for(&self, messages: &[Finished]) -> Sure<()> {
        let fenced = messages.iter().filter(|message| message.fenced);
        let places = fenced.map(|message| self.days.place(message));
        let wanted: BTreeSet<Time> = places.filter(|place| *place != UNDATED).map(days::day_of).collect();
        self.make_partitions(wanted).await?;
        Ok(())
    }

    /// Makes those of the wanted days that are missing and not below the floor. A partition is made apart and then attached,
    /// which waits for nobody and lets nobody wait.
    pub(super) async fn make_partitions(&self, wanted: BTreeSet<Time>) -> Sure<Vec<String>> {
        let mut tx = self.other.get().begin().await?;
        let schema = self.sql.schema();
        sqlx::query(schema::LOCK).bind(schema).execute(&mut *tx).await?;
        sqlx::query("set local lock_timeout = '2s'").execute(&mut *tx).await?;
        let floor: Time =
            sqlx::query_scalar(self.sql.get("select inbox_floor from {s}.meta")).fetch_one(&mut *tx).await?;
        self.days.raise_floor(floor);
        let there: BTreeSet<Time> =
            self.found(&mut tx).await?.into_iter().filter(|found| found.attached).map(|found| found.day).collect();
        let mut made = Vec::new();
        for day in wanted.into_iter().filter(|day| *day >= floor && !there.contains(day)) {
            let name = name_of(day);
            let bounds = format!("{MAKE} ('{}') to ('{}')", bound(day), bound(day + TimeDelta::days(1)));
            sqlx::raw_sql(self.sql.ddl(&bounds, &name)).execute(&mut *tx).await?;
            made.push(name);
        }
        tx.commit().await?;
        Ok(made)
    }

    pub(super) async fn found(&self, on: &mut PgConnection) -> Sure<Vec<Found>> {
        let rows = sqlx::query(FOUND).bind(self.sql.schema()).fetch_all(on).await?;
        let mut found = Vec::new();
        for row in rows {
            let name: String = row.try_get(0)?;
            if let Some(day) = day_of_name(&name) {
                found.push(Found { name, day, attached: row.try_get(1)?, pending: row.try_get(2)? });
            }
        }
        Ok(found)
    }
}

/// Each day from that of `from` to that of `to`.
pub(super) fn span(from: Time, to: Time) -> BTreeSet<Time> {
    let (first, last) = (days::day_of(from), days::day_of(to));
    std::iter::successors(Some(first), |day| Some(*day + TimeDelta::days(1))).take_while(|day| *day <= last).collect()
}

fn name_of(day: Time) -> String {
    day.format("inbox_%Y%m%d").to_string()
}

fn day_of_name(name: &str) -> Option<Time> {
    let date = chrono::NaiveDate::parse_from_str(name.strip_prefix("inbox_")?, "%Y%m%d").ok()?;
    Some(date.and_time(chrono::NaiveTime::MIN).and_utc())
}

fn bound(day: Time) -> String {
    day.format("%Y-%m-%d 00:00:00+00").to_string()
}
