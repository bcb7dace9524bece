//! Channel Adapter: object storage, a folder or a bucket.

use super::source::SourceError;
use anyhow::Context as _;
use bytes::Bytes;
use object_store::{Attribute, ObjectStore, ObjectStoreExt, PutOptions, local::LocalFileSystem, path::Path};
use std::{fmt, sync::Arc};

/// One place with objects.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// As the config names it.
    place: Arc<str>,
    /// A folder keeps bytes and no content type.
    keeps_attributes: bool,
}
impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.place)
    }
}

impl Objects {
    /// Opens a folder, made if it is not there, or a bucket, `s3://bucket/prefix`. What a bucket needs beside its name, keys above all,
    /// comes from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT`, …) and is in no config.
    ///
    /// # Errors
    /// The folder cannot be made, or this build knows no such place.
    pub fn open(place: &str) -> anyhow::Result<Self> {
        let (store, keeps_attributes): (Arc<dyn ObjectStore>, _) = match place.split_once("://") {
            None => (Arc::new(folder(place)?), false),
            Some(("s3", _)) => (bucket(place)?, true),
            Some(_) => anyhow::bail!("`{place}` is no place for objects: name a folder, or s3://bucket/prefix"),
        };
        Ok(Self { store, place: place.into(), keeps_attributes })
    }

    /// A whole object of at most `most` bytes.
    ///
    /// # Errors
    /// It is not there, has no such name, is too large, or the store does not answer.
    pub async fn read(&self, key: &str, most: u64) -> Result<Bytes, SourceError> {
        let no_key = |why: String| SourceError::NoKey { key: key.to_owned(), why };
        let path = Path::parse(key).map_err(|e| no_key(e.to_string()))?;
        if path.as_ref().is_empty() {
            return Err(no_key("it is empty".into()));
        }
        let failed = |e| self.refused(key, e);
        let found = self.store.get(&path).await.map_err(failed)?;
        // The size is the answer's own: no more bytes than that come with it.
        if found.meta.size > most {
            return Err(SourceError::TooLarge { most });
        }
        found.bytes().await.map_err(failed)
    }

    /// Writes a whole object, or none of it. Twice is as good as once.
    ///
    /// # Errors
    /// The store does not answer, or has no room.
    pub async fn write(&self, key: &str, bytes: Bytes, content_type: &'static str) -> object_store::Result<()> {
        let mut options = PutOptions::default();
        if self.keeps_attributes {
            options.attributes.insert(Attribute::ContentType, content_type.into());
            // The name is made of the content.
            options.attributes.insert(Attribute::CacheControl, "public, max-age=31536000, immutable".into());
        }
        self.store.put_opts(&Path::parse(key)?, bytes.into(), options).await.map(drop)
    }

    fn refused(&self, key: &str, error: object_store::Error) -> SourceError {
        match error {
            object_store::Error::NotFound { .. } => {
                SourceError::NoObject { key: key.to_owned(), place: self.place.to_string() }
            }
            source => SourceError::Store { place: self.place.to_string(), source },
        }
    }
}

fn folder(place: &str) -> anyhow::Result<LocalFileSystem> {
    let made = std::fs::create_dir_all(place);
    made.with_context(|| format!("failed to make the folder `{place}`"))?;
    let store =
        LocalFileSystem::new_with_prefix(place).with_context(|| format!("failed to open the folder `{place}`"))?;
    // The message counts as handled once the variants are named in a document: they must outlast a power cut as it does.
    Ok(store.with_fsync(true))
}

#[cfg(feature = "s3")]
fn bucket(place: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    use object_store::{RetryConfig, aws::AmazonS3Builder, prefix::PrefixStore};
    let url = reqwest::Url::parse(place).with_context(|| format!("`{place}` names no bucket"))?;
    crate::http::use_ring();
    // A hiccup is bridged here; what lasts longer is a retry of the message, which holds no handler meanwhile.
    let retry =
        RetryConfig { max_retries: 2, retry_timeout: std::time::Duration::from_secs(5), ..RetryConfig::default() };
    let store = AmazonS3Builder::from_env().with_url(place).with_retry(retry).build();
    let store = store.with_context(|| format!("failed to open the bucket of `{place}`"))?;
    Ok(match url.path().trim_matches('/') {
        "" => Arc::new(store),
        prefix => Arc::new(PrefixStore::new(store, prefix)),
    })
}

#[cfg(not(feature = "s3"))]
fn bucket(place: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    anyhow::bail!("`{place}` needs a build with S3: cargo build --release --features s3")
}
