//! Pipes and Filters: the bytes of an original become the files of its variants. Pure, and on one thread.

use super::{
    colour,
    contract::{Format, Original},
    decode::{self, Decoded, PhotoError},
    encode,
    exif::Orientation,
    look::Look,
    pixels::{Layout, Pixels, fitted},
    recipe::{Made, Recipe},
};
use bytes::Bytes;
use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
};

/// What becomes of an original.
#[derive(Debug)]
pub struct Developed {
    /// What it was.
    pub original: Original,
    /// What it looks like.
    pub look: Look,
    /// The files, in the order of the recipe.
    pub files: Vec<File>,
}

/// One picture to show.
#[derive(Debug)]
pub struct File {
    /// The variant's name.
    pub name: String,
    /// What `bytes` is.
    pub format: Format,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Without any metadata.
    pub bytes: Bytes,
    /// SHA-256 of `bytes`, in hexadecimal.
    pub hash: String,
}

/// Asks work on another thread to end. A thread cannot be dropped as a future can: it looks here between two steps.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);
impl Stop {
    /// From now on [`check`](Self::check) refuses.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// Not any more.
    pub fn check(&self) -> Result<(), PhotoError> {
        if self.0.load(Ordering::Relaxed) { Err(PhotoError::Stopped) } else { Ok(()) }
    }
}

/// Makes everything that `recipe` asks for. The same bytes and the same recipe give the same files, on any machine of one kind.
///
/// # Errors
/// The photo cannot be read, or `stop` says so.
pub fn develop(bytes: &[u8], recipe: &Recipe, stop: &Stop) -> Result<Developed, PhotoError> {
    stop.check()?;
    let hash = hash_of(bytes);
    let photo = decode::decode_for(bytes, recipe.max_pixels, &|size, orientation| needed(size, orientation, recipe))?;
    stop.check()?;
    let upright = photo.orientation.upright(photo.size);
    let original = Original {
        format: photo.format,
        width: upright.0,
        height: upright.1,
        bytes: bytes.len() as u64,
        hash,
        animated: photo.animated,
    };
    let largest = largest(photo, recipe)?;
    stop.check()?;
    // Only WebP keeps opacity, and only few pictures have any.
    let has_alpha = largest.layout() == Layout::Rgba;
    let opaque = if has_alpha { Cow::Owned(largest.flattened()) } else { Cow::Borrowed(&largest) };
    let look = Look::at(&opaque);
    let mut files = Vec::new();
    for variant in &recipe.variants {
        let size = fitted(upright, (variant.width, variant.height));
        let opaque = opaque.resized(size);
        let with_alpha = has_alpha.then(|| largest.resized(size));
        for format in &variant.formats {
            stop.check()?;
            let picture = match (format, &with_alpha) {
                (Made::Webp, Some(with_alpha)) => with_alpha,
                _ => &opaque,
            };
            let bytes = encode::encode(picture, *format, variant.quality)?;
            files.push(File {
                name: variant.name.clone(),
                format: (*format).into(),
                width: size.0,
                height: size.1,
                hash: hash_of(&bytes),
                bytes: bytes.into(),
            });
        }
    }
    Ok(Developed { original, look, files })
}

/// The size of the largest variant, as the photo is stored.
fn needed(size: (u32, u32), orientation: Orientation, recipe: &Recipe) -> (u32, u32) {
    let upright = orientation.upright(size);
    let sizes = recipe.variants.iter().map(|variant| fitted(upright, (variant.width, variant.height)));
    let largest = sizes.max_by_key(|(w, h)| u64::from(*w) * u64::from(*h)).unwrap_or(upright);
    // What it takes to turn a size is what it takes to turn it back.
    orientation.upright(largest)
}

/// The largest picture that is needed, upright and in sRGB. Made small first: turning it and working in the profile cost as much as
/// there are pixels.
fn largest(photo: Decoded, recipe: &Recipe) -> Result<Pixels, PhotoError> {
    let small = photo.pixels.resized(needed(photo.size, photo.orientation, recipe));
    drop(photo.pixels);
    let srgb = colour::to_srgb(&small, photo.profile.as_deref()).map_err(PhotoError::internal)?;
    Ok(srgb.opaque_if_it_is().upright(photo.orientation))
}

fn hash_of(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
