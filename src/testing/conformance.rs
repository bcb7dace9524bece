//! Conformance: the promises of a contract as tests that every adapter runs, those of third parties too.

pub mod store;
pub mod transport;
