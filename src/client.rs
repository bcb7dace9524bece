//! Message Endpoint for code outside handlers: sends commands and events through the outbox.

use crate::{
    Command, Envelope, Handlers, Message, clock,
    config::Config,
    context::{EffectError, holds_nul},
    route::Router,
    store::{Destination, LetterState, OutboxRow, Store},
    telemetry::traces::{self, Carried},
    transport::{Endpoints, PublishError, Sending, Transport},
    worker,
};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tracing::{Instrument, warn};

/// How long a client tries to publish what it has just written; later it is a worker's business.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Sends messages. Its outbox rows have no owner: a running worker's sweep takes them, an absent one finds them at its start. A
/// client that is [`publishing`](Self::publishing) does not wait for either.
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
    router: Arc<Router>,
    endpoints: Arc<Endpoints>,
    direct: Option<Direct>,
}

/// A broker that is published to without a worker.
#[derive(Clone)]
struct Direct {
    transport: Arc<dyn Transport>,
    /// By channel, from the first message to it on: whether all that it needs is there.
    prepared: Arc<Mutex<HashMap<Arc<str>, bool>>>,
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

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every handler it was for has handled it.
    Done {
        /// Its ID.
        id: String,
    },
    /// Dead letter.
    Dead {
        /// Its ID.
        id: String,
        /// [`Reason::word`](crate::store::Reason::word).
        reason: String,
        /// The error chain.
        error: String,
    },
    /// Ended otherwise: expired, a duplicate of another operation, or kept for a newer build.
    Other {
        /// Its ID.
        id: String,
        /// [`Fate::word`](crate::store::Fate::word).
        fate: String,
    },
    /// Not yet.
    Waiting {
        /// Its ID.
        id: String,
    },
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
        let topology = worker::plan(handlers, config)?;
        let endpoints = Arc::new(topology.endpoints(config));
        transport.know(&endpoints);
        let router = Arc::new(topology.router(&contract, config, transport));
        Ok(Self { store, router, endpoints, direct: None })
    }

    /// Over the store and the routes of a worker of this process.
    #[cfg(feature = "http")]
    pub(crate) fn over(store: Arc<dyn Store>, router: Arc<Router>) -> Self {
        Self { store, router, endpoints: Arc::default(), direct: None }
    }

    /// Publishes what it sends by itself, straight after it is durable, so that no worker of this service need be running. What
    /// cannot be published now is left to one. Where the outbox row is the message itself nothing changes. No connection is made
    /// before the first message.
    #[must_use]
    pub fn publishing(mut self, transport: Arc<dyn Transport>) -> Self {
        if !transport.promises().keeps_rows {
            self.direct = Some(Direct { transport, prepared: Arc::default() });
        }
        self
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

    /// As [`send`](Self::send), in a transaction of the caller's own on the same Postgres: sent if it commits.
    ///
    /// # Errors
    /// As [`send`](Self::send), or another store.
    pub async fn send_in<M: Message>(
        &self,
        connection: &mut sqlx::PgConnection,
        message: &M,
    ) -> anyhow::Result<String> {
        let envelope = self.router.outgoing(message, None, None)?;
        let id = envelope.id.clone();
        let rows = self.rows(vec![envelope], None)?;
        self.store.enqueue_in(connection, &rows).await.context("writing the outbox")?;
        Ok(id)
    }

    /// Sends a command and waits until it is done or dead, at most `patience`. The inbox is asked, so it works from any process.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn request<M: Message<Kind = Command>>(
        &self,
        command: &M,
        patience: Duration,
    ) -> anyhow::Result<Outcome> {
        let id = self.send(command).await?;
        self.outcome(&id, patience).await
    }

    /// Waits until the message with this ID is done or dead, at most `patience`.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outcome(&self, id: &str, patience: Duration) -> anyhow::Result<Outcome> {
        let until = clock::instant() + patience;
        let mut pause = Duration::from_millis(2);
        loop {
            let history = self.store.history(id).await.context("asking the inbox")?;
            let fates: Vec<&str> = history.inbox.iter().map(|row| row.fate.as_str()).collect();
            if let Some(letter) = history.letters.iter().find(|letter| letter.state == LetterState::Dead) {
                let (reason, error) = (letter.reason.clone(), letter.error.clone());
                return Ok(Outcome::Dead { id: id.to_owned(), reason, error });
            }
            if !fates.is_empty() && history.outbox.is_empty() && fates.iter().all(|fate| *fate == "done") {
                return Ok(Outcome::Done { id: id.to_owned() });
            }
            if let Some(fate) = fates.iter().find(|fate| matches!(**fate, "expired" | "duplicate" | "quarantined")) {
                return Ok(Outcome::Other { id: id.to_owned(), fate: (*fate).to_owned() });
            }
            if clock::instant() >= until {
                return Ok(Outcome::Waiting { id: id.to_owned() });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Sends finished envelopes in one transaction, in this order.
    ///
    /// # Errors
    /// An envelope that no receiver would read, a type without a route, or the store is away; then none is sent.
    pub async fn send_envelopes(&self, envelopes: Vec<Envelope>, due: Option<DateTime<Utc>>) -> anyhow::Result<()> {
        let rows = self.rows(envelopes, due)?;
        self.store.enqueue(None, &rows).await.context("writing the outbox")?;
        if let Some(direct) = self.direct.as_ref().filter(|_| due.is_none()) {
            let mut by_destination: HashMap<Destination, Vec<OutboxRow>> = HashMap::new();
            for row in rows {
                by_destination.entry(row.destination.clone()).or_default().push(row);
            }
            // Side by side: the broker of one of them may be away.
            let published = by_destination.iter().map(|(destination, rows)| async {
                if direct.is_prepared(destination, &self.endpoints).await {
                    let _ = tokio::time::timeout(AT_ONCE, self.publish(&*direct.transport, destination, rows)).await;
                }
            });
            join_all(published).await;
        }
        Ok(())
    }

    /// A worker that sweeps the same rows meanwhile publishes them a second time, under the same ids.
    async fn publish(&self, transport: &dyn Transport, to: &Destination, rows: &[OutboxRow]) {
        let batch: Vec<_> = rows.iter().map(|row| Sending { row: row.clone(), begun: false }).collect();
        let carried = batch.iter().map(|sending| sending.row.envelope.carried());
        let span = traces::send(transport.kind_of(to.name()), &to.on_broker(), carried);
        let answers = transport.publish(to, &batch).instrument(span.clone()).await;
        traces::sent(&span, answers.iter().find_map(|answer| answer.as_ref().err()).map(PublishError::word));
        let of_batch = || batch.iter().zip(&answers);
        let confirmed: Vec<_> = of_batch().filter(|(_, answer)| answer.is_ok()).map(|(s, _)| s.row.seq).collect();
        if let Some((_, Err(error))) = of_batch().find(|(_, answer)| answer.is_err()) {
            warn!(destination = %to, %error, "not published yet; it waits in the outbox for a worker");
        }
        let _ = self.store.confirm(&confirmed).await; // else a worker publishes them again, under the same ids
    }

    /// The rows that [`send_envelopes`](Self::send_envelopes) would write.
    fn rows(&self, envelopes: Vec<Envelope>, due: Option<DateTime<Utc>>) -> anyhow::Result<Vec<OutboxRow>> {
        let mut rows = Vec::with_capacity(envelopes.len());
        for mut envelope in envelopes {
            if envelope.traceparent.is_none() {
                self.router.trace(&mut envelope, Carried::default());
            }
            let (id, size, limit) = (envelope.id.clone(), envelope.data.len(), self.router.limit(&envelope.ty));
            crate::message::wire::check(&envelope).with_context(|| format!("message `{id}`"))?;
            if size > limit {
                return Err(EffectError::TooLarge { what: "payload", size, limit })
                    .with_context(|| format!("message `{id}`"));
            }
            if std::str::from_utf8(&envelope.data).is_ok_and(holds_nul) {
                return Err(EffectError::Nul("payload")).with_context(|| format!("message `{id}`"));
            }
            rows.extend(self.router.route(envelope, due).with_context(|| format!("message `{id}`"))?);
        }
        Ok(rows)
    }
}

impl Direct {
    /// Makes what a destination needs, once, and nothing of the others: of several brokers only its own need be there.
    async fn is_prepared(&self, destination: &Destination, all: &Endpoints) -> bool {
        let needed = all.around(destination.name());
        let channel = needed.channels.first().map_or_else(|| destination.name().into(), |channel| channel.name.clone());
        if let Some(known) = self.prepared().get(&channel) {
            return *known;
        }
        let is_prepared = match tokio::time::timeout(AT_ONCE, self.transport.declare(&needed)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!(%destination, %error, "what is sent waits in the outbox for a worker");
                false
            }
            Err(_elapsed) => {
                warn!(%destination, "the broker does not answer; what is sent waits in the outbox for a worker");
                false
            }
        };
        self.prepared().insert(channel, is_prepared);
        is_prepared
    }

    fn prepared(&self) -> MutexGuard<'_, HashMap<Arc<str>, bool>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
