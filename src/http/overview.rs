//! Control Bus for people: what the page shows, as one document.

use super::{House, answer::Problem};
use crate::{
    clock,
    config::Role,
    dead_letter,
    store::{DeadFilter, LetterState},
    worker::BUILD,
};
use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Value, json};
use std::sync::Arc;

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
    let letters = view.store.letter_heads(&filter, LETTERS).await.map_err(away)?;
    Ok(Json(json!({
        "service": house.types.service,
        "version": BUILD,
        "worker": view.worker,
        "store": view.store.kind(),
        "transport": view.systems().join(" + "),
        "at": now,
        "not_ready": view.why_not_ready(),
        "stuck": view.stuck(house.config.stuck_after),
        "channels": view.channels(),
        "handlers": view.handlers(),
        "retries": retries,
        "dead": dead_letter::groups(&letters),
        "dead_more": letters.len() == LETTERS,
    })))
}
