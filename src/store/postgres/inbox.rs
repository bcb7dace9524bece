//! Idempotent Receiver: the attempt fence, and what the inbox knows.

use super::{
    PostgresStore,
    errors::{Sure, Trouble},
};
use crate::store::{Fate, Finished, InboxKey, Seen, Verdict};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// Fresh is what has no row, or a row that is not final, of a lower attempt and of the same payload. A loser's row is locked and
/// otherwise untouched.
const FENCE: &str = "insert into {s}.inbox as i (key_time, id, consumer, source, attempt, fate, payload_hash, type, version, at,
    duration_ms, reason, actor, subject, correlation, causation, trace, worker, build)
 select u.*, $18, $19 from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::bytea[],
    $8::text[], $9::int8[], $10::timestamptz[], $11::float8[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
    $17::text[]) u
 on conflict (key_time, id, consumer, source) do update set attempt = excluded.attempt, fate = excluded.fate,
    reason = excluded.reason, at = excluded.at, duration_ms = excluded.duration_ms, worker = excluded.worker,
    build = excluded.build
 where i.fate <> 'done' and i.attempt < excluded.attempt and i.payload_hash = excluded.payload_hash";

/// Rows of these keys that this transaction has not written: `xmin` is the number of the transaction that did.
const LOSERS: &str = "select u.n, i.payload_hash from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[])
    with ordinality u (key_time, id, consumer, source, n)
 join {s}.inbox i using (key_time, id, consumer, source) where i.xmin <> pg_current_xact_id()::xid";

/// One probe of the index for each key, however the planner likes the table.
const SEEN: &str = "select u.n, i.attempt, i.fate, i.payload_hash
 from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::int8[]) u (key_time, id, consumer, source, n)
 cross join lateral (select attempt, fate, payload_hash from {s}.inbox i where i.key_time = u.key_time and i.id = u.id
   and i.consumer = u.consumer and i.source = u.source limit 1) i";

/// The columns of one batch, borrowed from its messages: nothing is copied before it is encoded.
struct Columns<'a> {
    key_time: Vec<DateTime<Utc>>,
    id: Vec<&'a str>,
    consumer: Vec<&'a str>,
    source: Vec<&'a str>,
    attempt: Vec<i64>,
    fate: Vec<&'a str>,
    payload_hash: Vec<&'a [u8]>,
    ty: Vec<&'a str>,
    version: Vec<i64>,
    at: Vec<DateTime<Utc>>,
    duration_ms: Vec<f64>,
    reason: Vec<Option<&'a str>>,
    actor: Vec<Option<&'a str>>,
    subject: Vec<Option<&'a str>>,
    correlation: Vec<Option<&'a str>>,
    causation: Vec<Option<&'a str>>,
    trace: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn with_capacity(n: usize) -> Self {
        Self {
            key_time: Vec::with_capacity(n),
            id: Vec::with_capacity(n),
            consumer: Vec::with_capacity(n),
            source: Vec::with_capacity(n),
            attempt: Vec::with_capacity(n),
            fate: Vec::with_capacity(n),
            payload_hash: Vec::with_capacity(n),
            ty: Vec::with_capacity(n),
            version: Vec::with_capacity(n),
            at: Vec::with_capacity(n),
            duration_ms: Vec::with_capacity(n),
            reason: Vec::with_capacity(n),
            actor: Vec::with_capacity(n),
            subject: Vec::with_capacity(n),
            correlation: Vec::with_capacity(n),
            causation: Vec::with_capacity(n),
            trace: Vec::with_capacity(n),
        }
    }

    fn push(&mut self, key_time: DateTime<Utc>, message: &'a Finished, fate: &'a Fate) {
        let envelope = &*message.envelope;
        self.key_time.push(key_time);
        self.id.push(&envelope.id);
        self.consumer.push(&message.consumer);
        self.source.push(&envelope.source);
        self.attempt.push(envelope.hop.attempt.into());
        self.fate.push(fate.word());
        self.payload_hash.push(&message.payload_hash);
        self.ty.push(&envelope.ty);
        self.version.push(envelope.version.into());
        self.at.push(message.at);
        self.duration_ms.push(message.duration.as_secs_f64() * 1e3);
        self.reason.push(match fate {
            Fate::Dead(reason) => Some(reason.word()),
            _ => None,
        });
        self.actor.push(envelope.actor.as_deref());
        self.subject.push(envelope.subject.as_deref());
        self.correlation.push(envelope.correlation_id.as_deref());
        self.causation.push(envelope.causation_id.as_deref());
        self.trace.push(envelope.traceparent.as_deref());
    }
}

