//! Channel Adapter: originals over HTTP, from addresses that a stranger chose (`http/public.rs`).

use super::{recipe::FetchConfig, source::SourceError};
use crate::http::{
    self, Failed,
    public::{Allowed, CheckedNames, NotPublic, SystemNames, written_out},
};
use bytes::{Bytes, BytesMut};
use pitcrew::clock;
use reqwest::{Client, Response, StatusCode, Url, dns::Resolve, header::LOCATION};
use std::{sync::Arc, time::Duration};

/// How often an address may name another one.
const MOST_REDIRECTS: usize = 3;
/// A server that asks for more patience than this does not mean us.
const MOST_PATIENCE: Duration = Duration::from_secs(3_600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches originals.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    allowed: Arc<Allowed>,
    timeout: Duration,
}

impl Fetcher {
    /// With the names of the system.
    ///
    /// # Errors
    /// The client cannot be set up.
    pub fn new(config: &FetchConfig) -> anyhow::Result<Self> {
        Self::with_names(config, SystemNames)
    }

    /// With names of one's own: for tests.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_names(config: &FetchConfig, names: impl Resolve + 'static) -> anyhow::Result<Self> {
        let allowed = Arc::new(Allowed::and(config.allow.clone()));
        let names = Arc::new(CheckedNames { names: Arc::new(names), allowed: allowed.clone() });
        let client = http::client(|client| {
            let client = client.dns_resolver(names.clone()).no_proxy().referer(false);
            client.connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
        })?;
        Ok(Self { client, allowed, timeout: config.timeout })
    }

    /// The whole answer, if it has at most `most` bytes.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn fetch(&self, url: &str, most: u64) -> Result<Bytes, SourceError> {
        let fetched = tokio::time::timeout(self.timeout, self.follow(url, most)).await;
        fetched.unwrap_or_else(|_| Err(SourceError::Unreachable(format!("it took more than {:?}", self.timeout))))
    }

    async fn follow(&self, url: &str, most: u64) -> Result<Bytes, SourceError> {
        let mut url = parsed(url, Url::parse)?;
        for _ in 0..=MOST_REDIRECTS {
            self.check(&url)?;
            let response = self.client.get(url.clone()).send().await.map_err(unreachable)?;
            match response.status() {
                StatusCode::OK => return body(response, most).await,
                status if status.is_redirection() => {
                    let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                    let to = location.ok_or_else(|| SourceError::Refused { status: status.to_string() })?;
                    url = parsed(to, |to| url.join(to))?;
                }
                status => return Err(refused(status, &response)),
            }
        }
        Err(SourceError::TooManyRedirects(MOST_REDIRECTS))
    }

    /// What no look-up will check: an address that is written out needs none.
    fn check(&self, url: &Url) -> Result<(), SourceError> {
        let no_url = |why: &str| Err(SourceError::NoUrl { url: url.to_string(), why: why.into() });
        if !matches!(url.scheme(), "http" | "https") {
            return no_url("it begins with neither http:// nor https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return no_url("it holds a password, which would stay in messages and logs");
        }
        if url.host_str().is_none() {
            return no_url("it names no host");
        }
        Ok(written_out(url, &self.allowed)?)
    }
}

fn parsed<E: std::fmt::Display>(url: &str, parse: impl FnOnce(&str) -> Result<Url, E>) -> Result<Url, SourceError> {
    parse(url).map_err(|e| SourceError::NoUrl { url: url.to_owned(), why: e.to_string() })
}

/// Piece by piece: what a server says of its length is believed only if it is too much.
async fn body(mut response: Response, most: u64) -> Result<Bytes, SourceError> {
    let too_large = SourceError::TooLarge { most };
    if response.content_length().is_some_and(|length| length > most) {
        return Err(too_large);
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        if (body.len() + piece.len()) as u64 > most {
            return Err(too_large);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn refused(status: StatusCode, response: &Response) -> SourceError {
    let not_now = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    let status = status.to_string();
    if !not_now {
        return SourceError::Refused { status };
    }
    let after = http::retry_after(response.headers(), clock::now());
    SourceError::NotNow { status, after: after.map(|after| after.min(MOST_PATIENCE)) }
}

fn unreachable(error: reqwest::Error) -> SourceError {
    match http::failed(error) {
        Failed::NotPublic(not_public) => not_public.into(),
        Failed::Unreachable(why) => SourceError::Unreachable(why),
    }
}

impl From<NotPublic> for SourceError {
    fn from(NotPublic { host, address }: NotPublic) -> Self {
        Self::NotPublic { host, address }
    }
}
