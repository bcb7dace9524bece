//! Spans and log lines of the walk, by the OpenTelemetry conventions for messaging. What is measured goes through here.
//!
//! May be called from anywhere and calls nothing: it takes words, not types.

#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "part of it is read by the HTTP door alone"))]
pub(crate) mod metrics;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
pub(crate) mod traces;

use traces::{Carried, Recorded, Tracked};
use tracing::{Span, debug, field::Empty, info, info_span, warn};

/// The target of spans that no tracing backend wants.
pub(crate) const LOG_ONLY: &str = "pitcrew::log";

/// One attempt at one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process<'a> {
    pub(crate) system: &'static str,
    pub(crate) channel: &'a str,
    pub(crate) subscription: &'a str,
    pub(crate) id: &'a str,
    pub(crate) ty: &'a str,
    pub(crate) attempt: u32,
    pub(crate) correlation: Option<&'a str>,
    pub(crate) carried: Carried<'a>,
}

impl Process<'_> {
    /// What is noted of it: a span for a tracing backend, `process {destination}`, kind CONSUMER, where one records this trace; else
    /// only what the log tells of whose line is whose.
    pub(crate) fn begin(self) -> Tracked {
        match traces::recorded(self.carried) {
            Recorded::Whole => Tracked::whole(self.whole()),
            Recorded::LogOnly(within) => Tracked::within(self.for_the_log(), within),
        }
    }

    fn whole(self) -> Span {
        let span = info_span!(
            target: "pitcrew::trace",
            parent: None,
            "process",
            otel.name = format_args!("process {}", self.channel),
            otel.kind = "consumer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            error.type = Empty,
            pitcrew.fate = Empty,
            messaging.system = self.system,
            messaging.operation.type = "process",
            messaging.operation.name = "process",
            messaging.destination.name = self.channel,
            messaging.consumer.group.name = self.subscription,
            messaging.message.id = self.id,
            messaging.message.conversation_id = self.correlation,
            pitcrew.message.type = self.ty,
            pitcrew.attempt = self.attempt,
            traceparent = self.carried.traceparent,
        );
        traces::follow(&span, self.carried);
        span
    }

    fn for_the_log(self) -> Span {
        info_span!(
            target: LOG_ONLY,
            parent: None,
            "process",
            messaging.message.id = self.id,
            pitcrew.message.type = self.ty,
            pitcrew.attempt = self.attempt,
        )
    }
}

/// How an attempt ended; `error`: its kind and what it said, if it did not end done.
pub(crate) fn processed(tracked: &Tracked, fate: &'static str, error: Option<(&'static str, &str)>) {
    let Some(span) = tracked.for_backend() else { return };
    span.record("pitcrew.fate", fate);
    if let Some((kind, text)) = error {
        span.record("otel.status_code", "ERROR").record("otel.status_description", text).record("error.type", kind);
    }
}

/// The end of one attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled<'a> {
    pub(crate) id: &'a str,
    pub(crate) ty: &'a str,
    pub(crate) attempt: u32,
    pub(crate) fate: &'static str,
    pub(crate) reason: Option<&'static str>,
    pub(crate) error: Option<&'a str>,
}

/// One line per fate; those that a person may have to act on are warnings.
pub(crate) fn settled(settled: Settled<'_>) {
    let Settled { id, ty, attempt, fate, reason, error } = settled;
    match fate {
        "dead" | "quarantined" => warn!(id, ty, attempt, fate, reason, error, "settled"),
        _ => debug!(id, ty, attempt, fate, error, "settled"),
    }
}

/// More than half of a handler's last attempts failed: so many run at once from now on.
pub(crate) fn storm(consumer: &str, at_once: usize) {
    warn!(consumer, at_once, "a handler mostly fails: less of it runs at once");
}

/// It succeeds again; `None`: as many run at once as the configuration lets.
pub(crate) fn storm_recedes(consumer: &str, at_once: Option<usize>) {
    info!(consumer, at_once, "a handler succeeds again: more of it runs at once");
}
