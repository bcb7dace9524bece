//! What must not get in: files that are cut off, that lie, and that are made to do harm. Each is refused with words for whoever
//! has to tell the seller.

use crate::files::{MOST, developed, jpeg, jpeg_with, plain, png, png_with, refusal, riff, vp8x, webp, webp_with};
use car_workers::image::{
    contract::Format,
    decode::{decode, sniff},
    drawing::Scene,
    exif::Orientation,
    pixels::Pixels,
};
use png::{BitDepth, ColorType};
use proptest::{collection::vec, prelude::*, sample::select};

#[test]
fn other_kinds_of_files_are_named() {
    let ftyp = |brand: &str| format!("\0\0\0\u{18}ftyp{brand}\0\0\0\0").into_bytes();
    let heic = "HEIC, which iPhones make unless they are set to \"Most Compatible\"";
    for (bytes, is) in [
        (ftyp("heic"), heic),
        (ftyp("heix"), heic),
        (ftyp("mif1"), heic),
        (ftyp("avif"), "AVIF"),
        (ftyp("isom"), "a video"),
        (b"GIF89a".to_vec(), "GIF"),
        (b"BM\x46\0".to_vec(), "BMP"),
        (b"II*\0\x08\0\0\0".to_vec(), "TIFF, or the raw file of a camera"),
        (b"%PDF-1.7".to_vec(), "PDF"),
        (b"\n <!DOCTYPE html><title>404</title>".to_vec(), "a web page or other markup"),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), "a web page or other markup"),
        (b"hello".to_vec(), "no kind of picture that is known here"),
        (b"RIFF\0\0\0\0WAVE".to_vec(), "no kind of picture that is known here"),
    ] {
        assert_eq!(refusal(&bytes), format!("read the photo: it is {is}; JPEG, PNG and WebP can be read"));
    }
    assert_eq!(refusal(b""), "read the photo: the file is empty");
}

