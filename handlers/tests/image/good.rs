//! What people upload: every kind of JPEG, PNG and WebP that a browser shows.

use crate::files::{
    assert_near, at, developed, file, jpeg, jpeg_with, plain, png, png_with, recipe, rgb, riff, shown, vp8x, webp,
    webp_with,
};
use car_workers::image::{
    contract::Format,
    develop::{Stop, develop},
    drawing::{self, Scene},
    exif::Orientation,
    pixels::{Layout, Pixels, fitted},
};
use png::{BitDepth, ColorType};

const RED: [u8; 3] = [200, 30, 30];

#[test]
fn a_photo_becomes_three_variants_in_two_formats() {
    let scene = Scene { width: 2_100, height: 1_400, ..Scene::of(1) };
    let made = developed(&scene.jpeg()).unwrap();
    let sizes: Vec<_> = made.files.iter().map(|f| (f.name.as_str(), f.format, f.width, f.height)).collect();
    assert_eq!(
        sizes,
        [
            ("thumb", Format::Jpeg, 320, 213),
            ("thumb", Format::Webp, 320, 213),
            ("card", Format::Jpeg, 800, 533),
            ("card", Format::Webp, 800, 533),
            ("full", Format::Jpeg, 1_920, 1_280),
            ("full", Format::Webp, 1_920, 1_280),
        ]
    );
    assert_eq!((made.original.width, made.original.height, made.original.format), (2_100, 1_400, Format::Jpeg));
    for file in &made.files {
        assert_eq!(shown(file).size(), (file.width, file.height), "{}", file.name);
    }
    // The picture is the same in all of them.
    let drawn = scene.pixels();
    for file in &made.files {
        for (x, y) in [(0.05, 0.05), (0.5, 0.9), (0.95, 0.95)] {
            assert_near(&at(&shown(file), x, y), &at(&drawn, x, y), 24);
        }
    }
}

#[test]
fn the_same_bytes_give_the_same_files() {
    let scene = Scene { width: 320, height: 240, ..Scene::of(7) };
    let photo = scene.jpeg();
    let hashes = || developed(&photo).unwrap().files.into_iter().map(|file| file.hash).collect::<Vec<_>>();
    assert_eq!(hashes(), hashes());
    assert_eq!(photo, scene.jpeg());
}

#[test]
fn nothing_is_made_larger() {
    let made = developed(&jpeg(&plain(400, 300, RED))).unwrap();
    let sizes: Vec<_> = made.files.iter().map(|file| (file.width, file.height)).collect();
    assert_eq!(sizes, [(320, 240), (320, 240), (400, 300), (400, 300), (400, 300), (400, 300)]);
    // Card and full are the same picture, so they are one object.
    assert_eq!(file(&made, "card", Format::Jpeg).hash, file(&made, "full", Format::Jpeg).hash);
}

#[test]
fn proportions_are_kept_and_no_side_vanishes() {
    assert_eq!(fitted((4_000, 3_000), (320, 320)), (320, 240));
    assert_eq!(fitted((3_000, 4_000), (320, 320)), (240, 320));
    assert_eq!(fitted((100, 100), (320, 320)), (100, 100));
    assert_eq!(fitted((4_000, 3_000), (320, 100)), (133, 100));
    assert_eq!(fitted((20_000, 1), (320, 320)), (320, 1));
    assert_eq!(fitted((1, 20_000), (320, 320)), (1, 320));
    assert_eq!(fitted((u32::MAX, u32::MAX), (320, 320)), (320, 320));
}

