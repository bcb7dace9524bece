//! Message Router: where an outgoing message goes. Built once at start, asked at the call of `emit`, so that a message without a
//! route fails in the author's first test and not in the relay.

use crate::{
    Envelope, Message, clock,
    context::{EffectError, RowSpec, holds_nul},
    message::{Intent, wire},
    store::{Destination, OutboxRow, Purpose},
    telemetry::traces::{self, Carried, Carries, Created},
    transport::Subscription,
};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Names of channels, services and handlers: `[a-z0-9.-]+`.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 100 && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
}

/// What becomes of an event that nobody subscribes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unrouted {
    /// It stays in the outbox, visible, until somebody does.
    #[default]
    Hold,
    /// It is not sent.
    Drop,
}

/// A type's way out.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) channel: Arc<str>,
    pub(crate) intent: Intent,
    pub(crate) unrouted: Unrouted,
}

/// The routing table of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Router {
    /// `/<service>`: the `source` of what we send.
    pub(crate) source: String,
    /// `rabbitmq`, `kafka`, `embedded`, by channel: `messaging.system`.
    pub(crate) systems: HashMap<Arc<str>, &'static str>,
    /// By type.
    pub(crate) routes: BTreeMap<String, Route>,
    /// Types that the handlers may send.
    pub(crate) declared: BTreeSet<String>,
    /// Tables that the handlers may write.
    pub(crate) rows: Vec<RowSpec>,
    /// Subscriptions by channel, where the transport wants one row for each.
    pub(crate) subscribers: Option<HashMap<Arc<str>, Vec<Subscription>>>,
    /// Largest payload, in bytes, of a channel that takes less than `max_bytes`.
    pub(crate) narrow: HashMap<Arc<str>, usize>,
    /// The same of every other channel.
    pub(crate) max_bytes: usize,
    /// Channels that a `replyto` may name.
    pub(crate) replyto_allowed: BTreeSet<String>,
}

impl Router {
    pub(crate) fn check_declared(&self, ty: &str) -> Result<(), EffectError> {
        if self.declared.contains(ty) { Ok(()) } else { Err(EffectError::Undeclared(ty.to_owned())) }
    }

    pub(crate) fn check_row(&self, table: &'static str) -> Result<(), EffectError> {
        if self.rows.iter().any(|r| r.table == table) { Ok(()) } else { Err(EffectError::UndeclaredTable(table)) }
    }

    /// The largest payload of this type, in bytes.
    pub(crate) fn limit(&self, ty: &str) -> usize {
        let of_channel = self.routes.get(ty).and_then(|route| self.narrow.get(&route.channel).copied());
        of_channel.unwrap_or(self.max_bytes)
    }

    /// A new message with what it inherits from the one that caused it. Its ID carries the time at which it is due.
    pub(crate) fn outgoing<M: Message>(
        &self,
        message: &M,
        cause: Option<&Envelope>,
        due: Option<DateTime<Utc>>,
    ) -> Result<Envelope, EffectError> {
        let what = M::TYPE;
        let mut envelope =
            Envelope::of(message, &self.source).map_err(|source| EffectError::Unserialisable { what, source })?;
        let limit = self.limit(&envelope.ty);
        if envelope.data.len() > limit {
            return Err(EffectError::TooLarge { what, size: envelope.data.len(), limit });
        }
        if std::str::from_utf8(&envelope.data).is_ok_and(holds_nul) {
            return Err(EffectError::Nul(what));
        }
        if let Some(due) = due {
            envelope.id = clock::uuid_v7_at(due).to_string();
        }
        if let Some(cause) = cause {
            envelope.actor = cause.actor.clone();
            envelope.correlation_id = cause.correlation_id.clone().or_else(|| Some(cause.id.clone()));
            envelope.causation_id = Some(cause.id.clone());
        }
        self.trace(&mut envelope, cause.map(Envelope::carried).unwrap_or_default());
        // What could not be read again would stand in the outbox for ever.
        wire::check(&envelope).map_err(|source| EffectError::Malformed { what, source })?;
        Ok(envelope)
    }

    /// Gives a new message the context of its creation.
    pub(crate) fn trace(&self, envelope: &mut Envelope, cause: Carried<'_>) {
        let channel = self.routes.get(&envelope.ty).map_or("", |route| &route.channel);
        let created = Created {
            system: self.systems.get(channel).copied().unwrap_or_default(),
            channel,
            id: &envelope.id,
            ty: &envelope.ty,
            correlation: envelope.correlation_id.as_deref(),
        };
        let Carries { traceparent, tracestate } = traces::create(created, cause);
        (envelope.traceparent, envelope.tracestate) = (traceparent, tracestate);
    }

    /// The outbox rows of a message: one, or one for each subscription where the transport wants that.
    pub(crate) fn route(&self, envelope: Envelope, due: Option<DateTime<Utc>>) -> Result<Vec<OutboxRow>, EffectError> {
        let Some(route) = self.routes.get(&envelope.ty) else {
            let why = "no channel carries this type; list it under `types` of a [channel.\"…\"]".into();
            return Err(EffectError::NoRoute { ty: envelope.ty, why });
        };
        let envelope = Arc::new(envelope);
        let row = |destination| row(destination, due, Purpose::Message, envelope.clone());
        let Some(subscribers) = &self.subscribers else {
            return Ok(vec![row(Destination::Channel(route.channel.clone()))]);
        };
        let listening = subscribers.get(&route.channel).map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<_> = listening
            .iter()
            .filter(|s| s.types.contains(&envelope.ty))
            .map(|s| row(Destination::Subscription(s.name.clone())))
            .collect();
        match (rows.is_empty(), route.intent, route.unrouted) {
            // A command waits in its queue for a worker that takes it, as on any broker.
            (true, Intent::Command, _) => Ok(vec![row(Destination::Subscription(route.channel.clone()))]),
            (true, Intent::Event, Unrouted::Hold) => Ok(vec![row(Destination::Channel(route.channel.clone()))]),
            _ => Ok(rows),
        }
    }

    /// The rows for those who subscribe now to an event that was held because nobody did. `None`: it is no such row.
    pub(crate) fn heard_now(&self, held: &OutboxRow) -> Option<Vec<OutboxRow>> {
        if self.subscribers.is_none() || held.purpose != Purpose::Message {
            return None;
        }
        let Destination::Channel(_) = held.destination else { return None };
        let rows = self.route((*held.envelope).clone(), None).ok()?;
        let is_heard = rows.first().is_some_and(|row| row.destination != held.destination);
        is_heard.then_some(rows)
    }

    /// The answer to a `replyto`.
    pub(crate) fn reply(&self, channel: &str, envelope: Envelope) -> Result<Vec<OutboxRow>, EffectError> {
        if !self.replyto_allowed.contains(channel) {
            return Err(EffectError::ReplyNotAllowed(channel.to_owned()));
        }
        Ok(vec![row(Destination::Channel(channel.into()), None, Purpose::Reply, Arc::new(envelope))])
    }
}

/// One outbox row, numbered now.
pub(crate) fn row(
    destination: Destination,
    due: Option<DateTime<Utc>>,
    purpose: Purpose,
    envelope: Arc<Envelope>,
) -> OutboxRow {
    let key = envelope.ordering_key().map(str::to_owned);
    OutboxRow { seq: clock::uuid_v7(), destination, due, key, purpose, envelope }
}
