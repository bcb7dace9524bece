//! Pitcrew: a worker runtime on top of existing brokers.
//!
//! A message's inbox row, its handler's writes and its outgoing messages commit as one transaction; the broker is acked after
//! that. A handler author needs [`Message`], [`Handler`] (or a plain `async fn`), [`Context`], [`Handlers`] and [`main`];
//! `docs/handlers.md` tells the rest, `handlers/` has workers to copy.
//!
//! # How to read this crate
//!
//! `x.rs` is the contract of a room, `x/` its parts. In this order it reads as a story:
//!
//! 1. `message.rs`: what travels; `message/wire.rs` is the one parser and the one writer of headers.
//! 2. `handler.rs`, `context.rs`: the author's page. Effects are collected, not executed.
//! 3. `transport.rs`, `store.rs`: what a broker and a database must promise. Adapters are in the folders beside them.
//! 4. `pipeline.rs`: the walk of a message, one function; its steps `decode`, `admit`, `handle`, `conclude` in the folder.
//!    `storm.rs` and `breaker.rs` are the states that make `admit` wait.
//! 5. `committer.rs`: many finished messages, one transaction; the only place that can ack.
//! 6. `relay.rs`: the one door out, from the outbox to the broker.
//! 7. `worker.rs`: a start with every check, an ordered end.
//!
//! # What always holds
//!
//! - A delivery is acked only with a [`Committed`](committer::Committed), which only the committer can make, after the commit (and
//!   the conformance suite of the transports, which has no store).
//! - Every delivery ends in exactly one [`Fate`](store::Fate), or is dropped unsettled and comes again.
//! - What leaves was an outbox row of the commit that decided it; the row goes after the broker confirmed.
//! - A handler holds no database connection, unless it asked for [`transaction`](Context::transaction).
//! - Waiting never holds a worker slot: a retry waits in the broker or as a row.
//! - Who is not sure asks the inbox: an unknown outcome is never taken for a failure.

mod breaker;
mod cli;
pub mod client;
pub mod clock;
pub mod committer;
pub mod config;
pub mod context;
mod dead_letter;
pub mod fault;
pub mod handler;
#[cfg(feature = "http")]
mod http;
mod lanes;
pub mod message;
mod payload;
mod pipeline;
mod relay;
mod retry;
mod route;
pub mod store;
mod storm;
mod telemetry;
pub mod testing;
mod topology;
pub mod transport;
pub mod worker;

pub use breaker::{Breaker, BreakerStatus, Outage};
pub use cli::{App, Globals, main};
pub use client::Client;
pub use context::{Context, Document, Row};
pub use handler::{Handler, HandlerError, Handlers, OrElse, Result, Setup};
pub use message::{Command, Envelope, Event, Message};
/// The database client, for `cx.transaction()` and `Setup::postgres`.
pub use sqlx;
pub use worker::{Running, Worker};

pub(crate) type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The examples of the README and of the guides are compiled and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/handlers.md")]
    struct Guide;
    #[doc = include_str!("../docs/transport-authors.md")]
    struct TransportAuthors;
}
