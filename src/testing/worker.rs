//! Test Support: a whole worker in memory, for the unit tests of handlers.
//!
//! The real pipeline with its fence, retries, dead letters and group commit, on the memory store and a queue without a broker.
//! With `#[tokio::test(start_paused = true)]` a retry that is due in an hour comes at once.

pub(super) mod broker;
mod outcome;

pub use outcome::Outcome;

use super::poll::patient_pause;
use crate::{
    Client, Document, Envelope, Handlers, Message, Running, Worker,
    clock::{self, VirtualTime},
    config::{Config, HandlerConfig},
    dead_letter,
    message::{Intent, wire::Raw},
    store::{
        Audit, DeadFilter, DeadLetter, Fate, Finished, History, LetterState, OutboxRow, Store, Verdict,
        memory::MemoryStore,
    },
    transport::{Content, Subscription},
    worker::HandlerStatus,
};
use broker::Broker;
use serde_json::Value;
use std::{fmt::Display, sync::Arc, time::Duration};

/// Longer than any retry ladder; in paused time it passes at once.
const LIMIT: Duration = Duration::from_hours(7 * 24);

/// A worker without services: deliver to it, then look at what became of it.
///
/// ```
/// use pitcrew::{Command, Context, Event, Handlers, Message, testing::TestWorker};
/// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)] struct Greet { name: String }
/// # impl Message for Greet { type Kind = Command; const TYPE: &'static str = "demo.Greet"; }
/// # #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)] struct Greeted { name: String }
/// # impl Message for Greeted { type Kind = Event; const TYPE: &'static str = "demo.Greeted"; }
/// async fn greet(m: Greet, cx: &mut Context) -> pitcrew::Result {
///     cx.emit(&Greeted { name: m.name })?;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let worker = TestWorker::new(Handlers::new().handle(greet).emits::<Greeted>()).await;
/// let outcome = worker.deliver(&Greet { name: "Ada".into() }).await;
/// outcome.assert_done();
/// assert_eq!(outcome.emitted::<Greeted>(), [Greeted { name: "Ada".into() }]);
/// # }
/// ```
#[derive(Debug)]
pub struct TestWorker {
    running: Running,
    store: Arc<MemoryStore>,
    broker: Arc<Broker>,
    client: Client,
    source: String,
    _time: VirtualTime,
}

impl TestWorker {
    /// With the default config.
    ///
    /// # Panics
    /// The worker refuses to start: the message says why.
    pub async fn new(handlers: Handlers) -> Self {
        Self::with_config(handlers, Config::default()).await
    }

