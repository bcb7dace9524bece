//! Dead Letter Channel: a letter becomes a message again.

mod groups;

pub(crate) use groups::{Group, alike, groups};

use crate::{
    Envelope, clock,
    message::{
        Hop,
        wire::{self, WireError},
    },
    route,
    store::{DeadFilter, DeadLetter, Destination, LetterHead, LetterKey, OutboxRow, Purpose, Store, StoreResult},
};
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// Why a letter runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rerun {
    /// A person decided it: failures count from nothing, and `give_up_after` starts anew. Of many together each says in which replay.
    Replay(Option<Uuid>),
    /// A build that knows its version has come: nothing is forgotten.
    Redrive,
}

/// A letter that cannot run again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RerunError {
    /// Its bytes never were a message: there is nothing to hand to a handler.
    #[error("run it again: its bytes are no message ({0})")]
    NoMessage(#[from] WireError),
    /// It is a message of ours whose destination would not take it.
    #[error("run it again: `{0}` is no destination")]
    NoDestination(String),
}

/// The letter of this key, with its payload; `None`: it is gone.
pub(crate) async fn find(store: &dyn Store, key: &LetterKey) -> StoreResult<Option<DeadLetter>> {
    let filter = DeadFilter { id: Some(key.id.clone()), consumer: Some(key.consumer.clone()), ..DeadFilter::default() };
    let letters = store.dead_letters(&filter, usize::MAX).await?;
    Ok(letters.into_iter().find(|letter| letter.key == *key))
}

/// Whether it can run again, as far as that shows without its payload.
pub(crate) fn may_rerun(letter: &LetterHead) -> Result<(), RerunError> {
    wire::from_attributes_json(&letter.attributes, Bytes::new())?;
    destination(&letter.subscription).map(drop)
}

/// The outbox row that runs a letter again: the same id and time, the next attempt.
pub(crate) fn rerun(letter: &DeadLetter, how: Rerun) -> Result<OutboxRow, RerunError> {
    let mut envelope = wire::from_attributes_json(&letter.attributes, letter.payload.clone().into())?;
    envelope.hop.attempt = letter.key.attempt + 1;
    envelope.hop.reason = Some(match how {
        Rerun::Replay(replay) => {
            envelope.hop.failures = 0;
            envelope.hop.first_failure = None;
            envelope.hop.replay = replay.map(|id| id.to_string());
            "replay".into()
        }
        Rerun::Redrive => "redrive".into(),
    });
    Ok(route::row(destination(&letter.subscription)?, None, Purpose::Replay, Arc::new(envelope)))
}

/// The envelope of a message in place of one that died: an ID of its own, and everything that the old one was sent with. A deadline
/// that has passed would only be missed again.
pub(crate) fn successor(letter: &DeadLetter, version: u32, data: Bytes) -> Result<Envelope, RerunError> {
    let old = wire::from_attributes_json(&letter.attributes, Bytes::new())?;
    let now = clock::now();
    Ok(Envelope {
        id: clock::uuid_v7().to_string(),
        version,
        time: Some(now),
        correlation_id: old.correlation_id.or_else(|| Some(old.id.clone())),
        causation_id: Some(old.id),
        expires: old.expires.filter(|expires| *expires > now),
        content_type: Some("application/json".into()),
        hop: Hop::default(),
        data,
        ..old
    })
}

/// The outbox row of such a message: to where the old one died, and to nobody else who hears its channel.
pub(crate) fn replace(letter: &DeadLetter, envelope: Envelope) -> Result<OutboxRow, RerunError> {
    Ok(route::row(destination(&letter.subscription)?, None, Purpose::Message, Arc::new(envelope)))
}

/// An unpublishable message goes where it could not go, any other to the subscription that buried it.
fn destination(subscription: &str) -> Result<Destination, RerunError> {
    match subscription.split_once(':') {
        Some(_) => subscription.parse().map_err(|_| RerunError::NoDestination(subscription.to_owned())),
        None => Ok(Destination::Subscription(subscription.into())),
    }
}
