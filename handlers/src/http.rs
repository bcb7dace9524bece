//! Channel Adapter, the part that all workers who call somebody share: one kind of HTTP client, and what its answers mean.

pub mod public;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use pitcrew::config::parse_duration;
use public::NotPublic;
use reqwest::{
    Client, ClientBuilder,
    header::{HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use serde::{Deserialize, Deserializer, de};
use std::time::Duration;
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

/// Why there is no answer.
pub(crate) enum Failed {
    /// A stranger's URL would lead inside.
    NotPublic(NotPublic),
    /// What the client says, with the causes that it keeps to itself.
    Unreachable(String),
}

/// Why there is no answer. The message holds the command, and the log this text: not the URL once more.
pub(crate) fn failed(error: reqwest::Error) -> Failed {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |e| e.source());
    let mut said = Vec::new();
    for cause in causes {
        if let Some(not_public) = cause.downcast_ref::<NotPublic>() {
            return Failed::NotPublic(not_public.clone());
        }
        said.push(cause.to_string());
    }
    Failed::Unreachable(said.join(": "))
}

/// `Retry-After`, RFC 9110, 10.2.3: seconds, or a date in one of the three forms. A date that has passed asks for nothing.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date: DateTime<Utc> = httpdate::parse_http_date(text).ok()?.into();
    (date - now).to_std().ok()
}

/// A span of time in a config section, which lasts.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let span = parse_duration(&text).filter(|span| !span.is_zero());
    span.ok_or_else(|| de::Error::custom(format!("`{text}` is no duration; write e.g. \"20s\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn retry_after_is_read_as_seconds_and_as_any_http_date() {
        let now = DateTime::parse_from_rfc3339("1994-11-06T08:49:00Z").unwrap().to_utc();
        let read = |text: &str| {
            let value = reqwest::header::HeaderValue::from_bytes(text.as_bytes()).unwrap();
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(date), Some(Duration::from_secs(37)), "{date}");
        }
        assert_eq!(read("Sun, 06 Nov 1994 08:48:00 GMT"), None, "it has passed");
        for wrong in ["", "-1", "+5", "1.5", "soon", "١٢", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read("99999999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_retry_after_is_a_time_or_none(
            text in prop_oneof![
                vec(any::<u8>(), 0..40),
                "[0-9]{1,25}".prop_map(String::into_bytes),
                "[A-Z][a-z]{2,8},? [0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{2,5} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT)?"
                    .prop_map(String::into_bytes),
            ],
            now in (-8_000_000_000_000i64..8_000_000_000_000).prop_map(|s| DateTime::from_timestamp(s, 0).unwrap()),
        ) {
            let Ok(value) = reqwest::header::HeaderValue::from_bytes(&text) else { return Ok(()) };
            let read = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now);
            if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
                let seconds = std::str::from_utf8(&text).unwrap().parse().unwrap_or(u64::MAX);
                prop_assert_eq!(read, Some(Duration::from_secs(seconds)));
            }
        }

        #[test]
        fn a_date_to_come_is_read_to_the_second(now in 0i64..100_000_000_000, wait in 0u64..100_000_000) {
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let date = httpdate::fmt_http_date(std::time::SystemTime::from(now + Duration::from_secs(wait)));
            let value = reqwest::header::HeaderValue::from_str(&date).unwrap();
            let read = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now);
            prop_assert_eq!(read, Some(Duration::from_secs(wait)));
        }
    }
}
