//! Value Object: a picture in memory, and what turns one into another without knowing where it came from.

use super::exif::Orientation;
use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{U8, U8x2, U8x3, U8x4},
};

/// What the bytes of one pixel mean; 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Brightness.
    Grey,
    /// Brightness and opacity.
    GreyAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, opacity.
    Rgba,
    /// Ink, 0 for none.
    Cmyk,
}
impl Layout {
    /// Bytes a pixel.
    pub const fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }

    const fn has_alpha(self) -> bool {
        matches!(self, Self::GreyAlpha | Self::Rgba)
    }
}

/// Rows of pixels from the top, each from the left, without gaps: always `width × height × channels` bytes, and never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    layout: Layout,
    bytes: Vec<u8>,
}

/// A decoder gave less or more than its header promised.
#[derive(Debug, thiserror::Error)]
#[error("{width} × {height} pixels do not take {bytes} bytes")]
pub struct WrongSize {
    width: u32,
    height: u32,
    bytes: usize,
}

/// Pixels of a side of what is turned at a time.
const SQUARE: usize = 32;

impl Pixels {
    /// Bytes as pixels.
    ///
    /// # Errors
    /// There are none, or not as many as the size needs.
    pub fn new(width: u32, height: u32, layout: Layout, bytes: Vec<u8>) -> Result<Self, WrongSize> {
        let needed = width as u128 * u128::from(height) * layout.channels() as u128;
        if needed == 0 || needed != bytes.len() as u128 {
            return Err(WrongSize { width, height, bytes: bytes.len() });
        }
        Ok(Self { width, height, layout, bytes })
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// What the bytes mean.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same size with other pixels.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(&self, layout: Layout, bytes: Vec<u8>) -> Result<Self, WrongSize> {
        Self::new(self.width, self.height, layout, bytes)
    }

    /// The same picture in another size. A transparent pixel has no say in the colour of what it is mixed into.
    pub fn resized(&self, (width, height): (u32, u32)) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        if (width, height) == self.size() {
            return self.clone();
        }
        let bytes = match self.layout {
            Layout::Grey => self.resampled::<U8>(width, height),
            Layout::GreyAlpha => self.resampled::<U8x2>(width, height),
            Layout::Rgb => self.resampled::<U8x3>(width, height),
            Layout::Rgba | Layout::Cmyk => self.resampled::<U8x4>(width, height),
        };
        Self { width, height, layout: self.layout, bytes }
    }

    /// By the type: the call that finds it out itself brings the code for nine more types into the binary.
    fn resampled<P: PixelTrait>(&self, width: u32, height: u32) -> Vec<u8> {
        let mut bytes = vec![0; width as usize * height as usize * self.layout.channels()];
        // All hold: each buffer has the bytes of its size, and bytes lie anywhere.
        let given = TypedImageRef::<P>::from_buffer(self.width, self.height, &self.bytes).expect("bytes fit the size");
        let mut made = TypedImage::<P>::from_buffer(width, height, &mut bytes).expect("bytes fit the size");
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .use_alpha(self.layout.has_alpha());
        Resizer::new().resize_typed(&given, &mut made, &options).expect("nothing is cut out");
        bytes
    }

    /// As it is looked at.
    pub fn upright(self, orientation: Orientation) -> Self {
        if orientation == Orientation::default() {
            return self;
        }
        match self.layout.channels() {
            1 => self.turned::<1>(orientation),
            2 => self.turned::<2>(orientation),
            3 => self.turned::<3>(orientation),
            _ => self.turned::<4>(orientation),
        }
    }

    fn turned<const CHANNELS: usize>(self, orientation: Orientation) -> Self {
        let (pixels, _) = self.bytes.as_chunks::<CHANNELS>();
        let (width, height) = orientation.upright(self.size());
        let (origin, right, down) = orientation.walk(self.size());
        let mut bytes = vec![0; self.bytes.len()];
        let (made, _) = bytes.as_chunks_mut::<CHANNELS>();
        let (w, h) = (width as usize, height as usize);
        // In squares: a row here may be a column there, and what lies between two pixels of a column is soon too far for the cache.
        for (top, left) in (0..h).step_by(SQUARE).flat_map(|top| (0..w).step_by(SQUARE).map(move |left| (top, left))) {
            for row in top..(top + SQUARE).min(h) {
                let mut at = origin + row as i64 * down + left as i64 * right;
                for pixel in &mut made[row * w + left..row * w + (left + SQUARE).min(w)] {
                    *pixel = pixels[at as usize];
                    at += right;
                }
            }
        }
        Self { width, height, layout: self.layout, bytes }
    }

    /// Without opacity: on white, as a page shows it.
    pub fn flattened(&self) -> Self {
        let Layout::Rgba = self.layout else { return self.clone() };
        let (pixels, _) = self.bytes.as_chunks::<4>();
        let over = |colour: u8, alpha: u8| {
            let (colour, alpha) = (u32::from(colour), u32::from(alpha));
            ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        let bytes = pixels.iter().flat_map(|[r, g, b, a]| [over(*r, *a), over(*g, *a), over(*b, *a)]).collect();
        Self { layout: Layout::Rgb, bytes, ..*self }
    }

    /// Without opacity, if there is none to speak of: a third less to carry about.
    pub fn opaque_if_it_is(self) -> Self {
        let (pixels, _) = self.bytes.as_chunks::<4>();
        if self.layout == Layout::Rgba && pixels.iter().all(|[.., alpha]| *alpha == 255) {
            self.flattened()
        } else {
            self
        }
    }
}

/// The largest size in the proportions of `size` that fits into `within`, at least one pixel each way and never larger than it is.
pub fn fitted(size: (u32, u32), within: (u32, u32)) -> (u32, u32) {
    let (width, height) = (u64::from(size.0.max(1)), u64::from(size.1.max(1)));
    let (most_width, most_height) = (u64::from(within.0.max(1)), u64::from(within.1.max(1)));
    if width <= most_width && height <= most_height {
        return (width as u32, height as u32);
    }
    let scaled = |length: u64, by: u64, of: u64| (((length * by + of / 2) / of).max(1)) as u32;
    if width * most_height >= height * most_width {
        (most_width as u32, scaled(height, most_width, width))
    } else {
        (scaled(width, most_height, height), most_height as u32)
    }
}
