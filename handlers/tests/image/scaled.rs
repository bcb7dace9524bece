//! A large JPEG is decoded at a half, a quarter or an eighth of its size, and nobody can tell by what comes out.

use crate::files::{MOST, assert_near, at, jpeg, jpeg_with, shown};
use car_workers::image::{
    decode::{decode, decode_for},
    develop::{Stop, develop},
    drawing::{self, Scene},
    exif::Orientation,
    pixels::{Layout, Pixels},
    recipe::{Config, Made, Recipe, VariantSpec},
};

/// One picture, small beside the photo.
fn recipe() -> Recipe {
    let full = VariantSpec { name: "full".into(), width: 240, height: 240, formats: vec![Made::Jpeg], quality: 90 };
    Recipe::new(&Config { variants: vec![full], ..Config::default() }).unwrap()
}

/// Large beside what is made of it.
fn large() -> Pixels {
    Scene { width: 999, height: 301, place: None, ..Scene::of(11) }.pixels()
}

#[test]
fn never_fewer_pixels_are_read_than_are_needed_and_not_many_more() {
    let photo = jpeg(&large());
    for (needed, read) in [
        ((999, 301), (999, 301)),
        ((501, 151), (999, 301)),
        ((500, 151), (500, 151)),
        ((251, 50), (500, 151)),
        ((100, 76), (250, 76)),
        ((240, 72), (250, 76)),
        ((125, 38), (125, 38)),
        ((1, 1), (125, 38)),
    ] {
        let decoded = decode_for(&photo, MOST, &|_, _| needed).unwrap();
        assert_eq!((decoded.size, decoded.pixels.size()), ((999, 301), read), "{needed:?}");
    }
}

#[test]
fn what_is_read_small_looks_like_what_is_made_small() {
    let colours = large();
    let grey: Vec<u8> = colours.bytes().chunks(3).map(|pixel| pixel[1]).collect();
    let grey = Pixels::new(999, 301, Layout::Grey, grey).unwrap();
    for (what, photo) in [
        ("colours", jpeg(&colours)),
        (
            "a quarter of the colours",
            jpeg_with(&colours, |e| e.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2)),
        ),
        ("progressive", jpeg_with(&colours, |encoder| encoder.set_progressive(true))),
        ("grey", jpeg(&grey)),
    ] {
        let small = decode_for(&photo, MOST, &|_, _| (250, 76)).unwrap().pixels;
        assert_eq!(small.size(), (250, 76), "{what}: it is read small");
        let small = small.resized((100, 30));
        let whole = decode(&photo, MOST).unwrap().pixels.resized((100, 30));
        let apart: u64 = small.bytes().iter().zip(whole.bytes()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = apart as f64 / whole.bytes().len() as f64;
        assert!(mean < 1.5, "{what}: a pixel differs by {mean}");
    }
}

#[test]
fn a_large_photo_stands_upright_however_the_camera_was_held() {
    let recipe = recipe();
    for number in 1..=8 {
        let orientation = Orientation::of(number).unwrap();
        let scene = Scene { width: 480, height: 780, orientation, ..Scene::of(5) };
        let photo = scene.jpeg();
        let needed = |_, _| orientation.upright((148, 240));
        let read = decode_for(&photo, MOST, &needed).unwrap().pixels.size();
        assert_eq!(read, orientation.upright((240, 390)), "read at half its size");
        let made = develop(&photo, &recipe, &Stop::default()).unwrap();
        assert_eq!((made.original.width, made.original.height), (480, 780));
        let full = shown(&made.files[0]);
        assert_eq!(full.size(), (148, 240));
        let drawn = scene.pixels();
        for (x, y) in [(0.02, 0.02), (0.98, 0.02), (0.5, 0.97), (0.03, 0.9)] {
            assert_near(&at(&full, x, y), &at(&drawn, x, y), 16);
        }
    }
}

#[test]
fn a_long_line_is_read_small_as_well() {
    let line = Pixels::new(4_000, 1, Layout::Rgb, [200, 30, 30].repeat(4_000)).unwrap();
    let photo = jpeg(&line);
    for (needed, read) in [((240, 1), (500, 1)), ((501, 1), (4_000, 1))] {
        let decoded = decode_for(&photo, MOST, &|_, _| needed).unwrap();
        assert_eq!(decoded.pixels.size(), read);
        assert_near(&at(&decoded.pixels, 0.5, 0.5), &[200, 30, 30], 6);
    }
}

#[test]
fn a_large_photo_with_more_scans_than_any_camera_makes_is_refused() {
    let photo = jpeg_with(&large(), |encoder| encoder.set_progressive(true));
    let scan = photo.windows(2).rposition(|w| w == [0xFF, 0xDA]).unwrap();
    let (head, tail) = photo.split_at(scan);
    let (scan, end) = tail.split_at(tail.len() - 2);
    let bomb = [head, &scan.repeat(200), end].concat();
    let refusal = develop(&bomb, &recipe(), &Stop::default()).unwrap_err().to_string();
    assert_eq!(refusal, "read the photo as JPEG: \"Too many scans, exceeded limit of 32\"");
}

#[test]
fn a_large_photo_that_was_changed_is_no_reason_to_fall_over() {
    let scene = Scene { width: 400, height: 64, ..Scene::of(4) };
    let exif = drawing::exif(Orientation::default(), None);
    let progressive = |encoder: &mut jpeg_encoder::Encoder<&mut Vec<u8>>| {
        encoder.set_progressive(true);
        encoder.add_exif_metadata(&exif).unwrap();
    };
    let mut dice = 7_u32;
    for photo in [scene.jpeg(), jpeg_with(&scene.pixels(), progressive)] {
        for _ in 0..100 {
            let mut changed = photo.clone();
            for _ in 0..4 {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (dice >> 8) as usize % changed.len();
                changed[at] ^= 1 << (dice % 8);
            }
            // Read or refused: whoever panics here ends the test.
            let _ = decode_for(&changed, 1_000_000, &|_, _| (320, 10));
        }
    }
}
