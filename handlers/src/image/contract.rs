//! Canonical Data Model: what the image worker is asked, what it keeps and what it tells.
//!
//! Readers are tolerant: a message with a field that this build does not know is read all the same.

use pitcrew::{Command, Document, Event, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Display};

/// "Make this photo of that listing fit to be shown."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessListingImage {
    /// The listing: the `subject`, so that the photos of one listing are compared one after another. 1 to 100 characters.
    pub listing_id: String,
    /// The photo within the listing: 1 to 100 characters, no `/`. The same ID again replaces the photo.
    pub photo_id: String,
    /// Where the original is.
    pub source: Source,
}
impl Message for ProcessListingImage {
    type Kind = Command;
    const TYPE: &'static str = "car.ProcessListingImage";

    fn subject(&self) -> Option<String> {
        Some(self.listing_id.clone())
    }
}
impl ProcessListingImage {
    /// Whether listing and photo can be named so.
    ///
    /// # Errors
    /// Says which ID cannot be used: wrong today, wrong tomorrow.
    pub fn check(&self) -> Result<(), NameError> {
        let fits = |id: &str| (1..=100).contains(&id.chars().count()) && !id.chars().any(char::is_control);
        if !fits(&self.listing_id) {
            Err(NameError { field: "listing_id", law: "holds 1 to 100 characters, no control characters" })
        } else if !fits(&self.photo_id) || self.photo_id.contains('/') {
            Err(NameError { field: "photo_id", law: "holds 1 to 100 characters, no `/`, no control characters" })
        } else {
            Ok(())
        }
    }
}

/// An ID that a document cannot be named by.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("use the command: `{field}` {law}")]
pub struct NameError {
    field: &'static str,
    law: &'static str,
}

/// Where an original is: `{"key": "…"}` or `{"url": "https://…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The name of an object in the store of originals, e.g. `listings/l-1/front.jpg`.
    Key(String),
    /// An `http` or `https` address that anybody may read.
    Url(String),
}

/// "The photo can be shown."
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListingImageProcessed {
    /// The listing: the `subject`.
    pub listing_id: String,
    /// The photo within it.
    pub photo_id: String,
    /// What there is to show.
    pub variants: Vec<Variant>,
    /// Fills the place until a variant has come: see [`ListingImage::placeholder`].
    pub placeholder: String,
    /// E.g. `#3a5f8c`.
    pub dominant_colour: String,
    /// Photos of the same listing that show nearly the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near_duplicates: Vec<NearDuplicate>,
}
impl Message for ListingImageProcessed {
    type Kind = Event;
    const TYPE: &'static str = "car.ListingImageProcessed";

    fn subject(&self) -> Option<String> {
        Some(self.listing_id.clone())
    }
}
impl ListingImageProcessed {
    /// What the world is told about `image`.
    pub fn of(image: &ListingImage) -> Self {
        Self {
            listing_id: image.listing_id.clone(),
            photo_id: image.photo_id.clone(),
            variants: image.variants.clone(),
            placeholder: image.placeholder.clone(),
            dominant_colour: image.dominant_colour.clone(),
            near_duplicates: image.near_duplicates.clone(),
        }
    }
}

/// The read model of one photo. The same original always gives the same one, save for `near_duplicates` and `writes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListingImage {
    /// [`ListingImage::id_of`] the two below.
    pub id: String,
    /// The listing.
    pub listing_id: String,
    /// The photo within it.
    pub photo_id: String,
    /// Where the original was.
    pub source: Source,
    /// What the original was, by its content.
    pub original: Original,
    /// What there is to show, in the order of the config.
    pub variants: Vec<Variant>,
    /// A [BlurHash](https://blurha.sh) of some 30 characters: a blurred picture to show until a variant has come.
    pub placeholder: String,
    /// The colour that fills most of it, e.g. `#3a5f8c`.
    pub dominant_colour: String,
    /// 64 bits of what it looks like, in hexadecimal: few bits differ between photos that look alike.
    pub fingerprint: Fingerprint,
    /// Photos of the same listing, processed before this one, that show nearly the same; the most alike first.
    pub near_duplicates: Vec<NearDuplicate>,
    /// How often this document was written. It is counted up on purpose, which no upsert can hide: a command whose effect
    /// happened twice shows here.
    pub writes: u32,
}
impl Document for ListingImage {
    const COLLECTION: &'static str = "listing_image";

