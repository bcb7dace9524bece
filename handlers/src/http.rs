//! Channel Adapter, the part that all workers with a provider share: one kind of HTTP client.

use reqwest::{ClientBuilder, redirect::Policy};

/// A client that follows no redirect (a key must not travel to another host) and keeps no secret in what it logs. TLS is rustls on
/// ring, with the certificates that the system trusts.
pub fn client() -> ClientBuilder {
    // The process has one, whoever comes first: another that is there already does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(Policy::none()).user_agent(concat!("car-worker/", env!("CARGO_PKG_VERSION")))
}
