//! Test Spy: what the world outside saw of a handler, which no transaction takes back.

use crate::fault::{self, Run};
use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The other side of the calls that a handler makes: a bank, a mail server, a file. Clones are the same.
///
/// Give one to the client that the test hands to the handler, or to the server that the handler calls, and tell it of each call where
/// that has its effect. It lets the call pass, and kills the worker before or behind it when its turn has come: then it never returns.
#[derive(Clone, Debug, Default)]
pub struct External(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    worker: String,
    plan: Option<(u32, Side)>,
    begun: u32,
    struck: Option<String>,
    calls: Vec<Call>,
}

/// On which side of a call the worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It was not made.
    Before,
    /// It was made, and nobody heard the answer.
    Behind,
    /// The same, and the worker lives: the deadline ends the wait.
    Unanswered,
}

/// What lets the other side know a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Repeats do no harm by their nature.
    Harmless,
    None,
    Given(String),
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) key: Key,
    /// `None`: nobody knows.
    pub(super) run: Option<Arc<Run>>,
}

impl External {
    /// Of which nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A call that has an effect, and a key by which the other side knows a repeat. `name` is for people.
    pub async fn call(&self, name: &str, key: impl Display) {
        self.record(name, Key::Given(key.to_string())).await;
    }

    /// A call that has an effect, and no key: each one counts.
    pub async fn call_without_key(&self, name: &str) {
        self.record(name, Key::None).await;
    }

    /// A call that may be repeated by its nature: a question, or the PUT of a name that follows from the content.
    pub async fn call_harmless(&self, name: &str) {
        self.record(name, Key::Harmless).await;
    }

    async fn record(&self, name: &str, key: Key) {
        let nth = {
            let mut state = self.lock();
            state.begun += 1;
            state.begun
        };
        self.strike(nth, Side::Before, name).await;
        {
            let mut state = self.lock();
            let run = fault::current(&state.worker);
            state.calls.push(Call { name: name.to_owned(), key, run });
        }
        self.strike(nth, Side::Behind, name).await;
        self.strike(nth, Side::Unanswered, name).await;
    }

    async fn strike(&self, nth: u32, side: Side, name: &str) {
        let worker = {
            let mut state = self.lock();
            if state.plan != Some((nth, side)) {
                return;
            }
            state.plan = None;
            state.struck = Some(match side {
                Side::Before => format!("before `{name}`"),
                Side::Behind => format!("behind `{name}`"),
                Side::Unanswered => format!("no answer to `{name}`"),
            });
            state.worker.clone()
        };
        if side != Side::Unanswered {
            fault::kill(&worker);
        }
        // On another thread than the worker's: a server that does not answer.
        std::future::pending().await
    }

    /// Whose calls these are from now on.
    pub(super) fn now_of(&self, worker: &str) {
        worker.clone_into(&mut self.lock().worker);
    }

    /// Counts from here.
    pub(super) fn watch(&self, plan: Option<(u32, Side)>) {
        let mut state = self.lock();
        *state = State { plan, worker: std::mem::take(&mut state.worker), ..State::default() };
    }

    pub(super) fn struck(&self) -> Option<String> {
        self.lock().struck.clone()
    }

    pub(super) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().calls)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
