//! What the worker of these tests is asked and tells: the car platform's handlers, and one whose messages say how they go.

pub mod machine;
pub mod proxy;
pub mod seed;
pub mod shop;

use anyhow::anyhow;
use pitcrew::{Command, Context, Document, Event, Handler, Handlers, Message, OrElse, Setup};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tracing::Instrument;

/// Do it once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// Which one.
    pub n: u32,
    /// How long each attempt takes, in milliseconds.
    #[serde(default)]
    pub takes: u64,
    /// The first so many attempts fail.
    #[serde(default)]
    pub failing: u32,
    /// It can never be done.
    #[serde(default)]
    pub refused: bool,
    /// It takes its worker's process with it.
    #[serde(default)]
    pub kills: bool,
}
impl Message for Work {
    type Kind = Command;
    const TYPE: &'static str = "test.Work";
}

/// It was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Worked {
    /// Which one.
    pub n: u32,
    /// By which attempt.
    pub attempt: u32,
    /// The time of the message that asked for it, RFC 3339.
    pub asked: Option<String>,
}
impl Message for Worked {
    type Kind = Event;
    const TYPE: &'static str = "test.Worked";
}

/// What must be 1 and 1 in the end. Counted up, which no upsert can hide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Which one.
    pub n: u32,
    /// How often it was done.
    pub done: u32,
    /// How often its event was heard.
    pub heard: u32,
}
impl Document for Effects {
    const COLLECTION: &'static str = "effects";
    fn id(&self) -> impl std::fmt::Display {
        self.n
    }
}

/// `[handlers."test.Work"]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Manner {
    /// Nothing that this worker begins ever ends.
    stuck: bool,
}

struct Worker(Manner);

impl Handler<Work> for Worker {
    async fn handle(&self, m: Work, cx: &mut Context) -> pitcrew::Result {
        if self.0.stuck {
            std::future::pending::<()>().await;
        }
        if m.takes > 0 {
            tokio::time::sleep(Duration::from_millis(m.takes)).await; // tidy: sleeps, because it is the work that takes so long.
        }
        if m.kills {
            std::process::abort();
        }
        if m.refused {
            return Err(anyhow!("it can never be done")).permanent();
        }
        if cx.attempt() <= m.failing {
            tracing::info!("it fails as it was told");
            return Err(anyhow!("attempt {} was to fail", cx.attempt()).into());
        }
        let asked = cx.meta().time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
        let worked = Worked { n: m.n, attempt: cx.attempt(), asked };
        cx.emit(&worked)?;
        cx.reply(&worked)?;
        count(cx, m.n, |effects| effects.done += 1).await
    }
}

async fn hear(m: Worked, cx: &mut Context) -> pitcrew::Result {
    // A span of the author's own.
    count(cx, m.n, |effects| effects.heard += 1).instrument(tracing::info_span!("note", n = m.n)).await
}

async fn count(cx: &mut Context, n: u32, how: impl Fn(&mut Effects) + Send + Sync) -> pitcrew::Result {
    cx.update(n, |old: Option<Effects>| {
        let mut effects = old.unwrap_or(Effects { n, ..Effects::default() });
        how(&mut effects);
        effects
    })
    .await?;
    Ok(())
}

/// The list of all handlers.
pub fn handlers() -> Handlers {
    let worker = async |setup: Setup| anyhow::Ok(Worker(setup.config()?));
    car_workers::handlers().handle_with(worker).handle(hear).emits::<Worked>()
}
