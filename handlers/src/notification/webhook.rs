//! Channel Adapter: one letter as a signed POST.
//!
//! The receiver knows three things: that we wrote it (the signature is an HMAC over time and body with a secret that both have),
//! that nobody sends an old one again (the time is part of what is signed), and whether it has seen it already (the idempotency
//! key). [`verify`] is the receiver's half.

use super::contract::Letter;
use crate::{
    http::{
        self, Failed,
        public::{Allowed, CheckedNames, Network, NotPublic, SystemNames, written_out},
    },
    secret::Secret,
};
use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use serde::Deserialize;
use sha2::Sha256;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tracing::warn;

/// Time and signature: `t=1767225600,v1=<64 hexadecimal digits>`.
pub const SIGNATURE: &str = "pitcrew-signature";
/// The letter's ID: the same for each repeat.
pub const KEY: &str = "idempotency-key";
/// A receiver should refuse what was signed longer ago, or so far in the future.
pub const WINDOW: Duration = Duration::from_secs(300);
/// So much of an answer is told to people, in bytes.
const EXCERPT: usize = 120;
/// A receiver that asks for more patience than this does not mean us.
const MOST_PATIENCE: Duration = Duration::from_secs(3_600);
/// The shortest secret, in bytes.
const SHORTEST: usize = 16;

/// `[handlers."car.CallWebhook"]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// What is signed with: 16 bytes or more. Absent: calls are dead letters until one is set.
    pub secret: Option<Secret>,
    /// A file that holds it, in place of `secret`.
    pub secret_file: Option<PathBuf>,
    /// Networks that may be called although they are not public, e.g. `["10.1.0.0/16"]`.
    pub allow: Vec<Network>,
    /// How long a call may take.
    #[serde(deserialize_with = "http::duration")]
    pub timeout: Duration,
}
impl Default for WebhookConfig {
    fn default() -> Self {
        Self { secret: None, secret_file: None, allow: Vec::new(), timeout: Duration::from_secs(10) }
    }
}

/// Why a call was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Nobody has said what to sign with.
    #[error("no secret is set: [handlers.\"car.CallWebhook\"] secret_file")]
    NotSet,
    /// It cannot be called.
    #[error("no webhook: {0}")]
    NoUrl(String),
    /// A stranger's URL must not lead inside.
    #[error("it is not called: {0}; `allow` names networks that may be")]
    NotPublic(String),
    /// Today and tomorrow.
    #[error("the webhook refused with {status}: {said}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The beginning of the answer.
        said: String,
    },
    /// Later.
    #[error("the webhook cannot answer now ({status}): {said}")]
    Busy {
        /// The HTTP status.
        status: StatusCode,
        /// What it asks for.
        after: Option<Duration>,
        /// The beginning of the answer.
        said: String,
    },
    /// The outcome is unknown.
    #[error("the webhook was not reached: {0}")]
    Unreachable(String),
}

impl From<NotPublic> for WebhookError {
    fn from(not_public: NotPublic) -> Self {
        Self::NotPublic(not_public.to_string())
    }
}

/// What calls.
#[derive(Debug)]
pub struct Webhook {
    secret: Option<Secret>,
    client: Client,
    allowed: Arc<Allowed>,
}

impl Webhook {
    /// Checks the settings. No connection is made.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(config: WebhookConfig) -> anyhow::Result<Self> {
        let secret = Secret::given("secret", config.secret, config.secret_file.as_deref())?;
        match &secret {
            Some(secret) => ensure!(secret.expose().len() >= SHORTEST, "the secret has less than {SHORTEST} bytes"),
            None => warn!("no `secret` of webhooks is set: calls become dead letters"),
        }
        let allowed = Arc::new(Allowed::and(config.allow));
        let names = Arc::new(CheckedNames { names: Arc::new(SystemNames), allowed: allowed.clone() });
        let client = http::client(|client| {
            client.dns_resolver(names.clone()).no_proxy().referer(false).timeout(config.timeout)
        })?;
        Ok(Self { secret, client, allowed })
    }

    /// Returns when the receiver has taken it.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn post(&self, url: &str, letter: &Letter, now: DateTime<Utc>) -> Result<(), WebhookError> {
        let secret = self.secret.as_ref().ok_or(WebhookError::NotSet)?;
        let url = parse(url).map_err(|error| WebhookError::NoUrl(format!("{error:#}")))?;
        written_out(&url, &self.allowed)?;
        let body = serde_json::to_vec(letter).map_err(|error| WebhookError::NoUrl(error.to_string()))?;
        let call = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, sign(secret.expose().as_bytes(), now, &body))
            .header(KEY, letter.id.escape_default().to_string())
            .body(body);
        let mut answer = call.send().await.map_err(unreachable)?;
        let (status, after) =
            (answer.status(), http::retry_after(answer.headers(), now).map(|after| after.min(MOST_PATIENCE)));
        if status.is_success() {
            return Ok(());
        }
        // What it says beside a failure is for people, and its first piece does.
        let said = answer.chunk().await.ok().flatten().unwrap_or_default();
        let said = said[..said.len().min(EXCERPT)].escape_ascii().to_string();
        Err(match status.as_u16() {
            // 409: an earlier call with this key is still at work there.
            408 | 409 | 425 | 429 | 500..=599 => WebhookError::Busy { status, after, said },
            _ => WebhookError::Refused { status, said },
        })
    }
}

