//! Content Enricher: what a picture looks like, in a few bytes.
//!
//! All of it is computed from small copies, so that it costs a millisecond or two.

use super::{
    contract::Fingerprint,
    pixels::{Layout, Pixels, fitted},
};

/// What a picture looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// 64 bits, few of which differ between pictures that look alike.
    pub fingerprint: Fingerprint,
    /// E.g. `#3a5f8c`.
    pub dominant_colour: String,
    /// A BlurHash.
    pub placeholder: String,
}
impl Look {
    /// At an upright picture in sRGB without opacity.
    pub fn at(picture: &Pixels) -> Self {
        let small = picture.resized(fitted(picture.size(), (64, 64)));
        Self {
            fingerprint: fingerprint(picture),
            dominant_colour: dominant_colour(&small),
            placeholder: placeholder(&small),
        }
    }
}

/// Side of the square that a fingerprint is computed from.
const SIDE: usize = 32;
/// Its slowest waves each way: 8 × 8 = 64 bits.
const WAVES: usize = 8;

/// The sign of the slowest waves of brightness against their median (the "pHash" of a discrete cosine transform): other sizes,
/// compression and light change few of them.
fn fingerprint(picture: &Pixels) -> Fingerprint {
    let square = picture.resized((SIDE as u32, SIDE as u32));
    let (pixels, _) = square.bytes().as_chunks::<3>();
    let brightness: Vec<f32> = pixels.iter().map(brightness).collect();
    let mut wave = [[0.0_f32; SIDE]; WAVES];
    for (frequency, samples) in wave.iter_mut().enumerate() {
        for (at, sample) in samples.iter_mut().enumerate() {
            *sample = (std::f32::consts::PI / SIDE as f32 * (at as f32 + 0.5) * frequency as f32).cos();
        }
    }
    let mut strengths = [0.0_f32; WAVES * WAVES];
    for (i, strength) in strengths.iter_mut().enumerate() {
        let (down, right) = (&wave[i / WAVES], &wave[i % WAVES]);
        let rows = brightness.chunks_exact(SIDE).zip(down);
        let sum: f32 = rows.map(|(row, d)| d * row.iter().zip(right).map(|(b, r)| b * r).sum::<f32>()).sum();
        // Rounded: what is nothing but the rounding of a plain surface must not become bits.
        *strength = (sum / SIDE as f32).round();
    }
    // The first is the mean brightness, which says nothing about what is to be seen.
    strengths[0] = 0.0;
    let mut sorted = strengths;
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    let bits = strengths.iter().enumerate().filter(|(_, strength)| **strength > median);
    Fingerprint(bits.fold(0, |bits, (i, _)| bits | 1 << i))
}

fn brightness([r, g, b]: &[u8; 3]) -> f32 {
    0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b)
}

/// The mean of the fullest of 4,096 drawers. A mean of all would be a grey that is nowhere in the picture.
fn dominant_colour(small: &Pixels) -> String {
    let mut drawers = vec![[0_u32; 4]; 1 << 12];
    let (pixels, _) = small.bytes().as_chunks::<3>();
    for [r, g, b] in pixels {
        let drawer = usize::from(r >> 4) << 8 | usize::from(g >> 4) << 4 | usize::from(b >> 4);
        let [count, rest @ ..] = &mut drawers[drawer];
        *count += 1;
        for (sum, channel) in rest.iter_mut().zip([r, g, b]) {
            *sum += u32::from(*channel);
        }
    }
    // The first of equals, so that the same picture always has the same colour.
    let fullest = drawers.iter().rev().max_by_key(|[count, ..]| count);
    let [r, g, b] = fullest.map_or([0; 3], |[count, sums @ ..]| sums.map(|sum| (sum + count / 2) / (*count).max(1)));
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// More detail along the longer side.
fn placeholder(small: &Pixels) -> String {
    let (width, height) = small.size();
    let (across, down) = if width >= height { (4, 3) } else { (3, 4) };
    let rgba: Vec<u8> = small.bytes().as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*r, *g, *b, 255]).collect();
    debug_assert_eq!(small.layout(), Layout::Rgb);
    // It refuses only other numbers than 1 to 9.
    blurhash::encode(across, down, width, height, &rgba).unwrap_or_default()
}
