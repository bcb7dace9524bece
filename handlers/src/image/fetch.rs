//! Channel Adapter: originals over HTTP, from addresses that a stranger chose.
//!
//! Every address is checked where it is used: the name is resolved here, the addresses that are not allowed are taken out, and the
//! connection is made to one of the rest. A check before, by another look-up, would check another answer ("DNS rebinding").

use super::{address::Allowed, recipe::FetchConfig, source::SourceError};
use crate::http;
use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{LOCATION, RETRY_AFTER},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

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
            // A proxy would resolve the name once more.
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
        let Some(host) = url.host_str() else { return no_url("it names no host") };
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.allowed.admits(address) => Err(SourceError::NotPublic { host: host.into(), address }),
            _ => Ok(()),
        }
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
    let seconds = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
    SourceError::NotNow { status, after: seconds.map(|s| Duration::from_secs(s).min(MOST_PATIENCE)) }
}

/// What the client says, with the causes that it keeps to itself.
fn unreachable(error: reqwest::Error) -> SourceError {
    // The message holds the command, and the log this text: not the URL once more.
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |e| e.source());
    let mut said = Vec::new();
    for cause in causes {
        if let Some(NotPublic { host, address }) = cause.downcast_ref() {
            return SourceError::NotPublic { host: host.clone(), address: *address };
        }
        said.push(cause.to_string());
    }
    SourceError::Unreachable(said.join(": "))
}

#[derive(Debug, thiserror::Error)]
#[error("`{host}` is at {address}, which is not public")]
pub(crate) struct NotPublic {
    host: String,
    address: IpAddr,
}

/// The names of the system: its resolver, its hosts file.
struct SystemNames;
impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Only the addresses that may be fetched from.
pub(crate) struct CheckedNames {
    names: Arc<dyn Resolve>,
    allowed: Arc<Allowed>,
}
impl CheckedNames {
    pub(crate) fn of_the_system(allowed: Arc<Allowed>) -> Self {
        Self { names: Arc::new(SystemNames), allowed }
    }
}
impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, allowed) = (name.as_str().to_owned(), self.allowed.clone());
        let found = self.names.resolve(name);
        Box::pin(async move {
            let (admitted, refused): (Vec<_>, Vec<_>) = found.await?.partition(|found| allowed.admits(found.ip()));
            match refused.first() {
                Some(first) if admitted.is_empty() => Err(NotPublic { host, address: first.ip() }.into()),
                _ => Ok(Box::new(admitted.into_iter()) as Addrs),
            }
        })
    }
}
