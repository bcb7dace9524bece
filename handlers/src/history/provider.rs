//! Channel Adapter: the provider's HTTP API, and what each of its answers means.

use super::vin::Vin;
use crate::{http, secret::Secret};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use pitcrew::{Outage, clock, config::format_duration};
use reqwest::{
    Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH},
};
use serde::Deserialize;
use std::{
    fmt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};
use tracing::{error, info, warn};

/// The longest answer that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// So much of an answer is told to people.
const EXCERPT: usize = 120;
/// Where a simulator listens that was started without an address.
pub const SIMULATED: &str = "http://127.0.0.1:7070";

/// `[handlers."car.FetchVehicleHistory"]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// Names the provider in what is told, and its breaker.
    pub name: String,
    /// Where its API is; `/v1/vehicles/<VIN>/history` is asked there. Absent: a simulator on this machine.
    pub url: Option<String>,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
    /// A file that holds the key, in place of `api_key`.
    pub api_key_file: Option<PathBuf>,
    /// How long connecting may take.
    #[serde(deserialize_with = "http::duration")]
    pub connect_timeout: Duration,
    /// How long it may be silent.
    #[serde(deserialize_with = "http::duration")]
    pub read_timeout: Duration,
    /// How long a call may take in all.
    #[serde(deserialize_with = "http::duration")]
    pub total_timeout: Duration,
}
impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            name: "vehicle-history".into(),
            url: None,
            api_key: None,
            api_key_file: None,
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(10),
        }
    }
}

/// What the provider says about a car.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A report, not read yet.
    Report {
        /// Names it, for the next question.
        etag: Option<String>,
        /// JSON, it says.
        body: Vec<u8>,
    },
    /// The report of that ETag still holds.
    NotModified,
    /// It does not know the car.
    Unknown,
}

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer such a question, today or tomorrow.
    #[error("{provider} refused with {status}: {said}")]
    Refused {
        /// Who.
        provider: String,
        /// The HTTP status.
        status: StatusCode,
        /// The beginning of the answer.
        said: String,
    },
    /// The key is wrong: nothing will work until somebody acts.
    #[error("{provider} does not take the API key (401): {said}")]
    Unauthorised {
        /// Who.
        provider: String,
        /// The beginning of the answer.
        said: String,
    },
    /// Later.
    #[error("{provider} cannot answer now ({status}{}): {said}", retry_after.map_or_else(String::new, |d| format!(", asks for {}", format_duration(d))))]
    Busy {
        /// Who.
        provider: String,
        /// The HTTP status.
        status: StatusCode,
        /// What it asks for.
        retry_after: Option<Duration>,
        /// The beginning of the answer.
        said: String,
    },
    /// Not connected, or silent for too long: the outcome is unknown.
    #[error("{provider} was not reached: {why}")]
    Unreachable {
        /// Who.
        provider: String,
        /// In the client's words.
        why: String,
    },
    /// An answer that is none.
    #[error("{provider} gave a malformed answer: {why}; it begins with `{said}`")]
    Malformed {
        /// Who.
        provider: String,
        /// What is wrong.
        why: String,
        /// The beginning of the answer.
        said: String,
    },
}

impl ProviderError {
    /// Whether it is the provider's failure, and not about this car.
    pub fn outage(&self) -> Option<Outage> {
        match self {
            // "Too early" is about this request, not about the provider.
            Self::Busy { status: StatusCode::TOO_EARLY, .. } => None,
            Self::Busy { retry_after: Some(wait), .. } => Some(Outage::For(*wait)),
            Self::Busy { .. } | Self::Unreachable { .. } => Some(Outage::Failed),
            Self::Refused { .. } | Self::Unauthorised { .. } | Self::Malformed { .. } => None,
        }
    }
}

/// One provider.
#[derive(Debug)]
pub struct Provider {
    name: String,
    url: Url,
    key: Option<Secret>,
    client: reqwest::Client,
    /// Its key was refused, and people were told so.
    alert: AtomicBool,
}

