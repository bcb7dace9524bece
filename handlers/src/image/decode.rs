//! Message Translator: the bytes of a photo become pixels, within limits, by what they are and not by what their name says.
//!
//! Everything that a decoder is about to allocate is known from the header and checked first: a file of some kilobytes can
//! claim a picture of some gigabytes. The decoders are written in safe Rust for the most part; the one in C only encodes.

mod jpeg;
mod png;
mod webp;

use super::{
    contract::Format,
    exif::Orientation,
    pixels::{Pixels, WrongSize},
};
use pitcrew::HandlerError;

/// What a decoder gives.
#[derive(Debug)]
pub struct Decoded {
    /// What the file is.
    pub format: Format,
    /// Width and height of the file, as stored.
    pub size: (u32, u32),
    /// As stored: not upright yet, and in the colours of `profile`. Smaller than `size` where that saved work and was asked for.
    pub pixels: Pixels,
    /// How the camera was held.
    pub orientation: Orientation,
    /// The ICC profile that the colours are meant in, if the file has one.
    pub profile: Option<Vec<u8>>,
    /// It moves, and `pixels` is its first picture.
    pub animated: bool,
}

/// Why a photo is not made. Each is final: the same bytes will say the same tomorrow.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    /// Nothing there.
    #[error("read the photo: the file is empty")]
    Empty,
    /// Another kind of file.
    #[error("read the photo: it is {is}; JPEG, PNG and WebP can be read")]
    OtherFormat {
        /// In words.
        is: &'static str,
    },
    /// The header claims more than is allowed.
    #[error("read the photo: its header says {width} × {height} pixels, more than `max_pixels` = {most}")]
    TooManyPixels {
        /// As claimed.
        width: u64,
        /// As claimed.
        height: u64,
        /// The limit.
        most: u64,
    },
    /// Cut off, changed, or made to do harm.
    #[error("read the photo as {format}: {why}")]
    Damaged {
        /// What it seems to be.
        format: &'static str,
        /// What the decoder says.
        why: String,
    },
    /// A kind of JPEG, PNG or WebP that no browser shows either.
    #[error("read the photo as {format}: {what} cannot be read")]
    Unsupported {
        /// What it is.
        format: &'static str,
        /// The kind.
        what: String,
    },
    /// A defect here, not of the photo.
    #[error("make a variant: {0}")]
    Internal(String),
    /// The handler that wanted it is gone.
    #[error("finish the photo: its deadline is over, or the worker stops")]
    Stopped,
}
impl PhotoError {
    /// Decoders end what they say with a line break, and quote bytes of the file.
    fn damaged(format: &'static str, why: impl std::fmt::Display) -> Self {
        let why = why.to_string().trim().replace(char::is_control, " ");
        Self::Damaged { format, why }
    }

    /// What follows from it for the message.
    pub(super) fn into_failure(self) -> HandlerError {
        match self {
            // Nobody waits for this answer any more; if somebody does, the photo is not to blame.
            Self::Stopped => self.into(),
            error => HandlerError::permanent(error),
        }
    }

    pub(super) fn internal(why: impl std::fmt::Display) -> Self {
        Self::Internal(why.to_string())
    }
}

/// How many pixels of a photo are needed: from its size as stored and how the camera was held to width and height as stored.
pub type Needed<'a> = &'a dyn Fn((u32, u32), Orientation) -> (u32, u32);

/// Reads a photo of at most `most` pixels, all of them.
///
/// # Errors
/// It is another kind of file, too large, or damaged.
pub fn decode(bytes: &[u8], most: u64) -> Result<Decoded, PhotoError> {
    decode_for(bytes, most, &|all, _| all)
}

/// As [`decode`], with fewer pixels than the file has where a format can be read so (JPEG: a half, a quarter or an eighth of each
/// side), and never fewer than are needed.
///
/// # Errors
/// As [`decode`].
pub fn decode_for(bytes: &[u8], most: u64, needed: Needed<'_>) -> Result<Decoded, PhotoError> {
    match sniff(bytes)? {
        Format::Jpeg => jpeg::decode(bytes, most, needed),
        Format::Png => png::decode(bytes, most),
        Format::Webp => webp::decode(bytes, most),
    }
}

/// What a file is, by how it begins.
///
/// # Errors
/// Empty, or none of the three; then says what it seems to be, for whoever has to tell the seller.
pub fn sniff(bytes: &[u8]) -> Result<Format, PhotoError> {
    let is = match bytes {
        [] => return Err(PhotoError::Empty),
        [0xFF, 0xD8, 0xFF, ..] => return Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => return Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Ok(Format::Webp),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => "AVIF",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i' | b's', b'f', b'1', ..] => {
            "HEIC, which iPhones make unless they are set to \"Most Compatible\""
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "a video",
        [b'G', b'I', b'F', b'8', ..] => "GIF",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "TIFF, or the raw file of a camera",
        [b'B', b'M', ..] => "BMP",
        [b'%', b'P', b'D', b'F', ..] => "PDF",
        _ if begins_like_a_page(bytes) => "a web page or other markup",
        _ => "no kind of picture that is known here",
    };
    Err(PhotoError::OtherFormat { is })
}

fn begins_like_a_page(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'<')
}

/// Before anything is allocated for them.
fn within(width: u64, height: u64, most: u64) -> Result<(u32, u32), PhotoError> {
    let too_many = || PhotoError::TooManyPixels { width, height, most };
    if width.saturating_mul(height) > most {
        return Err(too_many());
    }
    Ok((u32::try_from(width).map_err(|_| too_many())?, u32::try_from(height).map_err(|_| too_many())?))
}

fn fits(format: &'static str, pixels: Result<Pixels, WrongSize>) -> Result<Pixels, PhotoError> {
    pixels.map_err(|e| PhotoError::damaged(format, e))
}
