//! Control Bus for people: what the page shows, as one document.

use super::{House, answer::Problem};
use crate::{
    clock,
    config::Role,
    store::{DeadFilter, DeadLetter, LetterState},
    worker::BUILD,
};
use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// So many retries are shown, the next ones.
const RETRIES: usize = 50;
/// So many letters are looked at, the newest.
const LETTERS: usize = 1_000;

pub(super) async fn overview(State(house): State<Arc<House>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    house.admit(Role::Read, &headers)?;
    let view = &house.at_work()?.view;
    let now = clock::now();
    let away = |error| Problem::store_is_away(&error);
    let retries = view.store.retries(now, RETRIES).await.map_err(away)?;
    let filter = DeadFilter { states: vec![LetterState::Dead, LetterState::Quarantined], ..DeadFilter::default() };
    let letters = view.store.dead_letters(&filter, LETTERS).await.map_err(away)?;
    Ok(Json(json!({
        "service": house.types.service,
        "version": BUILD,
        "worker": view.worker,
        "store": view.store.kind(),
        "transport": view.transport.kind(),
        "at": now,
        "not_ready": view.why_not_ready(),
        "stuck": view.stuck(house.config.stuck_after),
        "channels": view.channels(),
        "handlers": view.handlers(),
        "retries": retries,
        "dead": groups(&letters),
        "dead_more": letters.len() == LETTERS,
    })))
}

/// What failed alike stands together: channel, type, reason, and the error without what differs from message to message.
fn groups(letters: &[DeadLetter]) -> Vec<Value> {
    let mut groups: BTreeMap<(&str, &str, &str, String), Vec<&DeadLetter>> = BTreeMap::new();
    for letter in letters {
        let key = (&*letter.channel, &*letter.ty, &*letter.reason, fingerprint(&letter.error));
        groups.entry(key).or_default().push(letter);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, letters)| std::cmp::Reverse(letters.len()));
    let told = groups.into_iter().map(|((channel, ty, reason, _), letters)| {
        let newest = letters[0]; // they come newest first
        json!({
            "channel": channel, "type": ty, "reason": reason, "state": newest.state, "error": newest.error,
            "count": letters.iter().map(|letter| u64::from(letter.count)).sum::<u64>(),
            "first": letters.iter().map(|letter| letter.first_at).min(),
            "last": newest.last_at, "example": newest.key.id,
        })
    });
    told.collect()
}

/// The first line, with every run of digits and every long hexadecimal word as `#`.
fn fingerprint(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let words = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let plain = words.map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
    plain.collect::<String>().chars().take(200).collect()
}