/// A URL that may be called, as far as it says itself.
///
/// # Errors
/// It says why not.
pub fn parse(url: &str) -> anyhow::Result<Url> {
    let url: Url = url.parse().context("it is no URL")?;
    ensure!(matches!(url.scheme(), "http" | "https"), "it begins with neither https:// nor http://");
    ensure!(url.username().is_empty() && url.password().is_none(), "it holds a password, which would stay in messages");
    Ok(url)
}

fn unreachable(error: reqwest::Error) -> WebhookError {
    match http::failed(error) {
        Failed::NotPublic(not_public) => not_public.into(),
        Failed::Unreachable(why) => WebhookError::Unreachable(why),
    }
}

/// The value of [`SIGNATURE`].
pub fn sign(secret: &[u8], now: DateTime<Utc>, body: &[u8]) -> String {
    let time = now.timestamp();
    let digits: String =
        mac(secret, time, body).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={time},v1={digits}")
}

/// Why a receiver should not believe a call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// Not of the form that [`SIGNATURE`] has.
    #[error("the signature cannot be read")]
    Unreadable,
    /// Signed too long ago, or too far in the future: somebody may send an old one again.
    #[error("it was signed outside of the window")]
    Stale,
    /// By somebody else, or the body was changed.
    #[error("the signature does not fit")]
    Wrong,
}

/// The receiver's half: whether `body` was signed with `secret` within `window` of `now`. Beside this it drops a letter whose
/// [`KEY`] it has seen.
///
/// # Errors
/// See [`Forged`].
pub fn verify(secret: &[u8], signature: &str, body: &[u8], now: DateTime<Utc>, window: Duration) -> Result<(), Forged> {
    let (time, digits) = signature.trim().split_once(",v1=").ok_or(Forged::Unreadable)?;
    let time: i64 = time.strip_prefix("t=").and_then(|time| time.parse().ok()).ok_or(Forged::Unreadable)?;
    let signed = bytes(digits).ok_or(Forged::Unreadable)?;
    // In the time that comparing takes there is nothing to learn.
    mac(secret, time, body).verify_slice(&signed).map_err(|_| Forged::Wrong)?;
    if now.timestamp().abs_diff(time) > window.as_secs() {
        return Err(Forged::Stale);
    }
    Ok(())
}

fn mac(secret: &[u8], time: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new_from_slice(secret)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    mac
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    const SECRET: &[u8] = b"sixteen bytes or more";

    #[test]
    fn a_signature_is_worth_its_secret_its_body_and_its_time() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let signature = sign(SECRET, now, b"{}");
        let verify = |secret, signature: &str, body, seconds| {
            verify(secret, signature, body, now + TimeDelta::seconds(seconds), WINDOW)
        };
        assert_eq!(verify(SECRET, &signature, b"{}", 0), Ok(()));
        assert_eq!(verify(SECRET, &signature, b"{}", 300), Ok(()));
        assert_eq!(verify(SECRET, &signature, b"{}", 301), Err(Forged::Stale));
        assert_eq!(verify(SECRET, &signature, b"{}", -301), Err(Forged::Stale));
        assert_eq!(verify(SECRET, &signature, b"{} ", 0), Err(Forged::Wrong));
        assert_eq!(verify(b"another secret of ours", &signature, b"{}", 0), Err(Forged::Wrong));
        let later = signature.replace("t=1767225600", "t=1767225900");
        assert_eq!(verify(SECRET, &later, b"{}", 300), Err(Forged::Wrong), "the time is signed, too");
        for wrong in [
            "",
            "t=1,v1=",
            "v1=00",
            "t=x,v1=00",
            &format!("t=1,v1={}", "+1".repeat(32)),
            &format!("t=1,v1={}", "é".repeat(32)),
        ] {
            assert!(matches!(verify(SECRET, wrong, b"{}", 0), Err(Forged::Unreadable | Forged::Wrong)), "{wrong}");
        }
    }

    #[test]
    fn the_signature_can_be_made_by_others() {
        let now = DateTime::from_timestamp(0, 0).unwrap();
        // printf '0.{}' | openssl dgst -sha256 -hmac key
        assert_eq!(sign(b"key", now, b"{}"), "t=0,v1=7314351dd949aa7ec06f50fc2c96e618291447672c9b7f10b49d1ce46dad00b3");
    }
}
