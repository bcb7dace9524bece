//! Message Translator: WebP, also lossless, with transparency, and the first picture of an animated one.

use super::{Decoded, PhotoError, fits, within};
use crate::image::{
    contract::Format,
    exif::Orientation,
    pixels::{Layout, Pixels},
};
use image_webp::{DecodingError, WebPDecoder};
use std::io::Cursor;

const WEBP: &str = "WebP";

/// For what is not pixels: the profile, EXIF.
const BESIDE: usize = 16 << 20;

pub(super) fn decode(bytes: &[u8], most: u64) -> Result<Decoded, PhotoError> {
    if !is_whole(bytes) {
        return Err(PhotoError::damaged(WEBP, "it is cut off"));
    }
    each_frame_is_within(bytes, most)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(refused)?;
    decoder.set_memory_limit(BESIDE);
    let (width, height) = decoder.dimensions();
    let (width, height) = within(width.into(), height.into(), most)?;
    let layout = if decoder.has_alpha() { Layout::Rgba } else { Layout::Rgb };
    let size = decoder.output_buffer_size().ok_or_else(|| PhotoError::damaged(WEBP, "its size is no number"))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(refused)?;
    Ok(Decoded {
        format: Format::Webp,
        size: (width, height),
        pixels: fits(WEBP, Pixels::new(width, height, layout, pixels))?,
        // A photo is not refused for what is written beside it.
        orientation: decoder.exif_metadata().ok().flatten().map(|e| Orientation::read(&e)).unwrap_or_default(),
        profile: decoder.icc_profile().ok().flatten(),
        animated: decoder.is_animated(),
    })
}

fn refused(error: DecodingError) -> PhotoError {
    match error {
        DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            PhotoError::damaged(WEBP, "it is cut off")
        }
        other => PhotoError::damaged(WEBP, other),
    }
}

/// A file says how long it is; a decoder notices only what it misses for the pixels. Some programs count a last byte that fills
/// up and do not write it.
fn is_whole(bytes: &[u8]) -> bool {
    let said = bytes.get(4..8).and_then(|length| Some(u32::from_le_bytes(length.try_into().ok()?)));
    said.is_some_and(|said| bytes.len() as u64 + 1 >= u64::from(said) + 8)
}

/// A frame says its size once more than the file does. The decoder compares the two only after it has decoded the frame, so
/// that a file of "1 × 1" could hold one of 16,383 × 16,383.
fn each_frame_is_within(bytes: &[u8], most: u64) -> Result<(), PhotoError> {
    for chunk in chunks(bytes.get(12..).unwrap_or_default()) {
        match chunk {
            // The frame of an animation begins with 16 bytes about it.
            (b"ANMF", data) => chunks(data.get(16..).unwrap_or_default()).try_for_each(|c| frame_is_within(c, most))?,
            chunk => frame_is_within(chunk, most)?,
        }
    }
    Ok(())
}

fn frame_is_within((name, data): (&[u8; 4], &[u8]), most: u64) -> Result<(), PhotoError> {
    let size = match (name, data) {
        (b"VP8 ", [_, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, ..]) => {
            [u16::from_le_bytes([*w0, *w1]), u16::from_le_bytes([*h0, *h1])].map(|n| u64::from(n & 0x3FFF))
        }
        (b"VP8L", [0x2F, a, b, c, d, ..]) => {
            let bits = u32::from_le_bytes([*a, *b, *c, *d]);
            [bits & 0x3FFF, (bits >> 14) & 0x3FFF].map(|n| u64::from(n) + 1)
        }
        _ => return Ok(()),
    };
    within(size[0], size[1], most).map(drop)
}

fn chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (length, data) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        // The last chunk may be cut off: what is there is looked at all the same.
        let (data, next) = data.split_at(length.min(data.len()));
        rest = next.get(length % 2..).unwrap_or_default();
        Some((name, data))
    })
}
