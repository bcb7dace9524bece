//! Test Message: files of every kind, made here, so that no picture lies in the repository and each test says what is in it.

use car_workers::image::{
    contract::Format,
    decode::{PhotoError, decode},
    develop::{Developed, File, Stop, develop},
    pixels::{Layout, Pixels},
    recipe::{Config, Recipe},
};
use jpeg_encoder::{ColorType, Encoder};

pub(crate) const MOST: u64 = 50_000_000;

pub(crate) fn recipe() -> Recipe {
    Recipe::new(&Config::default()).unwrap()
}
pub(crate) fn developed(bytes: &[u8]) -> Result<Developed, PhotoError> {
    develop(bytes, &recipe(), &Stop::default())
}
pub(crate) fn refusal(bytes: &[u8]) -> String {
    developed(bytes).unwrap_err().to_string()
}
pub(crate) fn file<'a>(developed: &'a Developed, name: &str, format: Format) -> &'a File {
    developed.files.iter().find(|file| (file.name.as_str(), file.format) == (name, format)).unwrap()
}
pub(crate) fn shown(file: &File) -> Pixels {
    decode(&file.bytes, MOST).unwrap().pixels
}

/// The colour at a place, in parts of the sides.
pub(crate) fn at(pixels: &Pixels, x: f64, y: f64) -> Vec<u8> {
    let (width, height) = pixels.size();
    let (x, y) = ((x * f64::from(width)) as usize, (y * f64::from(height)) as usize);
    let channels = pixels.layout().channels();
    pixels.bytes()[(y * width as usize + x) * channels..][..channels].to_vec()
}
#[track_caller]
pub(crate) fn assert_near(colour: &[u8], wanted: &[u8], by: u8) {
    let near = colour.len() == wanted.len() && colour.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= by);
    assert!(near, "{colour:?} is not {wanted:?}");
}

pub(crate) fn rgb(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Pixels {
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Pixels::new(width, height, Layout::Rgb, places.flat_map(|(x, y)| colour(x, y)).collect()).unwrap()
}
pub(crate) fn plain(width: u32, height: u32, colour: [u8; 3]) -> Pixels {
    rgb(width, height, |_, _| colour)
}

pub(crate) fn jpeg(pixels: &Pixels) -> Vec<u8> {
    jpeg_with(pixels, |_| ())
}
pub(crate) fn jpeg_with(pixels: &Pixels, set: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let kind = match pixels.layout() {
        Layout::Grey => ColorType::Luma,
        Layout::Rgb => ColorType::Rgb,
        Layout::Cmyk => ColorType::Cmyk,
        other => panic!("JPEG knows no {other:?}"),
    };
    jpeg_as(kind, pixels, set)
}
pub(crate) fn jpeg_as(kind: ColorType, pixels: &Pixels, set: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 95);
    set(&mut encoder);
    let (width, height) = pixels.size();
    encoder.encode(pixels.bytes(), width as u16, height as u16, kind).unwrap();
    file
}

