//! Transactional Outbox, the way in: messages from outside, with the business keys that they take.

use super::{PostgresStore, errors::Sure};
use crate::store::{Accepted, Asked, ON_ITS_WAY};
use chrono::{DateTime, Utc};
use sqlx::{Connection, Row};
use std::collections::HashMap;
use uuid::Uuid;

/// Takes keys that nobody holds, or whose holder will never be done; locks those of others, so that a handler's commit comes before
/// or after. In key order, as all writers of this table.
const TAKE: &str = "insert into {s}.operation as o (consumer, key, hash, source, id, fate, at)
 select *, $6, $7 from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[])
 on conflict (consumer, key) do update set
   hash = case when o.fate in ('dead', 'expired', 'discarded') then excluded.hash else o.hash end,
   source = case when o.fate in ('dead', 'expired', 'discarded') then excluded.source else o.source end,
   id = case when o.fate in ('dead', 'expired', 'discarded') then excluded.id else o.id end,
   at = case when o.fate in ('dead', 'expired', 'discarded') then excluded.at else o.at end,
   fate = case when o.fate in ('dead', 'expired', 'discarded') then excluded.fate else o.fate end
 returning consumer, key, hash, source, id";

/// Who holds a key, and with which payload.
struct Holder {
    hash: Vec<u8>,
    source: String,
    id: String,
}

impl PostgresStore {
    pub(super) async fn let_in(
        &self,
        owner: Option<Uuid>,
        asked: &[Asked<'_>],
        now: DateTime<Utc>,
    ) -> Sure<Vec<Accepted>> {
        let mut connection = self.other.get().acquire().await?;
        let mut keys: Vec<_> = asked.iter().filter_map(|asked| asked.operation).collect();
        if keys.is_empty() {
            // One statement is a transaction by itself, and two round trips less.
            let rows = asked.iter().flat_map(|asked| asked.rows);
            self.write_outbox(&mut connection, owner, rows).await?;
            return Ok(vec![Accepted::New; asked.len()]);
        }
        // The first of a key asks for it; the sort is stable.
        keys.sort_by_key(|asked| (asked.consumer, asked.key));
        keys.dedup_by_key(|asked| (asked.consumer, asked.key));
        let mut tx = connection.begin().await?;
        let take = sqlx::query(self.sql.get(TAKE))
            .bind(keys.iter().map(|asked| asked.consumer).collect::<Vec<_>>())
            .bind(keys.iter().map(|asked| asked.key).collect::<Vec<_>>())
            .bind(keys.iter().map(|asked| asked.hash.as_slice()).collect::<Vec<_>>())
            .bind(keys.iter().map(|asked| asked.source).collect::<Vec<_>>())
            .bind(keys.iter().map(|asked| asked.id).collect::<Vec<_>>())
            .bind(ON_ITS_WAY)
            .bind(now);
        let mut holders = HashMap::new();
        for row in take.fetch_all(&mut *tx).await? {
            let holder = Holder { hash: row.try_get(2)?, source: row.try_get(3)?, id: row.try_get(4)? };
            holders.insert((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?), holder);
        }
        let judge = |asked: &Asked<'_>| {
            let Some(wanted) = asked.operation else { return Accepted::New };
            match holders.get(&(wanted.consumer.to_owned(), wanted.key.to_owned())) {
                Some(holder) if holder.id == wanted.id && holder.source == wanted.source => Accepted::New,
                Some(holder) if holder.hash == wanted.hash => Accepted::Known(holder.id.clone()),
                Some(holder) => Accepted::Conflict(holder.id.clone()),
                None => Accepted::New,
            }
        };
        let accepted: Vec<_> = asked.iter().map(judge).collect();
        let new = asked.iter().zip(&accepted).filter(|(_, accepted)| **accepted == Accepted::New);
        self.write_outbox(&mut tx, owner, new.flat_map(|(asked, _)| asked.rows)).await?;
        tx.commit().await?;
        Ok(accepted)
    }
}
