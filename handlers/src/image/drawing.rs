//! Test Message: a photo that nobody took, for demos and tests. The same scene is always the same file.
//!
//! It has what real ones have and what must not come through: a camera held any way up, and the place where it stood.

use super::{
    exif::Orientation,
    pixels::{Layout, Pixels},
};

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Chooses the car, its colour, the sky and the houses behind.
    pub seed: u64,
    /// In pixels, as it is looked at; at least 16.
    pub width: u16,
    /// In pixels, as it is looked at; at least 16.
    pub height: u16,
    /// How much brighter than usual, -100 to 100: the same car a minute later.
    pub light: i8,
    /// How the camera was held.
    pub orientation: Orientation,
    /// Latitude and longitude that the camera writes beside the picture.
    pub place: Option<(f64, f64)>,
}

impl Scene {
    /// A photo of a usual size, taken somewhere, with the camera held anyhow.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let orientation = Orientation::of([1, 1, 1, 6, 8, 3][dice.below(6) as usize]).unwrap_or_default();
        let place = Some((47.0 + f64::from(dice.below(7_000)) / 1_000.0, 6.0 + f64::from(dice.below(8_000)) / 1_000.0));
        Self { seed, width: 1_600, height: 1_200, light: 0, orientation, place }
    }

    /// A JPEG file.
    ///
    /// # Panics
    /// If a side has fewer than 16 pixels.
    pub fn jpeg(&self) -> Vec<u8> {
        assert!(self.width >= 16 && self.height >= 16, "too small to draw a car in");
        let stored = self.pixels().upright(self.orientation.inverse());
        let (width, height) = stored.size();
        let mut file = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut file, 88);
        // None of these can fail: the EXIF is short, the sides were u16, and a vector takes all bytes.
        encoder.add_exif_metadata(&exif(self.orientation, self.place)).expect("EXIF is short");
        encoder
            .encode(stored.bytes(), width as u16, height as u16, jpeg_encoder::ColorType::Rgb)
            .expect("a vector takes all bytes");
        file
    }

    /// As it is looked at, in RGB.
    pub fn pixels(&self) -> Pixels {
        let (width, height) = (u32::from(self.width), u32::from(self.height));
        let car = Street::of(self.seed);
        let mut grain = Dice(self.seed ^ 0x9E37_79B9);
        let mut bytes = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height {
            for x in 0..width {
                let colour = car.at(x as f32 / width as f32, y as f32 / height as f32);
                let change = i32::from(self.light) + grain.below(9) as i32 - 4;
                bytes.extend(colour.map(|channel| (i32::from(channel) + change).clamp(0, 255) as u8));
            }
        }
        Pixels::new(width, height, Layout::Rgb, bytes).expect("each pixel was drawn")
    }
}

/// A car in a street. All lengths are parts of the picture's sides.
struct Street {
    sky: [u8; 3],
    ground: [u8; 3],
    paint: [u8; 3],
    /// The road begins here.
    horizon: f32,
    /// Left edge, right edge, roof of each house.
    houses: Vec<(f32, f32, f32, [u8; 3])>,
    /// The middle of the car.
    x: f32,
    /// Half of its length.
    length: f32,
    /// The height of its body.
    body: f32,
    /// How far its cabin is from its middle.
    cabin: f32,
}

impl Street {
    fn of(seed: u64) -> Self {
        const PAINTS: [[u8; 3]; 8] = [
            [178, 34, 38],
            [28, 62, 120],
            [232, 232, 228],
            [36, 38, 42],
            [150, 156, 162],
            [38, 96, 62],
            [222, 164, 30],
            [96, 52, 110],
        ];
        let mut dice = Dice(seed);
        let mut part = |from: f32, to: f32| from + (to - from) * dice.below(1_000) as f32 / 1_000.0;
        let shade = |base: [u8; 3], by: f32| base.map(|channel| (f32::from(channel) * by) as u8);
        let horizon = part(0.42, 0.62);
        let mut houses = Vec::new();
        let mut left = part(-0.2, 0.1);
        while left < 1.0 {
            let right = left + part(0.08, 0.3);
            houses.push((left, right, horizon - part(0.05, 0.36), shade([205, 178, 150], part(0.45, 1.15))));
            left = right + part(0.0, 0.18);
        }
        Self {
            sky: shade([160, 200, 240], part(0.6, 1.0)),
            ground: shade([110, 108, 104], part(0.6, 1.3)),
            paint: PAINTS[part(0.0, 7.999) as usize],
            horizon,
            houses,
            x: part(0.36, 0.64),
            length: part(0.2, 0.34),
            body: part(0.09, 0.15),
            cabin: part(-0.06, 0.06),
        }
    }

