//! `/metrics`: what the meter shows, in the text that Prometheus reads.

use super::{House, answer::Problem};
use crate::{config::Role, telemetry::metrics::Readers};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus::{Encoder, Registry, TextEncoder};
use std::sync::Arc;

/// The pull.
#[derive(Default)]
pub(super) struct Scrape(Registry);

impl Scrape {
    pub(super) fn readers(&self) -> Readers {
        let registry = self.0.clone();
        Box::new(move |builder| {
            // The scope is the same for all, and target_info says what pitcrew_build_info does.
            let exporter = opentelemetry_prometheus::exporter().with_registry(registry);
            match exporter.scope_info_enabled(false).without_target_info().build() {
                Ok(exporter) => builder.with_reader(exporter),
                Err(error) => {
                    tracing::error!(%error, "/metrics stays empty");
                    builder
                }
            }
        })
    }
}

pub(super) async fn metrics(State(house): State<Arc<House>>, headers: HeaderMap) -> Result<Response, Problem> {
    if !house.config.open_metrics {
        house.admit(Role::Read, &headers)?;
    }
    let mut text = Vec::with_capacity(64 * 1024);
    let encoder = TextEncoder::new();
    encoder
        .encode(&house.scrape.0.gather(), &mut text)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}
