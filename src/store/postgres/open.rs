//! The escape hatch: a transaction in a handler's hands, which begins with the inbox row and ends with everything else.

use super::{
    PostgresStore,
    days::UNDATED,
    errors::{Sure, Trouble},
    sql::Sql,
};
use crate::{
    Envelope,
    fault::{self, Point},
    store::{Begun, Finished, OpenTx, StoreError, Verdict},
};
use sqlx::{PgConnection, Row};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// The claim stands one attempt lower and not done: should the author end the transaction by hand, the message is not taken for
/// done by what remains, and its fate can still be written.
const CLAIM: &str = "insert into {s}.inbox as i (key_time, id, consumer, source, attempt, fate, payload_hash, type, version, at,
    duration_ms, actor, subject, correlation, causation, trace, worker, build)
 values ($1, $2, $3, $4, $5, 'open', $6, $7, $8, now(), 0, $9, $10, $11, $12, $13, '00000000-0000-0000-0000-000000000000', '')
 on conflict (key_time, id, consumer, source) do update set attempt = excluded.attempt, fate = excluded.fate
 where i.fate <> 'done' and i.attempt <= excluded.attempt and i.payload_hash = excluded.payload_hash
 returning pg_current_xact_id()::text";

/// Finds the claim only inside the transaction that made it.
const FINISH: &str = "update {s}.inbox set attempt = $5, fate = $6, at = $7, duration_ms = $8, worker = $9, build = $10
 where key_time = any($1) and id = $2 and consumer = $3 and source = $4
   and xmin = pg_current_xact_id()::xid and pg_current_xact_id()::text = $11";

const ENDED: &str = "the handler ended the transaction of `cx.transaction()` itself (COMMIT or ROLLBACK); leave that to pitcrew, \
                     which commits it together with the message";
const SWALLOWED: &str = "a statement in the transaction of `cx.transaction()` failed and the handler went on; \
                         give its error back with `?`";

impl PostgresStore {
    pub(super) async fn try_begin(
        &self,
        consumer: &str,
        envelope: &Envelope,
        payload_hash: &[u8; 32],
        left: Duration,
    ) -> Sure<Begun> {
        // What is left bounds each statement too, so that a handler dropped at its deadline frees its connection soon.
        let mut tx = self.other.get().begin_with(Sql::begin(left)).await?;
        let place = self.days.place_now(envelope.key_time());
        let claimed = sqlx::query(self.sql.get(CLAIM))
            .bind(place)
            .bind(&envelope.id)
            .bind(consumer)
            .bind(&envelope.source)
            .bind(i64::from(envelope.hop.attempt) - 1)
            .bind(&payload_hash[..])
            .bind(&envelope.ty)
            .bind(i64::from(envelope.version))
            .bind(&envelope.actor)
            .bind(&envelope.subject)
            .bind(&envelope.correlation_id)
            .bind(&envelope.causation_id)
            .bind(&envelope.traceparent)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(claimed) = claimed {
            return Ok(Begun::Open(OpenTx { tx, xid: claimed.try_get(0)? }));
        }
        let text =
            "select payload_hash = $5 from {s}.inbox where key_time = $1 and id = $2 and consumer = $3 and source = $4";
        let same: Option<bool> = sqlx::query_scalar(self.sql.get(text))
            .bind(place)
            .bind(&envelope.id)
            .bind(consumer)
            .bind(&envelope.source)
            .bind(&payload_hash[..])
            .fetch_optional(&mut *tx)
            .await?;
        tx.rollback().await?;
        match same {
            Some(true) => Ok(Begun::Duplicate),
            // No duplicate, or its fate would be lost: the commit of that fate says what it is.
            Some(false) => Err(refused("the inbox knows this ID with another payload")),
            None => Err(Trouble::busy("an inbox row was dropped while it was compared")),
        }
    }

    pub(super) async fn finish_open(&self, open: OpenTx, worker: Uuid, message: &Finished) -> Sure<Verdict> {
        let OpenTx { mut tx, xid } = open;
        self.find_claim(&mut tx, worker, message, &xid).await?;
        let messages = std::slice::from_ref(message);
        let mut verdicts = [Verdict::Stored];
        self.judge_documents(&mut tx, messages, &mut verdicts).await?;
        let held = self.judge_operations(&mut tx, messages, &mut verdicts).await?;
        if verdicts != [Verdict::Stored] {
            tx.rollback().await?;
            if verdicts == [Verdict::Duplicate] {
                self.drop_delivery(message).await?;
            }
            return Ok(verdicts[0]);
        }
        self.settle_operations(&mut tx, messages, &verdicts, &held).await?;
        let stored = [message];
        self.write_attempts(&mut tx, &stored).await?;
        self.write_documents(&mut tx, &stored).await?;
        self.write_rows(&mut tx, &stored).await?;
        self.write_outbox(&mut tx, Some(worker), message.effects.outbox.iter()).await?;
        self.file(&mut tx, message.letter.as_deref().into_iter()).await?;
        self.remove_claims(&mut tx, &stored).await?;
        self.delete_outbox(&mut tx, message.row.into_iter().collect()).await?;
        fault::at(Point::InsideCommit).await;
        tx.commit().await?;
        Ok(Verdict::Stored)
    }

    /// The first statement after the author's: it also tells whether the transaction is still ours, and whole.
    async fn find_claim(&self, tx: &mut PgConnection, worker: Uuid, message: &Finished, xid: &str) -> Sure<()> {
        let place = self.days.place(message);
        let done = sqlx::query(self.sql.get(FINISH))
            .bind(vec![place, self.days.place_now(message.envelope.key_time()), UNDATED])
            .bind(&message.envelope.id)
            .bind(&*message.consumer)
            .bind(&message.envelope.source)
            .bind(i64::from(message.envelope.hop.attempt))
            .bind(message.fate.word())
            .bind(message.at)
            .bind(message.duration.as_secs_f64() * 1e3)
            .bind(worker)
            .bind(&*self.build_of(worker))
            .bind(xid)
            .execute(tx)
            .await
            .map_err(Trouble::from);
        match done {
            Ok(done) if done.rows_affected() == 1 => Ok(()),
            Ok(_) => Err(refused(ENDED)),
            Err(trouble) if trouble.sqlstate().as_deref() == Some("25P02") => Err(refused(SWALLOWED)),
            Err(trouble) => Err(trouble),
        }
    }

    /// What a duplicate leaves behind: its own outbox row and its claim go.
    async fn drop_delivery(&self, message: &Finished) -> Sure<()> {
        let mut tx = self.other.get().begin().await?;
        self.remove_claims(&mut tx, &[message]).await?;
        self.delete_outbox(&mut tx, message.row.into_iter().collect()).await?;
        Ok(tx.commit().await?)
    }

    /// The partition of a message that is about to be claimed.
    pub(super) async fn make_partition_for(&self, envelope: &Arc<Envelope>) -> Sure<()> {
        let place = self.days.place_now(envelope.key_time());
        if place != UNDATED {
            self.make_partitions(super::partitions::span(place, place)).await?;
        }
        Ok(())
    }
}

fn refused(why: &'static str) -> Trouble {
    StoreError::Refused(anyhow::anyhow!(why)).into()
}

#[cfg(test)]
mod tests;
