//! Test Message: drawn photos have what real ones have.

use crate::files::{assert_near, at};
use car_workers::image::{
    decode::decode,
    drawing::{Scene, exif},
    exif::Orientation,
};

#[test]
fn a_drawn_photo_stands_upright_however_the_camera_was_held() {
    for number in 1..=8 {
        let orientation = Orientation::of(number).unwrap();
        let scene = Scene { width: 320, height: 240, orientation, ..Scene::of(5) };
        let photo = decode(&scene.jpeg(), 1_000_000).unwrap();
        assert_eq!(photo.orientation, orientation);
        let upright = photo.pixels.upright(orientation);
        assert_eq!(upright.size(), (320, 240));
        for (x, y) in [(0.02, 0.02), (0.98, 0.02), (0.5, 0.97)] {
            assert_near(&at(&upright, x, y), &at(&scene.pixels(), x, y), 16);
        }
    }
}

#[test]
fn a_drawn_photo_says_where_it_was_taken() {
    let block = exif(Orientation::default(), Some((47.5, -8.25)));
    // The reference letters, and 47° 30′ 0″ as three fractions.
    let holds = |what: &[u8]| block.windows(what.len()).any(|w| w == what);
    assert!(holds(b"N\0\0\0") && holds(b"W\0\0\0"));
    let fractions = [47_u32, 1, 30, 1, 0, 1_000].map(u32::to_le_bytes).concat();
    assert!(holds(&fractions));
    let photo = Scene::of(1).jpeg();
    assert!(photo.windows(6).any(|w| w == b"Exif\0\0"));
}

#[test]
fn seeds_draw_different_photos() {
    let photos: std::collections::HashSet<_> =
        (0..20).map(|seed| Scene { width: 64, height: 48, ..Scene::of(seed) }.jpeg()).collect();
    assert_eq!(photos.len(), 20);
}
