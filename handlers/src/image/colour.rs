//! Content Enricher in reverse: what a profile says is worked into the pixels, so that nothing has to be said beside them.
//!
//! Out comes sRGB, which every screen takes for granted, so that a variant needs no profile.

use super::pixels::{Layout, Pixels, WrongSize};
use qcms::{DataType, Intent, Profile, Transform};

/// In sRGB, with opacity if there was any. A profile that cannot be read or is of another kind than the pixels says nothing, as in
/// every browser: the photo is worth more than its exact colours.
///
/// # Errors
/// Never for pixels that are whole.
pub fn to_srgb(pixels: &Pixels, profile: Option<&[u8]>) -> Result<Pixels, WrongSize> {
    let by_profile = profile.and_then(|profile| converted(pixels, profile));
    let (layout, bytes) = by_profile.unwrap_or_else(|| plain(pixels));
    pixels.with(layout, bytes)
}

/// By the profile. `None`: it cannot be read, is of another kind than the pixels, or says what they are anyhow.
fn converted(pixels: &Pixels, profile: &[u8]) -> Option<(Layout, Vec<u8>)> {
    // The library takes our word for what the bytes are, so that word is kept here.
    let (means, read, layout, written) = match pixels.layout() {
        Layout::Grey => (b"GRAY", DataType::Gray8, Layout::Rgb, DataType::RGB8),
        Layout::GreyAlpha => (b"GRAY", DataType::GrayA8, Layout::Rgba, DataType::RGBA8),
        Layout::Rgb => (b"RGB ", DataType::RGB8, Layout::Rgb, DataType::RGB8),
        Layout::Rgba => (b"RGB ", DataType::RGBA8, Layout::Rgba, DataType::RGBA8),
        Layout::Cmyk => (b"CMYK", DataType::CMYK, Layout::Rgb, DataType::RGB8),
    };
    if profile.get(16..20)? != means {
        return None;
    }
    let from = Profile::new_from_slice(profile, false)?;
    // Most photos carry sRGB itself: nothing to compute, and nothing to round.
    if from.is_sRGB() {
        return None;
    }
    let mut srgb = Profile::new_sRGB();
    srgb.precache_output_transform();
    let transform = Transform::new_to(&from, &srgb, read, written, Intent::Perceptual)?;
    let (width, height) = pixels.size();
    let mut bytes = vec![0; width as usize * height as usize * layout.channels()];
    transform.convert(pixels.bytes(), &mut bytes);
    Some((layout, bytes))
}

/// Without a profile: sRGB by convention, and inks as multiplied filters.
fn plain(pixels: &Pixels) -> (Layout, Vec<u8>) {
    let bytes = pixels.bytes();
    match pixels.layout() {
        same @ (Layout::Rgb | Layout::Rgba) => (same, bytes.to_vec()),
        Layout::Grey => (Layout::Rgb, bytes.iter().flat_map(|grey| [*grey; 3]).collect()),
        Layout::GreyAlpha => (
            Layout::Rgba,
            bytes.as_chunks::<2>().0.iter().flat_map(|[grey, alpha]| [*grey, *grey, *grey, *alpha]).collect(),
        ),
        Layout::Cmyk => {
            let light = |ink: u8, black: u8| ((255 - u32::from(ink)) * (255 - u32::from(black)) / 255) as u8;
            let inks = bytes.as_chunks::<4>().0.iter();
            (Layout::Rgb, inks.flat_map(|[c, m, y, k]| [light(*c, *k), light(*m, *k), light(*y, *k)]).collect())
        }
    }
}
