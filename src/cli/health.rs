//! `health`: asks a worker on this machine how it is, by its own door. What a container's health check runs: an image needs no curl.

use super::{Globals, output::Misuse};
use anyhow::{Context as _, bail};
use clap::Args;
use std::{net::SocketAddr, time::Duration};
use ureq::tls::TlsConfig;

/// Longer than a worker that lives needs.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ask the worker on this machine how it is
#[derive(Args)]
#[command(after_help = "\
Asks /livez at the address of [http] listen: 0 if the worker can make progress,
1 if not or if nobody answers. With --ready it asks /readyz: 0 if it takes work.

Examples:
  {bin} health
  {bin} health --ready --config config/pitcrew.toml
  HEALTHCHECK CMD [\"{bin}\", \"health\"]      in a Dockerfile")]
pub(super) struct Health {
    /// Whether it takes work, and not only whether it lives
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub(super) fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let http = globals.config()?.http;
        let Some(mut at) = http.listen else {
            return Err(Misuse("[http] listen is empty: this worker has no door to ask at".into()).into());
        };
        if at.ip().is_unspecified() {
            at = SocketAddr::new(
                if at.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() },
                at.port(),
            );
        }
        let scheme = if http.tls_cert.is_some() { "https" } else { "http" };
        let path = if self.ready { "readyz" } else { "livez" };
        let url = format!("{scheme}://{at}/{path}");
        // On this machine, by its number: there is no name that a certificate could be for.
        let tls = TlsConfig::builder().disable_verification(true).build();
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .tls_config(tls)
            .build()
            .new_agent();
        let mut answer = agent.get(&url).call().with_context(|| format!("asking {url}: is the worker running?"))?;
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        println!("{}", said.trim_end());
        match answer.status().as_u16() {
            200 => Ok(true),
            503 => Ok(false),
            status => bail!("{url} answered {status}: this is no worker's door"),
        }
    }
}
