//! Service Activator: the page a handler author reads. Typed at this edge, erased at registration (`handler/registry.rs`).

mod error;
mod registry;

pub(crate) use error::Verdict;
pub use error::{HandlerError, OrElse, Result};
pub(crate) use registry::{Check, Contract, External, Registered, Registry, TypeInfo};
pub use registry::{Handlers, Setup};

use crate::{BoxFuture, Context, Envelope, Message, message};
use std::marker::PhantomData;

/// Handles messages of type `M`. An `async fn(M, &mut Context) -> pitcrew::Result` is a handler, too.
///
/// The runtime calls `handle` once per attempt, on a task of its own, with a deadline. What the handler asks of its [`Context`]
/// commits together with the inbox row when it returns `Ok`, and vanishes when it returns `Err`, panics or is dropped at its
/// deadline or at shutdown: be prepared to be dropped at any `.await`. Calls to anything outside the database may happen again.
///
/// A type parameter, not an associated type: one struct may handle several messages.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle `{M}`",
    note = "write `impl Handler<{M}> for {Self}`, or an `async fn(m: {M}, cx: &mut Context) -> pitcrew::Result`"
)]
pub trait Handler<M: Message>: Send + Sync + 'static {
    /// Does the work of one message. `?` on any error means: try again later.
    fn handle(&self, message: M, cx: &mut Context) -> impl Future<Output = Result> + Send;
}

/// Plain async functions are handlers. A helper that ties the future's lifetime to the borrow of the context, which an
/// `AsyncFn` bound cannot do together with `Send`.
#[doc(hidden)]
pub trait Call<'a, M>: Send + Sync + 'static {
    type Fut: Future<Output = Result> + Send + 'a;
    fn call(&self, message: M, cx: &'a mut Context) -> Self::Fut;
}

impl<'a, M, F, Fut> Call<'a, M> for F
where
    F: Fn(M, &'a mut Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result> + Send + 'a,
{
    type Fut = Fut;
    fn call(&self, message: M, cx: &'a mut Context) -> Fut {
        self(message, cx)
    }
}

impl<M: Message, F: for<'a> Call<'a, M>> Handler<M> for F {
    fn handle(&self, message: M, cx: &mut Context) -> impl Future<Output = Result> + Send {
        self.call(message, cx)
    }
}

/// A handler whose message type is forgotten.
pub(crate) trait Erased: Send + Sync {
    /// Decodes at once and hands back the handler's future: one box for both steps, and a payload that is wrong never runs.
    fn begin<'a>(
        &'a self,
        envelope: &Envelope,
        cx: &'a mut Context,
    ) -> std::result::Result<BoxFuture<'a, Result>, message::DecodeError>;
}

pub(crate) struct Typed<M, H>(pub(crate) H, pub(crate) PhantomData<fn(M)>);

impl<M: Message, H: Handler<M>> Erased for Typed<M, H> {
    fn begin<'a>(
        &'a self,
        envelope: &Envelope,
        cx: &'a mut Context,
    ) -> std::result::Result<BoxFuture<'a, Result>, message::DecodeError> {
        let message = message::decode::<M>(envelope)?;
        Ok(Box::pin(self.0.handle(message, cx)))
    }
}