    fn id(&self) -> impl Display {
        &self.id
    }
}
impl ListingImage {
    /// The document's ID. A photo ID holds no `/`, so no two photos share one.
    pub fn id_of(listing_id: &str, photo_id: &str) -> String {
        format!("{listing_id}/{photo_id}")
    }

    /// This document in the place of `old`, with one write more.
    pub fn written_over(self, old: Option<Self>) -> Self {
        Self { writes: old.map_or(0, |old| old.writes).saturating_add(1), ..self }
    }
}

/// What the photos of one listing look like: a small document beside those of the photos, because each new photo is compared
/// with all others and a handler reads by ID only. It is written with a guard (`cx.update`): two photos of one listing at the
/// same time must not miss each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingLooks {
    /// The listing.
    pub listing_id: String,
    /// By photo ID.
    pub photos: BTreeMap<String, Fingerprint>,
}
impl Document for ListingLooks {
    const COLLECTION: &'static str = "listing_looks";

    fn id(&self) -> impl Display {
        &self.listing_id
    }
}
impl ListingLooks {
    /// Of a listing without photos.
    pub fn of(listing_id: &str) -> Self {
        Self { listing_id: listing_id.to_owned(), photos: BTreeMap::new() }
    }

    /// The photos other than `photo_id` that look like `fingerprint`, the most alike first.
    pub fn near(&self, photo_id: &str, fingerprint: Fingerprint, at_most: u32) -> Vec<NearDuplicate> {
        let others = self.photos.iter().filter(|(id, _)| *id != photo_id);
        let mut near: Vec<_> = others
            .map(|(id, other)| NearDuplicate { photo_id: id.clone(), distance: fingerprint.distance(*other) })
            .filter(|near| near.distance <= at_most)
            .collect();
        near.sort_by_key(|near| near.distance);
        near
    }

    /// With this photo, in the place of an earlier one of the same ID.
    #[must_use]
    pub fn with(mut self, photo_id: &str, fingerprint: Fingerprint) -> Self {
        self.photos.insert(photo_id.to_owned(), fingerprint);
        self
    }
}

/// The original, upright.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// What it is, by its content and whatever its name says.
    pub format: Format,
    /// In pixels, as it is looked at.
    pub width: u32,
    /// In pixels, as it is looked at.
    pub height: u32,
    /// How large the file is.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: String,
    /// It moves; only its first picture was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub animated: bool,
}

/// One picture to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Variant {
    /// E.g. `thumb`, as the config names it.
    pub name: String,
    /// The format of the file.
    pub format: Format,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// How large the file is.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: String,
    /// Its name in the store of variants, made of the hash: the same picture always has the same name.
    pub key: String,
}

/// A picture format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG; never made, only read.
    Png,
    /// WebP.
    Webp,
}
impl Format {
    /// The end of a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }
}

/// A photo that looks nearly the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NearDuplicate {
    /// The other photo of the same listing.
    pub photo_id: String,
    /// How many of 64 bits differ.
    pub distance: u32,
}

/// 64 bits of what a picture looks like; in JSON 16 hexadecimal digits, which no reader takes for a number that it can round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub u64);
impl Fingerprint {
    /// How many bits differ: 0 for the same look, some 32 for photos that have nothing in common.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}
impl TryFrom<String> for Fingerprint {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}
impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        format!("{:016x}", fingerprint.0)
    }
}
