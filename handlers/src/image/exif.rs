//! Message Filter: of all that a camera writes beside a picture, only how it was held.
//!
//! Nothing else of EXIF is read, and nothing of it is written: what is not copied cannot leak.

/// Which way up a camera was held, in the numbers of EXIF, 1 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation(u8);
impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

impl Orientation {
    /// From a block of EXIF. One that cannot be read says nothing: a photo is not refused for what its camera wrote beside it.
    pub fn read(exif: &[u8]) -> Self {
        Self::find(exif).unwrap_or_default()
    }

    /// By its number in EXIF.
    pub fn of(number: u8) -> Option<Self> {
        (1..=8).contains(&number).then_some(Self(number))
    }

    /// The number in EXIF.
    pub fn number(self) -> u8 {
        self.0
    }

    /// How a picture must be turned so that this turns it back.
    #[must_use]
    pub fn inverse(self) -> Self {
        match self.0 {
            6 => Self(8),
            8 => Self(6),
            same => Self(same),
        }
    }

    fn find(exif: &[u8]) -> Option<Self> {
        // Some WebP files carry the mark of the JPEG segment along.
        let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        let little = match tiff.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let short = |at: usize| {
            let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
        };
        let long = |at: usize| {
            let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
            Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
        };
        let directory = usize::try_from(long(4)?).ok()?;
        let entries = usize::from(short(directory)?);
        let entry =
            (0..entries).map_while(|i| directory.checked_add(2 + 12 * i)).find(|at| short(*at) == Some(ORIENTATION))?;
        if short(entry + 2)? != SHORT {
            return None;
        }
        Self::of(u8::try_from(short(entry + 8)?).ok()?)
    }

    /// The size as it is looked at.
    pub fn upright(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.0 >= 5 { (height, width) } else { (width, height) }
    }

    /// How to walk over the pixels of a picture of this size so that they come upright: where to begin, how far it is to the
    /// next pixel on the right and to the next row, in pixels.
    pub(super) fn walk(self, (width, height): (u32, u32)) -> (i64, i64, i64) {
        let (w, h) = (i64::from(width), i64::from(height));
        let (top_right, bottom_left, bottom_right) = (w - 1, (h - 1) * w, w * h - 1);
        match self.0 {
            2 => (top_right, -1, w),
            3 => (bottom_right, -1, -w),
            4 => (bottom_left, 1, -w),
            5 => (0, w, 1),
            6 => (bottom_left, -w, 1),
            7 => (bottom_right, -w, -1),
            8 => (top_right, w, -1),
            _ => (0, 1, w),
        }
    }
}