    fn at(&self, x: f32, y: f32) -> [u8; 3] {
        const TYRE: [u8; 3] = [24, 24, 26];
        const GLASS: [u8; 3] = [64, 84, 100];
        let bottom = self.horizon + 0.22;
        let wheel = |at: f32| ((x - at) / 0.055).hypot((y - bottom) / 0.07) < 1.0;
        let (back, front) = (self.x - self.length * 0.62, self.x + self.length * 0.62);
        let top = bottom - self.body - 0.02;
        let in_body = (x - self.x).abs() < self.length && y > top && y < bottom;
        // Narrower towards the roof.
        let roof = top - self.body * 0.9;
        let cabin = self.length * (0.38 + 0.22 * (y - roof) / (top - roof));
        let from_cabin = (x - self.x - self.cabin).abs();
        if wheel(back) || wheel(front) {
            TYRE
        } else if in_body {
            self.paint
        } else if y > roof && y <= top && from_cabin < cabin {
            if from_cabin < cabin - 0.02 && y > roof + 0.015 && from_cabin > 0.008 { GLASS } else { self.paint }
        } else if y > self.horizon {
            self.ground
        } else {
            let house = self.houses.iter().find(|(left, right, roof, _)| x > *left && x < *right && y > *roof);
            house.map_or(self.sky, |(.., wall)| *wall)
        }
    }
}

/// SplitMix64: the same everywhere, for ever.
struct Dice(u64);
impl Dice {
    fn below(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % u64::from(sides)) as u32
    }
}

/// What a camera writes beside a picture: how it was held, its maker, and where it stood.
pub fn exif(orientation: Orientation, place: Option<(f64, f64)>) -> Vec<u8> {
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const ASCII: u16 = 2;
    const RATIONAL: u16 = 5;
    const MAKER: &[u8] = b"Pitcrew Camera Works\0";
    let entries = if place.is_some() { 3 } else { 2 };
    let after_first = 8 + 2 + 12 * entries + 4;
    let gps = after_first + MAKER.len().next_multiple_of(2) as u32;
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    let entry = |tiff: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32| {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(kind.to_le_bytes());
        tiff.extend(count.to_le_bytes());
        tiff.extend(value.to_le_bytes());
    };
    tiff.extend((entries as u16).to_le_bytes());
    entry(&mut tiff, 0x010F, ASCII, MAKER.len() as u32, after_first);
    entry(&mut tiff, 0x0112, SHORT, 1, orientation.number().into());
    if place.is_some() {
        entry(&mut tiff, 0x8825, LONG, 1, gps);
    }
    tiff.extend(0_u32.to_le_bytes());
    tiff.extend(MAKER);
    tiff.resize(gps as usize, 0);
    if let Some((latitude, longitude)) = place {
        let values = gps + 2 + 12 * 4 + 4;
        let hemisphere = |degrees: f64, plus: u8, minus: u8| u32::from(if degrees < 0.0 { minus } else { plus });
        tiff.extend(4_u16.to_le_bytes());
        entry(&mut tiff, 1, ASCII, 2, hemisphere(latitude, b'N', b'S'));
        entry(&mut tiff, 2, RATIONAL, 3, values);
        entry(&mut tiff, 3, ASCII, 2, hemisphere(longitude, b'E', b'W'));
        entry(&mut tiff, 4, RATIONAL, 3, values + 24);
        tiff.extend(0_u32.to_le_bytes());
        for degrees in [latitude.abs(), longitude.abs()] {
            let seconds = (degrees * 3_600_000.0) as u32;
            for (over, under) in [(seconds / 3_600_000, 1), (seconds / 60_000 % 60, 1), (seconds % 60_000, 1_000)] {
                tiff.extend(u32::to_le_bytes(over));
                tiff.extend(u32::to_le_bytes(under));
            }
        }
    }
    tiff
}
