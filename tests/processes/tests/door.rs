//! The HTTP door of a real worker process: who comes in, what is refused, what is sent exactly once, and what health and metrics say.
//!
//! Wants a Postgres (`PITCREW_POSTGRES_URL`) for some; the rest is SQLite and the embedded broker.

#[path = "door/browser.rs"]
mod browser;
#[path = "door/client.rs"]
mod client;
#[path = "door/commands.rs"]
mod commands;
#[path = "door/health.rs"]
mod health;
#[path = "door/metrics.rs"]
mod metrics;
#[path = "door/openapi.rs"]
mod openapi;
#[path = "interop/python.rs"]
#[expect(dead_code, reason = "schemathesis is a program beside Python, no script of it")]
mod python;
#[path = "door/sink.rs"]
mod sink;
#[path = "door/tls.rs"]
mod tls;

/// The worker that everybody talks to.
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
