//! What is left of a publish: its measure, and the letter of a row that its destination will never take.

use super::Relay;
use crate::{
    clock,
    message::wire,
    store::{DeadLetter, Destination, LetterKey, LetterState, Reason},
    telemetry::metrics::Sends,
    transport::{PublishError, Published, Sending},
};
use std::time::Duration;

pub(super) fn measure(relay: &Relay, to: &Destination, answers: &[Result<Published, PublishError>], took: Duration) {
    let failed: Vec<&str> = answers.iter().filter_map(|answer| answer.as_ref().err()).map(PublishError::word).collect();
    let sends = Sends { system: relay.0.transport.kind_of(to.name()), destination: &to.on_broker() };
    relay.0.settings.metrics.published(sends, answers.len() - failed.len(), &failed, took);
}

pub(super) fn letter(relay: &Relay, sending: &Sending, error: &str) -> DeadLetter {
    let (row, now) = (&sending.row, clock::now());
    let envelope = &row.envelope;
    DeadLetter {
        key: LetterKey {
            consumer: row.destination.to_string(),
            source: envelope.source.clone(),
            id: envelope.id.clone(),
            attempt: envelope.hop.attempt,
            payload_hash: envelope.payload_hash(),
        },
        state: LetterState::Dead,
        channel: row.destination.to_string(),
        subscription: row.destination.to_string(),
        ty: envelope.ty.clone(),
        version: envelope.version,
        reason: Reason::Unpublishable.word().into(),
        error: error.into(),
        attributes: wire::attributes_json(envelope),
        payload: envelope.data.to_vec(),
        count: 1,
        first_at: now,
        last_at: now,
        worker: relay.0.settings.worker,
        build: relay.0.settings.build.clone(),
    }
}
