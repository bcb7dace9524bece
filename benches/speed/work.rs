//! The work that is measured: one command, and the handlers that answer it in a document, in a row of an own table, or not at all.

use crate::{broker, provider};
use pitcrew::{
    Command, Context, Document, Envelope, Event, Handlers, Message, Row,
    config::{ChannelConfig, Config},
    message::wire::Raw,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bodies are a little over 300 bytes.
pub(crate) const FILLER: usize = 280;
/// Ordering keys in use.
const SUBJECTS: u64 = 10_000;
/// Handlers at once.
pub(crate) const SLOTS: usize = 256;
/// The schema of the author's own table.
pub(crate) const OWN_SCHEMA: &str = "pitcrew_bench_own";

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Work {
    pub(crate) n: u64,
    pub(crate) filler: String,
}
impl Message for Work {
    type Kind = Command;
    const TYPE: &'static str = "bench.Work";
    fn subject(&self) -> Option<String> {
        Some(format!("s{}", self.n % SUBJECTS))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Worked {
    pub(crate) n: u64,
    pub(crate) filler: String,
}
impl Message for Worked {
    type Kind = Event;
    const TYPE: &'static str = "bench.Worked";
    fn subject(&self) -> Option<String> {
        Some(format!("s{}", self.n % SUBJECTS))
    }
}

/// One for each message, so that a second write of it would show in its version.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sheet {
    pub(crate) n: u64,
    pub(crate) filler: String,
}
impl Document for Sheet {
    const COLLECTION: &'static str = "sheet";
    fn id(&self) -> impl std::fmt::Display {
        self.n
    }
}

/// The same as a row of the author's own; a trigger counts its updates.
#[derive(Serialize)]
pub(crate) struct Own {
    pub(crate) n: u64,
    pub(crate) filler: String,
}
impl Row for Own {
    const TABLE: &'static str = "pitcrew_bench_own.sheet";
    const KEY: &'static [&'static str] = &["n"];
    const COLUMNS: &'static [&'static str] = &["n", "filler"];
}

async fn save(m: Work, cx: &mut Context) -> pitcrew::Result {
    cx.save(&Sheet { n: m.n, filler: m.filler.clone() })?;
    cx.emit(&Worked { n: m.n, filler: m.filler })?;
    Ok(())
}

async fn put(m: Work, cx: &mut Context) -> pitcrew::Result {
    cx.put(&Own { n: m.n, filler: m.filler.clone() })?;
    cx.emit(&Worked { n: m.n, filler: m.filler })?;
    Ok(())
}

async fn wait(_: Work, _: &mut Context) -> pitcrew::Result {
    provider::ask().await;
    Ok(())
}

/// What a handler does to the world, beside its inbox row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A document and an event.
    Document,
    /// A row of an own table and an event.
    Row,
    /// Nothing: it asks somebody who takes 10 ms to answer.
    Wait,
}

impl Effect {
    pub(crate) fn handlers(self) -> Handlers {
        match self {
            Self::Document => Handlers::new().handle(save).emits::<Worked>(),
            Self::Row => Handlers::new().handle(put).emits::<Worked>().writes::<Own>(),
            Self::Wait => Handlers::new().handle(wait),
        }
    }

    /// Messages that each command sends.
    pub(crate) fn events(self) -> usize {
        usize::from(self != Self::Wait)
    }
}

/// The defaults, but for the slots.
pub(crate) fn config() -> Config {
    let channel = ChannelConfig { concurrency: SLOTS, ..ChannelConfig::default() };
    let mut config = Config::default();
    config.channel.insert("bench.commands".parse().expect("a channel's name"), channel);
    config
}

/// So many commands as they lie in a broker.
pub(crate) fn messages(from: u64, count: usize) -> Vec<Arc<Raw>> {
    messages_with(from, count, |id| id)
}

/// The same with IDs of somebody else, made of those that they would have.
pub(crate) fn messages_with(from: u64, count: usize, id: impl Fn(String) -> String) -> Vec<Arc<Raw>> {
    let filler = "x".repeat(FILLER);
    let message = |n| {
        let work = Work { n, filler: filler.clone() };
        let mut envelope = Envelope::of(&work, "/shop").expect("it is JSON");
        envelope.id = id(envelope.id);
        broker::raw(&envelope)
    };
    (from..).take(count).map(message).collect()
}
