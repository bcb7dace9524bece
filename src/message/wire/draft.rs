//! Envelope Wrapper, what has been read so far: every attribute at most once, then the defaults, then an [`Envelope`].

use super::{Properties, WireError, attribute};
use crate::message::{Envelope, Hop, KeyTime};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::{borrow::Cow, collections::BTreeMap};

/// An envelope in the making.
#[derive(Default)]
pub(super) struct Draft {
    specversion: Option<()>,
    id: Option<String>,
    source: Option<String>,
    ty: Option<String>,
    version: Option<u32>,
    subject: Option<String>,
    time: Option<DateTime<Utc>>,
    actor: Option<String>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    partition_key: Option<String>,
    idempotency_key: Option<String>,
    expires: Option<DateTime<Utc>>,
    reply_to: Option<String>,
    data_ref: Option<String>,
    content_type: Option<String>,
    extensions: BTreeMap<String, String>,
    /// The W3C headers.
    pub(super) trace: Trace,
    /// The CloudEvents extensions of the same names.
    trace_extension: Trace,
    hop: HopDraft,
}

/// A pair that is only good together.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) parent: Option<String>,
    pub(super) state: Option<String>,
}

/// [`Hop`] with the difference between a default and a header.
#[derive(Default)]
struct HopDraft {
    attempt: Option<u32>,
    failures: Option<u32>,
    first_failure: Option<DateTime<Utc>>,
    due: Option<DateTime<Utc>>,
    reason: Option<String>,
    origin: Option<String>,
    worker: Option<String>,
    build: Option<String>,
    replay: Option<String>,
}

impl Draft {
    /// An attribute from outside. Empty is absent, except where an attribute must be there.
    pub(super) fn read(&mut self, name: &str, value: &str) -> Result<(), WireError> {
        let required = matches!(name, "specversion" | "id" | "source" | "type");
        if value.is_empty() && !required { Ok(()) } else { self.set(name, value.into()) }
    }

    /// An attribute as it is.
    pub(super) fn set(&mut self, name: &str, value: Cow<'_, str>) -> Result<(), WireError> {
        let text = match name {
            "specversion" if value == "1.0" => return once(&mut self.specversion, name, ()),
            "specversion" => {
                let problem = format!("is `{}`; only `1.0` is understood", attribute::shown(&value));
                return Err(WireError::new(name, problem));
            }
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.ty,
            "schemaversion" => return once(&mut self.version, name, attribute::whole(name, &value, 1)?),
            "subject" => &mut self.subject,
            "time" => return once(&mut self.time, name, attribute::time(name, &value)?),
            "actor" => &mut self.actor,
            "correlationid" => &mut self.correlation_id,
            "causationid" => &mut self.causation_id,
            "partitionkey" => &mut self.partition_key,
            "idempotencykey" => &mut self.idempotency_key,
            "expirytime" => return once(&mut self.expires, name, attribute::time(name, &value)?),
            "replyto" => &mut self.reply_to,
            "dataref" => &mut self.data_ref,
            "datacontenttype" => &mut self.content_type,
            "traceparent" => &mut self.trace_extension.parent,
            "tracestate" => &mut self.trace_extension.state,
            "data" => {
                return Err(WireError::new(name, "is a reserved name; in binary mode the payload is the body"));
            }
            _ => match self.extensions.insert(name.to_owned(), value.into_owned()) {
                Some(_) => return Err(twice(name)),
                None => return Ok(()),
            },
        };
        once(text, name, value.into_owned())
    }

    /// Without it an object of JSON is no CloudEvent. In headers it is what marks the set.
    pub(super) fn require_specversion(&self) -> Result<(), WireError> {
        self.specversion.ok_or_else(|| WireError::new("specversion", "is missing"))
    }

    /// A `pitcrew-*` header, by its whole name. One that this build does not know comes from a newer one: ignored,
    /// whatever its value is.
    pub(super) fn hop(&mut self, name: &str, value: Result<&str, WireError>) -> Result<(), WireError> {
        let hop = &mut self.hop;
        let texts = match name {
            "pitcrew-attempt" => return once(&mut hop.attempt, name, attribute::whole(name, value?, 1)?),
            "pitcrew-failures" => return once(&mut hop.failures, name, attribute::whole(name, value?, 0)?),
            "pitcrew-first-failure" => return once(&mut hop.first_failure, name, attribute::time(name, value?)?),
            "pitcrew-due" => return once(&mut hop.due, name, attribute::time(name, value?)?),
            "pitcrew-reason" => &mut hop.reason,
            "pitcrew-origin" => &mut hop.origin,
            "pitcrew-worker" => &mut hop.worker,
            "pitcrew-build" => &mut hop.build,
            "pitcrew-replay" => &mut hop.replay,
            _ => return Ok(()),
        };
        let value = value?;
        attribute::text(name, value)?;
        once(texts, name, value.to_owned())
    }

