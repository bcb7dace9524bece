//! Unit of Work: the group commit.

use super::{SqliteStore, judge::Known, own_rows, writes};
use crate::{
    fault,
    store::{Batch, Finished, Verdict},
};
use uuid::Uuid;

pub(super) async fn commit(store: &SqliteStore, batch: &Batch<'_>, build: &str) -> sqlx::Result<Vec<Verdict>> {
    let mut tx = store.begin_write().await?;
    let mut known = Known::read(&mut tx, batch).await?;
    let sorted = Sorted::by(&mut known, batch);

    let by = writes::By { worker: batch.worker, build };
    writes::operations(&mut tx, &sorted.stored).await?;
    writes::inbox(&mut tx, &sorted.inbox, by).await?;
    writes::attempts(&mut tx, &sorted.stored).await?;
    writes::documents(&mut tx, &sorted.stored).await?;
    own_rows::write(&mut tx, &sorted.stored).await?;
    writes::outbox(&mut tx, Some(batch.worker), &sorted.outbox()).await?;
    writes::letters(&mut tx, &sorted.letters()).await?;
    writes::remove_rows(&mut tx, &sorted.leaving).await?;
    writes::remove_claims(&mut tx, &sorted.claimed).await?;

    fault::at(fault::Point::InsideCommit).await;
    tx.commit().await?;
    Ok(sorted.verdicts)
}

/// The messages of a batch by what must be written of them.
#[derive(Debug, Default)]
struct Sorted<'a> {
    verdicts: Vec<Verdict>,
    stored: Vec<&'a Finished>,
    /// Rows of the inbox, with their fate's word.
    inbox: Vec<(&'a Finished, &'static str)>,
    /// Outbox rows that go.
    leaving: Vec<Uuid>,
    /// Messages whose claim goes.
    claimed: Vec<&'a Finished>,
}

impl<'a> Sorted<'a> {
    fn by(known: &mut Known<'a>, batch: &Batch<'a>) -> Self {
        let mut sorted = Self { leaving: batch.confirmed.to_vec(), ..Self::default() };
        for (position, message) in batch.messages.iter().enumerate() {
            let verdict = known.judge(position, message);
            sorted.verdicts.push(verdict);
            match verdict {
                Verdict::Stored => {
                    sorted.stored.push(message);
                    sorted.inbox.extend(message.fenced.then_some((message, message.fate.word())));
                }
                // Known by its operation key under another ID: this ID is remembered too. Known by its own: nothing changes.
                Verdict::Duplicate if known.is_fresh(position, message) => {
                    sorted.inbox.push((message, crate::store::Fate::Duplicate.word()));
                }
                Verdict::Duplicate => {}
                Verdict::Conflict | Verdict::IdReused | Verdict::KeyConflict => continue,
            }
            sorted.leaving.extend(message.row);
            sorted.claimed.extend(message.claimed.then_some(message));
        }
        sorted
    }

    fn outbox(&self) -> Vec<&'a crate::store::OutboxRow> {
        self.stored.iter().flat_map(|m| &m.effects.outbox).collect()
    }

    fn letters(&self) -> Vec<&'a crate::store::DeadLetter> {
        self.stored.iter().filter_map(|m| m.letter.as_deref()).collect()
    }
}
