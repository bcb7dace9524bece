//! Value Object: what is made of every photo, as the config says it.

use super::contract::Format;
use serde::{Deserialize, Deserializer, de};
use std::{collections::HashSet, time::Duration};

/// `[handlers."car.ProcessListingImage"]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the originals are: a folder, or `s3://bucket/prefix`.
    pub originals: String,
    /// Where the variants go: a folder, or `s3://bucket/prefix`.
    pub output: String,
    /// The largest original.
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
    /// The most pixels that an original may have. Decoded they take up to four bytes each, a progressive JPEG some ten.
    pub max_pixels: u64,
    /// Photos that are computed at once. 0: as many as there are processors.
    pub threads: usize,
    /// Photos that are held in memory at once, those that are fetched or stored among them.
    pub in_memory: usize,
    /// How originals are fetched by URL.
    pub fetch: FetchConfig,
    /// What is made of each photo.
    pub variants: Vec<VariantSpec>,
}
impl Default for Config {
    fn default() -> Self {
        let variant =
            |name: &str, side| VariantSpec { name: name.into(), width: side, height: side, ..VariantSpec::default() };
        Self {
            originals: "listing-photos".into(),
            output: "listing-images".into(),
            max_bytes: 20_000_000,
            max_pixels: 50_000_000,
            threads: 0,
            in_memory: 16,
            fetch: FetchConfig::default(),
            variants: vec![variant("thumb", 320), variant("card", 800), variant("full", 1_920)],
        }
    }
}

/// `[handlers."car.ProcessListingImage".fetch]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// The longest that one original may take.
    #[serde(deserialize_with = "crate::http::duration")]
    pub timeout: Duration,
    /// Networks that may be fetched from although they are not public, e.g. `10.1.0.0/16`.
    pub allow: Vec<crate::http::public::Network>,
}
impl Default for FetchConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), allow: Vec::new() }
    }
}

/// `[[handlers."car.ProcessListingImage".variants]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VariantSpec {
    /// E.g. `thumb`.
    pub name: String,
    /// The picture is at most so wide, and never wider than the original.
    pub width: u32,
    /// The picture is at most so high, and never higher than the original.
    pub height: u32,
    /// In which formats it is made.
    pub formats: Vec<Made>,
    /// 1 to 100.
    pub quality: u8,
}
impl Default for VariantSpec {
    fn default() -> Self {
        Self { name: String::new(), width: 0, height: 0, formats: vec![Made::Jpeg, Made::Webp], quality: 80 }
    }
}

/// A format that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// Every browser shows it. Opacity becomes white.
    Jpeg,
    /// Smaller, and keeps opacity.
    Webp,
}
impl From<Made> for Format {
    fn from(made: Made) -> Self {
        match made {
            Made::Jpeg => Self::Jpeg,
            Made::Webp => Self::Webp,
        }
    }
}

/// What is made of every photo, checked.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// At least one, each with a name of its own.
    pub variants: Vec<VariantSpec>,
    /// The most pixels of an original.
    pub max_pixels: u64,
}

/// The longest side of a variant that is made: WebP knows no longer one.
const LONGEST: u32 = 16_383;

impl Recipe {
    /// Takes the recipe out of the config.
    ///
    /// # Errors
    /// Names the key and what it must be.
    pub fn new(config: &Config) -> Result<Self, RecipeError> {
        let wrong = |at: String, law| Err(RecipeError { at, law });
        let mut names = HashSet::new();
        for (i, variant) in config.variants.iter().enumerate() {
            let at = |key: &str| format!("variants[{i}].{key}");
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if variant.name.is_empty() || !variant.name.chars().all(fits) || !names.insert(&variant.name) {
                return wrong(at("name"), "is a name of its own, of a–z, 0–9 and `-`");
            }
            if !(1..=LONGEST).contains(&variant.width) || !(1..=LONGEST).contains(&variant.height) {
                return wrong(at("width and height"), "are 1 to 16383 pixels");
            }
            if !(1..=100).contains(&variant.quality) {
                return wrong(at("quality"), "is 1 to 100");
            }
            let formats: HashSet<_> = variant.formats.iter().collect();
            if formats.is_empty() || formats.len() < variant.formats.len() {
                return wrong(at("formats"), "are \"jpeg\", \"webp\" or both");
            }
        }
        if config.variants.is_empty() {
            return wrong("variants".into(), "are one at least; leave the key away for the three by default");
        }
        if config.max_pixels == 0 || config.max_bytes == 0 || config.in_memory == 0 {
            return wrong("max_pixels, max_bytes and in_memory".into(), "are 1 at least");
        }
        Ok(Self { variants: config.variants.clone(), max_pixels: config.max_pixels })
    }
}

/// A config that nothing can be made by.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("accept the config: {at} {law}")]
pub struct RecipeError {
    at: String,
    law: &'static str,
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    pitcrew::config::parse_size(&text)
        .ok_or_else(|| de::Error::custom(format_args!("`{text}` is no size; write e.g. \"20MB\"")))
}
