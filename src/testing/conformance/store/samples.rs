//! Object Mother: finished messages, rows and letters with everything filled in; a case changes what it is about.

use crate::{Envelope, clock, message::wire, store::*};
use chrono::{DateTime, Utc};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

pub(super) const CONSUMER: &str = "conformance.Do";
pub(super) const CHANNEL: &str = "conformance.commands";
pub(super) const COLLECTION: &str = "conformance";

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn build_id() -> &'static str {
    "1.2.3-conformance"
}

/// A change in the middle of an expression.
pub(super) trait With: Sized {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
impl With for Envelope {}
impl With for Finished {}
impl With for OutboxRow {}
impl With for DeadLetter {}

/// A new command.
pub(super) fn command() -> Envelope {
    Envelope::new(CONSUMER, "/conformance", r#"{"n":1}"#)
}

/// A command with this ID.
pub(super) fn command_of(id: &str) -> Envelope {
    command().with(|e| id.clone_into(&mut e.id))
}

/// The copy of a message that a retry issues: same ID, next attempt.
pub(super) fn copy_of(envelope: &Envelope) -> Envelope {
    envelope.clone().with(|e| e.hop.attempt += 1)
}

/// A message that was handled and wrote nothing else.
pub(super) fn done(envelope: &Envelope) -> Finished {
    Finished {
        consumer: CONSUMER.into(),
        subscription: CHANNEL.into(),
        envelope: Arc::new(envelope.clone()),
        payload_hash: envelope.payload_hash(),
        fate: Fate::Done,
        fenced: true,
        operation: None,
        effects: Effects::default(),
        attempt: None,
        letter: None,
        row: None,
        claimed: false,
        duration: Duration::from_millis(3),
        at: clock::now(),
    }
}

/// A message that failed and comes again in a second: attempt row and copy.
pub(super) fn retry(envelope: &Envelope) -> Finished {
    let due = clock::now() + SECOND;
    done(envelope).with(|m| {
        m.fate = Fate::Retry(due);
        m.attempt = Some(attempt(m, Some(due)).into());
        let destination = Destination::Subscription(m.subscription.clone());
        m.effects.outbox.push(row(copy_of(envelope)).with(|r| {
            r.destination = destination;
            r.due = Some(due);
            r.purpose = Purpose::Retry;
        }));
    })
}

/// A message that died: attempt row and letter.
pub(super) fn dead(envelope: &Envelope) -> Finished {
    done(envelope).with(|m| {
        m.fate = Fate::Dead(Reason::Permanent);
        m.attempt = Some(attempt(m, None).into());
        m.letter = Some(letter(m).into());
    })
}

/// A message that waits for a newer build.
pub(super) fn quarantined(envelope: &Envelope) -> Finished {
    done(envelope).with(|m| {
        m.fate = Fate::Quarantined;
        let letter = letter(m).with(|l| {
            l.state = LetterState::Quarantined;
            l.reason = "newer_version".into();
        });
        m.letter = Some(letter.into());
    })
}

fn attempt(message: &Finished, next: Option<DateTime<Utc>>) -> Attempt {
    Attempt {
        attempt: message.envelope.hop.attempt,
        kind: AttemptKind::Failure,
        error: "ask the oracle: it sleeps".into(),
        at: message.at,
        duration: message.duration,
        worker: Uuid::from_u128(7),
        build: build_id().into(),
        next,
    }
}

/// The letter of a dead message.
pub(super) fn letter(message: &Finished) -> DeadLetter {
    let envelope = &message.envelope;
    DeadLetter {
        key: LetterKey {
            consumer: message.consumer.to_string(),
            source: envelope.source.clone(),
            id: envelope.id.clone(),
            attempt: envelope.hop.attempt,
            payload_hash: message.payload_hash,
        },
        state: LetterState::Dead,
        channel: CHANNEL.into(),
        subscription: message.subscription.to_string(),
        ty: envelope.ty.clone(),
        version: envelope.version,
        reason: Reason::Permanent.word().into(),
        error: "read the order: no such car".into(),
        attributes: wire::attributes_json(envelope),
        payload: envelope.data.to_vec(),
        count: 1,
        first_at: message.at,
        last_at: message.at,
        worker: Uuid::from_u128(7),
        build: build_id().into(),
    }
}

/// A row for a channel, with a number of now.
pub(super) fn row(envelope: Envelope) -> OutboxRow {
    OutboxRow {
        seq: clock::uuid_v7(),
        destination: Destination::Channel("conformance.events".into()),
        due: None,
        key: envelope.ordering_key().map(str::to_owned),
        purpose: Purpose::Message,
        envelope: Arc::new(envelope),
    }
}

/// A row with a message that `cause`'s handler sent.
pub(super) fn event(cause: &Envelope) -> OutboxRow {
    let data = r#"{"happened":true}"#;
    row(Envelope::new("conformance.Done", "/conformance", data).with(|e| e.causation_id = Some(cause.id.clone())))
}

/// Rows of nobody's, in sequence.
pub(super) fn rows(n: usize) -> Vec<OutboxRow> {
    (0..n).map(|_| row(command())).collect()
}

/// An unguarded write of a document.
pub(super) fn save(id: &str, body: &str) -> DocumentWrite {
    DocumentWrite { collection: COLLECTION, id: id.into(), schema: 1, body: body.into(), expect: Expect::Anything }
}

/// A guarded write of a document.
pub(super) fn guarded(id: &str, body: &str, expect: Expect) -> DocumentWrite {
    DocumentWrite { expect, ..save(id, body) }
}

/// A new message that writes this document.
pub(super) fn writing(write: &DocumentWrite) -> Finished {
    done(&command()).with(|m| m.effects.documents.push(write.clone()))
}

/// What an operator says.
pub(super) fn audit(action: &str, target: &str) -> Audit {
    Audit {
        actor: "ada".into(),
        action: action.into(),
        target: target.into(),
        reason: "the oracle is awake again".into(),
        at: clock::now(),
        bodies: None,
    }
}

/// The sequence numbers of rows.
pub(super) fn seqs<'a>(rows: impl IntoIterator<Item = &'a OutboxRow>) -> Vec<Uuid> {
    rows.into_iter().map(|row| row.seq).collect()
}
