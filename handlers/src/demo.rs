//! The demo: real commands through a real worker.

pub mod commands;
