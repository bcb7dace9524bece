//! What the image worker costs beside the bare calls that it is made of, for one photo of 12 megapixels on one thread:
//!
//! ```sh
//! cargo bench -p car-workers --bench image
//! ```
//!
//! "Bare" decodes, at half the size, resizes and encodes the same variants in the same formats with the same crates, and does
//! nothing else: no limits, no orientation, no hashes, no look. The ratio is the promise: at most 1.2. The decoders that were chosen
//! from, and what was tried beside them, are in `docs/adr/0004-photos-are-decoded-small.md`.

use car_workers::image::{
    develop::{Stop, develop},
    drawing::Scene,
    encode,
    exif::Orientation,
    pixels::{Layout, Pixels, fitted},
    recipe::{Config, Made, Recipe},
};
use std::hint::black_box;

fn main() {
    let config = Config::default();
    let recipe = Recipe::new(&config).expect("the default config");
    println!(
        "One photo of 4,000 × 3,000 pixels into {} variants in two formats, the best of 7 runs:",
        recipe.variants.len()
    );
    for (words, number) in [("upright", 1), ("on its side", 6)] {
        let orientation = Orientation::of(number).expect("1 to 8");
        let (width, height) = if number == 1 { (4_000, 3_000) } else { (3_000, 4_000) };
        let photo = Scene { width, height, orientation, ..Scene::of(1) }.jpeg();
        let bare = best(|| bare(&photo, &recipe));
        let whole = best(|| develop(&photo, &recipe, &Stop::default()).expect("a good photo"));
        println!(
            "  {words:<12} {:>8} bytes   bare calls {bare:>6.1} ms   worker {whole:>6.1} ms   ratio {:.2}",
            photo.len(),
            whole / bare
        );
        assert!(whole / bare <= 1.2, "the worker takes more than 1.2 times the bare calls");
    }
    println!("The decoders alone, 4,000 × 3,000, and making 1,920 × 1,440 of what they give:");
    let photo = Scene { width: 4_000, height: 3_000, orientation: Orientation::default(), ..Scene::of(1) }.jpeg();
    for (words, decode) in [
        ("zune-jpeg, all pixels", whole_by_zune as Decoder),
        ("jpeg-decoder, all pixels", whole),
        ("jpeg-decoder, a half", half),
    ] {
        let (took, picture) = (best(|| decode(&photo)), decode(&photo));
        let resized = best(|| picture.resized((1_920, 1_440)));
        println!("  {words:<25} {took:>6.1} ms   resize {resized:>6.1} ms");
    }
    println!("The encoders alone, 1,920 × 1,440:");
    let full = Scene { width: 1_920, height: 1_440, ..Scene::of(1) }.pixels();
    for (words, format) in [("JPEG", Made::Jpeg), ("WebP", Made::Webp)] {
        let took = best(|| encode::encode(&full, format, 80).expect("a good picture"));
        println!("  {words}   {took:>6.1} ms");
    }
    for effort in 0..=4 {
        let mut settings = webp::WebPConfig::new().expect("libwebp");
        (settings.quality, settings.method) = (80.0, effort);
        let encoder = webp::Encoder::from_rgb(full.bytes(), 1_920, 1_440);
        let bytes = encoder.encode_advanced(&settings).expect("a good picture").len();
        let took = best(|| encoder.encode_advanced(&settings).expect("a good picture"));
        println!("  WebP with effort {effort}   {took:>6.1} ms   {bytes:>7} bytes");
    }
}

type Decoder = fn(&[u8]) -> Pixels;

fn whole_by_zune(photo: &[u8]) -> Pixels {
    use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let bytes = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(photo), options).decode().expect("a good photo");
    Pixels::new(4_000, 3_000, Layout::Rgb, bytes).expect("all pixels")
}

fn whole(photo: &[u8]) -> Pixels {
    let bytes = jpeg_decoder::Decoder::new(photo).decode().expect("a good photo");
    Pixels::new(4_000, 3_000, Layout::Rgb, bytes).expect("all pixels")
}

fn half(photo: &[u8]) -> Pixels {
    let mut decoder = jpeg_decoder::Decoder::new(photo);
    let (width, height) = decoder.scale(1_920, 1_440).expect("a good photo");
    let bytes = decoder.decode().expect("a good photo");
    Pixels::new(width.into(), height.into(), Layout::Rgb, bytes).expect("all pixels")
}

/// Milliseconds of processor time, so that a machine with other work to do measures the same.
fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let run = |_| {
        let began = on_processor();
        black_box(work());
        (on_processor() - began) / 1e6
    };
    (0..7).map(run).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds that this thread was on a processor (Linux).
fn on_processor() -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    schedule.split(' ').next().and_then(|spent| spent.parse().ok()).expect("a number")
}

fn bare(photo: &[u8], recipe: &Recipe) -> Vec<Vec<u8>> {
    let mut decoder = jpeg_decoder::Decoder::new(photo);
    decoder.read_info().expect("a good photo");
    let stored = decoder.info().map(|info| (info.width.into(), info.height.into())).expect("read");
    let largest = recipe.variants.last().map(|variant| (variant.width, variant.height)).expect("a variant");
    let needed = fitted(stored, largest);
    let (width, height) = decoder.scale(needed.0 as u16, needed.1 as u16).expect("a good photo");
    let bytes = decoder.decode().expect("a good photo");
    let picture = Pixels::new(width.into(), height.into(), Layout::Rgb, bytes).expect("all pixels");
    let mut files = Vec::new();
    let mut larger = picture;
    // From the largest to the smallest, each from the one before: the cheapest way that there is.
    for variant in recipe.variants.iter().rev() {
        let picture = larger.resized(fitted(stored, (variant.width, variant.height)));
        for format in &variant.formats {
            files.push(encode::encode(&picture, *format, variant.quality).expect("a good picture"));
        }
        larger = picture;
    }
    files
}