impl Provider {
    /// Checks the settings. No connection is made.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(config: ProviderConfig) -> anyhow::Result<Self> {
        let url = config.url.as_deref().unwrap_or(SIMULATED);
        let url: Url = url.trim_end_matches('/').parse().with_context(|| format!("failed to read the url `{url}`"))?;
        anyhow::ensure!(matches!(url.scheme(), "http" | "https"), "the url has to begin with https:// or http://");
        anyhow::ensure!(url.username().is_empty() && url.password().is_none(), "the url holds a user; use api_key");
        anyhow::ensure!(
            url.query().is_none() && url.fragment().is_none(),
            "the url holds a query; give the base alone"
        );
        let key = Secret::given("api_key", config.api_key, config.api_key_file.as_deref())?;
        anyhow::ensure!(key.as_ref().is_none_or(|key| !key.expose().is_empty()), "the API key is empty");
        if config.url.is_none() {
            warn!(url = SIMULATED, "no `url` of a history provider is set: a simulator on this machine is asked");
        } else if key.is_some() && url.scheme() == "http" && !is_local(&url) {
            warn!(host = url.host_str(), "the API key of the history provider goes over the network in the clear");
        }
        let mut headers = HeaderMap::new();
        if let Some(key) = &key {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose()));
            let mut bearer = bearer.ok().context("the API key holds characters that no HTTP header can")?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let client = http::client(|client| {
            client
                .default_headers(headers.clone())
                .connect_timeout(config.connect_timeout)
                .read_timeout(config.read_timeout)
                .timeout(config.total_timeout)
        })?;
        Ok(Self { name: config.name, url, key, client, alert: AtomicBool::new(false) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks about a car; `etag` names the report that is known already.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn fetch(&self, vin: &Vin, etag: Option<&str>) -> Result<Answer, ProviderError> {
        let url = format!("{}/v1/vehicles/{vin}/history", self.url.as_str().trim_end_matches('/'));
        let mut request = self.client.get(url).header("accept", "application/json");
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::NOT_MODIFIED {
            self.authorised();
            return if etag.is_some() {
                Ok(Answer::NotModified)
            } else {
                Err(self.malformed("304 although no ETag was sent", b""))
            };
        }
        let body = self.body(response).await;
        if status != StatusCode::OK {
            // What it said beside a failure is for people: without it the status alone does.
            return self.judge(status, &headers, &body.unwrap_or_default(), clock::now());
        }
        self.authorised();
        Ok(Answer::Report { etag: text(&headers, ETAG).filter(|etag| is_etag(etag)), body: body? })
    }

    /// An answer that could be read and is no report after all.
    pub fn malformed(&self, why: impl fmt::Display, body: &[u8]) -> ProviderError {
        ProviderError::Malformed { provider: self.name.clone(), why: why.to_string(), said: self.excerpt(body) }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ProviderError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST {
                return Err(self.malformed(format_args!("over {LONGEST} bytes"), &body));
            }
        }
        Ok(body)
    }

    /// What an answer means that is not 200.
    fn judge(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Answer, ProviderError> {
        let (provider, said) = (self.name.clone(), self.excerpt(body));
        Err(match status.as_u16() {
            // A page for people comes from a proxy or a wrong `url`, and is no fact about a car.
            404 if text(headers, CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html")) => {
                self.malformed("404 with a page for people: does `url` name the API?", body)
            }
            404 => {
                self.authorised();
                return Ok(Answer::Unknown);
            }
            401 => {
                self.raise();
                ProviderError::Unauthorised { provider, said }
            }
            408 | 425 | 429 | 500..=599 => {
                let retry_after = http::retry_after(headers, now);
                ProviderError::Busy { provider, status, retry_after, said }
            }
            300..=499 => ProviderError::Refused { provider, status, said },
            _ => self.malformed(format_args!("status {status}"), body),
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> ProviderError {
        let what = match &error {
            e if e.is_connect() && e.is_timeout() => "connecting took too long: ",
            e if e.is_timeout() => "it took too long: ",
            _ => "",
        };
        let why = format!("{what}{:#}", anyhow::Error::from(error.without_url()));
        ProviderError::Unreachable { provider: self.name.clone(), why }
    }

    /// The beginning of an answer, safe to print and to store; a provider that echoes the key does not give it away.
    fn excerpt(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST)]);
        let text = match &self.key {
            Some(key) => text.replace(key.expose(), "***"),
            None => text.into_owned(),
        };
        text.as_bytes()[..text.len().min(EXCERPT)].escape_ascii().to_string()
    }

    /// Opens the alert: once, however many messages fail because of it.
    fn raise(&self) {
        if !self.alert.swap(true, Relaxed) {
            error!(
                alert = "provider_credentials",
                provider = self.name,
                "the provider does not take the API key: renew it"
            );
        }
    }

    /// The key is taken: an alert is over.
    fn authorised(&self) {
        if self.alert.load(Relaxed) && self.alert.swap(false, Relaxed) {
            info!(alert = "provider_credentials", provider = self.name, "the provider takes the API key again");
        }
    }

    /// Whether the key was refused and has not been taken since.
    pub fn is_alerted(&self) -> bool {
        self.alert.load(Relaxed)
    }
}

fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|text| text.trim().to_owned())
}

