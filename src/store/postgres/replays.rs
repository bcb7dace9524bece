//! Process Manager for dead letters, in two tables: jobs, and their letters by place.

use super::{
    PostgresStore,
    errors::{Sure, Trouble},
    inbox::u32_of,
    letters::RESOLVE,
    outbox::clamp,
    workers::ago,
};
use crate::store::{
    Audit, InboxKey, LetterKey, LetterState, OutboxRow, Replay, ReplayLetter, ReplayOutcome, ReplayState, ReplayTally,
    Replayed, Replays, Sent, StoreError, StoreResult,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

const PLAN: &str =
    "insert into {s}.dead_replay (id, actor, note, asked, canary, rate, stop_at, state, why, judged, began, changed)
 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

const PLAN_LETTERS: &str =
    "insert into {s}.dead_replay_letter (replay, place, attempt, id, consumer, source, payload_hash, outcome)
 select $1, u.*, 'planned' from unnest($2::int8[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::bytea[]) u";

/// By the database's clock, as with workers.
const HOLD: &str = "update {s}.dead_replay set runner = $2, seen = statement_timestamp() - $3
 where id = $1 and (runner is null or runner = $2 or seen < statement_timestamp() - $4)";

const SET: &str = "update {s}.dead_replay set state = $2, why = $3, judged = $4, changed = $5,
    runner = case when $2 = 'running' then runner end where id = $1 and runner = $6";

const MARK: &str = "update {s}.dead_replay_letter set outcome = 'waiting', outbox_row = $3, sent = $4
 where replay = $1 and place = $2 and outcome = 'planned'";

const PASS: &str = "update {s}.dead_replay_letter set outcome = 'passed', error = $3
 where replay = $1 and place = $2 and outcome = 'planned'";

const OPEN: &str =
    "select r.place, r.attempt, r.id, r.consumer, r.source, r.payload_hash, r.outcome, r.reason, r.error, r.sent,
    l.reason, l.error, exists (select from {s}.outbox o where o.seq = r.outbox_row)
 from {s}.dead_replay_letter r left join lateral (
    select reason, error from {s}.dead_letter l
    where l.id = r.id and l.consumer = r.consumer and l.source = r.source and l.payload_hash = r.payload_hash
      and l.attempt > r.attempt order by l.attempt desc limit 1) l on true
 where r.replay = $1 and r.outcome in ('waiting', 'retrying') order by r.place";

const SETTLE: &str = "update {s}.dead_replay_letter r set outcome = u.outcome, reason = u.reason, error = u.error
 from unnest($2::int8[], $3::text[], $4::text[], $5::text[]) u (place, outcome, reason, error)
 where r.replay = $1 and r.place = u.place and r.outcome in ('waiting', 'retrying')";

const REPLAYS: &str = "select id, actor, note, asked, canary, rate, stop_at, state, why, judged, began, changed
 from {s}.dead_replay order by began desc, id desc limit $1";

const TALLY: &str = "select outcome, count(*) from {s}.dead_replay_letter
 where replay = $1 and place >= $2 and place < $3 group by outcome";

const LETTERS: &str = "select place, attempt, id, consumer, source, payload_hash, outcome, reason, error, sent
 from {s}.dead_replay_letter where replay = $1 and (not $2 or outcome = 'planned') order by place limit $3";

/// For the history of a message.
const OF_MESSAGE: &str =
    "select replay, consumer, attempt, outcome, sent from {s}.dead_replay_letter where id = $1 order by replay, place";

#[async_trait]
impl Replays for PostgresStore {
    async fn plan_replay(&self, replay: &Replay, letters: &[LetterKey]) -> StoreResult<()> {
        Ok(self.plan(replay, letters).await?)
    }

    async fn hold_replay(
        &self,
        replay: Uuid,
        runner: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
    ) -> StoreResult<bool> {
        Ok(self.hold(replay, runner, now, lost_before).await?)
    }

    async fn set_replay(
        &self,
        replay: Uuid,
        runner: Uuid,
        state: ReplayState,
        why: &str,
        judged: u32,
        now: DateTime<Utc>,
    ) -> StoreResult<bool> {
        let set = sqlx::query(self.sql.get(SET)).bind(replay).bind(state.word()).bind(why).bind(i64::from(judged));
        let set = set.bind(now).bind(runner).execute(&self.other.get()).await.map_err(Trouble::from)?;
        Ok(set.rows_affected() == 1)
    }

    async fn send_letter(
        &self,
        replay: Uuid,
        place: u32,
        key: &LetterKey,
        row: &OutboxRow,
        audit: &Audit,
    ) -> StoreResult<bool> {
        Ok(self.send_planned(replay, place, key, row, audit).await?)
    }

    async fn pass_letter(&self, replay: Uuid, place: u32, why: &str) -> StoreResult<()> {
        let pass = sqlx::query(self.sql.get(PASS)).bind(replay).bind(i64::from(place)).bind(why);
        pass.execute(&self.other.get()).await.map_err(Trouble::from)?;
        Ok(())
    }

    async fn settle_replay(&self, replay: Uuid) -> StoreResult<()> {
        Ok(self.settle(replay).await?)
    }

    async fn replays(&self, limit: usize) -> StoreResult<Vec<Replay>> {
        Ok(self.list_replays(limit).await?)
    }

    async fn tally_replay(&self, replay: Uuid, from: u32, to: u32) -> StoreResult<ReplayTally> {
        Ok(self.tally(replay, from, to).await?)
    }

    async fn replay_letters(&self, replay: Uuid, planned: bool, limit: usize) -> StoreResult<Vec<ReplayLetter>> {
        Ok(self.list_replay_letters(replay, planned, limit).await?)
    }
}

impl PostgresStore {
    async fn plan(&self, replay: &Replay, letters: &[LetterKey]) -> Sure<()> {
        let mut tx = self.other.get().begin().await?;
        sqlx::query(self.sql.get(PLAN))
            .bind(replay.id)
            .bind(&replay.actor)
            .bind(&replay.note)
            .bind(&replay.asked)
            .bind(i64::from(replay.canary))
            .bind(replay.rate)
            .bind(replay.stop_at)
            .bind(replay.state.word())
            .bind(&replay.why)
            .bind(i64::from(replay.judged))
            .bind(replay.began)
            .bind(replay.changed)
            .execute(&mut *tx)
            .await?;
        let text = |of: fn(&LetterKey) -> &str| letters.iter().map(of).collect::<Vec<_>>();
        sqlx::query(self.sql.get(PLAN_LETTERS))
            .bind(replay.id)
            .bind((0..).take(letters.len()).collect::<Vec<i64>>())
            .bind(letters.iter().map(|key| i64::from(key.attempt)).collect::<Vec<_>>())
            .bind(text(|key| &key.id))
            .bind(text(|key| &key.consumer))
            .bind(text(|key| &key.source))
            .bind(letters.iter().map(|key| &key.payload_hash[..]).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn hold(&self, replay: Uuid, runner: Uuid, now: DateTime<Utc>, lost_before: DateTime<Utc>) -> Sure<bool> {
        let hold = sqlx::query(self.sql.get(HOLD)).bind(replay).bind(runner).bind(ago(now)).bind(ago(lost_before));
        Ok(hold.execute(&self.other.get()).await?.rows_affected() == 1)
    }

    async fn send_planned(
        &self,
        replay: Uuid,
        place: u32,
        key: &LetterKey,
        row: &OutboxRow,
        audit: &Audit,
    ) -> Sure<bool> {
        let mut tx = self.other.get().begin().await?;
        let mark = sqlx::query(self.sql.get(MARK)).bind(replay).bind(i64::from(place)).bind(row.seq).bind(audit.at);
        let marked = mark.execute(&mut *tx).await?.rows_affected() == 1;
        let resolve = sqlx::query(self.sql.get(RESOLVE)).bind(&key.id).bind(&key.consumer).bind(&key.source);
        let resolve = resolve.bind(i64::from(key.attempt)).bind(&key.payload_hash[..]);
        let resolve = resolve.bind(LetterState::Replayed.word());
        if !marked || resolve.fetch_optional(&mut *tx).await?.is_none() {
            return Ok(false); // both are rolled back
        }
        self.write_outbox(&mut tx, None, std::iter::once(row)).await?;
        self.insert_audit(&mut tx, audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn settle(&self, replay: Uuid) -> Sure<()> {
        let rows = sqlx::query(self.sql.get(OPEN)).bind(replay).fetch_all(&self.other.get()).await?;
        let letters = rows.iter().map(read_letter).collect::<Sure<Vec<_>>>()?;
        let keys: Vec<InboxKey> = letters.iter().map(|letter| letter.key.of_inbox()).collect();
        let seen = self.look_up(&keys).await?;
        let (mut places, mut outcomes, mut reasons, mut errors) = (vec![], vec![], vec![], vec![]);
        for ((row, letter), seen) in rows.iter().zip(&letters).zip(&seen) {
            let died: Option<String> = row.try_get(10)?;
            let died = died.map(|reason| Ok::<_, sqlx::Error>((reason, row.try_get(11)?))).transpose()?;
            let sent = Sent { key: &letter.key, seen: seen.as_ref(), died, in_outbox: row.try_get(12)? };
            let (outcome, reason, error) = sent.outcome();
            if outcome != letter.outcome {
                places.push(i64::from(letter.place));
                outcomes.push(outcome.word());
                reasons.push(reason);
                errors.push(error);
            }
        }
        if !places.is_empty() {
            let settle = sqlx::query(self.sql.get(SETTLE)).bind(replay).bind(places).bind(outcomes);
            settle.bind(reasons).bind(errors).execute(&self.other.get()).await?;
        }
        Ok(())
    }

    async fn list_replays(&self, limit: usize) -> Sure<Vec<Replay>> {
        let rows = sqlx::query(self.sql.get(REPLAYS)).bind(clamp(limit)).fetch_all(&self.other.get()).await?;
        rows.iter().map(read_replay).collect()
    }

    async fn tally(&self, replay: Uuid, from: u32, to: u32) -> Sure<ReplayTally> {
        let tally = sqlx::query(self.sql.get(TALLY)).bind(replay).bind(i64::from(from)).bind(i64::from(to));
        let mut counted = ReplayTally::default();
        for row in tally.fetch_all(&self.other.get()).await? {
            counted.add(outcome_of(row.try_get(0)?)?, u32_of(row.try_get(1)?));
        }
        Ok(counted)
    }

    async fn list_replay_letters(&self, replay: Uuid, planned: bool, limit: usize) -> Sure<Vec<ReplayLetter>> {
        let rows = sqlx::query(self.sql.get(LETTERS)).bind(replay).bind(planned).bind(clamp(limit));
        rows.fetch_all(&self.other.get()).await?.iter().map(read_letter).collect()
    }

    pub(super) async fn replays_of(&self, on: &mut PgConnection, id: &str) -> Sure<Vec<Replayed>> {
        let rows = sqlx::query(self.sql.get(OF_MESSAGE)).bind(id).fetch_all(on).await?;
        let read = |row: &PgRow| {
            Ok(Replayed {
                replay: row.try_get(0)?,
                consumer: row.try_get(1)?,
                attempt: u32_of(row.try_get(2)?),
                outcome: outcome_of(row.try_get(3)?)?,
                sent: row.try_get(4)?,
            })
        };
        rows.iter().map(read).collect()
    }
}

fn odd(what: &str) -> StoreError {
    StoreError::Unfit(format!("a replay of dead letters cannot be read by this build: its {what}"))
}

fn outcome_of(word: &str) -> Sure<ReplayOutcome> {
    Ok(ReplayOutcome::of_word(word).ok_or_else(|| odd("outcome"))?)
}

fn read_replay(row: &PgRow) -> Sure<Replay> {
    Ok(Replay {
        id: row.try_get(0)?,
        actor: row.try_get(1)?,
        note: row.try_get(2)?,
        asked: row.try_get(3)?,
        canary: u32_of(row.try_get(4)?),
        rate: row.try_get(5)?,
        stop_at: row.try_get(6)?,
        state: ReplayState::of_word(row.try_get(7)?).ok_or_else(|| odd("state"))?,
        why: row.try_get(8)?,
        judged: u32_of(row.try_get(9)?),
        began: row.try_get(10)?,
        changed: row.try_get(11)?,
    })
}

/// Its columns: `place, attempt, id, consumer, source, payload_hash, outcome, reason, error, sent`.
fn read_letter(row: &PgRow) -> Sure<ReplayLetter> {
    let hash: &[u8] = row.try_get(5)?;
    Ok(ReplayLetter {
        place: u32_of(row.try_get(0)?),
        key: LetterKey {
            attempt: u32_of(row.try_get(1)?),
            id: row.try_get(2)?,
            consumer: row.try_get(3)?,
            source: row.try_get(4)?,
            payload_hash: hash.try_into().map_err(|_| odd("payload hash"))?,
        },
        outcome: outcome_of(row.try_get(6)?)?,
        reason: row.try_get(7)?,
        error: row.try_get(8)?,
        sent: row.try_get(9)?,
    })
}
