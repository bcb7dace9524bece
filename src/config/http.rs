//! `[http]`: where the door listens, and who may come in.

use super::{check::Gravity, check::Problem, name::Name, secret::Hidden, units};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// `[http]`: health, metrics, commands and the page over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; `None` (written as an empty text): nowhere.
    #[serde(with = "address")]
    pub listen: Option<SocketAddr>,
    /// A PEM file with the certificate, and those between it and what clients trust. Without it HTTP is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Whether `/metrics` is for everybody who can reach it, as health always is.
    pub open_metrics: bool,
    /// The longest `?wait=`.
    #[serde(with = "units::duration")]
    pub max_wait: Duration,
    /// A loop that has something to do and has not moved for so long is stuck.
    #[serde(with = "units::duration")]
    pub stuck_after: Duration,
    /// Who may come in, by name; the name is the actor of what is sent. Without one the door opens on loopback only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<Name, TokenConfig>,
}

/// `[http.tokens.NAME]`: one who may come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// SHA-256 of the token, in hex: the token itself is in no file.
    pub sha256: Hidden,
    /// What it may do.
    pub roles: Vec<Role>,
}

super::words::words! {
    /// What the bearer of a token may do.
    Role, "\"send\", \"read\" or \"operate\"" {
        /// Send commands.
        Send = "send",
        /// See what became of messages, the page, metrics.
        Read = "read",
        /// Act on messages of others.
        Operate = "operate",
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            tls_cert: None,
            tls_key: None,
            open_metrics: false,
            max_wait: Duration::from_secs(30),
            stuck_after: Duration::from_secs(120),
            tokens: BTreeMap::new(),
        }
    }
}

impl TokenConfig {
    /// The hash as bytes, if it is one.
    pub fn hash(&self) -> Option<[u8; 32]> {
        let text = self.sha256.expose().trim();
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(hash)
    }
}

/// What keeps the door from opening.
pub(super) fn problems(http: &HttpConfig) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut impossible = |key: String, reason: String, fix: &str| {
        found.push(Problem { key, reason, fix: fix.into(), gravity: Gravity::Impossible });
    };
    if let Some(listen) = http.listen.filter(|listen| !listen.ip().is_loopback() && http.tokens.is_empty()) {
        let reason = format!("{listen} can be reached from elsewhere, and nobody needs a token there");
        let fix = "add [http.tokens.NAME] with sha256 and roles, or listen on 127.0.0.1";
        impossible("[http] listen".into(), reason, fix);
    }
    for (name, token) in &http.tokens {
        let section = format!("[http.tokens.{name}]");
        if token.hash().is_none() {
            let fix = "printf %s \"$TOKEN\" | sha256sum makes it";
            impossible(format!("{section} sha256"), "it is not 64 hex digits".into(), fix);
        }
        if token.roles.is_empty() {
            let fix = "list \"send\", \"read\" or \"operate\"";
            impossible(format!("{section} roles"), "without a role it may do nothing".into(), fix);
        }
    }
    if http.tls_cert.is_some() != http.tls_key.is_some() {
        let fix = "set both, or neither";
        impossible("[http] tls_cert".into(), "a certificate and its key go together".into(), fix);
    }
    if http.stuck_after < Duration::from_secs(10) {
        let fix = "set it to at least 10s";
        impossible("[http] stuck_after".into(), "a slow commit would look like a stuck loop".into(), fix);
    }
    found
}

/// `#[serde(with)]`: an address and a port, or nothing.
mod address {
    use super::*;
    const EXPECTED: &str = "an address and a port such as \"127.0.0.1:9464\", or \"\" for none";
    pub(super) fn serialize<S: Serializer>(value: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|value| value.to_string()).unwrap_or_default().serialize(to)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        units::text(from, EXPECTED, |text| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) })
    }
}
