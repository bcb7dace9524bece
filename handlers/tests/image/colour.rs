//! Colours: what a profile says is worked into the pixels.

use crate::files::{
    assert_near, at, developed, file, grey_profile, ink_profile, jpeg, jpeg_as, jpeg_with, plain, png_with,
    screen_profile, shown, webp_with,
};
use car_workers::image::{
    contract::Format,
    pixels::{Layout, Pixels},
};
use jpeg_encoder::ColorType;

/// The primaries of sRGB as a profile holds them (adapted to D50), and a screen on which red is green, green blue, blue red.
const SRGB: [[f64; 3]; 3] = [[0.4360, 0.2225, 0.0139], [0.3851, 0.7169, 0.0971], [0.1431, 0.0606, 0.7141]];
const TURNED: [[f64; 3]; 3] = [SRGB[1], SRGB[2], SRGB[0]];

fn full(photo: &[u8]) -> Vec<u8> {
    at(&shown(file(&developed(photo).unwrap(), "full", Format::Jpeg)), 0.5, 0.5)
}

#[test]
fn a_profile_is_worked_in() {
    let profile = screen_profile(TURNED, 2.2);
    let picture = plain(64, 64, [220, 40, 40]);
    let photos = [
        jpeg_with(&picture, |encoder| encoder.add_icc_profile(&profile).unwrap()),
        png_with(64, 64, picture.bytes(), |info| info.icc_profile = Some(profile.clone().into())),
        webp_with(&picture, 0x20, &[(b"ICCP", profile.clone())], &[]),
    ];
    for photo in photos {
        assert_near(&full(&photo), &[40, 220, 40], 12);
    }
    assert_near(&full(&jpeg(&picture)), &[220, 40, 40], 6);
}

#[test]
fn the_profile_of_a_grey_photo_is_worked_in() {
    // Linear light: a fifth of it looks like 124 of 255.
    let profile = grey_profile(1.0);
    let grey = Pixels::new(64, 64, Layout::Grey, vec![51; 64 * 64]).unwrap();
    let photo = jpeg_with(&grey, |encoder| encoder.add_icc_profile(&profile).unwrap());
    assert_near(&full(&photo), &[124; 3], 6);
    assert_near(&full(&jpeg(&grey)), &[51; 3], 6);
}

#[test]
fn inks_become_light() {
    // Much magenta, a little black.
    let inks = Pixels::new(64, 64, Layout::Cmyk, [0, 200, 0, 50].repeat(64 * 64)).unwrap();
    for kind in [ColorType::Cmyk, ColorType::CmykAsYcck] {
        assert_near(&full(&jpeg_as(kind, &inks, |_| ())), &[205, 44, 205], 8);
    }
    // Without Adobe's mark the same bytes are inks as they stand: all cyan and yellow, much black.
    let mut plain = jpeg_as(ColorType::Cmyk, &inks, |_| ());
    let mark = plain.windows(5).position(|w| w == b"Adobe").unwrap();
    plain[mark..mark + 5].copy_from_slice(b"adobe");
    assert_near(&full(&plain), &[0, 39, 0], 8);
}

#[test]
fn a_printers_profile_is_worked_in() {
    // L* 60, a* +60, b* +20: a red that the inks alone do not give.
    let profile = ink_profile([153, 188, 148]);
    let inks = Pixels::new(64, 64, Layout::Cmyk, [200, 0, 0, 0].repeat(64 * 64)).unwrap();
    for kind in [ColorType::Cmyk, ColorType::CmykAsYcck] {
        let photo = jpeg_as(kind, &inks, |encoder| encoder.add_icc_profile(&profile).unwrap());
        assert_near(&full(&photo), &[235, 98, 111], 12);
    }
}

#[test]
fn a_profile_of_another_kind_says_nothing() {
    let picture = plain(64, 64, [220, 40, 40]);
    for profile in [grey_profile(1.0), ink_profile([153, 188, 148]), vec![0; 200]] {
        let photo = jpeg_with(&picture, |encoder| encoder.add_icc_profile(&profile).unwrap());
        assert_near(&full(&photo), &[220, 40, 40], 6);
    }
}
