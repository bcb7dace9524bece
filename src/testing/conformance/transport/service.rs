//! Service Activator of the cases that run whole workers: one command, one event, and handlers that do as they are told.

use super::{Subject, subject::eventually};
use crate::{
    Client, Command, Context, Document, Envelope, Event, Handlers, Message, OrElse, Running, Worker,
    config::{ChannelConfig, ChannelName, Config, HandlerConfig, RetryPolicy},
    message::Intent,
    store::{History, Store},
    transport::{Subscription, Transport},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Display, sync::Arc, time::Duration};

/// What the author of [`Act`] asked for, in one word.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Act {
    /// The document that it writes, and its ordering key.
    pub(super) on: String,
    pub(super) say: String,
}
impl Message for Act {
    type Kind = Command;
    const TYPE: &'static str = "conformance.Act";
    fn subject(&self) -> Option<String> {
        Some(self.on.clone())
    }
}

/// What every [`Act`] causes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Acted {
    pub(super) on: String,
    pub(super) say: String,
}
impl Message for Acted {
    type Kind = Event;
    const TYPE: &'static str = "conformance.Acted";
    fn subject(&self) -> Option<String> {
        Some(self.on.clone())
    }
}

/// Every effect adds a line: written twice, it shows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Diary {
    pub(super) on: String,
    pub(super) lines: Vec<String>,
}
impl Document for Diary {
    const COLLECTION: &'static str = "conformance";
    fn id(&self) -> impl Display {
        &self.on
    }
}

/// Adds a line to a diary.
pub(super) async fn note(cx: &mut Context, on: &str, line: String) -> crate::Result {
    cx.update(on, |old: Option<Diary>| {
        let mut lines = old.map_or_else(Vec::new, |diary| diary.lines);
        lines.push(line.clone());
        Diary { on: on.to_owned(), lines }
    })
    .await?;
    Ok(())
}

/// Does as it is told; what a handler can see of its message's journey is its effect.
async fn act(m: Act, cx: &mut Context) -> crate::Result {
    let hop = &cx.meta().hop;
    let (delivery, replayed) = (hop.attempt, hop.reason.as_deref() == Some("replay"));
    let seen = format!("{} attempt {delivery}", m.say);
    let seen = match (&hop.reason, &hop.origin) {
        (Some(reason), origin) => {
            let origin = origin.as_deref().and_then(|name| name.rsplit('.').next()).unwrap_or("nowhere");
            format!("{seen}, {} failures, from {origin}: {reason}", hop.failures)
        }
        _ => seen,
    };
    note(cx, &m.on, seen).await?;
    cx.emit(&Acted { on: m.on, say: m.say.clone() })?;
    match m.say.as_str() {
        "fail" => return Err(anyhow::anyhow!("it is down").context("ask the provider").into()),
        "fail once" if delivery == 1 => return Err(anyhow::anyhow!("at first").into()),
        "panic once" if delivery == 1 => panic!("at first"),
        "hang once" if delivery == 1 => std::future::pending().await,
        "no" => Err(anyhow::anyhow!("it cannot be")).permanent()?,
        "not yet" if !replayed => Err(anyhow::anyhow!("not before somebody looks")).permanent()?,
        "later once" if delivery == 1 => Err(anyhow::anyhow!("busy")).retry_after(Duration::from_millis(1))?,
        _ => {}
    }
    Ok(())
}

async fn hear(m: Acted, cx: &mut Context) -> crate::Result {
    note(cx, &format!("heard {}", m.on), m.say).await
}

async fn audit(m: Acted, cx: &mut Context) -> crate::Result {
    note(cx, &format!("audited {}", m.on), m.say).await
}

/// [`act`], and two subscriptions to what it tells.
pub(super) fn handlers() -> Handlers {
    Handlers::new().handle(act).handle(hear).named("audit").handle(audit).emits::<Acted>()
}

/// The first of a case's services.
pub(super) struct Service {
    pub(super) on: Subject,
    pub(super) config: Config,
    /// For the case to look into; each worker opens its own.
    pub(super) store: Arc<dyn Store>,
}

