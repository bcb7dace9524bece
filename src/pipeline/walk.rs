//! admit → handle → commit → ack, for one message: a task until it is handed to the committer, and one more if it comes back.

use super::{Pipeline, Weight, Work, admit::Admission};
use crate::{
    committer::{Settled, Then, Why},
    fault::{self, Point},
    lanes::{Place, Turn},
    store::AttemptKind,
    telemetry,
    transport::Delivery,
};
use std::sync::Arc;
use tokio::sync::OwnedRwLockWriteGuard;
use tracing::warn;

/// A handler may lose so many races for a guarded document before it has to wait like a failure.
const RERUNS: u32 = 3;

/// A message in its lane, at its how-manieth run from 0.
struct Run {
    work: Work,
    /// Held until its fate is settled.
    _turn: Turn,
    nth: u32,
    /// Its fate may have been decided since it was received: the inbox is asked.
    ask: bool,
}

impl Pipeline {
    /// admit → handle → commit → ack, for one message, when its turn in its lane has come.
    ///
    /// A thousand of these are in memory, so what rarely happens is boxed. Whether the worker stops is asked before each wait and
    /// waited for beside it last: what need not wait does not touch the list of those who do.
    pub(super) async fn walk(
        self: Arc<Self>,
        work: Work,
        (place, twin): (Place, bool),
        delivery: Delivery,
        weight: Weight,
    ) {
        let turn = tokio::select! {
            biased;
            turn = place.turn() => turn,
            () = self.shared.stop.cancelled() => return,
        };
        self.run(Run { work, _turn: turn, nth: 0, ask: twin }, delivery, weight).await;
    }

    /// One run of the handler, from its admission to the committer.
    async fn run(self: Arc<Self>, mut run: Run, delivery: Delivery, weight: Weight) {
        let stop = &self.shared.stop;
        let admission = if stop.is_cancelled() {
            None
        } else {
            tokio::select! {
                biased;
                admission = self.admit(&mut run.work, run.ask) => Some(admission),
                () = stop.cancelled() => None,
            }
        };
        let work = &run.work;
        let pass = match admission {
            None => return Box::pin(self.unclaim(work)).await,
            // The slot was freed by a handler that ended because the worker ends: it is nobody's any more.
            Some(Admission::Run(_)) if stop.is_cancelled() => return Box::pin(self.unclaim(work)).await,
            Some(Admission::Run(pass)) => pass,
            Some(Admission::Settle(finished)) => return Box::pin(self.settle(finished, delivery, weight)).await,
        };
        fault::at(Point::BeforeHandle).await;
        let tracked = self.track(work);
        let Some(handled) = tracked.around(self.handle(work)).await else {
            drop(pass);
            let Work { envelope, .. } = work;
            let interrupted = AttemptKind::Interrupted.word();
            self.shared.metrics.attempt(&self.subscription.name, &envelope.ty, interrupted);
            warn!(id = %work.envelope.id, "a handler outlived the drain timeout and was dropped; its message comes again");
            return Box::pin(self.unclaim_run(work)).await;
        };
        let took = handled.duration;
        let (finished, open) = self.conclude(work, handled);
        let error = finished.attempt.as_ref().map(|attempt| attempt.kind.word());
        let told = finished.attempt.as_ref().map(|attempt| (attempt.kind.word(), attempt.error.as_str()));
        telemetry::processed(&tracked, finished.fate.word(), told);
        drop(tracked);
        self.shared.metrics.processed(&self.subscription.name, &work.envelope.ty, took, error);
        // Before the next one is let in: it may have to wait because this one failed.
        work.runner.gate.learn(&finished);
        // The slot is free; the commit has a budget of its own.
        let alone = pass.end();
        fault::at(Point::AfterHandle).await;
        let then = self.clone().then(run, alone);
        self.shared.committer.hand_over(Box::new(finished), delivery, weight, open, then).await;
    }

    /// The rest of a run, for the committer. Until then it holds its lane and the worker's end. Who ran alone is beside nobody until
    /// that commit is made: if the worker died before it, this one would be taken for the killer.
    fn then(self: Arc<Self>, run: Run, alone: Option<OwnedRwLockWriteGuard<()>>) -> Then {
        let under_way = self.walks.token();
        Box::new(move |settled| {
            match settled {
                Settled::Stored | Settled::Duplicate => drop((alone, run)),
                Settled::Dropped if !run.work.claimed => drop((alone, run)),
                settled => drop(self.walks.clone().spawn(self.come_back(run, alone, settled))),
            }
            drop(under_way);
        })
    }

    /// What the committer could not store.
    async fn come_back(self: Arc<Self>, run: Run, alone: Option<OwnedRwLockWriteGuard<()>>, settled: Settled) {
        let (why, delivery, weight) = match settled {
            Settled::Stored | Settled::Duplicate => return,
            // The store lost it; its worker lives.
            Settled::Dropped => return self.unclaim_run(&run.work).await,
            Settled::Back(back) => *back,
        };
        match why {
            // What lost a race for a document may have lost it to its own commit, whose answer was lost.
            Why::Conflict if run.nth < RERUNS && !run.work.runner.in_doubt_is_dead() => {
                drop(alone); // it is admitted anew
                let again = Run { nth: run.nth + 1, ask: true, ..run };
                self.run(again, delivery, weight).await;
            }
            why => {
                let condemned = Box::new(self.condemn(&run.work, why));
                self.settle(condemned, delivery, weight).await;
            }
        }
    }

    /// A shutdown is no crash, and neither is a lost transaction: what it kept from ending was not begun.
    async fn unclaim(&self, work: &Work) {
        if work.claimed {
            let _ = self.shared.store.unclaim(&[work.key()]).await;
        }
    }

    /// The same for a run that began: where another one may not follow, its mark stays.
    async fn unclaim_run(&self, work: &Work) {
        if !work.runner.in_doubt_is_dead() {
            self.unclaim(work).await;
        }
    }
}
