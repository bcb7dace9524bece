//! Transactional Client: what a handler does to the world. All of it commits with the inbox row, or none of it.

mod effects;
mod error;

pub(crate) use effects::holds_nul;
pub use effects::{Document, DocumentWrite, Effects, Expect, Row, RowSpec, RowWrite};
pub use error::EffectError;

use crate::{
    Command, Envelope, Event, Message,
    clock::{self, Instant},
    route::Router,
    store::{Begun, OpenTx, Store},
};
use chrono::{DateTime, Utc};
use std::{fmt::Display, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Handed to a handler for one attempt at one message.
///
/// It collects *effects*. They commit together when the handler returns `Ok`, and vanish on `Err`, panic and deadline. Unless
/// [`transaction`](Self::transaction) is called the handler holds no database connection while it runs.
pub struct Context {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) consumer: Arc<str>,
    pub(crate) payload_hash: [u8; 32],
    pub(crate) store: Arc<dyn Store>,
    pub(crate) router: Arc<Router>,
    pub(crate) effects: Effects,
    /// Open between `transaction()` and the end of the handler. Dropped on error, panic and deadline: sqlx rolls back.
    pub(crate) open: Option<OpenTx>,
    pub(crate) deadline: Instant,
    pub(crate) cancelled: CancellationToken,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.envelope.id)
            .field("consumer", &self.consumer)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// The attributes of the message being handled.
    pub fn meta(&self) -> &Envelope {
        &self.envelope
    }

    /// 1 for the first, + 1 for each counted failure since (`retry_after` and interruptions do not count).
    pub fn attempt(&self) -> u32 {
        self.envelope.hop.failures + 1
    }

    /// The wall clock of the runtime: tests may have paused it.
    pub fn now(&self) -> DateTime<Utc> {
        clock::now()
    }

    /// Becomes ready when the worker shuts down: what still runs after the drain timeout is dropped and comes again.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Upsert of a row of the author's own table; the last writer wins. A column not listed in [`Row::COLUMNS`] is never touched.
    ///
    /// # Errors
    /// Not declared with `.writes::<R>()`, not an object with the listed columns, or too large: all permanent.
    pub fn put<R: Row>(&mut self, row: &R) -> Result<(), EffectError> {
        self.router.check_row(R::TABLE)?;
        self.effects.put(row)
    }

    /// Deletes a row of the author's own table by its key: the values of [`Row::KEY`], in that order.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete<R: Row>(&mut self, key: impl serde::Serialize) -> Result<(), EffectError> {
        self.router.check_row(R::TABLE)?;
        self.effects.delete::<R>(key)
    }

    /// Upsert of a document; the last writer wins. Read-modify-write belongs in [`update`](Self::update).
    ///
    /// # Errors
    /// Not serialisable, holds a NUL, or too large: permanent.
    pub fn save<D: Document>(&mut self, document: &D) -> Result<(), EffectError> {
        self.effects.save(document, Expect::Anything)
    }

    /// What this handler sees: its own unsaved writes first, then the store. No connection is kept.
    ///
    /// # Errors
    /// The store is away (retried), or the stored JSON is not a `D` (permanent).
    pub async fn load<D: Document>(&mut self, id: impl Display) -> Result<Option<D>, EffectError> {
        Ok(self.fetch::<D>(&id.to_string()).await?.0)
    }

    /// Read-modify-write. If another message changed the document meanwhile, the handler runs again from its start, at once,
    /// at most three times; it does not count as a failure.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`save`](Self::save).
    pub async fn update<D: Document>(
        &mut self,
        id: impl Display,
        change: impl FnOnce(Option<D>) -> D + Send,
    ) -> Result<(), EffectError> {
        let (old, expect) = self.fetch::<D>(&id.to_string()).await?;
        let new = change(old);
        self.effects.save(&new, expect)
    }

    /// Publishes a fact when this message commits.
    ///
    /// # Errors
    /// Not declared with `.emits::<M>()`, not serialisable, too large, or without a route: permanent.
    pub fn emit<M: Message<Kind = Event>>(&mut self, event: &M) -> Result<(), EffectError> {
        self.push(event, None)
    }

    /// Asks for work when this message commits.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn send<M: Message<Kind = Command>>(&mut self, command: &M) -> Result<(), EffectError> {
        self.push(command, None)
    }

    /// As [`send`](Self::send), due `delay` from now: it waits as an outbox row.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn send_after<M: Message<Kind = Command>>(&mut self, command: &M, delay: Duration) -> Result<(), EffectError> {
        self.push(command, Some(clock::now() + delay))
    }

    /// Answers whoever asked, on the channel in `replyto`. Without one it does nothing.
    ///
    /// # Errors
    /// As [`emit`](Self::emit); a channel that is not on the allow-list is a permanent error.
    pub fn reply<M: Message>(&mut self, outcome: &M) -> Result<(), EffectError> {
        let Some(channel) = self.envelope.reply_to.clone() else { return Ok(()) };
        let reply = self.router.outgoing(outcome, Some(&self.envelope), None)?;
        let rows = self.router.reply(&channel, reply)?;
        self.effects.push(rows)
    }

    /// The Postgres escape hatch, for read-modify-write on own tables: about ten times slower than effects.
    ///
    /// The first call claims the inbox row and opens the transaction, a second gives the same one. Your writes, the documents and
    /// the outbox rows commit together when the handler returns `Ok`. It ends with the handler's deadline.
    ///
    /// # Errors
    /// Another store (permanent), another delivery of this message has done it (the walk ends as a duplicate), or the database
    /// is away (retried).
    pub async fn transaction(&mut self) -> Result<&mut sqlx::PgConnection, EffectError> {
        if self.open.is_none() {
            let left = self.deadline.saturating_duration_since(clock::instant());
            match self.store.begin(&self.consumer, &self.envelope, &self.payload_hash, left).await? {
                Begun::Open(tx) => self.open = Some(tx),
                Begun::Duplicate => return Err(EffectError::Duplicate),
                Begun::Unsupported(store) => return Err(EffectError::NoTransaction(store)),
            }
        }
        self.open.as_mut().map(OpenTx::connection).ok_or(EffectError::Duplicate)
    }

    /// The document and what a guarded write of it must find.
    async fn fetch<D: Document>(&mut self, id: &str) -> Result<(Option<D>, Expect), EffectError> {
        if let Some(own) = self.effects.own_document::<D>(id) {
            return own.map(|(document, expect)| (Some(document), expect));
        }
        match self.store.load(D::COLLECTION, id).await? {
            Some(stored) => {
                let document = effects::read_document::<D>(stored.schema, &stored.body)?;
                Ok((Some(document), Expect::Version(stored.version)))
            }
            None => Ok((None, Expect::Absent)),
        }
    }

    fn push<M: Message>(&mut self, message: &M, due: Option<DateTime<Utc>>) -> Result<(), EffectError> {
        self.router.check_declared(M::TYPE)?;
        let outgoing = self.router.outgoing(message, Some(&self.envelope), due)?;
        let rows = self.router.route(outgoing, due)?;
        self.effects.push(rows)
    }
}
