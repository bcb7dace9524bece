//! Process Manager for dead letters, in two tables: jobs, and their letters by place.

use super::{SqliteStore, bulk, bulk::Insert, decode, judge, micros, operators, writes};
use crate::store::{
    Audit, LetterKey, LetterState, OutboxRow, Replay, ReplayLetter, ReplayOutcome, ReplayState, ReplayTally, Replayed,
    Replays, Sent, StoreResult,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

#[async_trait]
impl Replays for SqliteStore {
    async fn plan_replay(&self, replay: &Replay, letters: &[LetterKey]) -> StoreResult<()> {
        self.answer(plan(self, replay, letters).await)
    }

    async fn hold_replay(
        &self,
        replay: Uuid,
        runner: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
    ) -> StoreResult<bool> {
        let hold = sqlx::query(
            "update dead_replay set runner = ?1, seen = ?2
             where id = ?3 and (runner is null or runner = ?1 or seen < ?4)",
        );
        let hold = hold.bind(runner).bind(micros(now)).bind(replay).bind(micros(lost_before));
        self.answer(write(self, hold).await.map(|held| held == 1))
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
        let set = sqlx::query(
            "update dead_replay set state = ?1, why = ?2, judged = ?3, changed = ?4,
             runner = case when ?1 = 'running' then runner end where id = ?5 and runner = ?6",
        );
        let set = set.bind(state.word()).bind(why.to_owned()).bind(judged).bind(micros(now)).bind(replay);
        self.answer(write(self, set.bind(runner)).await.map(|set| set == 1))
    }

    async fn send_letter(
        &self,
        replay: Uuid,
        place: u32,
        key: &LetterKey,
        row: &OutboxRow,
        audit: &Audit,
    ) -> StoreResult<bool> {
        self.answer(send(self, replay, place, key, row, audit).await)
    }

    async fn pass_letter(&self, replay: Uuid, place: u32, why: &str) -> StoreResult<()> {
        let pass = sqlx::query(
            "update dead_replay_letter set outcome = 'passed', error = ?
             where replay = ? and place = ? and outcome = 'planned'",
        );
        self.answer(write(self, pass.bind(why.to_owned()).bind(replay).bind(place)).await.map(drop))
    }

    async fn settle_replay(&self, replay: Uuid) -> StoreResult<()> {
        self.answer(settle(self, replay).await)
    }

    async fn replays(&self, limit: usize) -> StoreResult<Vec<Replay>> {
        let select = sqlx::query("select * from dead_replay order by began desc, id desc limit ?");
        let readers = self.answer(self.readers())?;
        let rows = self.answer(select.bind(at_most(limit)).fetch_all(readers).await)?;
        self.answer(rows.iter().map(read_replay).collect())
    }

    async fn tally_replay(&self, replay: Uuid, from: u32, to: u32) -> StoreResult<ReplayTally> {
        self.answer(tally(self, replay, from, to).await)
    }

    async fn replay_letters(&self, replay: Uuid, planned: bool, limit: usize) -> StoreResult<Vec<ReplayLetter>> {
        let select = sqlx::query(
            "select * from dead_replay_letter where replay = ? and (not ? or outcome = 'planned') order by place limit ?",
        );
        let select = select.bind(replay).bind(planned).bind(at_most(limit));
        let readers = self.answer(self.readers())?;
        let rows = self.answer(select.fetch_all(readers).await)?;
        self.answer(rows.iter().map(read_letter).collect())
    }
}

/// How many rows it has changed.
async fn write(store: &SqliteStore, statement: bulk::Statement) -> sqlx::Result<u64> {
    let mut tx = store.begin_write().await?;
    let changed = statement.execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(changed)
}

async fn plan(store: &SqliteStore, replay: &Replay, letters: &[LetterKey]) -> sqlx::Result<()> {
    let mut tx = store.begin_write().await?;
    let insert = sqlx::query(
        "insert into dead_replay (id, actor, note, asked, canary, rate, stop_at, state, why, judged, began, changed)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let insert = insert.bind(replay.id).bind(&replay.actor).bind(&replay.note).bind(&replay.asked);
    let insert = insert.bind(replay.canary).bind(replay.rate).bind(replay.stop_at).bind(replay.state.word());
    let insert = insert.bind(&replay.why).bind(replay.judged).bind(micros(replay.began)).bind(micros(replay.changed));
    insert.execute(&mut *tx).await?;
    let insert = Insert {
        table: "dead_replay_letter",
        columns: &["replay", "place", "attempt", "id", "consumer", "source", "payload_hash", "outcome"],
        tail: "",
    };
    let placed: Vec<(u32, &LetterKey)> = (0..).zip(letters).collect();
    insert
        .run(&mut tx, &placed, |statement, (place, key)| {
            let statement = statement.bind(replay.id).bind(*place).bind(key.attempt).bind(key.id.clone());
            let statement = statement.bind(key.consumer.clone()).bind(key.source.clone());
            statement.bind(key.payload_hash.to_vec()).bind(ReplayOutcome::Planned.word())
        })
        .await?;
    tx.commit().await
}

async fn send(
    store: &SqliteStore,
    replay: Uuid,
    place: u32,
    key: &LetterKey,
    row: &OutboxRow,
    audit: &Audit,
) -> sqlx::Result<bool> {
    let mut tx = store.begin_write().await?;
    let mark = sqlx::query(
        "update dead_replay_letter set outcome = 'waiting', outbox_row = ?, sent = ?
         where replay = ? and place = ? and outcome = 'planned'",
    );
    let mark = mark.bind(row.seq).bind(micros(audit.at)).bind(replay).bind(place);
    let marked = mark.execute(&mut *tx).await?.rows_affected() == 1;
    if !marked || !operators::decide(&mut tx, key, LetterState::Replayed).await? {
        return Ok(false); // both are rolled back
    }
    writes::outbox(&mut tx, None, &[row]).await?;
    operators::insert_audit(&mut tx, audit).await?;
    tx.commit().await?;
    Ok(true)
}

async fn settle(store: &SqliteStore, replay: Uuid) -> sqlx::Result<()> {
    let open = sqlx::query(
        "select r.*, l.reason as new_reason, l.error as new_error,
         exists (select 1 from outbox o where o.seq = r.outbox_row) as in_outbox
         from dead_replay_letter r left join dead_letter l on l.rowid = (
            select d.rowid from dead_letter d where d.id = r.id and d.consumer = r.consumer and d.source = r.source
            and d.payload_hash = r.payload_hash and d.attempt > r.attempt order by d.attempt desc limit 1)
         where r.replay = ? and r.outcome in ('waiting', 'retrying') order by r.place",
    );
    let rows = open.bind(replay).fetch_all(store.readers()?).await?;
    let letters = rows.iter().map(read_letter).collect::<sqlx::Result<Vec<_>>>()?;
    let keys: Vec<_> = letters.iter().map(|letter| letter.key.of_inbox()).collect();
    let seen = judge::seen(store.readers()?, keys.iter().map(bulk::inbox_key)).await?;
    let mut changed = Vec::new();
    for ((row, letter), seen) in rows.iter().zip(&letters).zip(&seen) {
        let died: Option<String> = row.try_get("new_reason")?;
        let died = died.map(|reason| Ok::<_, sqlx::Error>((reason, row.try_get("new_error")?))).transpose()?;
        let sent = Sent { key: &letter.key, seen: seen.as_ref(), died, in_outbox: row.try_get("in_outbox")? };
        let (outcome, reason, error) = sent.outcome();
        if outcome != letter.outcome {
            changed.push((letter.place, outcome, reason, error));
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let mut tx = store.begin_write().await?;
    for (place, outcome, reason, error) in changed {
        let update = sqlx::query(
            "update dead_replay_letter set outcome = ?, reason = ?, error = ?
             where replay = ? and place = ? and outcome in ('waiting', 'retrying')",
        );
        update.bind(outcome.word()).bind(reason).bind(error).bind(replay).bind(place).execute(&mut *tx).await?;
    }
    tx.commit().await
}

async fn tally(store: &SqliteStore, replay: Uuid, from: u32, to: u32) -> sqlx::Result<ReplayTally> {
    let select = sqlx::query(
        "select outcome, count(*) as letters from dead_replay_letter where replay = ? and place >= ? and place < ?
         group by outcome",
    );
    let mut tally = ReplayTally::default();
    for row in select.bind(replay).bind(from).bind(to).fetch_all(store.readers()?).await? {
        tally.add(decode::word(&row, "outcome", ReplayOutcome::of_word)?, row.try_get("letters")?);
    }
    Ok(tally)
}

pub(super) async fn of_message(connection: &mut SqliteConnection, id: &str) -> sqlx::Result<Vec<Replayed>> {
    let select = sqlx::query("select * from dead_replay_letter where id = ? order by replay, place").bind(id);
    let read = |row: &SqliteRow| {
        Ok(Replayed {
            replay: row.try_get("replay")?,
            consumer: row.try_get("consumer")?,
            attempt: row.try_get("attempt")?,
            outcome: decode::word(row, "outcome", ReplayOutcome::of_word)?,
            sent: decode::maybe_time(row, "sent")?,
        })
    };
    select.fetch_all(connection).await?.iter().map(read).collect()
}

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn read_replay(row: &SqliteRow) -> sqlx::Result<Replay> {
    Ok(Replay {
        id: row.try_get("id")?,
        actor: row.try_get("actor")?,
        note: row.try_get("note")?,
        asked: row.try_get("asked")?,
        canary: row.try_get("canary")?,
        rate: row.try_get("rate")?,
        stop_at: row.try_get("stop_at")?,
        state: decode::word(row, "state", ReplayState::of_word)?,
        why: row.try_get("why")?,
        judged: row.try_get("judged")?,
        began: decode::time(row, "began")?,
        changed: decode::time(row, "changed")?,
    })
}

fn read_letter(row: &SqliteRow) -> sqlx::Result<ReplayLetter> {
    let hash: &[u8] = row.try_get("payload_hash")?;
    Ok(ReplayLetter {
        place: row.try_get("place")?,
        key: LetterKey {
            attempt: row.try_get("attempt")?,
            id: row.try_get("id")?,
            consumer: row.try_get("consumer")?,
            source: row.try_get("source")?,
            payload_hash: hash.try_into().map_err(|_| decode::bad("payload_hash", "is no SHA-256"))?,
        },
        outcome: decode::word(row, "outcome", ReplayOutcome::of_word)?,
        reason: row.try_get("reason")?,
        error: row.try_get("error")?,
        sent: decode::maybe_time(row, "sent")?,
    })
}
