//! Value Object: the config of the image worker.

use car_workers::image::{
    ImageProcessor,
    recipe::{Config, Made, Recipe, VariantSpec},
};
use serde_json::{Value, json};

fn config(section: Value) -> Result<Config, String> {
    serde_json::from_value(section).map_err(|e| e.to_string())
}
fn refusal(section: Value) -> String {
    Recipe::new(&config(section).unwrap()).unwrap_err().to_string()
}

#[test]
fn without_a_section_there_are_three_variants() {
    let config = config(json!({})).unwrap();
    let made = |name: &str, side| VariantSpec {
        name: name.into(),
        width: side,
        height: side,
        formats: vec![Made::Jpeg, Made::Webp],
        quality: 80,
    };
    assert_eq!(config.variants, [made("thumb", 320), made("card", 800), made("full", 1_920)]);
    assert_eq!((config.max_bytes, config.max_pixels), (20_000_000, 50_000_000));
}

#[test]
fn a_section_may_say_everything() {
    let config = config(json!({
        "originals": "in", "output": "out", "max_bytes": "5MB", "max_pixels": 9, "threads": 3, "in_memory": 4,
        "fetch": { "timeout": "3s", "allow": ["10.0.0.0/8"] },
        "variants": [{ "name": "tiny", "width": 64, "height": 48, "formats": ["webp"], "quality": 50 }]
    }))
    .unwrap();
    assert_eq!((config.max_bytes, config.threads, config.fetch.timeout.as_secs()), (5_000_000, 3, 3));
    assert_eq!(config.variants[0].formats, [Made::Webp]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_key() {
    assert!(
        config(json!({ "qualty": 3 })).unwrap_err().starts_with("unknown field `qualty`, expected one of `originals`")
    );
    assert_eq!(config(json!({ "max_bytes": "lots" })).unwrap_err(), "`lots` is no size; write e.g. \"20MB\"");
    assert_eq!(config(json!({ "fetch": { "timeout": "0s" } })).unwrap_err(), "`0s` is no duration; write e.g. \"20s\"");
    assert!(config(json!({ "fetch": { "allow": ["intranet"] } })).unwrap_err().starts_with("`intranet` is no network"));
    let variant = |key: &str, value: Value| {
        let mut variant = json!({ "name": "a", "width": 10, "height": 10 });
        variant[key] = value;
        refusal(json!({ "variants": [variant] }))
    };
    let name = "accept the config: variants[0].name is a name of its own, of a–z, 0–9 and `-`";
    assert_eq!(variant("name", json!("../a")), name);
    assert_eq!(variant("name", json!("")), name);
    assert_eq!(variant("width", json!(0)), "accept the config: variants[0].width and height are 1 to 16383 pixels");
    assert_eq!(
        variant("height", json!(16_384)),
        "accept the config: variants[0].width and height are 1 to 16383 pixels"
    );
    assert_eq!(variant("quality", json!(0)), "accept the config: variants[0].quality is 1 to 100");
    assert_eq!(variant("formats", json!([])), "accept the config: variants[0].formats are \"jpeg\", \"webp\" or both");
    assert_eq!(
        variant("formats", json!(["webp", "webp"])),
        "accept the config: variants[0].formats are \"jpeg\", \"webp\" or both"
    );
    let twice = json!({ "name": "a", "width": 10, "height": 10 });
    assert_eq!(
        refusal(json!({ "variants": [twice, twice] })),
        "accept the config: variants[1].name is a name of its own, of a–z, 0–9 and `-`"
    );
    assert!(refusal(json!({ "variants": [] })).starts_with("accept the config: variants are one at least"));
    assert!(refusal(json!({ "in_memory": 0 })).starts_with("accept the config: max_pixels, max_bytes and in_memory"));
}

#[test]
fn a_place_that_this_build_does_not_know_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let originals = folder.path().join("originals").display().to_string();
    let refusal = |output: &str| {
        let config = Config { originals: originals.clone(), output: output.into(), ..Config::default() };
        format!("{:#}", ImageProcessor::new(&config).unwrap_err())
    };
    assert_eq!(
        refusal("gs://bucket/photos"),
        "failed to open `output`: `gs://bucket/photos` is no place for objects: name a folder, or s3://bucket/prefix"
    );
    if cfg!(not(feature = "s3")) {
        assert_eq!(
            refusal("s3://bucket/photos"),
            "failed to open `output`: `s3://bucket/photos` needs a build with S3: cargo build --release --features s3"
        );
    }
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "a file").unwrap();
    assert!(refusal(&taken.display().to_string()).starts_with("failed to open `output`: failed to make the folder"));
}