pub(crate) fn png(width: u32, height: u32, colour: png::ColorType, depth: png::BitDepth, bytes: &[u8]) -> Vec<u8> {
    png_with(width, height, bytes, |info| (info.color_type, info.bit_depth) = (colour, depth))
}
/// 8 bits of red, green and blue, unless `set` says otherwise.
pub(crate) fn png_with(width: u32, height: u32, bytes: &[u8], set: impl FnOnce(&mut png::Info)) -> Vec<u8> {
    let mut info = png::Info::with_size(width, height);
    (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
    set(&mut info);
    let mut file = Vec::new();
    let mut writer = png::Encoder::with_info(&mut file, info).unwrap().write_header().unwrap();
    writer.write_image_data(bytes).unwrap();
    writer.finish().unwrap();
    file
}

pub(crate) fn webp(pixels: &Pixels) -> Vec<u8> {
    let (width, height) = pixels.size();
    let encoder = match pixels.layout() {
        Layout::Rgba => webp::Encoder::from_rgba(pixels.bytes(), width, height),
        _ => webp::Encoder::from_rgb(pixels.bytes(), width, height),
    };
    encoder.encode(95.0).to_vec()
}

/// A file of the RIFF family: the chunks of WebP behind one another.
pub(crate) fn riff(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, data) in chunks {
        body.extend(*name);
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(data);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    [b"RIFF".as_slice(), &(body.len() as u32).to_le_bytes(), &body].concat()
}
/// A WebP of one picture, with chunks before it (a profile) and behind it (EXIF).
pub(crate) fn webp_with(
    pixels: &Pixels,
    flags: u8,
    before: &[(&[u8; 4], Vec<u8>)],
    behind: &[(&[u8; 4], Vec<u8>)],
) -> Vec<u8> {
    let (width, height) = pixels.size();
    let picture = webp(&pixels.flattened())[12..].to_vec();
    let name = picture.first_chunk::<4>().unwrap();
    let length = u32::from_le_bytes(picture[4..8].try_into().unwrap()) as usize;
    let picture = (name, picture[8..8 + length].to_vec());
    riff(&[&[vp8x(flags, width, height)], before, &[picture], behind].concat())
}
/// The chunk that says what an extended WebP holds.
pub(crate) fn vp8x(flags: u8, width: u32, height: u32) -> (&'static [u8; 4], Vec<u8>) {
    let size = [width - 1, height - 1].map(|side| side.to_le_bytes());
    (b"VP8X", [&[flags, 0, 0, 0], &size[0][..3], &size[1][..3]].concat())
}

/// A profile for a screen whose colours are these primaries (X, Y, Z each) with this gamma.
pub(crate) fn screen_profile(primaries: [[f64; 3]; 3], gamma: f64) -> Vec<u8> {
    let xyz = |values: [f64; 3]| {
        let values = values.map(|value| ((value * 65_536.0).round() as i32).to_be_bytes());
        [b"XYZ \0\0\0\0".as_slice(), &values.concat()].concat()
    };
    let curve = [b"curv\0\0\0\0\0\0\0\x01".as_slice(), &((gamma * 256.0) as u16).to_be_bytes(), &[0, 0]].concat();
    let [r, g, b] = primaries.map(xyz);
    let tags = [
        (b"rXYZ", r),
        (b"gXYZ", g),
        (b"bXYZ", b),
        (b"rTRC", curve.clone()),
        (b"gTRC", curve.clone()),
        (b"bTRC", curve),
    ];
    profile(b"RGB ", b"mntr", b"XYZ ", &tags)
}
pub(crate) fn grey_profile(gamma: f64) -> Vec<u8> {
    let curve = [b"curv\0\0\0\0\0\0\0\x01".as_slice(), &((gamma * 256.0) as u16).to_be_bytes(), &[0, 0]].concat();
    profile(b"GRAY", b"mntr", b"XYZ ", &[(b"kTRC", curve)])
}
/// A printer's profile by which every ink gives the same colour, so that whoever ignores it is seen to.
pub(crate) fn ink_profile([l, a, b]: [u8; 3]) -> Vec<u8> {
    let ramp: Vec<u8> = (0..=255).collect();
    let matrix: Vec<u8> = [1, 0, 0, 0, 1, 0, 0, 0, 1].iter().flat_map(|n: &i32| (n << 16).to_be_bytes()).collect();
    let table =
        [b"mft1\0\0\0\0\x04\x03\x02\0".as_slice(), &matrix, &ramp.repeat(4), &[l, a, b].repeat(16), &ramp.repeat(3)]
            .concat();
    profile(b"CMYK", b"prtr", b"Lab ", &[(b"A2B0", table)])
}
fn profile(colours: &[u8; 4], class: &[u8; 4], space: &[u8; 4], tags: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut header = vec![0; 128];
    header[8..12].copy_from_slice(&[2, 0x40, 0, 0]);
    header[12..16].copy_from_slice(class);
    header[16..20].copy_from_slice(colours);
    header[20..24].copy_from_slice(space);
    header[36..40].copy_from_slice(b"acsp");
    let mut index = (tags.len() as u32).to_be_bytes().to_vec();
    let mut body = Vec::new();
    for (name, data) in tags {
        let offset = 128 + 4 + 12 * tags.len() + body.len();
        index.extend(*name);
        index.extend((offset as u32).to_be_bytes());
        index.extend((data.len() as u32).to_be_bytes());
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut file = [header, index, body].concat();
    let length = (file.len() as u32).to_be_bytes();
    file[..4].copy_from_slice(&length);
    file
}
