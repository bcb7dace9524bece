//! Channel Adapter, the part that all workers who call somebody share: one kind of HTTP client.

use anyhow::Context as _;
use reqwest::{Client, ClientBuilder, redirect::Policy};
use tracing::warn;

/// A client that follows no redirect by itself: a key must not travel to another host, and a new address is to be checked. TLS is
/// rustls on ring, with the certificates that the system trusts.
///
/// # Errors
/// The client cannot be set up.
pub fn client(configured: impl Fn(ClientBuilder) -> ClientBuilder) -> anyhow::Result<Client> {
    use_ring();
    let agent = concat!("car-worker/", env!("CARGO_PKG_VERSION"));
    let builder = || configured(Client::builder().redirect(Policy::none()).user_agent(agent));
    // A slim container has no certificates, and may have no need for any: plain HTTP goes on.
    let client = builder().build().or_else(|error| {
        warn!(%error, "no https: this machine trusts no certificates; install its package ca-certificates");
        builder().tls_certs_only([]).build()
    });
    client.context("failed to set up the HTTP client")
}

/// TLS by ring, which the broker and the database use already, and not a second library beside it.
pub fn use_ring() {
    // The process has one, whoever comes first: another that is there already does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
