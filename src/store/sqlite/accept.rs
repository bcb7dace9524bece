//! Transactional Outbox, the way in: messages from outside, with the business keys that they take.

use super::{SqliteStore, bulk::key_time, micros, writes};
use crate::store::{Accepted, Asked, AskedKey, OutboxRow};
use chrono::{DateTime, Utc};
use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

pub(super) async fn accept(
    store: &SqliteStore,
    owner: Option<Uuid>,
    asked: &[Asked<'_>],
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Accepted>> {
    let mut tx = store.begin_write().await?;
    let mut accepted = Vec::with_capacity(asked.len());
    for asked in asked {
        accepted.push(match &asked.operation {
            Some(key) => take(&mut tx, key, now).await?,
            None => Accepted::New,
        });
    }
    let new = asked.iter().zip(&accepted).filter(|(_, accepted)| **accepted == Accepted::New);
    let rows: Vec<&OutboxRow> = new.flat_map(|(asked, _)| asked.rows).collect();
    if !rows.is_empty() {
        writes::outbox(&mut tx, owner, &rows).await?;
    }
    tx.commit().await?;
    Ok(accepted)
}

async fn take(on: &mut SqliteConnection, wanted: &AskedKey<'_>, now: DateTime<Utc>) -> sqlx::Result<Accepted> {
    let held = sqlx::query(
        "select o.hash, o.id, o.source, coalesce(i.fate in ('dead', 'expired'), false) from operation o
         left join inbox i on i.key_time = o.key_time and i.consumer = o.consumer and i.source = o.source and i.id = o.id
         where o.consumer = ? and o.key = ?",
    );
    if let Some(row) = held.bind(wanted.consumer).bind(wanted.key).fetch_optional(&mut *on).await? {
        let (hash, id, source): (Vec<u8>, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let gave_up: bool = row.try_get(3)?;
        // It asks again, because the answer was lost.
        let is_own = id == wanted.id && source == wanted.source;
        if !gave_up && !is_own {
            return Ok(if hash == wanted.hash { Accepted::Known(id) } else { Accepted::Conflict(id) });
        }
    }
    let take = sqlx::query(
        "insert or replace into operation (consumer, key, hash, key_time, source, id, at) values (?, ?, ?, ?, ?, ?, ?)",
    );
    let take = take.bind(wanted.consumer).bind(wanted.key).bind(wanted.hash.as_slice()).bind(key_time(wanted.id));
    take.bind(wanted.source).bind(wanted.id).bind(micros(now)).execute(on).await?;
    Ok(Accepted::New)
}
