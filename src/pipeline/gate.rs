//! Back-pressure by failure: the door of one handler. A storm lets fewer in, an open breaker nobody but its probe.
//!
//! While all is well a message looks at an atomic when it comes and one when it goes, and no lock is taken.

use crate::{
    breaker::{Breaker, BreakerStatus, Probe},
    clock::{self, Instant},
    store::{AttemptKind, Fate, Finished, Reason},
    storm::{Change, Ended, Storm},
    telemetry,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::Notify;

/// How the door of a handler stands, for those who watch a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerStatus {
    /// The handler's name.
    pub consumer: Arc<str>,
    /// Where its messages come from.
    pub subscription: Arc<str>,
    /// More than half of its last 100 attempts failed: so many run at once now. `None`: no storm.
    pub storm: Option<usize>,
    /// Messages that are held in front of it, without a slot.
    pub waiting: usize,
    /// The breakers that it calls through.
    pub breakers: Vec<BreakerStatus>,
}

/// The door of one handler in one subscription.
pub(crate) struct Gate {
    consumer: Arc<str>,
    /// Those that its handler asked for.
    breakers: Vec<Breaker>,
    /// There is a storm.
    storming: AtomicBool,
    /// A failure is remembered, so that successes count.
    wary: AtomicBool,
    inside: Mutex<Inside>,
    /// Somebody left, or something changed.
    changed: Arc<Notify>,
    /// Messages in front of it.
    waiting: AtomicUsize,
}

struct Inside {
    storm: Storm,
    /// Those that began since the storm did.
    running: usize,
}

/// Who is let in. Dropped, the next one may.
pub(crate) struct Entry {
    /// Counted there, because there is a storm.
    counted: Option<Arc<Gate>>,
    probes: Vec<Probe>,
}

impl Gate {
    /// `most`: what may run at once when all is well.
    pub(crate) fn new(consumer: Arc<str>, most: usize, breakers: Vec<Breaker>) -> Arc<Self> {
        let changed = Arc::<Notify>::default();
        for breaker in &breakers {
            breaker.tell(changed.clone());
        }
        Arc::new(Self {
            consumer,
            breakers,
            storming: AtomicBool::new(false),
            wary: AtomicBool::new(false),
            inside: Mutex::new(Inside { storm: Storm::new(most), running: 0 }),
            changed,
            waiting: AtomicUsize::new(0),
        })
    }

    /// All is well: nobody waits here.
    pub(crate) fn is_open(&self) -> bool {
        !self.storming.load(Relaxed) && !self.breakers.iter().any(Breaker::is_open)
    }

    /// Lets one in, or says when to ask again; `None` there: when something has changed.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Entry, Option<Instant>> {
        if self.is_open() {
            return Ok(Entry { counted: None, probes: Vec::new() });
        }
        let now = clock::instant();
        let mut inside = self.inside();
        inside.storm.may_begin(inside.running, now)?;
        let mut probes = Vec::new();
        for breaker in &self.breakers {
            match breaker.admit(now) {
                Ok(probe) => probes.extend(probe),
                Err(when) => {
                    probes.into_iter().for_each(Probe::unused);
                    return Err(when);
                }
            }
        }
        let counted = inside.storm.limit().is_some();
        inside.running += usize::from(counted);
        Ok(Entry { counted: counted.then(|| self.clone()), probes })
    }

    /// Waits for the door. Dropping the future gives the place up.
    pub(crate) async fn opens(self: &Arc<Self>) -> Entry {
        let _waiting = Waiting::begin(&self.waiting);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.enter() {
                Ok(entry) => return entry,
                Err(Some(at)) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                Err(None) => changed.await,
            }
        }
    }

    /// Whether who entered before waiting for a slot would be let in now.
    pub(crate) fn still_lets(&self, entry: &Entry) -> bool {
        let lets = |breaker: &Breaker| !breaker.is_open() || entry.probes.iter().any(|probe| probe.is_of(breaker));
        self.breakers.iter().all(lets) && (entry.counted.is_some() || !self.storming.load(Relaxed))
    }

    /// An attempt has ended.
    pub(crate) fn learn(&self, finished: &Finished) {
        let ended = how(finished);
        if ended == Ended::Badly {
            self.wary.store(true, Relaxed);
        } else if !self.wary.load(Relaxed) {
            return;
        }
        let (change, unpaused) = {
            let mut inside = self.inside();
            let paused = inside.storm.is_paused();
            let change = inside.storm.next(ended, clock::instant());
            self.storming.store(inside.storm.limit().is_some(), Relaxed);
            self.wary.store(!inside.storm.is_calm(), Relaxed);
            (change, paused && !inside.storm.is_paused())
        };
        match change {
            Some(Change::Fewer(limit)) => telemetry::storm(&self.consumer, limit),
            Some(Change::More(limit)) => telemetry::storm_recedes(&self.consumer, Some(limit)),
            Some(Change::Over) => telemetry::storm_recedes(&self.consumer, None),
            None => {}
        }
        if unpaused || matches!(change, Some(Change::More(_) | Change::Over)) {
            self.changed.notify_waiters();
        }
    }

    /// Why nobody is let in, for people.
    pub(crate) fn why(&self) -> String {
        match self.breakers.iter().find(|breaker| breaker.is_open()) {
            Some(breaker) => format!("`{}` is left alone", breaker.name()),
            None => format!("{} mostly fails and runs less of itself", self.consumer),
        }
    }

    pub(crate) fn status(&self, subscription: &Arc<str>) -> HandlerStatus {
        HandlerStatus {
            consumer: self.consumer.clone(),
            subscription: subscription.clone(),
            storm: self.inside().storm.limit(),
            waiting: self.waiting.load(Relaxed),
            breakers: self.breakers.iter().map(Breaker::status).collect(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(gate) = &self.counted {
            gate.inside().running -= 1;
            gate.changed.notify_one();
        }
    }
}

/// One that waits; dropped, it does not.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn begin(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Relaxed);
        Self(all)
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// `retry_after` is no failure here either: a handler that polls would be taken for one that fails.
fn how(finished: &Finished) -> Ended {
    let kind = finished.attempt.as_ref().map(|attempt| attempt.kind);
    match (&finished.fate, kind) {
        (Fate::Done, _) => Ended::Well,
        (Fate::Dead(Reason::Permanent), _) => Ended::Neither,
        (_, Some(AttemptKind::Failure | AttemptKind::Timeout | AttemptKind::Panic)) => Ended::Badly,
        _ => Ended::Neither,
    }
}