/// RFC 9110, 8.8.3. What is none, or is longer than anybody needs, is not sent back.
fn is_etag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    text.len() <= 256 && opaque.is_some_and(|opaque| opaque.bytes().all(|b| b.is_ascii_graphic() && b != b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        let config = ProviderConfig { api_key: Some(Secret::new("s3cret")), ..ProviderConfig::default() };
        Provider::new(config).unwrap()
    }

    #[test]
    fn each_status_has_one_meaning() {
        let provider = provider();
        let judge = |status: u16| {
            let judged = provider.judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"", clock::now());
            match judged {
                Ok(Answer::Unknown) => "fact",
                Ok(_) => "report",
                Err(error @ ProviderError::Busy { .. }) if error.outage().is_none() => "later",
                Err(ProviderError::Busy { .. }) => "outage",
                Err(ProviderError::Refused { .. }) => "permanent",
                Err(ProviderError::Unauthorised { .. }) => "alert",
                Err(ProviderError::Malformed { .. }) => "malformed",
                Err(ProviderError::Unreachable { .. }) => "unreachable",
            }
        };
        for (statuses, meaning) in [
            (&[404][..], "fact"),
            (&[400, 402, 403, 405, 406, 409, 410, 418, 422, 451, 301, 302, 307, 308], "permanent"),
            (&[401], "alert"),
            (&[408, 429, 500, 501, 502, 503, 504, 520, 599], "outage"),
            (&[425], "later"),
            (&[201, 202, 204, 206, 999], "malformed"),
        ] {
            for status in statuses {
                assert_eq!(judge(*status), meaning, "{status}");
            }
        }
    }

    #[test]
    fn an_excerpt_is_short_printable_and_without_the_key() {
        let provider = provider();
        assert_eq!(provider.excerpt(b"<h1>\0 Bearer s3cret\xff</h1>"), "<h1>\\x00 Bearer ***\\xef\\xbf\\xbd</h1>");
        assert!(provider.excerpt(&[b'x'; 5000]).len() <= EXCERPT);
        assert!(!format!("{provider:?}").contains("s3cret"));
    }

    #[test]
    fn only_what_is_an_etag_is_kept() {
        for right in [r#""a""#, r#"W/"a-1""#, r#""""#] {
            assert!(is_etag(right), "{right}");
        }
        for wrong in ["", "a", "\"", "\"a b\"", "\"a\"b\"", "W/a", &format!("\"{}\"", "x".repeat(300))] {
            assert!(!is_etag(wrong), "{wrong}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_and_no_key_is_printed() {
        let refused = |json: serde_json::Value| match serde_json::from_value::<ProviderConfig>(json) {
            Ok(config) => format!("{:#}", Provider::new(config).unwrap_err()),
            Err(error) => error.to_string(),
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (settings, why) in [
            (r#"{"url": "ftp://x"}"#, "https://"),
            (r#"{"url": "nonsense"}"#, "failed to read the url"),
            (r#"{"url": "https://u:s3cret@x"}"#, "use api_key"),
            (r#"{"url": "https://x?key=s3cret"}"#, "query"),
            (r#"{"api_key": 5501}"#, "in quotes"),
            (r#"{"api_key": " "}"#, "empty"),
            (r#"{"api_key": "a\nb"}"#, "no HTTP header"),
            (r#"{"api_key": "a", "api_key_file": "b"}"#, "give one"),
            (r#"{"api_key_file": "/nowhere"}"#, "api_key_file"),
            (r#"{"read_timeout": "0s"}"#, "no duration"),
            (r#"{"read_timeout": 5}"#, "string"),
            (r#"{"apikey": "s3cret"}"#, "unknown field"),
        ] {
            let told = refused(json(settings));
            assert!(told.contains(why) && !told.contains("s3cret") && !told.contains("5501"), "{settings}: {told}");
        }
    }
}