impl PostgresStore {
    /// Writes the inbox rows of what is fresh and turns the verdict on the others. A message that is a duplicate by its operation
    /// key is remembered under its own ID too.
    pub(super) async fn fence(
        &self,
        tx: &mut PgConnection,
        worker: Uuid,
        messages: &[Finished],
        verdicts: &mut [Verdict],
    ) -> Sure<()> {
        let mut places: Vec<_> = messages
            .iter()
            .zip(verdicts.iter())
            .enumerate()
            .filter(|(_, (message, verdict))| message.fenced && matches!(verdict, Verdict::Stored | Verdict::Duplicate))
            .map(|(n, (message, _))| (self.days.place(message), n))
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        // The whole index order: two batches that share keys then never wait for each other in a circle.
        places.sort_unstable_by_key(|(time, n)| {
            let message = &messages[*n];
            (*time, message.envelope.id.as_str(), &*message.consumer, message.envelope.source.as_str())
        });
        let mut columns = Columns::with_capacity(places.len());
        for (time, n) in &places {
            let fate = if verdicts[*n] == Verdict::Duplicate { &Fate::Duplicate } else { &messages[*n].fate };
            columns.push(*time, &messages[*n], fate);
        }
        let written = self.write_inbox(tx, worker, &columns).await?;
        if written == places.len() as u64 {
            return Ok(()); // nobody lost: the common case asks nothing more
        }
        let losers = sqlx::query(self.sql.get(LOSERS))
            .bind(&columns.key_time)
            .bind(&columns.id)
            .bind(&columns.consumer)
            .bind(&columns.source)
            .fetch_all(tx)
            .await?;
        if losers.len() as u64 + written != places.len() as u64 {
            return Err(Trouble::busy("an inbox row was dropped while it was compared"));
        }
        for loser in losers {
            let position = usize::try_from(loser.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
            let n = places[position].1;
            if verdicts[n] == Verdict::Stored {
                let hash: &[u8] = loser.try_get(1)?;
                verdicts[n] = if hash == messages[n].payload_hash { Verdict::Duplicate } else { Verdict::IdReused };
            }
        }
        Ok(())
    }

    async fn write_inbox(&self, tx: &mut PgConnection, worker: Uuid, columns: &Columns<'_>) -> Sure<u64> {
        let done = sqlx::query(self.sql.get(FENCE))
            .bind(&columns.key_time)
            .bind(&columns.id)
            .bind(&columns.consumer)
            .bind(&columns.source)
            .bind(&columns.attempt)
            .bind(&columns.fate)
            .bind(&columns.payload_hash)
            .bind(&columns.ty)
            .bind(&columns.version)
            .bind(&columns.at)
            .bind(&columns.duration_ms)
            .bind(&columns.reason)
            .bind(&columns.actor)
            .bind(&columns.subject)
            .bind(&columns.correlation)
            .bind(&columns.causation)
            .bind(&columns.trace)
            .bind(worker)
            .bind(&*self.build_of(worker))
            .execute(tx)
            .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn look_up(&self, keys: &[InboxKey]) -> Sure<Vec<Option<Seen>>> {
        let (mut time, mut id, mut consumer, mut source, mut n) = (vec![], vec![], vec![], vec![], vec![]);
        for (position, key) in (0_i64..).zip(keys).filter(|(_, key)| !has_nul(key)) {
            let (first, second) = self.days.places(key.key_time());
            for place in std::iter::once(first).chain(second) {
                time.push(place);
                id.push(key.id.as_str());
                consumer.push(&*key.consumer);
                source.push(key.source.as_str());
                n.push(position);
            }
        }
        let mut seen = vec![None; keys.len()];
        if n.is_empty() {
            return Ok(seen);
        }
        let rows = sqlx::query(self.sql.get(SEEN)).bind(time).bind(id).bind(consumer).bind(source).bind(n);
        for row in rows.fetch_all(&self.other.get()).await? {
            let position = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
            seen[position] =
                Some(Seen { attempt: u32_of(row.try_get(1)?), fate: row.try_get(2)?, payload_hash: row.try_get(3)? });
        }
        Ok(seen)
    }
}

/// The database cannot hold such a key, so it knows nothing of it; asked, it would fail the keys beside it too.
pub(super) fn has_nul(key: &InboxKey) -> bool {
    [&*key.consumer, &key.source, &key.id].into_iter().any(|text| text.contains('\0'))
}

/// A number that was written as `u32`.
pub(super) fn u32_of(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(if stored < 0 { 0 } else { u32::MAX })
}
