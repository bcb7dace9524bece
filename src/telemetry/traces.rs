//! Trace context: whose trace a message is part of, and what our spans are to it.
//!
//! A message carries the W3C context of its creation, and keeps it over every retry and delay. Each attempt is a child of it, with a link
//! beside (the conventions for messaging allow both for one message); what an attempt emits is created inside it; what is published
//! together links to all that it carries. Without a tracing backend nothing of this is done, and what a message carries is handed on. So
//! it is in a trace that nobody records: it costs its context, and no span.

use std::fmt::Display;
use tracing::{Instrument, Level, Span};

/// What a message carries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried<'a> {
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) tracestate: Option<&'a str>,
}

/// What it will carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carries {
    pub(crate) traceparent: Option<String>,
    pub(crate) tracestate: Option<String>,
}

/// A message that is made.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "a tracing backend reads it"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Created<'a> {
    pub(crate) system: &'static str,
    pub(crate) channel: &'a str,
    pub(crate) id: &'a str,
    pub(crate) ty: &'a str,
    pub(crate) correlation: Option<&'a str>,
}

impl Carried<'_> {
    fn to_owned(self) -> Carries {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Carries { traceparent: owned(self.traceparent), tracestate: owned(self.tracestate) }
    }

    /// Whether its trace is recorded, by its own word.
    #[cfg(feature = "otlp")]
    fn is_sampled(self) -> bool {
        let flags = self.traceparent.and_then(|text| text.get(53..55)).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        flags.is_some_and(|flags| flags & 1 == 1)
    }
}

/// What is noted of an attempt.
pub(crate) enum Recorded {
    /// All that the conventions ask for: a backend has it, or decides itself.
    Whole,
    /// Nobody records this trace; its context, if there is one, is handed on.
    LogOnly(Unrecorded),
}

#[cfg(feature = "otlp")]
type Unrecorded = Option<opentelemetry::Context>;
#[cfg(not(feature = "otlp"))]
type Unrecorded = ();

/// What is noted of one attempt, while it runs.
pub(crate) struct Tracked {
    span: Span,
    is_whole: bool,
    #[cfg(feature = "otlp")]
    within: opentelemetry::Context,
}

impl Tracked {
    pub(crate) fn whole(span: Span) -> Self {
        Self { is_whole: !span.is_disabled(), ..Self::within(span, Unrecorded::default()) }
    }

    pub(crate) fn within(span: Span, _context: Unrecorded) -> Self {
        Self {
            span,
            is_whole: false,
            #[cfg(feature = "otlp")]
            within: _context.unwrap_or_default(),
        }
    }

    /// The span that a backend records.
    pub(crate) fn for_backend(&self) -> Option<&Span> {
        self.is_whole.then_some(&self.span)
    }

    /// Runs `work` inside of it.
    pub(crate) async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        let work = work.instrument(self.span.clone());
        #[cfg(feature = "otlp")]
        let work = opentelemetry::trace::FutureExt::with_context(work, self.within.clone());
        work.await
    }
}

/// Whether anybody would see spans that only a tracing backend is interested in: a log is not.
fn backend_is_there() -> bool {
    tracing::enabled!(target: "pitcrew::trace", Level::DEBUG)
}

/// What is noted of an attempt at a message that carries this.
pub(crate) fn recorded(carried: Carried<'_>) -> Recorded {
    if !backend_is_there() {
        return Recorded::LogOnly(Unrecorded::default());
    }
    #[cfg(feature = "otlp")]
    if let Some(unrecorded) = backend::unrecorded(carried) {
        return Recorded::LogOnly(Some(unrecorded));
    }
    let _ = carried;
    Recorded::Whole
}

/// The span of a batch that is published: `send {destination}`. Disabled where nobody would see it.
pub(crate) fn send<'a>(
    system: &'static str,
    destination: &impl Display,
    batch: impl ExactSizeIterator<Item = Carried<'a>> + Clone,
) -> Span {
    #[cfg(feature = "otlp")]
    if backend_is_there() && batch.clone().any(Carried::is_sampled) {
        return backend::send(system, destination, batch);
    }
    let _ = (system, destination, batch);
    Span::none()
}

/// It was published; `error`: the word for the first that was not.
pub(crate) fn sent(span: &Span, error: Option<&'static str>) {
    if let Some(word) = error {
        span.record("otel.status_code", "ERROR").record("error.type", word);
    }
}

/// An attempt at a message: a child of its creation, and linked to it.
pub(crate) fn follow(span: &Span, carried: Carried<'_>) {
    #[cfg(feature = "otlp")]
    if carried.traceparent.is_some() && backend_is_there() {
        backend::follow(span, carried);
    }
    let _ = (span, carried);
}

/// What a new message carries: the context of its own creation, inside the span that is entered, else after `cause`.
pub(crate) fn create(message: Created<'_>, cause: Carried<'_>) -> Carries {
    #[cfg(feature = "otlp")]
    if backend_is_there()
        && let Some(carries) = backend::create(message, cause)
    {
        return carries;
    }
    let _ = message;
    cause.to_owned()
}

