//! Unit of Work: a batch of finished messages as a handful of set-based statements in one transaction.

use super::{
    PostgresStore,
    errors::{Sure, is_dead},
    letters::clean,
};
use crate::{
    fault::{self, Point},
    store::{Attempt, Batch, Finished, Verdict},
};
use sqlx::PgConnection;

const ATTEMPTS: &str = "insert into {s}.attempt (id, consumer, source, attempt, kind, error, at, duration_ms, worker, build, next)
 select * from unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::text[], $6::text[], $7::timestamptz[], $8::float8[],
    $9::uuid[], $10::text[], $11::timestamptz[])";

const UNCLAIM: &str =
    "delete from {s}.claim c using unnest($1::text[], $2::text[], $3::text[]) u (consumer, source, id)
 where c.consumer = u.consumer and c.source = u.source and c.id = u.id";

impl PostgresStore {
    /// A connection that died since its last use says so at its `begin`, where nothing has been asked of it: another is as good.
    pub(super) async fn try_commit(&self, batch: &Batch<'_>) -> Sure<Vec<Verdict>> {
        loop {
            let mut line = self.commits.take().await?;
            let was_used = line.was_used;
            let mut tx = match line.begin().await {
                Err(error) if was_used && is_dead(&error) => continue,
                begun => begun?,
            };
            let written = self.write_batch(&mut tx, batch).await;
            let ended = if written.is_ok() { tx.commit().await } else { tx.rollback().await };
            match (written, ended) {
                (Ok(verdicts), ended) => {
                    ended?;
                    line.give_back();
                    return Ok(verdicts);
                }
                (Err(trouble), ended) => {
                    if ended.is_ok() && !trouble.is_of_the_server() {
                        line.give_back();
                    }
                    return Err(trouble);
                }
            }
        }
    }

    /// The same order of tables in every transaction, and of keys in every table.
    async fn write_batch(&self, tx: &mut PgConnection, batch: &Batch<'_>) -> Sure<Vec<Verdict>> {
        let messages = batch.messages;
        let mut verdicts = vec![Verdict::Stored; messages.len()];
        self.judge_documents(&mut *tx, messages, &mut verdicts).await?;
        let held = self.judge_operations(&mut *tx, messages, &mut verdicts).await?;
        self.fence(&mut *tx, batch.worker, messages, &mut verdicts).await?;
        self.settle_operations(&mut *tx, messages, &verdicts, &held).await?;

        let with = |verdict| messages.iter().zip(&verdicts).filter(move |(_, v)| **v == verdict).map(|(m, _)| m);
        let stored: Vec<&Finished> = with(Verdict::Stored).collect();
        self.write_attempts(&mut *tx, &stored).await?;
        self.write_documents(&mut *tx, &stored).await?;
        self.write_rows(&mut *tx, &stored).await?;
        let outgoing = stored.iter().flat_map(|message| &message.effects.outbox);
        self.write_outbox(&mut *tx, Some(batch.worker), outgoing).await?;
        self.file(&mut *tx, stored.iter().filter_map(|message| message.letter.as_deref())).await?;

        let settled: Vec<&Finished> = stored.iter().copied().chain(with(Verdict::Duplicate)).collect();
        self.remove_claims(&mut *tx, &settled).await?;
        let rows = settled.iter().filter_map(|message| message.row).chain(batch.confirmed.iter().copied());
        self.delete_outbox(&mut *tx, rows.collect()).await?;
        fault::at(Point::InsideCommit).await;
        Ok(verdicts)
    }

    pub(super) async fn write_attempts(&self, tx: &mut PgConnection, stored: &[&Finished]) -> Sure<()> {
        let tries: Vec<(&Finished, &Attempt)> =
            stored.iter().filter_map(|message| Some((*message, message.attempt.as_deref()?))).collect();
        if tries.is_empty() {
            return Ok(());
        }
        macro_rules! column {
            ($message:pat, $attempt:pat, $value:expr) => {
                tries.iter().map(|($message, $attempt)| $value).collect::<Vec<_>>()
            };
        }
        sqlx::query(self.sql.get(ATTEMPTS))
            .bind(column!(m, _, &*m.envelope.id))
            .bind(column!(m, _, &*m.consumer))
            .bind(column!(m, _, &*m.envelope.source))
            .bind(column!(_, a, i64::from(a.attempt)))
            .bind(column!(_, a, a.kind.word()))
            .bind(column!(_, a, clean(&a.error)))
            .bind(column!(_, a, a.at))
            .bind(column!(_, a, a.duration.as_secs_f64() * 1e3))
            .bind(column!(_, a, a.worker))
            .bind(column!(_, a, &*a.build))
            .bind(column!(_, a, a.next))
            .execute(tx)
            .await?;
        Ok(())
    }

    pub(super) async fn remove_claims(&self, tx: &mut PgConnection, settled: &[&Finished]) -> Sure<()> {
        let mut claimed: Vec<_> = settled
            .iter()
            .filter(|message| message.claimed)
            .map(|message| (&*message.consumer, message.envelope.source.as_str(), message.envelope.id.as_str()))
            .collect();
        if claimed.is_empty() {
            return Ok(());
        }
        claimed.sort_unstable();
        let (mut consumer, mut source, mut id) = (vec![], vec![], vec![]);
        for key in claimed {
            consumer.push(key.0);
            source.push(key.1);
            id.push(key.2);
        }
        sqlx::query(self.sql.get(UNCLAIM)).bind(consumer).bind(source).bind(id).execute(tx).await?;
        Ok(())
    }
}
