//! Pitcrew: a worker runtime on top of existing brokers.

pub mod clock;
pub mod committer;
pub mod config;
pub mod context;
pub mod fault;
pub mod handler;
mod lanes;
pub mod message;
mod pipeline;
mod relay;
pub mod retry;
mod route;
pub mod store;
mod telemetry;
pub mod testing;
pub mod transport;

pub use context::{Context, Document, Row};
pub use handler::{Handler, HandlerError, Handlers, OrElse, Result, Setup};
pub use message::{Command, Envelope, Event, Message};
/// The database client, for `cx.transaction()` and `Setup::postgres`.
pub use sqlx;

pub(crate) type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
