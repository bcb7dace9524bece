//! Commands: one is sent with POST, and what became of it is read with GET.

use super::{AtWork, House, access::Caller, answer::Problem, queue::Order, types::CommandType};
use crate::{
    Envelope,
    client::{Client, Outcome},
    config::{Role, format_duration, parse_duration},
    store::Accepted,
    telemetry::traces::Carried,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SUBJECT: HeaderName = HeaderName::from_static("ce-subject");
const CORRELATION: HeaderName = HeaderName::from_static("ce-correlationid");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// `POST /commands/{type}`: 202 when it is durable.
pub(super) async fn send(
    State(house): State<Arc<House>>,
    Path(ty): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let caller = house.admit(Role::Send, &headers)?;
    let at_work = house.at_work()?;
    if at_work.view.is_draining() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this worker ends; send to another one"));
    }
    let command = house.command(&ty)?;
    let wait = house.patience(query.get("wait"))?;
    let body = body.map_err(|rejected| house.unread(&rejected))?;
    let mut envelope = house.read(&ty, command, body, &headers, caller)?;
    let (traceparent, tracestate) = (envelope.traceparent.take(), envelope.tracestate.take());
    let asked = Carried { traceparent: traceparent.as_deref(), tracestate: tracestate.as_deref() };
    at_work.view.router.trace(&mut envelope, asked);
    let rows = at_work.view.router.route(envelope.clone(), None);
    let rows = rows.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let (id, correlation) = (envelope.id.clone(), envelope.correlation_id.clone());
    let order = Order { envelope: Arc::new(envelope), consumer: command.consumer.clone(), rows };
    let id = match at_work.queue.accept(order).await {
        Ok(Accepted::New) => id,
        Ok(Accepted::Known(first)) => first,
        Ok(Accepted::Conflict(first)) => {
            let detail = "this Idempotency-Key came before with another payload";
            return Err(Problem::new(StatusCode::CONFLICT, detail).with(json!({ "id": first })));
        }
        Err(error) => return Err(Problem::store_is_away(&error)),
    };
    let location = format!("/commands/{}", in_a_path(&id));
    let mut answer =
        json!({ "id": id, "type": ty, "correlationid": correlation.as_ref().unwrap_or(&id), "state": "waiting" });
    let mut status = StatusCode::ACCEPTED;
    if !wait.is_zero() {
        let client = Client::over(at_work.view.store.clone(), at_work.view.router.clone());
        let outcome = client.outcome(&id, wait).await.map_err(|error| Problem::store_is_away(&format!("{error:#}")))?;
        if let Some((state, reason)) = ended(&outcome) {
            status = StatusCode::OK;
            answer["state"] = state.into();
            answer["reason"] = reason.into();
        }
    }
    Ok((status, [(header::LOCATION, location)], Json(answer)).into_response())
}

/// `GET /commands/{id}`: what `explain --json` prints.
pub(super) async fn explain(
    State(house): State<Arc<House>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    house.admit(Role::Read, &headers)?;
    let at_work = house.at_work()?;
    let document = crate::cli::document(&*at_work.view.store, &id).await;
    match document.map_err(|error| Problem::store_is_away(&error))? {
        Some(document) => Ok(Json(document).into_response()),
        None => Err(Problem::new(StatusCode::NOT_FOUND, "no message of this ID ever arrived here")),
    }
}

impl House {
    pub(super) fn at_work(&self) -> Result<&AtWork, Problem> {
        self.worker.get().ok_or_else(Problem::not_begun)
    }

    fn command(&self, ty: &str) -> Result<&CommandType, Problem> {
        self.types.commands.get(ty).ok_or_else(|| {
            let known: Vec<&str> = self.types.commands.keys().copied().collect();
            let detail = match self.types.events.contains(&ty) {
                true => format!("`{ty}` is an event: only its own service can say that it happened"),
                false => format!("`{}` is no command of this build", ty.chars().take(200).collect::<String>()),
            };
            Problem::new(StatusCode::NOT_FOUND, detail).with(json!({ "known": known }))
        })
    }

    fn patience(&self, wait: Option<&String>) -> Result<Duration, Problem> {
        let Some(text) = wait else { return Ok(Duration::ZERO) };
        let most = self.config.max_wait;
        match parse_duration(text) {
            Some(wait) if wait <= most => Ok(wait),
            Some(_) => {
                let detail = format!("wait: at most {} ([http] max_wait)", format_duration(most));
                Err(Problem::new(StatusCode::BAD_REQUEST, detail))
            }
            None => Err(Problem::new(StatusCode::BAD_REQUEST, "wait: a duration is meant, for example ?wait=5s")),
        }
    }

    fn unread(&self, rejected: &BytesRejection) -> Problem {
        match rejected.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("more than {} bytes ([worker] payload_limit)", self.limit);
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            status => Problem::new(status, rejected.body_text()),
        }
    }

    /// The message, or all that is wrong with it.
    fn read(
        &self,
        ty: &str,
        command: &CommandType,
        body: Bytes,
        headers: &HeaderMap,
        caller: Caller,
    ) -> Result<Envelope, Problem> {
        // A form of another web page can only send other types than this one.
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let detail = "the body is the command's payload: Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let payload: Value = serde_json::from_slice(&body)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?;
        let mut envelope = Envelope::new(ty, format!("/{}", self.types.service), body);
        envelope.version = command.version;
        envelope.actor = caller.name;
        envelope.idempotency_key = text(headers, &KEY)?;
        envelope.subject = text(headers, &SUBJECT)?;
        envelope.correlation_id = text(headers, &CORRELATION)?;
        envelope.traceparent = text(headers, &TRACEPARENT)?;
        envelope.tracestate = envelope.traceparent.as_ref().and_then(|_| tracestate(headers));
        let mistakes = command.format.mistakes(&payload, &envelope);
        if !mistakes.is_empty() {
            let detail = format!("the payload is no {ty}: {} mistakes", mistakes.len());
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with(json!({ "errors": mistakes })));
        }
        if std::str::from_utf8(&envelope.data).is_ok_and(crate::context::holds_nul) {
            let detail = "the payload holds a NUL (\\u0000), which no store can keep";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        let check = crate::message::wire::check(&envelope);
        check.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        Ok(envelope)
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = |why: &str| Problem::new(StatusCode::BAD_REQUEST, format!("{name}: {why}"));
    if values.next().is_some() {
        return Err(wrong("given twice"));
    }
    // What can be written in a header beside these is a tab, and bytes that are no ASCII.
    let value = value.to_str().ok().filter(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let value = value.ok_or_else(|| wrong("visible ASCII is meant"))?.trim();
    if value.is_empty() || value.len() > 200 {
        return Err(wrong("1 to 200 characters are meant"));
    }
    Ok(Some(value.to_owned()))
}

/// As W3C says: of several headers one, and what is none is left out.
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let all: Result<Vec<&str>, _> = headers.get_all("tracestate").iter().map(|value| value.to_str()).collect();
    all.ok().map(|all| all.join(",")).filter(|state| !state.is_empty() && state.len() <= 512)
}

fn ended(outcome: &Outcome) -> Option<(&'static str, Option<String>)> {
    match outcome {
        Outcome::Done { .. } => Some(("done", None)),
        Outcome::Dead { reason, error, .. } => Some(("dead", Some(format!("{reason}: {error}")))),
        Outcome::Other { fate, .. } => Some((crate::cli::four_words(fate), Some(fate.clone()))),
        Outcome::Waiting { .. } => None,
    }
}

/// An ID may hold anything; ours hold nothing that a path could not.
fn in_a_path(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
