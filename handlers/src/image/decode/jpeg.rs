//! Message Translator: JPEG.

use super::{Decoded, PhotoError, fits, within};
use crate::image::{
    contract::Format,
    exif::Orientation,
    pixels::{Layout, Pixels},
};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

const JPEG: &str = "JPEG";

/// A progressive photo has about ten scans. Each goes over all pixels: a file of a megabyte with thousands of them takes minutes.
const MOST_SCANS: usize = 32;

pub(super) fn decode(bytes: &[u8], most: u64) -> Result<Decoded, PhotoError> {
    // Strict: what browsers fill up with grey is no photo of a car.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(MOST_SCANS);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(refused)?;
    let info = decoder.info().ok_or_else(|| PhotoError::damaged(JPEG, "it has no header"))?;
    let (width, height) = within(info.width.into(), info.height.into(), most)?;
    if !ends(bytes) {
        return Err(PhotoError::damaged(JPEG, "it is cut off"));
    }
    let stored = decoder.input_colorspace().unwrap_or(ColorSpace::Unknown);
    let (wanted, layout) = match stored {
        ColorSpace::Luma => (ColorSpace::Luma, Layout::Grey),
        ColorSpace::YCbCr | ColorSpace::RGB => (ColorSpace::RGB, Layout::Rgb),
        // As stored, so that the profile can be used, which knows the inks and not what a formula makes of them.
        ColorSpace::CMYK | ColorSpace::YCCK => (stored, Layout::Cmyk),
        other => return Err(PhotoError::Unsupported { format: JPEG, what: format!("the colour space {other:?}") }),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let mut pixels = decoder.decode().map_err(refused)?;
    if layout == Layout::Cmyk {
        inks(&mut pixels, stored, is_adobe(bytes));
    }
    Ok(Decoded {
        format: Format::Jpeg,
        pixels: fits(JPEG, Pixels::new(width, height, layout, pixels))?,
        orientation: decoder.exif().map(|exif| Orientation::read(exif)).unwrap_or_default(),
        profile: decoder.icc_profile(),
        animated: false,
    })
}

fn refused(error: DecodeErrors) -> PhotoError {
    match error {
        DecodeErrors::Unsupported(what) => PhotoError::Unsupported { format: JPEG, what: format!("{what:?}") },
        other => PhotoError::damaged(JPEG, format!("{other:?}")),
    }
}

/// Whether the end mark comes after the last scan: a decoder notices only a cut above the last rows. What follows the mark
/// (the second picture of a phone, a maker's block) is nobody's business.
fn ends(bytes: &[u8]) -> bool {
    let last = |mark: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, mark]);
    match (last(0xD9), last(0xDA)) {
        (Some(end), Some(scan)) => end > scan,
        _ => false,
    }
}

/// Adobe's programs write inks upside down, 255 for none, and nearly all CMYK files are theirs.
fn is_adobe(bytes: &[u8]) -> bool {
    bytes.windows(9).take(1 << 16).any(|w| w == b"\xFF\xEE\x00\x0EAdobe")
}

/// To ink as profiles mean it: cyan, magenta, yellow, black, 0 for none.
fn inks(pixels: &mut [u8], stored: ColorSpace, upside_down: bool) {
    let (pixels, _) = pixels.as_chunks_mut::<4>();
    for pixel in pixels {
        if stored == ColorSpace::YCCK {
            let [y, cb, cr] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
            let (cb, cr) = (cb - 128.0, cr - 128.0);
            let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
            for (ink, light) in pixel.iter_mut().zip(rgb) {
                *ink = 255 - light.round().clamp(0.0, 255.0) as u8;
            }
        }
        if upside_down {
            for ink in pixel {
                *ink = 255 - *ink;
            }
        }
    }
}
