//! Named points in the walk of a message at which a test kills the worker. Compiled to nothing without the feature `fault`.
//!
//! A killed worker is one whose fault point never returns. A process kills itself; a worker that shares its process with the test
//! has a thread of its own, and that thread stops there: nothing of it is polled again, no `Drop` runs, nothing is settled.

/// Before the first and after the last thing that each step does to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A batch was received, no walk has begun.
    Received,
    /// Decoded and admitted, the handler has not begun.
    BeforeHandle,
    /// The handler has ended, nothing is stored.
    AfterHandle,
    /// The batch is complete, its transaction has not begun.
    BeforeCommit,
    /// All statements ran, `COMMIT` was not sent.
    InsideCommit,
    /// Committed; nothing is acked.
    AfterCommit,
    /// Acked; nothing is handed to the relay.
    AfterAck,
    /// The relay has rows, nothing is published.
    BeforePublish,
    /// Published and confirmed, the outbox rows stand.
    AfterPublish,
    /// The sweep has taken rows, the relay does not have them.
    AfterSweep,
    /// A claim is written, the handler has not begun.
    AfterClaim,
}

impl Point {
    /// All of them, in the order of the walk.
    pub const ALL: [Self; 11] = [
        Self::Received,
        Self::AfterClaim,
        Self::BeforeHandle,
        Self::AfterHandle,
        Self::BeforeCommit,
        Self::InsideCommit,
        Self::AfterCommit,
        Self::AfterAck,
        Self::BeforePublish,
        Self::AfterPublish,
        Self::AfterSweep,
    ];

    /// Its name in `PITCREW_FAULT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::AfterClaim => "after-claim",
            Self::BeforeHandle => "before-handle",
            Self::AfterHandle => "after-handle",
            Self::BeforeCommit => "before-commit",
            Self::InsideCommit => "inside-commit",
            Self::AfterCommit => "after-commit",
            Self::AfterAck => "after-ack",
            Self::BeforePublish => "before-publish",
            Self::AfterPublish => "after-publish",
            Self::AfterSweep => "after-sweep",
        }
    }
}

/// Passes, unless a test has armed the point.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub(crate) async fn at(_: Point) {}

/// A run of a handler, as it is.
#[cfg(not(feature = "fault"))]
#[inline(always)]
pub(crate) fn handling<F: Future>(_consumer: &str, _id: &str, running: F) -> F {
    running
}

#[cfg(feature = "fault")]
pub use armed::{Plan, arm, fired};
#[cfg(feature = "fault")]
pub(crate) use {
    armed::{arm_and_tell, at, disarm, kill, stop_if_dead},
    runs::{Run, current, handling},
};

#[cfg(feature = "fault")]
mod armed;
#[cfg(feature = "fault")]
mod runs;
