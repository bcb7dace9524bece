//! `doctor` on real parts: what it says of them, that it changes nothing and ends in time, that no password is shown, and that every
//! command which it gives really works.
//!
//! Wants Postgres (`PITCREW_POSTGRES_URL`) and the brokers, where a test is about them.

#[path = "doctor/brokers.rs"]
mod brokers;
#[path = "doctor/databases.rs"]
mod databases;
#[path = "doctor/embedded.rs"]
mod embedded;
#[path = "doctor/screen.rs"]
mod screen;

/// The worker that it looks at, and whose command it is.
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
