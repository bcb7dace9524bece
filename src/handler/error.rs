//! What a handler's failure means. The safest verdict has the shortest spelling: `?` tries again.

use crate::context::EffectError;
use std::time::Duration;

/// What a handler returns.
pub type Result<T = ()> = std::result::Result<T, HandlerError>;

/// Why a handler did not finish.
///
/// Any error by `?` means: try again. Not a `std::error::Error` itself, else the blanket `From` could not exist (as in anyhow).
#[derive(Debug)]
pub struct HandlerError {
    pub(crate) verdict: Verdict,
    pub(crate) error: anyhow::Error,
}

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Retry,
    RetryAfter(Duration),
    Permanent,
    /// The escape hatch found that another delivery has done it.
    Duplicate,
}

impl<E: Into<anyhow::Error>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let error = error.into();
        let verdict = error.downcast_ref::<EffectError>().map_or(Verdict::Retry, EffectError::verdict);
        Self { verdict, error }
    }
}

impl HandlerError {
    /// Dead letter: trying again cannot help.
    pub fn permanent(why: impl Into<anyhow::Error>) -> Self {
        Self { verdict: Verdict::Permanent, error: why.into() }
    }

    /// Later, and not counted as a failure (bounded by the channel's `give_up_after`).
    pub fn retry_after(delay: Duration, why: impl Into<anyhow::Error>) -> Self {
        Self { verdict: Verdict::RetryAfter(delay), error: why.into() }
    }
}

/// `.permanent()?` and `.retry_after(delay)?` on any result.
///
/// One impl for all errors, those of pitcrew included: a second one would break `"7".parse().permanent()?`.
pub trait OrElse<T> {
    /// An error is final: dead letter, no retry.
    ///
    /// # Errors
    /// The same, with another verdict.
    fn permanent(self) -> Result<T>;

    /// An error means: come again after `delay`, and do not count it as a failure.
    ///
    /// # Errors
    /// The same, with another verdict.
    fn retry_after(self, delay: Duration) -> Result<T>;
}

impl<T, E: Into<HandlerError>> OrElse<T> for std::result::Result<T, E> {
    fn permanent(self) -> Result<T> {
        self.map_err(|e| HandlerError { verdict: Verdict::Permanent, ..e.into() })
    }

    fn retry_after(self, delay: Duration) -> Result<T> {
        self.map_err(|e| HandlerError { verdict: Verdict::RetryAfter(delay), ..e.into() })
    }
}
