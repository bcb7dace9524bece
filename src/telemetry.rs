//! Spans and log lines of the walk, by the OpenTelemetry conventions for messaging. Everything that is measured goes through here.

use crate::{
    Envelope,
    store::{Fate, Finished},
    transport::Subscription,
};
use tracing::{Span, debug, info_span, warn};

/// The span of one attempt (`process {destination}`, kind CONSUMER).
pub(crate) fn process_span(system: &'static str, subscription: &Subscription, envelope: &Envelope) -> Span {
    info_span!(
        "process",
        otel.kind = "consumer",
        messaging.system = system,
        messaging.operation.type = "process",
        messaging.operation.name = "process",
        messaging.destination.name = &*subscription.channel,
        messaging.consumer.group.name = &*subscription.name,
        messaging.message.id = envelope.id,
        messaging.message.conversation_id = envelope.correlation_id,
        pitcrew.message.type = envelope.ty,
        pitcrew.attempt = envelope.hop.attempt,
        traceparent = envelope.traceparent,
    )
}

/// One line per fate; those that a person may have to act on are warnings.
pub(crate) fn settled(finished: &Finished) {
    let (id, ty, attempt) = (&finished.envelope.id, &finished.envelope.ty, finished.envelope.hop.attempt);
    let error =
        finished.letter.as_ref().map(|l| l.error.as_str()).or(finished.attempt.as_ref().map(|a| a.error.as_str()));
    match &finished.fate {
        Fate::Dead(reason) => warn!(%id, ty, attempt, %reason, error, "dead letter"),
        Fate::Quarantined => warn!(%id, ty, attempt, error, "quarantined"),
        Fate::Retry(at) => debug!(%id, ty, attempt, %at, error, "will be retried"),
        fate => debug!(%id, ty, attempt, fate = fate.word(), "settled"),
    }
}