    /// Binary and bare messages: the broker's content type is the payload's.
    pub(super) fn content_type_from(&mut self, native: &Properties) {
        if self.content_type.is_none() {
            self.content_type = non_empty(&native.content_type);
        }
    }

    /// What the attributes left open, from what the broker knows and from the ID.
    pub(super) fn complete(&mut self, native: &Properties, channel: &str) {
        if self.source.is_none() {
            let name = native.app_id.as_deref().filter(|a| !a.is_empty()).unwrap_or(channel);
            self.source = Some(if name.starts_with('/') { name.to_owned() } else { format!("/{name}") });
        }
        if self.correlation_id.is_none() {
            self.correlation_id = non_empty(&native.correlation_id);
        }
        if self.reply_to.is_none() {
            self.reply_to = non_empty(&native.reply_to);
        }
        if self.partition_key.is_none() && self.subject.is_none() {
            self.partition_key = non_empty(&native.key);
        }
        if self.time.is_none() {
            let inside = match self.id.as_deref().map(KeyTime::of) {
                Some(KeyTime::At(time)) => Some(time),
                _ => None,
            };
            // On a copy of ours the broker's timestamp is the copy's: a time unknown at first stays unknown.
            let broker = native.timestamp.filter(|_| !self.is_copy());
            self.time = inside.or(broker).map(crate::clock::to_micros).filter(|t| attribute::is_writable(*t));
        }
        let trace = std::mem::take(&mut self.trace);
        self.trace = trace.valid().or_else(|| std::mem::take(&mut self.trace_extension).valid()).unwrap_or_default();
    }

    /// Pitcrew made this copy: any header of ours says so.
    fn is_copy(&self) -> bool {
        let HopDraft { attempt, failures, first_failure, due, reason, origin, worker, build, replay } = &self.hop;
        attempt.is_some()
            || failures.is_some()
            || first_failure.or(*due).is_some()
            || [reason, origin, worker, build, replay].into_iter().any(Option::is_some)
    }

    /// The end. Rules of single attributes are [`attribute::check`]'s.
    pub(super) fn envelope(self, data: Bytes) -> Result<Envelope, WireError> {
        let missing = |name| move || WireError::new(name, "is missing");
        let hop = Hop {
            attempt: self.hop.attempt.unwrap_or(1),
            failures: self.hop.failures.unwrap_or(0),
            first_failure: self.hop.first_failure,
            due: self.hop.due,
            reason: self.hop.reason,
            origin: self.hop.origin,
            worker: self.hop.worker,
            build: self.hop.build,
            replay: self.hop.replay,
        };
        Ok(Envelope {
            id: self.id.ok_or_else(missing("id"))?,
            source: self.source.ok_or_else(missing("source"))?,
            ty: self.ty.ok_or_else(missing("type"))?,
            version: self.version.unwrap_or(1),
            subject: self.subject,
            time: self.time,
            actor: self.actor,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            partition_key: self.partition_key,
            idempotency_key: self.idempotency_key,
            expires: self.expires,
            reply_to: self.reply_to,
            data_ref: self.data_ref,
            content_type: self.content_type,
            traceparent: self.trace.parent,
            tracestate: self.trace.state,
            extensions: self.extensions,
            hop,
            data,
        })
    }
}

impl Trace {
    /// W3C: an invalid `traceparent` is no error, and takes its `tracestate` with it.
    pub(super) fn valid(self) -> Option<Self> {
        let parent = self.parent.filter(|p| attribute::is_traceparent(p))?;
        Some(Self { parent: Some(parent), state: self.state.filter(|s| attribute::is_tracestate(s)) })
    }
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), WireError> {
    match slot.replace(value) {
        Some(_) => Err(twice(name)),
        None => Ok(()),
    }
}

pub(super) fn twice(name: &str) -> WireError {
    // Only a row that somebody edited can hold a name that is none.
    WireError::new(attribute::shown(name), "is there twice")
}

fn non_empty(value: &Option<String>) -> Option<String> {
    value.clone().filter(|v| !v.is_empty())
}
