//! Problem Details (RFC 9457): what went wrong, for programs and for people.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    more: Value,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), more: Value::Null }
    }

    /// Fields beside the usual ones.
    pub(super) fn with(mut self, more: Value) -> Self {
        self.more = more;
        self
    }

    pub(super) fn not_begun() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the worker is not at work yet; /readyz tells when it is")
    }

    pub(super) fn store_is_away(error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%error, "a request could not be answered for want of the store");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer; nothing is known of what was asked")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let mut body = json!({ "title": title, "status": self.status.as_u16(), "detail": self.detail });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, self.more) {
            body.extend(more);
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

pub(super) async fn nothing_there() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "nothing is here; /openapi.json lists what is")
}

pub(super) async fn not_so() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method; /openapi.json lists what goes")
}
