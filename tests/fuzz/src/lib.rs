//! What is fuzzed. The readers of the car platform are compiled from their own files, without the workers around them: a build with
//! librdkafka and S3 would take four times as long.
#![allow(dead_code, reason = "of the handlers' files only the readers are called here")]

pub use handlers::{history, http, image};

#[path = "../../../handlers/src"]
mod handlers {
    pub mod http;
    pub mod history {
        pub mod makers;
        pub mod vin;
    }
    pub mod image {
        pub mod colour;
        pub mod contract;
        pub mod decode;
        pub mod develop;
        pub mod encode;
        pub mod exif;
        pub mod look;
        pub mod pixels;
        pub mod recipe;
    }
}

use bytes::Bytes;
use chrono::DateTime;
use history::vin::Vin;
use image::{develop, recipe};
use pitcrew::{
    Envelope,
    config::{Config, Sources},
    message::wire::{self, Prefix, Properties, Raw, STRUCTURED},
};
use std::time::Duration;

/// A message as text, so that people can read the corpus and write more of it: `name: value` lines, an empty one, the body. A name
/// after `@` is a property of the broker's. Whatever is read must be the same when it is written in every form and read again.
pub fn wire(data: &[u8]) {
    let mut raw = Raw::default();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            // Some prefixes end with a colon: the value begins after the colon and the blank.
            _ if line.windows(2).any(|two| two == b": ") => {
                let at = line.windows(2).position(|two| two == b": ").expect("it was found");
                (&line[..at], Some(&line[at + 2..]))
            }
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (line, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let text = value.map(|value| String::from_utf8_lossy(value).into_owned());
        match &*name {
            "@message-id" => raw.properties.message_id = text,
            "@type" => raw.properties.ty = text,
            "@correlation-id" => raw.properties.correlation_id = text,
            "@content-type" => raw.properties.content_type = text,
            "@reply-to" => raw.properties.reply_to = text,
            "@app-id" => raw.properties.app_id = text,
            "@timestamp" => raw.properties.timestamp = text.and_then(|text| text.parse().ok()),
            "@key" => raw.properties.key = text,
            _ => raw.headers.push((name, value.map(Bytes::copy_from_slice))),
        }
    }
    raw.body = Bytes::copy_from_slice(rest);
    let Ok(envelope) = wire::parse(&raw, "car.commands") else { return };
    assert_eq!(wire::check(&envelope), Ok(()), "of {raw:?}");
    for prefix in Prefix::ALL {
        assert_eq!(wire::parse(&wire::to_raw(&envelope, prefix), "car.commands"), Ok(envelope.clone()), "{prefix:?} of {raw:?}");
    }
    assert_eq!(wire::parse(&structured(&envelope), "car.commands"), Ok(envelope.clone()), "structured, of {raw:?}");
    let row = wire::attributes_json(&envelope);
    assert_eq!(wire::from_attributes_json(&row, envelope.data.clone()), Ok(envelope), "as a row, of {raw:?}");
}

/// Trace context is in the body, hop data in headers.
fn structured(envelope: &Envelope) -> Raw {
    let hop = wire::headers(envelope, Prefix::Ce).into_iter().filter(|(name, _)| name.starts_with("pitcrew-"));
    let headers = hop.map(|(name, value)| (name, Some(value.into()))).collect();
    let properties = Properties { content_type: Some(STRUCTURED.into()), ..Properties::default() };
    Raw { headers, properties, body: wire::structured(envelope) }
}

/// A row of the outbox or of a letter, as somebody may have edited it.
pub fn row(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(envelope) = wire::from_attributes_json(text, Bytes::new()) else { return };
    let row = wire::attributes_json(&envelope);
    assert_eq!(wire::from_attributes_json(&row, Bytes::new()), Ok(envelope), "of {text}");
}

/// A file, then, after a line of three hyphens, the environment. What is refused is told, what is taken is checked and shown.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, environment) = text.split_once("\n---\n").unwrap_or((text, ""));
    let folder = std::env::temp_dir();
    let path = folder.join(format!("pitcrew-fuzz-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("a file is written");
    let environment = environment.lines().filter_map(|line| line.split_once('='));
    let sources = Sources {
        service: "fuzz".into(),
        file: Some(path),
        directory: folder,
        environment: environment.map(|(name, value)| (name.into(), value.into())).collect(),
        ..Sources::default()
    };
    match Config::load(&sources) {
        Ok(config) => {
            let _ = (config.check(), config.show(), config.show_json());
        }
        Err(error) => assert!(!error.to_string().is_empty(), "it says what is wrong"),
    }
}

/// What a provider asks us to wait: any text of a header.
pub fn retry_after(data: &[u8]) {
    let Ok(value) = reqwest::header::HeaderValue::from_bytes(data) else { return };
    let headers = reqwest::header::HeaderMap::from_iter([(reqwest::header::RETRY_AFTER, value)]);
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let read = http::retry_after(&headers, now);
    if !data.is_empty() && data.iter().all(u8::is_ascii_digit) {
        let seconds = std::str::from_utf8(data).expect("digits").parse().unwrap_or(u64::MAX);
        assert_eq!(read, Some(Duration::from_secs(seconds)));
    }
}

/// A VIN as somebody typed it. One that was taken is taken again, and says the same.
pub fn vin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Vin::parse(text) {
        Ok(vin) => {
            assert_eq!(vin.as_str().len(), 17);
            assert_eq!(Vin::parse(vin.as_str()).as_ref(), Ok(&vin));
            let _ = (vin.maker(), vin.country());
            assert!(vin.model_year(2027).is_none_or(|year| (1980..=2027).contains(&year)), "{vin:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "it says what is wrong"),
    }
}

/// A photo of a stranger's, through everything that the worker makes of it.
pub fn photo(data: &[u8]) {
    let variants = vec![recipe::VariantSpec { name: "thumb".into(), width: 64, height: 64, ..recipe::VariantSpec::default() }];
    // So few pixels that a find is not one of slowness.
    let config = recipe::Config { variants, max_pixels: 200_000, ..recipe::Config::default() };
    let recipe = recipe::Recipe::new(&config).expect("a recipe");
    match develop::develop(data, &recipe, &develop::Stop::default()) {
        Ok(developed) => assert!(!developed.files.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty(), "it says what is wrong"),
    }
}
