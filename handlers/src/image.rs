//! Service Activator: `car.ProcessListingImage` becomes pictures that can be shown, and an event that says so.
//!
//! The parts, in reading order: `contract.rs` (what travels and what is kept), `recipe.rs` (the config), `source.rs` with
//! `objects.rs`, `fetch.rs` and `address.rs` (where originals come from), `develop.rs` (the logic: pure, and tested without a
//! runtime) with `decode.rs`, `exif.rs`, `colour.rs`, `pixels.rs`, `encode.rs` and `look.rs`, `studio.rs` (on which threads).
//! This page only ties them to the runtime.

pub mod colour;
pub mod contract;
pub mod decode;
pub mod develop;
pub mod drawing;
pub mod encode;
pub mod exif;
pub mod fetch;
pub mod look;
pub mod objects;
pub mod pixels;
pub mod recipe;
pub mod source;
pub mod studio;

use anyhow::Context as _;
use contract::{ListingImage, ListingImageProcessed, ListingLooks, ProcessListingImage, Variant};
use decode::PhotoError;
use develop::{Developed, File};
use fetch::Fetcher;
use objects::Objects;
use pitcrew::{Context, Handler, HandlerError, OrElse, Setup};
use recipe::{Config, Recipe};
use source::{Originals, SourceError};
use studio::Studio;
use tokio::{sync::Semaphore, task::JoinSet};

/// Answers `car.ProcessListingImage`.
///
/// The files are an effect *outside* the database. They are named by their content: a message that is handled twice writes the
/// same files under the same names, and what a worker leaves behind that died in between is what the next attempt writes anyhow.
#[derive(Debug)]
pub struct ImageProcessor {
    originals: Originals,
    studio: Studio,
    output: Objects,
    /// Photos held in memory: a handler waits here before it has read anything.
    in_memory: Semaphore,
}

/// How many of 64 bits may differ between photos that show nearly the same.
const NEARLY_THE_SAME: u32 = 8;
/// A listing with more is no listing, and its document would grow with each.
const MOST_PHOTOS: usize = 1_000;

impl ImageProcessor {
    /// Opens both places and checks the recipe: once, at start, so that a wrong folder is no surprise of the first message.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        Self::new(&setup.config()?)
    }

    /// As [`build`](Self::build), with a config at hand.
    ///
    /// # Errors
    /// Names what in the config cannot be used.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let recipe = Recipe::new(config)?;
        let objects = Objects::open(&config.originals).context("failed to open `originals`")?;
        Ok(Self {
            originals: Originals { objects, fetcher: Fetcher::new(&config.fetch)?, most: config.max_bytes },
            studio: Studio::new(recipe, config.threads),
            output: Objects::open(&config.output).context("failed to open `output`")?,
            in_memory: Semaphore::new(config.in_memory.min(Semaphore::MAX_PERMITS)),
        })
    }

    /// All files at once, each whole or not at all.
    async fn store(&self, files: Vec<File>) -> anyhow::Result<Vec<Variant>> {
        let mut writes = JoinSet::new();
        let mut variants = Vec::new();
        for file in files {
            let variant = variant(&file);
            let (output, key, kind) = (self.output.clone(), variant.key.clone(), variant.format.content_type());
            writes.spawn(async move { output.write(&key, file.bytes, kind).await });
            variants.push(variant);
        }
        while let Some(written) = writes.join_next().await {
            written?.with_context(|| format!("failed to write a variant to {}", self.output))?;
        }
        Ok(variants)
    }
}

impl Handler<ProcessListingImage> for ImageProcessor {
    async fn handle(&self, command: ProcessListingImage, cx: &mut Context) -> pitcrew::Result {
        command.check().permanent()?;
        let (files, mut image) = {
            let _room = self.in_memory.acquire().await?;
            let original = self.originals.read(&command.source).await.map_err(SourceError::into_failure)?;
            let developed = self.studio.develop(original).await.map_err(PhotoError::into_failure)?;
            described(&command, developed)
        };
        image.variants = self.store(files).await?;

        // After the work and not before: the guard of `update` fails if another photo of the listing was committed since it read,
        // and then all of this runs again.
        let (photo_id, fingerprint, mut is_full) = (&command.photo_id, image.fingerprint, false);
        cx.update(&command.listing_id, |old| {
            let looks: ListingLooks = old.unwrap_or_else(|| ListingLooks::of(&command.listing_id));
            is_full = looks.photos.len() >= MOST_PHOTOS && !looks.photos.contains_key(photo_id);
            image.near_duplicates = looks.near(photo_id, fingerprint, NEARLY_THE_SAME);
            looks.with(photo_id, fingerprint)
        })
        .await?;
        if is_full {
            return Err(HandlerError::permanent(anyhow::anyhow!(
                "keep the photo: its listing has {MOST_PHOTOS} already"
            )));
        }
        cx.emit(&ListingImageProcessed::of(&image))?;
        // Not an upsert on purpose: see `ListingImage::writes`.
        cx.update(image.id.clone(), |old| image.written_over(old)).await?;
        Ok(())
    }
}

fn described(command: &ProcessListingImage, developed: Developed) -> (Vec<File>, ListingImage) {
    let Developed { original, look, files } = developed;
    let image = ListingImage {
        id: ListingImage::id_of(&command.listing_id, &command.photo_id),
        listing_id: command.listing_id.clone(),
        photo_id: command.photo_id.clone(),
        source: command.source.clone(),
        original,
        variants: Vec::new(),
        placeholder: look.placeholder,
        dominant_colour: look.dominant_colour,
        fingerprint: look.fingerprint,
        near_duplicates: Vec::new(),
        writes: 0,
    };
    (files, image)
}

/// Named by its content, in 256 folders, which every file system likes better than one.
fn variant(file: &File) -> Variant {
    Variant {
        name: file.name.clone(),
        format: file.format,
        width: file.width,
        height: file.height,
        bytes: file.bytes.len() as u64,
        key: format!("{}/{}.{}", &file.hash[..2], file.hash, file.format.extension()),
        hash: file.hash.clone(),
    }
}
