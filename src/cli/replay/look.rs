//! `replay --dry-run`: what the inbox says of each record, and nothing else.

use super::{Replay, account::records};
use crate::{
    cli::output,
    message::wire,
    store::{InboxKey, Store},
    topology::Planned,
    transport::{Content, Delivery, Room, TransportError},
    worker::Replay as Readings,
};
use anyhow::Context as _;
use serde_json::json;
use std::collections::BTreeMap;

const ROOM: Room = Room { count: 500, bytes: 8 << 20 };

/// Counts, in the order in which they are told.
#[derive(Default)]
struct Found {
    new: u64,
    /// New ones by their type.
    types: BTreeMap<String, u64>,
    duplicate: u64,
    /// The ID is known with another payload: it would be dead.
    reused: u64,
    no_handler: u64,
    undecodable: u64,
}

pub(super) async fn look(
    replay: &Replay,
    readings: &Readings,
    planned: &[Planned],
    store: &dyn Store,
    as_json: bool,
) -> anyhow::Result<bool> {
    let mut found = Found::default();
    for planned in planned {
        let Some(mut reading) = readings.take(&planned.subscription.name) else { continue };
        loop {
            match reading.receive(ROOM).await {
                Ok(batch) => found.add(planned, batch, store).await?,
                Err(TransportError::Closed) => break,
                Err(error) => return Err(error).context("reading"),
            }
        }
    }
    found.tell(replay, as_json);
    Ok(true)
}

impl Found {
    async fn add(&mut self, planned: &Planned, batch: Vec<Delivery>, store: &dyn Store) -> anyhow::Result<()> {
        let mut asked = Vec::new();
        for delivery in &batch {
            let parsed = match &delivery.content {
                Content::Raw(raw) => wire::parse(raw, &planned.subscription.channel),
                Content::Parsed(envelope) => Ok((**envelope).clone()),
            };
            match parsed {
                Err(_) => self.undecodable += 1,
                Ok(envelope) if !planned.subscription.types.contains(&envelope.ty) => self.no_handler += 1,
                Ok(envelope) => {
                    let consumer = planned.handler_name.as_deref().unwrap_or(&envelope.ty).into();
                    let key = InboxKey { consumer, source: envelope.source.clone(), id: envelope.id.clone() };
                    asked.push((key, envelope));
                }
            }
        }
        let keys: Vec<InboxKey> = asked.iter().map(|(key, _)| key.clone()).collect();
        let seen = store.seen(&keys).await.context("asking the inbox")?;
        for (seen, (_, envelope)) in seen.into_iter().zip(asked) {
            match seen {
                Some(seen) if seen.payload_hash != envelope.payload_hash() => self.reused += 1,
                Some(seen) if seen.covers(envelope.hop.attempt) => self.duplicate += 1,
                _ => {
                    self.new += 1;
                    *self.types.entry(envelope.ty).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    fn tell(&self, replay: &Replay, as_json: bool) {
        let Self { new, types, duplicate, reused, no_handler, undecodable } = self;
        if as_json {
            output::line(
                json!({
                    "channel": replay.channel, "dry_run": true, "new": new, "types": types, "duplicate": duplicate,
                    "id_reused": reused, "no_handler": no_handler, "undecodable": undecodable,
                })
                .to_string(),
            );
            return;
        }
        let read = new + duplicate + reused + no_handler + undecodable;
        output::line(format!(
            "{read} {} of {}: {new} new, {duplicate} known to the inbox",
            records(read),
            replay.channel
        ));
        for (ty, count) in types {
            output::line(format!("  {count} {ty}"));
        }
        let odd = [
            (reused, "with an ID of another payload"),
            (no_handler, "without a handler"),
            (undecodable, "that are no message"),
        ];
        for (count, what) in odd.into_iter().filter(|(count, _)| **count > 0) {
            output::line(format!("{count} {what}"));
        }
        output::line("nothing was run; without --dry-run the new ones are");
    }
}