impl Service {
    /// Its channels are `<prefix>.acts` and `<prefix>.facts`; the ladder is short.
    pub(super) async fn new(on: Subject) -> Self {
        let delays = on.bench.delays();
        let first = delays.first().copied().unwrap_or(Duration::from_millis(200));
        let channel = |ty: &str| ChannelConfig {
            types: vec![ty.into()],
            retry: RetryPolicy { attempts: 3, first, max: first, tiers: delays.clone(), ..RetryPolicy::default() },
            ..ChannelConfig::default()
        };
        let name = |part: &str| -> ChannelName {
            format!("{}.{part}", on.bench.prefix()).parse().expect("a prefix makes a channel's name")
        };
        let mut config = Config { service: "shop".parse().expect("a name"), ..Config::default() };
        config.channel = BTreeMap::from([(name("acts"), channel(Act::TYPE)), (name("facts"), channel(Acted::TYPE))]);
        let deadline = Some(Duration::from_secs(2));
        config.handlers.insert(Act::TYPE.into(), HandlerConfig { deadline, ..HandlerConfig::default() });
        let store = on.bench.store().await;
        store.migrate().await.expect("an empty store can be migrated");
        Self { on, config, store }
    }

    /// Changes how commands are worked.
    pub(super) fn acts(&mut self, change: impl FnOnce(&mut ChannelConfig)) {
        let acts = self.config.channel.iter_mut().find(|(name, _)| name.as_str().ends_with(".acts"));
        change(acts.expect("the channel of commands").1);
    }

    /// The queue of the commands.
    pub(super) fn queue(&self) -> Subscription {
        self.on.commands("acts")
    }

    /// What the service hears of its events.
    pub(super) fn hearing(&self) -> Subscription {
        Subscription { types: vec![Acted::TYPE.into()], ..self.on.events("facts", "shop") }
    }

    /// A worker with these handlers on this transport.
    pub(super) async fn work(&self, handlers: Handlers, transport: Arc<dyn Transport>) -> Running {
        let store = self.on.bench.store().await;
        let worker = Worker::new(self.config.clone(), handlers).start(store, transport).await;
        worker.unwrap_or_else(|refusal| panic!("the worker does not start: {refusal:#}"))
    }

    /// The worker of most cases.
    pub(super) async fn start(&self) -> Running {
        self.work(handlers(), self.on.transport.clone()).await
    }

    /// Sends through the outbox.
    pub(super) async fn send(&self, envelopes: Vec<Envelope>) {
        let client = Client::new(self.store.clone(), &*self.on.transport, &handlers(), &self.config);
        let client = client.unwrap_or_else(|refusal| panic!("no client: {refusal:#}"));
        client.send_envelopes(envelopes, None).await.expect("the outbox takes what is sent");
    }

    pub(super) async fn history(&self, id: &str) -> History {
        self.store.history(id).await.expect("history can be read")
    }

    pub(super) async fn diary(&self, on: &str) -> Vec<String> {
        let stored = self.store.load(Diary::COLLECTION, on).await.expect("documents can be loaded");
        let read = |body: &str| serde_json::from_str::<Diary>(body).expect("a diary").lines;
        stored.map_or_else(Vec::new, |stored| read(&stored.body))
    }

    /// Waits until no row of the outbox is left and `done` messages are.
    pub(super) async fn settled(&self, done: u64) {
        let looked = async || {
            let counts = self.store.counts().await.expect("rows can be counted");
            (counts.outbox == 0 && counts.done >= done).then_some(counts.done)
        };
        let found = eventually(&*self.on.bench, "everything is settled", looked).await;
        assert_eq!(found, done, "done, each once");
    }
}

/// A command of this build.
pub(super) fn command(on: &str, say: &str) -> Envelope {
    let act = Act { on: on.into(), say: say.into() };
    Envelope::of(&act, "/conformance").expect("it can be written as JSON")
}

/// A stray of a type that nobody knows.
pub(super) fn stray(intent: Intent) -> Envelope {
    let ty = match intent {
        Intent::Command => "conformance.Strange",
        Intent::Event => "conformance.Rumour",
    };
    Envelope::new(ty, "/conformance", "{}")
}
