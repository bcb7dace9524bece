//! Message Endpoint for code outside handlers: sends commands and events through the outbox.

use crate::{
    Envelope, Handlers, Message, clock,
    config::Config,
    context::EffectError,
    route::Router,
    store::{OutboxRow, Store},
    transport::Transport,
    worker,
};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// Sends messages. Its outbox rows have no owner: a running worker's sweep takes them, an absent one finds them at its start.
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
    router: Arc<Router>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("store", &self.store.kind()).finish_non_exhaustive()
    }
}

/// Options of one message.
#[derive(Clone, Debug, Default)]
pub struct Send {
    /// Not before.
    pub due: Option<DateTime<Utc>>,
    /// Who asks.
    pub actor: Option<String>,
    /// `idempotencykey`.
    pub key: Option<String>,
}

impl Client {
    /// A client that knows the routes of these handlers.
    ///
    /// # Errors
    /// The handlers or the config contradict themselves.
    pub fn new(
        store: Arc<dyn Store>,
        transport: &dyn Transport,
        handlers: &Handlers,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let contract = handlers.contract();
        let router = worker::plan(handlers, config)?.router(&contract, config, transport.promises());
        Ok(Self { store, router: Arc::new(router) })
    }

    /// Sends a message; durable when it returns. The answer is its ID.
    ///
    /// # Errors
    /// Not serialisable, too large, without a route, or the store is away.
    pub async fn send<M: Message>(&self, message: &M) -> anyhow::Result<String> {
        self.send_with(message, Send::default()).await
    }

    /// As [`send`](Self::send), with options.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_with<M: Message>(&self, message: &M, options: Send) -> anyhow::Result<String> {
        let mut envelope = self.router.outgoing(message, None, options.due)?;
        envelope.actor = options.actor;
        envelope.idempotency_key = options.key;
        let id = envelope.id.clone();
        self.send_envelopes(vec![envelope], options.due).await?;
        Ok(id)
    }

    /// Sends finished envelopes in one transaction, in this order.
    ///
    /// # Errors
    /// An envelope that no receiver would read, a type without a route, or the store is away; then none is sent.
    pub async fn send_envelopes(&self, envelopes: Vec<Envelope>, due: Option<DateTime<Utc>>) -> anyhow::Result<()> {
        let rows = self.rows(envelopes, due)?;
        self.store.enqueue(None, &rows).await.context("writing the outbox")
    }

    /// The rows that [`send_envelopes`](Self::send_envelopes) would write.
    fn rows(&self, envelopes: Vec<Envelope>, due: Option<DateTime<Utc>>) -> anyhow::Result<Vec<OutboxRow>> {
        let mut rows = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let (id, size, limit) = (envelope.id.clone(), envelope.data.len(), self.router.max_bytes);
            crate::message::wire::check(&envelope).with_context(|| format!("message `{id}`"))?;
            if size > limit {
                return Err(EffectError::TooLarge { what: "payload", size, limit })
                    .with_context(|| format!("message `{id}`"));
            }
            rows.extend(self.router.route(envelope, due).with_context(|| format!("message `{id}`"))?);
        }
        Ok(rows)
    }

    /// The wall clock that messages are made by.
    pub fn now(&self) -> DateTime<Utc> {
        clock::now()
    }
}
