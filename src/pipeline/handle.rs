//! handle: one run of the author's code, with a deadline, behind a wall that a panic does not pass.

use super::{Pipeline, Work};
use crate::{Context, clock, context::Effects, fault, handler, message::DecodeError, store::OpenTx};
use futures::FutureExt;
use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

/// How a run ended.
pub(super) enum End {
    Returned(handler::Result),
    Panicked(String),
    TimedOut,
    /// It never began: the payload is not of its type.
    Undecodable(DecodeError),
}

/// A run that ended, with what it wants to become true.
pub(super) struct Handled {
    pub(super) end: End,
    pub(super) effects: Effects,
    pub(super) open: Option<OpenTx>,
    pub(super) duration: Duration,
}

impl Pipeline {
    /// `None`: a shutdown dropped it.
    pub(super) async fn handle(&self, work: &Work) -> Option<Handled> {
        let began = clock::instant();
        let mut cx = Context {
            envelope: work.envelope.clone(),
            consumer: work.consumer().clone(),
            payload_hash: work.payload_hash,
            store: self.shared.store.clone(),
            router: self.shared.router.clone(),
            effects: Effects::default(),
            open: None,
            deadline: began + work.runner.deadline,
            cancelled: self.shared.cancelled.clone(),
        };
        let end = match work.runner.registered.call.begin(&work.envelope, &mut cx) {
            Err(error) => End::Undecodable(error),
            Ok(running) => {
                let running = fault::handling(work.consumer(), &work.envelope.id, running);
                let running = tokio::time::timeout(work.runner.deadline, AssertUnwindSafe(running).catch_unwind());
                let ended = tokio::select! {
                    biased;
                    ended = running => ended,
                    () = self.shared.drop_running.cancelled() => return None,
                };
                match ended {
                    Ok(Ok(result)) => End::Returned(result),
                    Ok(Err(panic)) => End::Panicked(message_of(&*panic)),
                    Err(_elapsed) => End::TimedOut,
                }
            }
        };
        Some(Handled { end, effects: cx.effects, open: cx.open, duration: began.elapsed() })
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}
