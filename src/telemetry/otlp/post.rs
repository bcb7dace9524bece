//! One blocking client for all that is pushed: its callers have threads of their own, on which no runtime runs.

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{path::Path, sync::Arc, time::Duration};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long one push may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer says little.
const ANSWER: u64 = 64 * 1024;

pub(super) struct Post {
    agent: ureq::Agent,
    base: String,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Post")
    }
}

impl Post {
    pub(super) fn new(endpoint: &str, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let mut config =
            ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).max_redirects(0);
        if endpoint.starts_with("https://") {
            let roots = trusted(ca_file)?;
            let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
            let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
            config = config.tls_config(tls.root_certs(RootCerts::new_with_certs(&roots)).build());
        }
        let base = endpoint.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.build().new_agent(), base })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }
}

fn trusted(ca_file: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(path) = ca_file else {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            bail!("the system trusts no certificate authority: set [telemetry] ca_file, or install ca-certificates");
        }
        return Ok(found.certs);
    };
    let pem = std::fs::read(path).with_context(|| format!("[telemetry] ca_file {}", path.display()))?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!("[telemetry] ca_file {}: {error:?}", path.display()))?;
    if all.is_empty() {
        bail!("[telemetry] ca_file {} has no certificate (PEM)", path.display());
    }
    Ok(all)
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(head, &*body))?;
        let (head, mut body) = answer.into_parts();
        let body = body.with_config().limit(ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }
}