    /// With sections of `[handlers."CONSUMER"]`: `{"car.Rank": {"bonus": 3, "deadline": "1s"}}`.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub async fn with_sections(handlers: Handlers, sections: Value) -> Self {
        let mut config = Config::default();
        for (consumer, section) in sections.as_object().cloned().unwrap_or_default() {
            let section: HandlerConfig = match serde_json::from_value(section) {
                Ok(section) => section,
                Err(error) => panic!("[handlers.\"{consumer}\"]: {error}"),
            };
            config.handlers.insert(consumer, section);
        }
        Self::with_config(handlers, config).await
    }

    /// With a config of one's own.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub async fn with_config(handlers: Handlers, config: Config) -> Self {
        Self::on(Arc::new(MemoryStore::new()), handlers, config).await
    }

    /// On a store that has been used before: the next life of a service, with another build.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub async fn on(store: Arc<MemoryStore>, handlers: Handlers, config: Config) -> Self {
        match Self::start(store, handlers, config).await {
            Ok(worker) => worker,
            Err(refusal) => panic!("the worker does not start: {refusal:#}"),
        }
    }

    async fn start(store: Arc<MemoryStore>, handlers: Handlers, config: Config) -> anyhow::Result<Self> {
        Self::between(store, Arc::default(), handlers, config).await
    }

    /// On a store and a broker that have been used before.
    pub(super) async fn between(
        store: Arc<MemoryStore>,
        broker: Arc<Broker>,
        handlers: Handlers,
        config: Config,
    ) -> anyhow::Result<Self> {
        let time = VirtualTime::start_or_go_on();
        store.record();
        let client = Client::new(store.clone(), &*broker, &handlers, &config)?;
        let source = format!("/{}", config.service.as_str());
        let running = Worker::new(config, handlers).start(store.clone(), broker.clone()).await?;
        Ok(Self { running, store, broker, client, source, _time: time })
    }

    /// As [`idle`](Self::idle), but what leaves for nobody here may still be on its way: an end in order waits for that.
    #[cfg(feature = "fault")]
    pub(super) async fn at_rest(&self) {
        use crate::store::Destination::Subscription;
        let leaves = |row: &OutboxRow| row.due.is_none() && !matches!(row.destination, Subscription(_));
        self.poll(|| (self.broker.unsettled() == 0 && self.store.outbox().iter().all(leaves)).then_some(())).await;
    }

    /// Delivers it, and returns when it is settled.
    #[cfg(feature = "fault")]
    pub(super) async fn hand_in(&self, envelope: Arc<Envelope>) {
        let to = self.subscription(&envelope.ty);
        let _ = self.broker.deliver(&to.name, Content::Parsed(envelope)).await;
    }

    /// Delivers a new message and waits until it is settled.
    ///
    /// # Panics
    /// `message` cannot be written as JSON, or no handler of this list subscribes to anything.
    pub async fn deliver<M: Message>(&self, message: &M) -> Outcome {
        match Envelope::of(message, &self.source) {
            Ok(envelope) => self.deliver_envelope(envelope).await,
            Err(error) => panic!("{} cannot be written as JSON: {error}", M::TYPE),
        }
    }

    /// Delivers this very message: a duplicate, an old version, another `time`.
    ///
    /// # Panics
    /// No handler of this list subscribes to anything.
    pub async fn deliver_envelope(&self, envelope: Envelope) -> Outcome {
        let to = self.subscription(&envelope.ty);
        let (id, attempt) = (envelope.id.clone(), envelope.hop.attempt);
        let of = move |finished: &Finished| finished.envelope.id == id && finished.envelope.hop.attempt == attempt;
        self.push(&to, Content::Parsed(Arc::new(envelope)), of).await
    }

    /// Delivers bytes as a foreign producer sent them to the queue of `ty`.
    ///
    /// # Panics
    /// No handler of this list subscribes to anything.
    pub async fn deliver_raw(&self, ty: &str, raw: Raw) -> Outcome {
        let to = self.subscription(ty);
        let known = crate::message::wire::parse(&raw, &to.channel).ok().map(|e| (e.id, e.hop.attempt));
        let of = move |finished: &Finished| match &known {
            Some((id, attempt)) => finished.envelope.id == *id && finished.envelope.hop.attempt == *attempt,
            None => finished.letter.is_some(),
        };
        self.push(&to, Content::Raw(Arc::new(raw)), of).await
    }

    /// The fate of the next attempt at a message whose outcome was a retry; in paused time it is due at once.
    ///
    /// # Panics
    /// `outcome` is no retry.
    pub async fn next_attempt(&self, outcome: &Outcome) -> Outcome {
        outcome.assert_retry();
        let (id, attempt) = (outcome.envelope.id.clone(), outcome.envelope.hop.attempt + 1);
        let of = |finished: &Finished| finished.envelope.id == id && finished.envelope.hop.attempt == attempt;
        self.poll(|| self.find(0, &of)).await
    }

    /// Replays a letter as an operator does, and gives the fate of the attempt that follows.
    ///
    /// # Panics
    /// It is replayed or discarded already, or its bytes are no message.
    pub async fn replay(&self, letter: &DeadLetter) -> Outcome {
        let row = match dead_letter::rerun(letter, dead_letter::Rerun::Replay(None)) {
            Ok(row) => row,
            Err(error) => panic!("cannot {error}"),
        };
        let audit = Audit {
            actor: "test".into(),
            action: "replay".into(),
            target: letter.key.id.clone(),
            reason: String::new(),
            at: clock::now(),
            bodies: None,
        };
        let resolved = self.store.resolve_letter(&letter.key, LetterState::Replayed, &[row], &audit).await;
        assert!(matches!(resolved, Ok(true)), "{} is replayed or discarded already", letter.key.id);
        let (id, attempt) = (letter.key.id.clone(), letter.key.attempt + 1);
        let of = |finished: &Finished| finished.envelope.id == id && finished.envelope.hop.attempt == attempt;
        self.poll(|| self.find(0, &of)).await
    }

    /// Waits until nothing is under way: every retry is over and every message that a handler sent is settled, too.
    ///
    /// # Panics
    /// It is not so after a week (of paused time).
    pub async fn idle(&self) {
        self.poll(|| (self.broker.unsettled() == 0 && self.store.outbox().is_empty()).then_some(())).await;
    }

    /// For what is sent from outside handlers.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The document with this ID.
    ///
    /// # Panics
    /// What is stored is no `D`.
    pub async fn document<D: Document>(&self, id: impl Display) -> Option<D> {
        let id = id.to_string();
        let Ok(stored) = self.store.load(D::COLLECTION, &id).await else { panic!("the store of the test is away") };
        stored.map(|stored| match serde_json::from_str(&stored.body) {
            Ok(document) => document,
            Err(error) => panic!("{} `{id}` is no such document: {error}", D::COLLECTION),
        })
    }

    /// The author's own rows in `table`, ordered by key.
    pub fn rows(&self, table: &str) -> Vec<Value> {
        self.store.rows(table)
    }

    /// Rows of the outbox: what waits for its time, or for a destination.
    pub fn outbox(&self) -> Vec<OutboxRow> {
        self.store.outbox()
    }

    /// How the handlers stand: storms, breakers, and what waits because of them.
    pub fn handlers(&self) -> Vec<HandlerStatus> {
        self.running.handlers()
    }

    /// All letters, newest first: dead and quarantined, replayed and discarded.
    pub async fn letters(&self) -> Vec<DeadLetter> {
        self.store.dead_letters(&DeadFilter::default(), usize::MAX).await.unwrap_or_default()
    }

    /// Everything that the store knows of the message.
    pub async fn history(&self, id: &str) -> History {
        self.store.history(id).await.unwrap_or_default()
    }

    /// The store, to make it fail or to begin another life on it.
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// Ends as a worker does that was told to; a test may also just drop it.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
    }

    /// The subscription that wants `ty`; for a type that nobody handles, one that a stray could come by.
    fn subscription(&self, ty: &str) -> Subscription {
        let all = self.running.subscriptions();
        let wants = all.iter().find(|s| s.types.iter().any(|t| t == ty));
        let stray = || all.iter().find(|s| s.intent == Intent::Command).or_else(|| all.first());
        match wants.or_else(stray) {
            Some(subscription) => subscription.clone(),
            None => panic!("no handler subscribes to anything: .handle(…) one"),
        }
    }

    async fn push(&self, to: &Subscription, content: Content, of: impl Fn(&Finished) -> bool) -> Outcome {
        let before = self.store.recorded().len();
        let parsed = match &content {
            Content::Parsed(envelope) => envelope.clone(),
            Content::Raw(_) => Arc::new(Envelope::new("", "", "")),
        };
        let handled = to.types.contains(&parsed.ty);
        match self.broker.deliver(&to.name, content).await {
            // Acked without a transaction: there was nothing to write.
            Some(()) => self.find(before, &of).unwrap_or_else(|| {
                let fate = if handled || parsed.ty.is_empty() { Fate::Duplicate } else { Fate::Ignored };
                Outcome::without_effect(parsed, fate)
            }),
            None => panic!("the worker handed the message back: it was shutting down"),
        }
    }

    /// The last word on a message among what was recorded from `since` on.
    fn find(&self, since: usize, of: &impl Fn(&Finished) -> bool) -> Option<Outcome> {
        let recorded = self.store.recorded();
        let said = |verdict: &Verdict| matches!(verdict, Verdict::Stored | Verdict::Duplicate);
        let last = recorded.iter().skip(since).rev().find(|(finished, verdict)| of(finished) && said(verdict));
        last.map(|(finished, verdict)| Outcome::of(finished, *verdict))
    }

    async fn poll<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let began = clock::instant();
        let polled = tokio::time::timeout(LIMIT, async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                patient_pause(began.elapsed()).await;
            }
        });
        match polled.await {
            Ok(found) => found,
            Err(_) => panic!("not within a week"),
        }
    }
}
