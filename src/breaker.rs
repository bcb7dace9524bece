//! Circuit Breaker (Nygard, "Release It!"): what fails for everybody is left alone for a while, then probed.
//!
//! A handler asks for one by name while it is built ([`Setup::breaker`](crate::Setup::breaker)) and makes its calls through it.
//! All handlers of the process that ask for the same name share it; while it is open none of their messages is begun, except one
//! probe at a time. The states are in `breaker/state.rs`, those who wait in `pipeline/gate.rs`.

mod state;

use crate::{HandlerError, clock, clock::Instant};
use anyhow::anyhow;
use state::{Change, State, Visit};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tracing::{info, warn};

/// A failure that is the provider's, not the message's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// No answer, or one that says that it cannot answer now. More than half of the last 20 calls: the breaker opens.
    Failed,
    /// It asks to be left alone for so long (`Retry-After`): the breaker opens at once, for an hour at most.
    For(Duration),
}

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Open: until then nobody calls, after that one probe at a time does. `None`: closed, all is well.
    pub open_until: Option<Instant>,
}

/// A provider's breaker. Cheap to clone; clones are the same breaker.
///
/// ```
/// use pitcrew::{Breaker, Context, Handler, Outage, Setup};
/// # use pitcrew::{Command, Message};
/// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)] struct Price { car: String }
/// # impl Message for Price { type Kind = Command; const TYPE: &'static str = "shop.Price"; }
/// # async fn ask(car: &str) -> std::io::Result<u32> { Ok(7) }
/// struct Prices { list: Breaker }
/// impl Prices {
///     async fn build(setup: Setup) -> anyhow::Result<Self> {
///         Ok(Self { list: setup.breaker("price-list") })
///     }
/// }
/// impl Handler<Price> for Prices {
///     async fn handle(&self, m: Price, cx: &mut Context) -> pitcrew::Result {
///         // The first `?` is an outage: it comes again, and does not count while the breaker is open. The second is an answer.
///         let price = self.list.call(ask(&m.car), |_| Some(Outage::Failed)).await??;
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    /// For those who only want to know that all is well.
    open: AtomicBool,
    state: Mutex<State>,
    /// Gates of handlers whose messages wait.
    listeners: Mutex<Vec<Arc<Notify>>>,
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Breaker").field(&self.status()).finish()
    }
}

impl Breaker {
    /// One that no handler of a worker waits for: for unit tests, and for calls outside handlers.
    pub fn new(name: &str) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            open: AtomicBool::new(false),
            state: Mutex::default(),
            listeners: Mutex::default(),
        }))
    }

    /// Makes a call, unless the breaker is open, and learns from how it ends. `outage` tells a failure of the provider (`Some`)
    /// from an answer that only this message does not like (`None`, which proves that the provider lives).
    ///
    /// A call that is dropped (its handler's deadline passed) counts as [`Outage::Failed`].
    ///
    /// # Errors
    /// The outer one is an outage, with the verdict that it has: a failure like any other while the breaker is closed; once it is
    /// open, or was before the call, the message comes again when the breaker is probed, and the attempt does not count. The
    /// inner one is the caller's own.
    pub async fn call<T, E: Into<anyhow::Error>>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        outage: impl FnOnce(&E) -> Option<Outage>,
    ) -> crate::Result<Result<T, E>> {
        let begun = self.state().begin(clock::instant());
        let mut under_way = match begun {
            Ok(visit) => Call { breaker: self, visit: Some(visit) },
            Err(wait) => {
                return Err(HandlerError::retry_after(wait, anyhow!("`{}` is left alone for {wait:?}", self.0.name)));
            }
        };
        let answer = call.await;
        let Some(outage) = answer.as_ref().err().and_then(outage) else {
            under_way.ended(None);
            return Ok(answer);
        };
        let wait = under_way.ended(Some(outage));
        match (answer, wait) {
            (Err(error), Some(wait)) => {
                let error = error.into().context(format!("`{}` is left alone for {wait:?}", self.0.name));
                Err(HandlerError::retry_after(wait, error))
            }
            (Err(error), None) => Err(HandlerError::from(error.into())),
            (answer, _) => Ok(answer),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How it stands.
    pub fn status(&self) -> BreakerStatus {
        BreakerStatus { name: self.0.name.clone(), open_until: self.state().open_until() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Relaxed)
    }

    /// `notify` hears of every change.
    pub(crate) fn tell(&self, notify: Arc<Notify>) {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(notify);
    }

    /// Lets a message begin whose handler calls through this breaker: always if it is closed; if it is open, one at a time and
    /// not before the pause is over. Otherwise when to ask again; `None`: when the probe has ended.
    pub(crate) fn admit(&self, now: Instant) -> Result<Option<Probe>, Option<Instant>> {
        let probe = self.state().admit(now)?;
        Ok(probe.then(|| Probe(Some(self.clone()))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        for listener in &*self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            listener.notify_waiters();
        }
    }
}

/// A message that was let in to probe; dropped, the next one may.
pub(crate) struct Probe(Option<Breaker>);

impl Probe {
    /// It was let in here and not elsewhere. Nobody is told: they would wake each other for ever.
    pub(crate) fn unused(mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.state().leave();
        }
    }

    pub(crate) fn is_of(&self, breaker: &Breaker) -> bool {
        self.0.as_ref().is_some_and(|mine| Arc::ptr_eq(&mine.0, &breaker.0))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.state().leave();
            breaker.changed();
        }
    }
}

/// A call under way.
struct Call<'a> {
    breaker: &'a Breaker,
    visit: Option<Visit>,
}

impl Call<'_> {
    /// How long the provider is left alone now; `None`: the breaker is closed.
    fn ended(&mut self, outage: Option<Outage>) -> Option<Duration> {
        let (visit, now, name) = (self.visit.take()?, clock::instant(), &*self.breaker.0.name);
        let mut state = self.breaker.state();
        let change = state.end(visit, outage, now);
        let wait = state.wait(now);
        self.breaker.0.open.store(wait.is_some(), Relaxed);
        drop(state);
        match change {
            Some(Change::Opened) => {
                warn!(breaker = name, wait = ?wait.unwrap_or_default(), "a breaker opened: its provider is left alone");
            }
            Some(Change::Failed) => {
                warn!(breaker = name, wait = ?wait.unwrap_or_default(), "a probe failed: its provider is left alone for longer");
            }
            Some(Change::Closed) => info!(breaker = name, "a breaker closed: its provider answers again"),
            None => return wait,
        }
        self.breaker.changed();
        wait
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.visit.is_some() {
            self.ended(Some(Outage::Failed)); // nobody waited for the answer
        }
    }
}
