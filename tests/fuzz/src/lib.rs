//! What is fuzzed. The readers of the car platform are compiled from their own files, without the workers around them: a build with
//! librdkafka and S3 would take four times as long.
#![expect(dead_code, reason = "of the handlers' files only the readers are called here")]

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

mod memory;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use history::vin::Vin;
use image::{
    contract::Format,
    decode::{self, PhotoError},
    develop, recipe,
};
use pitcrew::{
    Envelope,
    config::{Config, Sources},
    message::wire::{self, Prefix, Properties, Raw, STRUCTURED},
};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use std::{fmt::Display, time::Duration};

/// What is said of a stranger's bytes goes into a log: it is there, and it cannot forge a line or move a terminal's cursor.
fn is_told(error: &impl Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
}

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
    let envelope = match wire::parse(&raw, "car.commands") {
        Ok(envelope) => envelope,
        Err(error) => return is_told(&error),
    };
    let _ = (envelope.key_time(), raw.is_again());
    assert_eq!(wire::check(&envelope), Ok(()), "of {raw:?}");
    for prefix in Prefix::ALL {
        assert_eq!(
            wire::parse(&wire::to_raw(&envelope, prefix), "car.commands"),
            Ok(envelope.clone()),
            "{prefix:?} of {raw:?}"
        );
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

/// A row of the outbox or of a letter, as somebody may have edited it. What may leave is read by whoever gets it.
pub fn row(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let envelope = match wire::from_attributes_json(text, Bytes::new()) {
        Ok(envelope) => envelope,
        Err(error) => return is_told(&error),
    };
    let row = wire::attributes_json(&envelope);
    if wire::check(&envelope).is_err() {
        return;
    }
    for prefix in Prefix::ALL {
        let read = wire::parse(&wire::to_raw(&envelope, prefix), "car.commands");
        assert!(read.is_ok(), "{prefix:?} of {text}: {read:?}");
    }
    assert_eq!(wire::from_attributes_json(&row, Bytes::new()), Ok(envelope), "of {text}");
}

/// A file, then, after a line of three hyphens, the environment. What is refused is told, what is taken is checked, and what is
/// shown of it is a file that shows the same.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, environment) = text.split_once("\n---\n").unwrap_or((text, ""));
    let environment = environment.lines().filter_map(|line| line.split_once('='));
    let environment = environment.map(|(name, value)| (name.into(), value.into())).collect();
    match load(file, environment) {
        Ok(config) => {
            let _ = (config.check(), config.show_json());
            let shown = config.show();
            // What is secret is shown as stars, and stars are no token of the door.
            if config.http.tokens.is_empty() {
                let again =
                    load(&shown, Vec::new()).unwrap_or_else(|error| panic!("{error}\nof what was shown:\n{shown}"));
                assert_eq!(again.show(), shown);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty(), "it says what is wrong"),
    }
}

fn load(file: &str, environment: Vec<(String, String)>) -> Result<Config, pitcrew::config::ConfigError> {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("pitcrew-fuzz-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("a file is written");
    Config::load(&Sources { service: "fuzz".into(), file: Some(path), directory, environment, ..Sources::default() })
}

/// What a provider asks us to wait: any text of a header. A date is the one that we would write.
pub fn retry_after(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let read = |value| http::retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now);
    let wait = read(value);
    if !data.is_empty() && data.iter().all(u8::is_ascii_digit) {
        let seconds = std::str::from_utf8(data).expect("digits").parse().unwrap_or(u64::MAX);
        assert_eq!(wait, Some(Duration::from_secs(seconds)));
    } else if let Some(wait) = wait.filter(|_| data.iter().any(u8::is_ascii_alphabetic)) {
        let date: DateTime<Utc> = now + wait;
        let written = HeaderValue::from_str(&httpdate::fmt_http_date(date.into())).expect("letters and digits");
        assert_eq!(read(written), Some(wait), "{date}");
    }
}

/// A VIN as somebody typed it. One that was taken is taken again, and says the same.
pub fn vin(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Vin::parse(text) {
        Ok(vin) => {
            let is_one = |b: u8| b.is_ascii_digit() || (b.is_ascii_uppercase() && !b"IOQ".contains(&b));
            assert!(vin.as_str().len() == 17 && vin.as_str().bytes().all(is_one), "{vin:?}");
            assert_eq!(vin.as_str(), text.trim().to_ascii_uppercase());
            assert_eq!(Vin::parse(vin.as_str()).as_ref(), Ok(&vin));
            let _ = (vin.maker(), vin.country());
            assert!(vin.model_year(2027).is_none_or(|year| (1980..=2027).contains(&year)), "{vin:?}");
        }
        Err(error) => is_told(&error),
    }
}

/// A photo of a stranger's, through everything that the worker makes of it. Each file is a picture again, of the size that is said.
pub fn photo(data: &[u8]) {
    let variant = |name: &str, side| recipe::VariantSpec {
        name: name.into(),
        width: side,
        height: side,
        ..recipe::VariantSpec::default()
    };
    // So few pixels that a find is not one of slowness.
    let variants = vec![variant("dot", 3), variant("thumb", 48)];
    let config = recipe::Config { variants, max_pixels: 100_000, ..recipe::Config::default() };
    let recipe = recipe::Recipe::new(&config).expect("a recipe");
    match develop::develop(data, &recipe, &develop::Stop::default()) {
        Ok(developed) => {
            let original = &developed.original;
            assert!(u64::from(original.width) * u64::from(original.height) <= config.max_pixels);
            assert_eq!(
                developed.files.len(),
                config.variants.iter().map(|variant| variant.formats.len()).sum::<usize>()
            );
            for file in &developed.files {
                let read = decode::decode(&file.bytes, config.max_pixels).expect("a file of our own");
                assert_eq!((read.format, read.size), (file.format, (file.width, file.height)));
                assert!(read.profile.is_none() && read.orientation.number() == 1 && !read.animated);
                assert!(matches!(read.format, Format::Jpeg | Format::Webp));
            }
        }
        // That is a defect here, whatever the photo is.
        Err(PhotoError::Internal(why)) => panic!("{why}"),
        Err(error) => is_told(&error),
    }
}