#[test]
fn a_camera_held_any_way_up_gives_a_picture_that_stands() {
    // What stands for whom to see: red top left, green top right, blue bottom left, white bottom right; 48 × 32.
    let (w, h) = (48, 32);
    let upright = |x: u32, y: u32| match (x < w / 2, y < h / 2) {
        (true, true) => [220, 20, 20],
        (false, true) => [20, 200, 20],
        (true, false) => [20, 20, 220],
        (false, false) => [240, 240, 240],
    };
    for number in 1..=8 {
        // As EXIF words it: where the first row and the first column of the file are to be seen.
        let stored = match number {
            1 => rgb(w, h, upright),
            2 => rgb(w, h, |c, r| upright(w - 1 - c, r)),
            3 => rgb(w, h, |c, r| upright(w - 1 - c, h - 1 - r)),
            4 => rgb(w, h, |c, r| upright(c, h - 1 - r)),
            5 => rgb(h, w, |c, r| upright(r, c)),
            6 => rgb(h, w, |c, r| upright(w - 1 - r, c)),
            7 => rgb(h, w, |c, r| upright(w - 1 - r, h - 1 - c)),
            _ => rgb(h, w, |c, r| upright(r, h - 1 - c)),
        };
        let orientation = Orientation::of(number).unwrap();
        let exif = drawing::exif(orientation, None);
        let (width, height) = stored.size();
        let photos = [
            jpeg_with(&stored, |encoder| encoder.add_exif_metadata(&exif).unwrap()),
            png_with(width, height, stored.bytes(), |info| info.exif_metadata = Some(exif.clone().into())),
            webp_with(&stored, 0x08, &[], &[(b"EXIF", exif.clone())]),
        ];
        for photo in photos {
            let made = developed(&photo).unwrap();
            assert_eq!((made.original.width, made.original.height), (w, h), "orientation {number}");
            let full = shown(file(&made, "full", Format::Jpeg));
            for (x, y) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                let wanted = upright((x * f64::from(w)) as u32, (y * f64::from(h)) as u32);
                assert_near(&at(&full, x, y), &wanted, 20);
            }
        }
    }
}

#[test]
fn what_a_camera_writes_beside_a_picture_stays_behind() {
    let exif = drawing::exif(Orientation::default(), Some((47.3769, 8.5417)));
    let xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>secret</x:xmpmeta>";
    let picture = plain(64, 48, RED);
    let photos = [
        jpeg_with(&picture, |encoder| {
            encoder.add_exif_metadata(&exif).unwrap();
            encoder.add_app_segment(1, xmp.to_vec()).unwrap();
        }),
        png_with(64, 48, picture.bytes(), |info| info.exif_metadata = Some(exif.clone().into())),
        webp_with(&picture, 0x0C, &[], &[(b"EXIF", exif.clone()), (b"XMP ", xmp.to_vec())]),
    ];
    for photo in photos {
        let holds = |file: &[u8], what: &[u8]| file.windows(what.len()).any(|w| w == what);
        assert!(holds(&photo, b"Pitcrew Camera Works"), "the photo has what must not come through");
        for file in developed(&photo).unwrap().files {
            for what in [b"Exif".as_slice(), b"EXIF", b"Pitcrew Camera Works", b"secret", b"ICC", b"XMP"] {
                assert!(!holds(&file.bytes, what), "{}", String::from_utf8_lossy(what));
            }
        }
    }
}

#[test]
fn grey_palettes_and_deep_colours_are_read() {
    let grey = Pixels::new(4, 2, Layout::Grey, vec![60; 8]).unwrap();
    let two_palettes = |info: &mut png::Info| {
        (info.color_type, info.bit_depth) = (ColorType::Indexed, BitDepth::One);
        info.palette = Some(vec![0, 0, 0, 200, 30, 30].into());
    };
    let photos: [(&str, Vec<u8>, [u8; 3]); 7] = [
        ("a grey JPEG", jpeg(&grey), [60; 3]),
        ("a grey PNG", png(4, 2, ColorType::Grayscale, BitDepth::Eight, &[60; 8]), [60; 3]),
        ("a PNG of one bit", png(8, 2, ColorType::Grayscale, BitDepth::One, &[0xFF; 2]), [255; 3]),
        ("a PNG of 16 bits", png(4, 2, ColorType::Grayscale, BitDepth::Sixteen, &[60, 99].repeat(8)), [60; 3]),
        ("a PNG of 48 bits", png(4, 2, ColorType::Rgb, BitDepth::Sixteen, &[200, 1, 30, 2, 30, 3].repeat(8)), RED),
        ("a PNG with a palette", png_with(8, 2, &[0xFF; 2], two_palettes), RED),
        ("a progressive JPEG", jpeg_with(&plain(64, 64, RED), |encoder| encoder.set_progressive(true)), RED),
    ];
    for (what, photo, colour) in photos {
        let made = developed(&photo).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_near(&at(&shown(file(&made, "full", Format::Jpeg)), 0.5, 0.5), &colour, 6);
    }
}

