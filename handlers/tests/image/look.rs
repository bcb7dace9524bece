//! What a picture looks like: alike for the same car, unlike for another one.

use crate::files::{assert_near, developed, jpeg_with, plain, png};
use car_workers::image::{
    contract::{Fingerprint, ListingLooks},
    drawing::Scene,
    exif::Orientation,
    look::Look,
    pixels::Pixels,
};

fn fingerprint(pixels: &Pixels) -> Fingerprint {
    Look::at(pixels).fingerprint
}

#[test]
fn the_same_car_in_other_light_size_and_quality_looks_alike() {
    for seed in 0..8 {
        let scene = Scene { width: 400, height: 300, ..Scene::of(seed) };
        let first = fingerprint(&scene.pixels());
        let again = [
            fingerprint(&Scene { light: 18, ..scene.clone() }.pixels()),
            fingerprint(&Scene { width: 260, height: 195, ..scene.clone() }.pixels()),
            developed(&jpeg_with(&scene.pixels(), |encoder| encoder.set_quality(30))).unwrap().look.fingerprint,
            developed(&Scene { orientation: Orientation::of(6).unwrap(), ..scene }.jpeg()).unwrap().look.fingerprint,
        ];
        for other in again {
            assert!(first.distance(other) <= 8, "{seed}: {}", first.distance(other));
        }
    }
}

#[test]
fn another_car_in_another_street_looks_different() {
    let looks: Vec<_> =
        (0..24).map(|seed| fingerprint(&Scene { width: 200, height: 150, ..Scene::of(seed) }.pixels())).collect();
    let pairs = (0..looks.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let alike: Vec<_> = pairs.filter(|(a, b)| looks[*a].distance(looks[*b]) <= 8).collect();
    assert!(alike.is_empty(), "{alike:?}");
}

#[test]
fn a_plain_surface_has_a_steady_fingerprint() {
    let look = |colour| fingerprint(&plain(100, 80, colour));
    assert_eq!([look([0; 3]), look([255; 3]), look([13, 200, 77])], [Fingerprint(0); 3]);
}

#[test]
fn the_dominant_colour_is_in_the_picture() {
    let bytes: Vec<u8> = (0..64 * 64).flat_map(|i| if i % 3 == 0 { [250, 10, 10] } else { [10, 20, 240] }).collect();
    let striped = png(64, 64, png::ColorType::Rgb, png::BitDepth::Eight, &bytes);
    assert_eq!(developed(&striped).unwrap().look.dominant_colour, "#0a14f0");
    assert_eq!(Look::at(&plain(1, 1, [1, 2, 3])).dominant_colour, "#010203");
}

#[test]
fn the_placeholder_is_a_blurhash_of_the_picture() {
    // 4 × 3 parts for a wide picture: the first letter says so, and 6 + 2 × 11 letters follow from it.
    let wide = Look::at(&Scene { width: 400, height: 300, ..Scene::of(1) }.pixels()).placeholder;
    assert_eq!((wide.len(), &wide[..1]), (28, "L"), "{wide}");
    let high = Look::at(&plain(30, 40, [255, 0, 0])).placeholder;
    assert_eq!((high.len(), &high[..1]), (28, "T"), "{high}");
    // The mean colour, red, in four letters of 83.
    let letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";
    let mean = high[2..6].chars().fold(0, |value, letter| value * 83 + letters.find(letter).unwrap() as u32);
    assert_near(&mean.to_be_bytes()[1..], &[255, 0, 0], 1);
}

#[test]
fn other_photos_of_the_listing_are_compared_and_never_the_photo_itself() {
    let looks = ListingLooks::of("l-1")
        .with("a", Fingerprint(0))
        .with("b", Fingerprint(0b111))
        .with("c", Fingerprint(u64::MAX));
    let near = |photo, at_most| {
        let near = looks.near(photo, Fingerprint(1), at_most);
        near.into_iter().map(|n| (n.photo_id, n.distance)).collect::<Vec<_>>()
    };
    assert_eq!(near("d", 8), [("a".into(), 1), ("b".into(), 2)]);
    assert_eq!(near("a", 8), [("b".into(), 2)]);
    assert_eq!(near("d", 1), [("a".into(), 1)]);
    // The same photo again takes its own place.
    assert_eq!(looks.clone().with("c", Fingerprint(1)).photos.len(), 3);
}

#[test]
fn a_fingerprint_is_text_in_json() {
    let text = serde_json::to_string(&Fingerprint(0xF0)).unwrap();
    assert_eq!(text, "\"00000000000000f0\"");
    assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), Fingerprint(0xF0));
    assert!(serde_json::from_str::<Fingerprint>("\"xyz\"").is_err());
}
