//! Kafka alone: what the conformance suite cannot ask of every transport, because it is about a log.
#![cfg(feature = "kafka")]

#[path = "kafka/bed.rs"]
mod bed;
#[path = "kafka/depth.rs"]
mod depth;
#[path = "kafka/group.rs"]
mod group;
#[path = "kafka/log.rs"]
mod log;
#[path = "kafka/node.rs"]
mod node;
#[path = "kafka/reread.rs"]
mod reread;
#[path = "kafka/secure.rs"]
mod secure;
#[path = "kafka/topics.rs"]
mod topics;
