//! Message Translator: JPEG.

use super::{Decoded, Needed, PhotoError, fits, within};
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

pub(super) fn decode(bytes: &[u8], most: u64, needed: Needed<'_>) -> Result<Decoded, PhotoError> {
    // Strict about what stands in the file. Data that stop before an end mark are filled up, as browsers do; `ends` sees a file
    // that has none.
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
    let orientation = decoder.exif().map(|exif| Orientation::read(exif)).unwrap_or_default();
    let profile = decoder.icc_profile();
    let size = (width, height);
    let small = match stored {
        ColorSpace::Luma | ColorSpace::YCbCr => scaled(bytes, size, needed(size, orientation), layout)?,
        _ => None,
    };
    if let Some(pixels) = small {
        return Ok(Decoded { format: Format::Jpeg, size, pixels, orientation, profile, animated: false });
    }
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let mut pixels = decoder.decode().map_err(refused)?;
    if layout == Layout::Cmyk {
        inks(&mut pixels, stored, is_adobe(bytes));
    }
    Ok(Decoded {
        format: Format::Jpeg,
        size,
        pixels: fits(JPEG, Pixels::new(width, height, layout, pixels))?,
        orientation,
        profile,
        animated: false,
    })
}

/// A half, a quarter or an eighth of each side, straight from the frequencies: less than half of the work for the photo of a phone,
/// which has to be made smaller anyhow. `None`: nothing is saved, or the other decoder knows better how to refuse it.
fn scaled(bytes: &[u8], size: (u32, u32), needed: (u32, u32), layout: Layout) -> Result<Option<Pixels>, PhotoError> {
    let part = |of: u32| (size.0.div_ceil(of), size.1.div_ceil(of));
    let enough = |(width, height): &(u32, u32)| *width >= needed.0 && *height >= needed.1;
    let Some(small) = [8, 4, 2].map(part).into_iter().find(enough) else { return Ok(None) };
    // This decoder has no limit of its own on scans.
    if bytes.windows(2).filter(|pair| *pair == [0xFF, 0xDA]).nth(MOST_SCANS).is_some() {
        return Ok(None);
    }
    let side = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    if layout == Layout::Rgb {
        decoder.set_color_transform(jpeg_decoder::ColorTransform::YCbCr);
    }
    let found = decoder.scale(side(small.0), side(small.1)).map_err(damaged)?;
    // One side is enough for it: a line of one pixel is as high at an eighth of its size.
    if (found.0.into(), found.1.into()) != small {
        return Ok(None);
    }
    let pixels = decoder.decode().map_err(damaged)?;
    fits(JPEG, Pixels::new(small.0, small.1, layout, pixels)).map(Some)
}

fn damaged(error: jpeg_decoder::Error) -> PhotoError {
    PhotoError::damaged(JPEG, error)
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
