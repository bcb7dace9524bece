//! decode: bytes become a message that a handler of this build may run, or a fate.

use super::{Arrival, Pipeline, Work};
use crate::{
    Envelope, clock,
    context::Effects,
    message::{
        Intent,
        wire::{self, Raw},
    },
    store::{DeadLetter, Fate, Finished, LetterKey, LetterState, Reason},
    transport::{Content, Delivery},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};

impl Pipeline {
    pub(super) fn decode(&self, delivery: Delivery) -> Arrival {
        let weight = self.room.take(delivery.weight());
        let received = delivery.received;
        let work = match &delivery.content {
            Content::Parsed(envelope) => self.recognise(envelope.clone(), &delivery),
            // One that is only too large is refused under its own ID, so that it can be found and, with more room, replayed.
            Content::Raw(raw) => match wire::parse(raw, &self.subscription.channel) {
                Ok(envelope) => self.recognise(Arc::new(envelope), &delivery),
                Err(_) if raw.body.len() > self.shared.payload_limit => {
                    Err(Box::new(self.undecodable(raw, Reason::TooLarge, self.too_large(raw.body.len()))))
                }
                Err(error) => Err(Box::new(self.undecodable(raw, Reason::Undecodable, error.to_string()))),
            },
        };
        if let Ok(Work { envelope, .. }) = &work {
            self.reception.sees(envelope, received);
        }
        Arrival { delivery, weight, work }
    }

    /// Which handler is it for, and may it run at all?
    fn recognise(&self, envelope: Arc<Envelope>, delivery: &Delivery) -> Result<Work, Box<Finished>> {
        let frame = |fate| {
            let consumer = self.consumer_of(&envelope);
            Finished { row: delivery.row, ..self.frame(consumer, envelope.clone(), fate) }
        };
        let now = clock::now();
        let reject = |reason, error: &str| Err(Box::new(self.rejected(frame(Fate::Dead(reason)), error)));
        let quarantine = |error: &str| Err(Box::new(self.quarantined(frame(Fate::Quarantined), error)));

        let Some(runner) = self.runners.get(envelope.ty.as_str()).cloned() else {
            return match self.subscription.intent {
                Intent::Event => Err(Box::new(Finished { fenced: false, ..frame(Fate::Ignored) })),
                // A rollout may be under way: another build takes it.
                Intent::Command if self.policy.listed.contains(&envelope.ty) => {
                    quarantine("this build has no handler for the type, the config lists it for the channel")
                }
                Intent::Command => {
                    reject(Reason::UnknownType, "no handler for the type, and the config does not list it")
                }
            };
        };
        if envelope.data.len() > self.shared.payload_limit {
            return reject(Reason::TooLarge, &self.too_large(envelope.data.len()));
        }
        let key_time = envelope.key_time();
        if key_time.is_from_the_future(now) {
            return reject(Reason::FromTheFuture, "the time in its UUIDv7 is more than a day ahead");
        }
        if envelope.version > runner.registered.version {
            let (found, known) = (envelope.version, runner.registered.version);
            return quarantine(&format!("version {found} is newer than {known}, the newest this build knows"));
        }
        if envelope.expires.is_some_and(|expires| expires < now) {
            return Err(Box::new(frame(Fate::Expired)));
        }
        let suspect = delivery.suspect || envelope.hop.attempt > 1;
        let payload_hash = envelope.payload_hash();
        let operation = envelope.idempotency_key.as_ref().map(|_| operation_hash(&envelope));
        let row = delivery.row;
        let redelivered = delivery.suspect;
        Ok(Work {
            envelope,
            runner,
            key_time,
            payload_hash,
            operation,
            suspect,
            redelivered,
            begun: 0,
            claimed: false,
            row,
        })
    }

    /// The handler's name, or the type's where there is none.
    pub(super) fn consumer_of(&self, envelope: &Envelope) -> Arc<str> {
        match self.runners.get(envelope.ty.as_str()) {
            Some(runner) => runner.registered.consumer.clone(),
            None => envelope.ty.as_str().into(),
        }
    }

    /// What is stored about a message whose fate is known without a handler.
    pub(super) fn frame(&self, consumer: Arc<str>, envelope: Arc<Envelope>, fate: Fate) -> Finished {
        Finished {
            consumer,
            subscription: self.subscription.name.clone(),
            payload_hash: envelope.payload_hash(),
            envelope,
            fate,
            fenced: true,
            operation: None,
            effects: Effects::default(),
            attempt: None,
            letter: None,
            row: None,
            claimed: false,
            duration: Duration::ZERO,
            at: clock::now(),
        }
    }