#[test]
fn a_file_is_what_it_holds_and_not_what_it_is_called() {
    // A key ends in `.jpg` and the object is a PNG: nothing here has ever seen the name.
    let photo = png(2, 2, ColorType::Grayscale, BitDepth::Eight, &[9; 4]);
    assert_eq!(sniff(&photo).unwrap(), Format::Png);
    assert_eq!(developed(&photo).unwrap().original.format, Format::Png);
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_is_cut() {
    let scene = Scene { width: 160, height: 120, place: None, orientation: Orientation::default(), ..Scene::of(3) };
    let pixels = scene.pixels();
    let photos = [
        ("JPEG", jpeg(&pixels)),
        ("progressive JPEG", jpeg_with(&pixels, |encoder| encoder.set_progressive(true))),
        ("PNG", png(160, 120, ColorType::Rgb, BitDepth::Eight, pixels.bytes())),
        ("WebP", webp(&pixels)),
        ("lossless WebP", webp::Encoder::from_rgb(pixels.bytes(), 160, 120).encode_lossless().to_vec()),
    ];
    for (what, photo) in photos {
        decode(&photo, MOST).unwrap_or_else(|e| panic!("{what}: {e}"));
        for cut in (1..photo.len()).step_by(photo.len() / 97).chain([photo.len() - 2]) {
            assert!(decode(&photo[..cut], MOST).is_err(), "{what} cut off at {cut} of {}", photo.len());
        }
    }
    let photo = jpeg(&pixels);
    assert_eq!(refusal(&photo[..photo.len() - 2]), "read the photo as JPEG: it is cut off");
}

#[test]
fn bytes_that_were_changed_are_no_reason_to_fall_over() {
    let pixels = Scene { width: 64, height: 48, ..Scene::of(4) }.pixels();
    let photos = [
        Scene { width: 64, height: 48, ..Scene::of(4) }.jpeg(),
        jpeg_with(&pixels, |encoder| encoder.set_progressive(true)),
        png(64, 48, ColorType::Rgb, BitDepth::Eight, pixels.bytes()),
        webp(&pixels),
        webp_with(&pixels, 0x08, &[], &[(b"EXIF", vec![1, 2, 3])]),
    ];
    let mut dice = 1_u32;
    for photo in photos {
        for _ in 0..200 {
            let mut changed = photo.clone();
            for _ in 0..4 {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (dice >> 8) as usize % changed.len();
                changed[at] ^= 1 << (dice % 8);
            }
            // Read or refused: whoever panics here ends the test.
            let _ = decode(&changed, 1_000_000);
        }
    }
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_anything_is_allocated() {
    let huge = "read the photo: its header says 20000 × 20000 pixels, more than `max_pixels` = 50000000";
    let mut photo = jpeg(&plain(16, 16, [1, 2, 3]));
    let frame = photo.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    photo[frame + 5..frame + 9].copy_from_slice(&[0x4E, 0x20, 0x4E, 0x20]);
    assert_eq!(refusal(&photo), huge);

    let mut photo = Vec::new();
    let mut encoder = png::Encoder::new(&mut photo, 20_000, 20_000);
    encoder.set_color(ColorType::Rgb);
    drop(encoder.write_header().unwrap());
    assert_eq!(refusal(&photo), huge);

    // WebP ends at 16,384 each way, but an extended header may say 16,777,216.
    let photo = webp_with(&plain(16, 16, [1, 2, 3]), 0, &[], &[]);
    let claimed = riff(&[vp8x(0, 20_000, 20_000), (b"VP8 ", photo[38..].to_vec())]);
    assert_eq!(refusal(&claimed), huge);
}

#[test]
fn a_small_webp_that_holds_a_huge_frame_is_refused() {
    let frame = |name| (name, [&[0, 0, 0, 0x9D, 0x01, 0x2A, 0xFF, 0x3F, 0xFF, 0x3F], &[0; 64][..]].concat());
    let huge = "read the photo: its header says 16383 × 16383 pixels, more than `max_pixels` = 50000000";
    assert_eq!(refusal(&riff(&[vp8x(0, 1, 1), frame(b"VP8 ")])), huge);
    let lossless = (b"VP8L", [&[0x2F, 0xFE, 0xBF, 0xFF, 0x0F], &[0; 64][..]].concat());
    assert_eq!(refusal(&riff(&[vp8x(0, 1, 1), lossless])), huge);
    let inner = riff(&[frame(b"VP8 ")])[12..].to_vec();
    let animated = riff(&[vp8x(0x02, 1, 1), (b"ANIM", vec![0; 6]), (b"ANMF", [vec![0; 16], inner].concat())]);
    assert_eq!(refusal(&animated), huge);
}

#[test]
fn a_jpeg_with_more_scans_than_any_camera_makes_is_refused() {
    let photo = jpeg_with(&plain(64, 64, [1, 2, 3]), |encoder| encoder.set_progressive(true));
    // The last scan again and again: each is valid, and each goes over all pixels.
    let scan = photo.windows(2).rposition(|w| w == [0xFF, 0xDA]).unwrap();
    let (head, tail) = photo.split_at(scan);
    let (scan, end) = tail.split_at(tail.len() - 2);
    let bomb = [head, &scan.repeat(5_000), end].concat();
    assert_eq!(refusal(&bomb), "read the photo as JPEG: \"Too many scans, exceeded limit of 32\"");
}

#[test]
fn a_png_profile_that_unpacks_to_gigabytes_is_not_unpacked() {
    // 64 MB of zeros, packed to some kilobytes.
    let profile = vec![0; 64 << 20];
    let photo = png_with(2, 2, &[9; 12], |info| info.icc_profile = Some(profile.into()));
    assert!(photo.len() < 1 << 20, "{}", photo.len());
    // Refused or read without it; what counts is that it is not kept.
    let kept = decode(&photo, MOST).ok().and_then(|decoded| decoded.profile).map_or(0, |profile| profile.len());
    assert!(kept <= 16 << 20, "{kept} bytes");
}

#[test]
fn what_is_beside_a_picture_may_be_rubbish() {
    let exif = [
        b"".as_slice(),
        b"II*\0",
        b"II*\0\xFF\xFF\xFF\xFF",
        b"MM\0*\0\0\0\x08\xFF\xFF",
        // An orientation of 9, and one that is a text.
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0",
    ];
    for exif in exif {
        assert_eq!(Orientation::read(exif), Orientation::default(), "{exif:?}");
    }
    let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
    assert_eq!(Orientation::read(big).number(), 6);
    let beside = png_with(2, 2, &[9; 12], |info| {
        info.icc_profile = Some(vec![7; 300].into());
        info.exif_metadata = Some(vec![7; 30].into());
    });
    assert_eq!(developed(&beside).unwrap().original.width, 2);
}

#[test]
fn pixels_that_are_none_are_none() {
    use car_workers::image::pixels::Layout;
    let wrong = |width, height, bytes| Pixels::new(width, height, Layout::Rgb, vec![0; bytes]).unwrap_err().to_string();
    assert_eq!(wrong(0, 5, 0), "0 × 5 pixels do not take 0 bytes");
    assert_eq!(wrong(2, 2, 11), "2 × 2 pixels do not take 11 bytes");
    assert_eq!(wrong(u32::MAX, u32::MAX, 3), "4294967295 × 4294967295 pixels do not take 3 bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Behind each beginning that is known, and behind none.
    #[test]
    fn any_bytes_are_a_photo_of_no_more_pixels_than_may_be_or_refused_in_words(
        begin in select(vec![
            &b""[..],
            b"\xff\xd8\xff\xe0\0\x10JFIF\0",
            b"\xff\xd8\xff\xc0\0\x0b\x08",
            b"\x89PNG\r\n\x1a\n",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            b"RIFF\x40\0\0\0WEBPVP8 ",
            b"RIFF\x40\0\0\0WEBPVP8L",
            b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0",
            b"\0\0\0\x18ftyp",
        ]),
        rest in vec(any::<u8>(), 0..120),
    ) {
        let most = 1_000_000;
        match decode(&[begin, &rest].concat(), most) {
            Ok(photo) => prop_assert!(u64::from(photo.size.0) * u64::from(photo.size.1) <= most),
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control), "{}", error),
        }
    }
}
