//! Pitcrew: a worker runtime on top of existing brokers.

mod cli;
pub mod client;
pub mod clock;
pub mod committer;
pub mod config;
pub mod context;
mod dead_letter;
pub mod fault;
pub mod handler;
mod lanes;
pub mod message;
mod pipeline;
mod relay;
mod retry;
mod route;
pub mod store;
mod telemetry;
pub mod testing;
mod topology;
pub mod transport;
pub mod worker;

pub use cli::{App, Globals, main};
pub use client::Client;
pub use context::{Context, Document, Row};
pub use handler::{Handler, HandlerError, Handlers, OrElse, Result, Setup};
pub use message::{Command, Envelope, Event, Message};
/// The database client, for `cx.transaction()` and `Setup::postgres`.
pub use sqlx;
pub use worker::{Running, Worker};

pub(crate) type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