    fn too_large(&self, size: usize) -> String {
        format!("a payload of {size} bytes is over the limit of {} (worker.payload_limit)", self.shared.payload_limit)
    }

    /// Bytes that are no message: a letter by (channel, hash), no inbox row.
    pub(super) fn undecodable(&self, raw: &Raw, reason: Reason, error: String) -> Finished {
        let (now, hash) = (clock::now(), <[u8; 32]>::from(Sha256::digest(&raw.body)));
        let id = format!("sha256:{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>());
        let mut envelope = Envelope::new("", self.subscription.channel.to_string(), raw.body.clone());
        envelope.id.clone_from(&id);
        let letter = DeadLetter {
            key: LetterKey {
                consumer: self.subscription.name.to_string(),
                source: self.subscription.channel.to_string(),
                id,
                attempt: 1,
                payload_hash: hash,
            },
            state: LetterState::Dead,
            channel: self.subscription.channel.to_string(),
            subscription: self.subscription.name.to_string(),
            ty: String::new(),
            version: 0,
            reason: reason.word().into(),
            error: printable(&error),
            attributes: headers_json(raw),
            payload: raw.body.to_vec(),
            count: 1,
            first_at: now,
            last_at: now,
            worker: self.shared.worker,
            build: self.shared.build.clone(),
        };
        Finished {
            consumer: self.subscription.name.clone(),
            subscription: self.subscription.name.clone(),
            envelope: Arc::new(envelope),
            payload_hash: hash,
            fate: Fate::Dead(reason),
            fenced: false,
            operation: None,
            effects: Effects::default(),
            attempt: None,
            letter: Some(letter.into()),
            row: None,
            claimed: false,
            duration: Duration::ZERO,
            at: now,
        }
    }
}

/// Headers of bytes that are no message, for people.
fn headers_json(raw: &Raw) -> String {
    let text = |value: &Option<bytes::Bytes>| match value {
        Some(bytes) => Value::String(printable(&String::from_utf8_lossy(bytes))),
        None => Value::Null,
    };
    let headers: serde_json::Map<_, _> =
        raw.headers.iter().map(|(name, value)| (printable(name), text(value))).collect();
    json!({ "headers": headers, "content-type": raw.properties.content_type.as_deref().map(printable) }).to_string()
}

/// A NUL cannot be kept by Postgres, and an error text is for people.
pub(super) fn printable(text: &str) -> String {
    let text: String = text.chars().take(8_000).collect();
    text.replace('\0', "␀")
}

/// What makes two messages the same operation: canonical payload (sorted keys, no white space), type and version.
pub(crate) fn operation_hash(envelope: &Envelope) -> [u8; 32] {
    let canonical = match serde_json::from_slice::<Value>(&envelope.data) {
        Ok(value) => {
            let mut text = String::with_capacity(envelope.data.len());
            canonical(&value, &mut text);
            text.into_bytes()
        }
        Err(_) => envelope.data.to_vec(),
    };
    let mut hash = Sha256::new();
    hash.update(envelope.ty.as_bytes());
    hash.update([0]);
    hash.update(envelope.version.to_be_bytes());
    hash.update(canonical);
    hash.finalize().into()
}

fn canonical(value: &Value, to: &mut String) {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            to.push('{');
            for (n, (name, value)) in fields.into_iter().enumerate() {
                to.push_str(if n > 0 { "," } else { "" });
                to.push_str(&Value::String(name.clone()).to_string());
                to.push(':');
                canonical(value, to);
            }
            to.push('}');
        }
        Value::Array(items) => {
            to.push('[');
            for (n, item) in items.iter().enumerate() {
                to.push_str(if n > 0 { "," } else { "" });
                canonical(item, to);
            }
            to.push(']');
        }
        plain => to.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_the_same_whatever_the_order_of_its_fields() {
        let hash = |data: &'static str| operation_hash(&Envelope::new("a", "s", data));
        assert_eq!(hash(r#"{"a":1,"b":{"c":[1,2],"d":null}}"#), hash(r#"{ "b": {"d":null,"c":[1, 2]}, "a": 1 }"#));
        assert_ne!(hash(r#"{"a":1}"#), hash(r#"{"a":2}"#));
        assert_ne!(hash(r#"{"a":[1,2]}"#), hash(r#"{"a":[2,1]}"#));
    }
}
