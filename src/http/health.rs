//! Health: can this process make progress, and should it be given work?

use super::House;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::sync::Arc;

/// Restart it if this fails: a loop that has something to do does not move, or has ended.
pub(super) async fn livez(State(house): State<Arc<House>>) -> Response {
    let stuck = house.worker.get().map(|at_work| at_work.view.stuck(house.config.stuck_after)).unwrap_or_default();
    let live = stuck.is_empty();
    (status(live), Json(json!({ "live": live, "stuck": stuck }))).into_response()
}

/// Send it nothing while this fails; nobody is helped by a restart.
pub(super) async fn readyz(State(house): State<Arc<House>>) -> Response {
    let reasons = match house.worker.get() {
        Some(at_work) => at_work.view.why_not_ready(),
        None => vec!["starting: store and broker are being prepared".to_owned()],
    };
    let ready = reasons.is_empty();
    (status(ready), Json(json!({ "ready": ready, "reasons": reasons }))).into_response()
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