#[test]
fn opacity_is_kept_where_it_can_be_and_becomes_white_elsewhere() {
    let half = [200, 30, 30, 128].repeat(64 * 64);
    let grey = [30, 128].repeat(64 * 64);
    let photos = [
        (png(64, 64, ColorType::Rgba, BitDepth::Eight, &half), [200, 30, 30], [227, 142, 142]),
        (png(64, 64, ColorType::GrayscaleAlpha, BitDepth::Eight, &grey), [30; 3], [142; 3]),
        (webp(&Pixels::new(64, 64, Layout::Rgba, half.clone()).unwrap()), [200, 30, 30], [227, 142, 142]),
    ];
    for (photo, colour, on_white) in photos {
        let made = developed(&photo).unwrap();
        assert_near(&at(&shown(file(&made, "full", Format::Jpeg)), 0.5, 0.5), &on_white, 6);
        let kept = shown(file(&made, "full", Format::Webp));
        assert_eq!(kept.layout(), Layout::Rgba);
        assert_near(&at(&kept, 0.5, 0.5), &[colour.as_slice(), &[128]].concat(), 10);
    }
    // An opacity that hides nothing is none.
    let opaque = png(64, 64, ColorType::Rgba, BitDepth::Eight, &[200, 30, 30, 255].repeat(64 * 64));
    assert_eq!(shown(file(&developed(&opaque).unwrap(), "full", Format::Webp)).layout(), Layout::Rgb);
}

#[test]
fn of_a_moving_picture_the_first_is_kept() {
    let frames = [plain(32, 32, RED), plain(32, 32, [20, 20, 220])];
    let mut apng = Vec::new();
    let mut encoder = png::Encoder::new(&mut apng, 32, 32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    frames.iter().for_each(|frame| writer.write_image_data(frame.bytes()).unwrap());
    writer.finish().unwrap();
    let frame = |pixels: &Pixels| {
        let size = [31_u32.to_le_bytes(); 2];
        let about = [&[0; 6], &size[0][..3], &size[1][..3], &[100, 0, 0, 0]].concat();
        (b"ANMF", [about, webp(pixels)[12..].to_vec()].concat())
    };
    let animated = riff(&[vp8x(0x02, 32, 32), (b"ANIM", vec![0; 6]), frame(&frames[0]), frame(&frames[1])]);
    for photo in [apng, animated] {
        let made = developed(&photo).unwrap();
        assert!(made.original.animated);
        assert_near(&at(&shown(file(&made, "full", Format::Jpeg)), 0.5, 0.5), &RED, 8);
    }
    assert!(!developed(&jpeg(&frames[0])).unwrap().original.animated);
}

#[test]
fn a_single_pixel_is_a_picture() {
    for photo in [
        jpeg(&plain(1, 1, RED)),
        png(1, 1, ColorType::Rgb, BitDepth::Eight, &RED),
        webp(&plain(1, 1, RED)),
        jpeg_with(&plain(1, 1, RED), |encoder| {
            encoder.add_exif_metadata(&drawing::exif(Orientation::of(6).unwrap(), None)).unwrap();
        }),
    ] {
        let made = developed(&photo).unwrap();
        assert!(made.files.iter().all(|file| (file.width, file.height) == (1, 1)));
        assert_near(&at(&shown(file(&made, "thumb", Format::Jpeg)), 0.5, 0.5), &RED, 8);
    }
}

#[test]
fn a_line_is_a_picture() {
    let made = developed(&png(5_000, 1, ColorType::Grayscale, BitDepth::Eight, &[60; 5_000])).unwrap();
    let thumb = file(&made, "thumb", Format::Webp);
    assert_eq!((thumb.width, thumb.height), (320, 1));
}

#[test]
fn who_gave_up_is_not_worked_for() {
    let stop = Stop::default();
    stop.now();
    let stopped = develop(&jpeg(&plain(8, 8, RED)), &recipe(), &stop).unwrap_err();
    assert_eq!(stopped.to_string(), "finish the photo: its deadline is over, or the worker stops");
}
