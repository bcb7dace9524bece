//! Message Translator: PNG, also with 1, 2, 4 and 16 bits, with a palette, interlaced, and the first picture of an animated one.

use super::{Decoded, PhotoError, fits, within};
use crate::image::{
    contract::Format,
    exif::Orientation,
    pixels::{Layout, Pixels},
};
use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};
use std::io::Cursor;

const PNG: &str = "PNG";

/// For what is not pixels: rows, the profile. A compressed profile can claim to be anything.
const BESIDE: usize = 16 << 20;

pub(super) fn decode(bytes: &[u8], most: u64) -> Result<Decoded, PhotoError> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: BESIDE });
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(refused)?;
    let (width, height) = within(header.width.into(), header.height.into(), most)?;
    let mut reader = decoder.read_info().map_err(refused)?;
    let layout = match reader.output_color_type() {
        (ColorType::Grayscale, BitDepth::Eight) => Layout::Grey,
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => Layout::GreyAlpha,
        (ColorType::Rgb, BitDepth::Eight) => Layout::Rgb,
        (ColorType::Rgba, BitDepth::Eight) => Layout::Rgba,
        (colour, depth) => {
            return Err(PhotoError::Unsupported { format: PNG, what: format!("{colour:?} with {depth:?} bits") });
        }
    };
    let size = reader.output_buffer_size().ok_or_else(|| PhotoError::damaged(PNG, "its size is no number"))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(refused)?;
    pixels.truncate(frame.buffer_size());
    // What a camera program appends behind the pixels counts as well, and a file that ends before its end is cut off.
    reader.finish().map_err(refused)?;
    let info = reader.info();
    Ok(Decoded {
        format: Format::Png,
        size: (width, height),
        pixels: fits(PNG, Pixels::new(width, height, layout, pixels))?,
        orientation: info.exif_metadata.as_deref().map(Orientation::read).unwrap_or_default(),
        profile: info.icc_profile.as_deref().map(<[u8]>::to_vec),
        animated: info.animation_control.is_some(),
    })
}

fn refused(error: DecodingError) -> PhotoError {
    match error {
        DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            PhotoError::damaged(PNG, "it is cut off")
        }
        other => PhotoError::damaged(PNG, other),
    }
}