#[cfg(feature = "otlp")]
pub(crate) mod backend {
    use super::{Carried, Carries, Created};
    use opentelemetry::{
        Context,
        propagation::{Extractor, Injector, TextMapPropagator},
        trace::{SpanContext, SpanKind, TraceContextExt, TraceFlags, TraceState},
    };
    use opentelemetry_sdk::{
        propagation::TraceContextPropagator,
        trace::{IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample},
    };
    use std::{
        fmt::Display,
        sync::{LazyLock, OnceLock},
    };
    use tracing::{Span, debug_span};
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    static W3C: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);

    /// Who decides about traces that begin here, where this process pushes its spans itself.
    static SAMPLER: OnceLock<Sampler> = OnceLock::new();

    pub(crate) fn decide_by(sampler: Sampler) {
        let _ = SAMPLER.set(sampler);
    }

    /// The context of an attempt in a trace that is not recorded. `None`: it is, or is the business of a backend that is not ours.
    ///
    /// Decided before a span is made: one that the backend throws away costs almost as much as one that it keeps.
    pub(super) fn unrecorded(carried: Carried<'_>) -> Option<Context> {
        let sampler = SAMPLER.get()?;
        let cause = W3C.extract_with_context(&Context::new(), &carried);
        if cause.span().span_context().is_valid() {
            return is_unrecorded(&cause).then_some(cause);
        }
        let ids = RandomIdGenerator::default();
        let trace = ids.new_trace_id();
        let sampled = sampler.should_sample(None, trace, "process", &SpanKind::Consumer, &[], &[]);
        if sampled.decision == SamplingDecision::RecordAndSample {
            return None;
        }
        let own = SpanContext::new(trace, ids.new_span_id(), TraceFlags::NOT_SAMPLED, false, TraceState::NONE);
        Some(Context::new().with_remote_span_context(own))
    }

    fn is_unrecorded(context: &Context) -> bool {
        let span = context.span();
        span.span_context().is_valid() && !span.span_context().is_sampled()
    }

    pub(super) fn follow(span: &Span, carried: Carried<'_>) {
        let cause = W3C.extract_with_context(&Context::new(), &carried);
        let creation = cause.span().span_context().clone();
        if creation.is_valid() {
            // There may be a log and no backend: then nobody misses it.
            let _ = span.set_parent(cause);
            span.add_link(creation);
        }
    }

    pub(super) fn create(message: Created<'_>, cause: Carried<'_>) -> Option<Carries> {
        let Created { system, channel, id, ty, correlation } = message;
        let around = Context::current();
        let is_within = around.span().span_context().is_valid();
        let cause = if is_within { around } else { W3C.extract_with_context(&Context::new(), &cause) };
        let mut carries = Carries::default();
        if SAMPLER.get().is_some() && is_unrecorded(&cause) {
            W3C.inject_context(&cause, &mut carries);
            return Some(carries);
        }
        let span = debug_span!(
            target: "pitcrew::trace",
            "create",
            otel.name = format_args!("create {channel}"),
            otel.kind = "producer",
            messaging.system = system,
            messaging.operation.type = "create",
            messaging.operation.name = "create",
            messaging.destination.name = channel,
            messaging.message.id = id,
            messaging.message.conversation_id = correlation,
            pitcrew.message.type = ty,
        );
        if !is_within {
            let _ = span.set_parent(cause);
        }
        let created = span.context();
        W3C.inject_context(&created, &mut carries);
        carries.traceparent.is_some().then_some(carries)
    }

    pub(super) fn send<'a>(
        system: &'static str,
        destination: &impl Display,
        batch: impl ExactSizeIterator<Item = Carried<'a>> + Clone,
    ) -> Span {
        let count = batch.len();
        let span = debug_span!(
            target: "pitcrew::trace",
            parent: None,
            "send",
            otel.name = format_args!("send {destination}"),
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            messaging.system = system,
            messaging.operation.type = "send",
            messaging.operation.name = "send",
            messaging.destination.name = %destination,
            messaging.batch.message_count = (count > 1).then_some(count),
        );
        if count == 1 {
            batch.for_each(|carried| follow(&span, carried));
            return span;
        }
        for carried in batch.filter(|carried| carried.is_sampled()) {
            span.add_link(W3C.extract_with_context(&Context::new(), &carried).span().span_context().clone());
        }
        span
    }

    impl Extractor for Carried<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            match key {
                "traceparent" => self.traceparent,
                "tracestate" => self.tracestate,
                _ => None,
            }
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent", "tracestate"]
        }
    }

    impl Injector for Carries {
        fn set(&mut self, key: &str, value: String) {
            match key {
                "traceparent" => self.traceparent = Some(value),
                "tracestate" => self.tracestate = Some(value).filter(|state| !state.is_empty()),
                _ => {}
            }
        }
    }
}
