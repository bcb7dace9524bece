//! Process Manager for dead letters: the state of a replay lives in the store, so that another process can go on with it.

use super::{Audit, LetterKey, OutboxRow, Replay, ReplayLetter, ReplayState, ReplayTally, StoreResult};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The part of a [`Store`](super::Store) that keeps replays of dead letters.
///
/// Called by `dead replay` and `dead replays`. As everywhere in the store a method is one transaction: a process that dies between
/// two of them leaves a job that [`send_letter`](Self::send_letter) goes on with, each letter sent once.
#[async_trait]
pub trait Replays: Send + Sync {
    /// Writes a job down with all its letters, in the order in which they will go. Nothing is sent.
    async fn plan_replay(&self, replay: &Replay, letters: &[LetterKey]) -> StoreResult<()>;

    /// Takes a job for `runner`, or says that it still has it. `false`: another runner has, who was seen since `lost_before`.
    async fn hold_replay(
        &self,
        replay: Uuid,
        runner: Uuid,
        now: DateTime<Utc>,
        lost_before: DateTime<Utc>,
    ) -> StoreResult<bool>;

    /// Where a job stands now, as `runner` says who has it; one that does not run has no runner. `false`: another has taken it meanwhile,
    /// and nothing was written.
    async fn set_replay(
        &self,
        replay: Uuid,
        runner: Uuid,
        state: ReplayState,
        why: &str,
        judged: u32,
        now: DateTime<Utc>,
    ) -> StoreResult<bool>;

    /// As [`resolve_letter`](super::Store::resolve_letter) to `replayed`, and the letter at `place` is noted as sent with it. `false`: it is
    /// not planned any more, or somebody has decided the letter otherwise, and nothing was done.
    async fn send_letter(
        &self,
        replay: Uuid,
        place: u32,
        key: &LetterKey,
        row: &OutboxRow,
        audit: &Audit,
    ) -> StoreResult<bool>;

    /// Notes why a planned letter is not sent.
    async fn pass_letter(&self, replay: Uuid, place: u32, why: &str) -> StoreResult<()>;

    /// Asks inbox and letters what became of what was sent, and writes it down: the inbox forgets sooner than people ask.
    async fn settle_replay(&self, replay: Uuid) -> StoreResult<()>;

    /// Jobs, newest first.
    async fn replays(&self, limit: usize) -> StoreResult<Vec<Replay>>;

    /// How many letters came to what, of those at places `from..to`, as far as somebody has looked.
    async fn tally_replay(&self, replay: Uuid, from: u32, to: u32) -> StoreResult<ReplayTally>;

    /// Letters of a job in their order; `planned`: those that were not sent yet.
    async fn replay_letters(&self, replay: Uuid, planned: bool, limit: usize) -> StoreResult<Vec<ReplayLetter>>;
}
