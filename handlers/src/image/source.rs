//! Messaging Gateway: where an original comes from, and what it means when it does not come.

use super::{contract::Source, fetch::Fetcher, objects::Objects};
use bytes::Bytes;
use pitcrew::HandlerError;
use std::{net::IpAddr, time::Duration};

/// Reads originals.
#[derive(Debug)]
pub struct Originals {
    /// Of keys.
    pub objects: Objects,
    /// Of URLs.
    pub fetcher: Fetcher,
    /// The largest that is read, in bytes.
    pub most: u64,
}
impl Originals {
    /// The whole file, if it is not too large.
    ///
    /// # Errors
    /// It is not there, may not be read, or the way to it is broken: each says whether to try again.
    pub async fn read(&self, source: &Source) -> Result<Bytes, SourceError> {
        match source {
            Source::Key(key) => self.objects.read(key, self.most).await,
            Source::Url(url) => self.fetcher.fetch(url, self.most).await,
        }
    }
}

/// Why an original was not read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No object of this name.
    #[error("read the original: there is no `{key}` in {place}")]
    NoObject {
        /// As asked for.
        key: String,
        /// Where.
        place: String,
    },
    /// No name of an object.
    #[error("read the original: `{key}` is no name of an object: {why}")]
    NoKey {
        /// As asked for.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing that can be fetched.
    #[error("fetch the original: `{url}` is no address that can be fetched: {why}")]
    NoUrl {
        /// As asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// An address inside.
    #[error("fetch the original: `{host}` is at {address}, which is not public; `fetch.allow` can allow its network")]
    NotPublic {
        /// The name or address in the URL.
        host: String,
        /// What it resolved to.
        address: IpAddr,
    },
    /// From here to there to here.
    #[error("fetch the original: more than {0} redirects")]
    TooManyRedirects(usize),
    /// More than allowed.
    #[error("read the original: it has more than `max_bytes` = {most} bytes")]
    TooLarge {
        /// The limit.
        most: u64,
    },
    /// The server says no.
    #[error("fetch the original: the server answers {status}")]
    Refused {
        /// E.g. `404 Not Found`.
        status: String,
    },
    /// The server says not now.
    #[error("fetch the original: the server answers {status}")]
    NotNow {
        /// E.g. `503 Service Unavailable`.
        status: String,
        /// When it asks to be asked again.
        after: Option<Duration>,
    },
    /// No answer, or half of one.
    #[error("fetch the original: {0}")]
    Unreachable(String),
    /// The store of originals does not answer.
    #[error("read the original from {place}")]
    Store {
        /// Where.
        place: String,
        /// What it says.
        source: object_store::Error,
    },
}
impl SourceError {
    /// Whether the same may work later. A photo that is missing is missing: who uploads it sends a new command.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::NotNow { .. } | Self::Unreachable(_) | Self::Store { .. })
    }

    /// What follows from it for the message.
    pub fn into_failure(self) -> HandlerError {
        match self {
            Self::NotNow { after: Some(after), .. } => HandlerError::retry_after(after, self),
            error if error.is_transient() => error.into(),
            error => HandlerError::permanent(error),
        }
    }
}
