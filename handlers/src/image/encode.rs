//! Message Translator: pixels become a file that says nothing but the picture.

use super::{
    decode::PhotoError,
    pixels::{Layout, Pixels},
    recipe::Made,
};

/// Writes `picture`, in sRGB, as `format`. `quality` is 1 to 100.
///
/// # Errors
/// The encoder refuses: a defect here and not of the photo.
pub fn encode(picture: &Pixels, format: Made, quality: u8) -> Result<Vec<u8>, PhotoError> {
    match format {
        Made::Jpeg => jpeg(picture, quality),
        Made::Webp => webp(picture, quality),
    }
}

fn jpeg(picture: &Pixels, quality: u8) -> Result<Vec<u8>, PhotoError> {
    let (width, height) = picture.size();
    let side = |length: u32| u16::try_from(length).map_err(PhotoError::internal);
    let mut file = Vec::with_capacity(picture.bytes().len() / 8);
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, quality);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder
        .encode(picture.bytes(), side(width)?, side(height)?, jpeg_encoder::ColorType::Rgb)
        .map_err(PhotoError::internal)?;
    Ok(file)
}

/// libwebp's effort, 0 to 6. From 2 on it takes twice the time and more for files that are hardly smaller (`benches/image.rs`).
const EFFORT: i32 = 1;

fn webp(picture: &Pixels, quality: u8) -> Result<Vec<u8>, PhotoError> {
    let refused = |e| PhotoError::internal(format!("libwebp: {e:?}"));
    let mut config = webp::WebPConfig::new().map_err(|()| PhotoError::internal("libwebp has another version"))?;
    config.quality = quality.into();
    config.method = EFFORT;
    let (width, height) = picture.size();
    let encoder = match picture.layout() {
        Layout::Rgba => webp::Encoder::from_rgba(picture.bytes(), width, height),
        _ => webp::Encoder::from_rgb(picture.bytes(), width, height),
    };
    encoder.encode_advanced(&config).map(|file| file.to_vec()).map_err(refused)
}
