//! Messaging Gateway over HTTP: health, metrics, commands, and a page to look at. docs/http.md tells what each answers.
//!
//! The door opens before the worker starts, so that a probe finds somebody; until the worker is at work it says so. Nobody comes in
//! over the network without a token; on loopback, where there may be none, a web page of somebody else does not come in either
//! (`http/access.rs`).

mod access;
mod answer;
mod commands;
mod health;
mod openapi;
mod overview;
mod queue;
mod scrape;
mod types;

use crate::{
    Handlers, clock,
    config::{Config, HttpConfig},
    telemetry::metrics::Readers,
    worker::{Running, View},
};
use anyhow::Context as _;
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{Method, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// How long requests may take to end when the worker does.
const END_LIMIT: Duration = Duration::from_secs(3);

const PAGE: &str = include_str!("http/page.html");

/// What every request may need.
pub(crate) struct House {
    config: HttpConfig,
    /// Bytes of a body.
    limit: usize,
    types: types::Types,
    scrape: scrape::Scrape,
    /// Empty until the worker is at work.
    worker: OnceLock<AtWork>,
}

struct AtWork {
    view: Arc<View>,
    queue: queue::Queue,
}

/// The open door. Dropped, it stays open until its runtime ends.
pub(crate) struct Door {
    house: Arc<House>,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<std::io::Result<()>>,
    at: SocketAddr,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Door {
    /// Opens it, unless the configuration has none. `None` as well where another worker of this machine has the default address:
    /// that is no reason not to work.
    ///
    /// # Errors
    /// The address cannot be used, certificate or key cannot be read, or a schema is none.
    pub(crate) async fn open(config: &Config, handlers: &Handlers) -> anyhow::Result<Option<Self>> {
        let http = &config.http;
        let Some(listen) = http.listen else { return Ok(None) };
        let problems: Vec<_> = config.check().into_iter().filter(|p| p.key.starts_with("[http")).collect();
        if let Some(problem) = problems.first() {
            anyhow::bail!("the HTTP door stays closed: {problem}");
        }
        let listener = match TcpListener::bind(listen) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && listen == default_address() => {
                warn!(%listen, "taken by another process: this one has no HTTP door; [http] listen gives it one of its own");
                return Ok(None);
            }
            bound => bound.with_context(|| format!("[http] listen = \"{listen}\": opening the HTTP door"))?,
        };
        listener.set_nonblocking(true).context("preparing the HTTP door")?;
        let at = listener.local_addr().context("preparing the HTTP door")?;
        let house = Arc::new(House {
            limit: config.worker.payload_limit,
            types: types::Types::of(handlers, config)?,
            scrape: scrape::Scrape::default(),
            config: http.clone(),
            worker: OnceLock::new(),
        });
        let handle = Handle::new();
        let service = routes(house.clone()).into_make_service();
        let serving = match (&http.tls_cert, &http.tls_key) {
            (Some(cert), Some(key)) => {
                // The process has one, whoever comes first.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let tls = RustlsConfig::from_pem_file(cert, key).await.with_context(|| {
                    format!("[http] tls_cert = \"{}\", tls_key = \"{}\": reading them", cert.display(), key.display())
                })?;
                let server = axum_server::from_tcp_rustls(listener, tls).context("opening the HTTP door")?;
                tokio::spawn(server.handle(handle.clone()).serve(service))
            }
            _ => {
                let server = axum_server::from_tcp(listener).context("opening the HTTP door")?;
                tokio::spawn(server.handle(handle.clone()).serve(service))
            }
        };
        let scheme = if http.tls_cert.is_some() { "https" } else { "http" };
        info!(
            "listening on {scheme}://{at}: the page /, /livez, /readyz, /metrics, /openapi.json, POST /commands/TYPE"
        );
        Ok(Some(Self { house, handle, serving, at }))
    }

    /// Reads what the worker will measure.
    pub(crate) fn readers(&self) -> Readers {
        self.house.scrape.readers()
    }

    /// The worker is at work.
    pub(crate) fn begin(&self, running: &Running) {
        let view = running.view();
        let queue = queue::Queue::start(view.clone());
        // Once: a door has one worker.
        let _ = self.house.worker.set(AtWork { view, queue });
    }

    /// Lets requests end, and takes no new ones.
    pub(crate) async fn close(self) {
        self.handle.graceful_shutdown(Some(END_LIMIT));
        let _ = tokio::time::timeout(2 * END_LIMIT, self.serving).await;
    }
}

fn default_address() -> SocketAddr {
    HttpConfig::default().listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Everything that there is.
fn routes(house: Arc<House>) -> Router {
    let limit = axum::extract::DefaultBodyLimit::max(house.limit);
    Router::new()
        .route("/", get(page))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(scrape::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/commands/{of}", post(commands::send).get(commands::explain))
        .route("/overview", get(overview::overview))
        .fallback(answer::nothing_there)
        .method_not_allowed_fallback(answer::not_so)
        .layer(limit)
        .layer(middleware::from_fn_with_state(house.clone(), measure))
        .with_state(house)
}

async fn page() -> Response {
    // Everything is in the page itself, and nothing of it may be framed or come from elsewhere.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE)).into_response()
}

async fn measure(State(house): State<Arc<House>>, request: Request, next: Next) -> Response {
    let began = clock::instant();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "_OTHER",
    };
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    if let Some(at_work) = house.worker.get() {
        let route = route.as_deref().unwrap_or("");
        at_work.view.metrics.requested(method, route, response.status().as_u16(), began.elapsed());
    }
    response
}
