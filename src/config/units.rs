//! Value Object: durations, sizes and counts as people write them, and as nothing else.
//!
//! A bare `30` is refused: a number without its unit is the classic way to wait 30 ms instead of 30 s.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::Serializer;

const DURATION: &str = "a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d";
const SIZE: &str = "a size: a whole number with one unit of B, KB, MB, GB, KiB, MiB or GiB";
const COUNT: &str = "a whole number from 0 to 1000000";

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// Longer spans have no use and would overflow a date.
const LONGEST: u64 = 36_500 * 86_400_000;
const MOST: u64 = 1_000_000;

/// Reads `"250ms"`, `"30s"`, `"10m"`, `"24h"` or `"14d"`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATION_UNITS).filter(|ms| *ms <= LONGEST).map(Duration::from_millis)
}

/// Writes a duration in the largest unit that holds it exactly; what is finer than a millisecond is rounded up.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    // People say 24h, and 14d.
    let unit = |ms: u64| ms == 86_400_000;
    let fits = |size: u64| ms.is_multiple_of(size) && ms >= size && !(size == 86_400_000 && unit(ms));
    match DURATION_UNITS.iter().rev().find(|(_, size)| fits(*size)) {
        Some((name, size)) => format!("{}{name}", ms / size),
        None => "0s".into(),
    }
}

/// Reads `"1MB"` (1,000,000 bytes), `"64KB"`, `"8MiB"` (8 × 1,048,576 bytes) and the like.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// Writes a size in the largest unit that holds it exactly.
pub fn format_size(bytes: u64) -> String {
    match SIZE_UNITS.iter().rev().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size)) {
        Some((name, size)) => format!("{}{name}", bytes / size),
        None => "0B".into(),
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
    // An empty number does not parse, and neither does one that overflows.
    number.parse::<u64>().ok()?.checked_mul(*size)
}

/// Reads a string through `parse`; what it refuses is answered with `expected`.
pub(crate) fn text<'de, D, T, F>(deserializer: D, expected: &'static str, parse: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: Fn(&str) -> Option<T>,
{
    struct Text<F>(&'static str, F);
    impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Text<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self.0))
        }
    }
    deserializer.deserialize_str(Text(expected, parse))
}

/// A duration in its outside form.
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, DURATION, |text| parse_duration(text).map(Span))
    }
}

/// A count in its outside form.
pub(super) struct Count(pub(super) usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(COUNT)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Count, E> {
                let count = usize::try_from(number).ok().filter(|_| number <= MOST);
                count.map(Count).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &COUNT))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                let whole = u64::try_from(number);
                self.visit_u64(whole.map_err(|_| E::invalid_value(Unexpected::Signed(number), &COUNT))?)
            }
        }
        deserializer.deserialize_u64(Whole)
    }
}

/// `#[serde(with)]` for a duration.
pub(super) mod duration {
    use super::*;
    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*value))
    }
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Span::deserialize(from).map(|span| span.0)
    }
}

/// `#[serde(with)]` for a list of durations.
pub(super) mod durations {
    use super::*;
    pub(in crate::config) fn serialize<S: Serializer>(value: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(|each| format_duration(*each)))
    }
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        Ok(Vec::<Span>::deserialize(from)?.into_iter().map(|span| span.0).collect())
    }
}

/// `#[serde(with)]` for a size in bytes.
pub(super) mod size {
    use super::*;
    pub(in crate::config) fn serialize<S: Serializer>(value: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_size(*value as u64))
    }
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        text(from, SIZE, |text| parse_size(text).and_then(|bytes| usize::try_from(bytes).ok()))
    }
}

/// `#[serde(deserialize_with)]` for a count.
pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    Count::deserialize(from).map(|count| count.0)
}

/// The same as a number of attempts.
pub(super) fn attempts<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Count::deserialize(from).map(|count| u32::try_from(count.0).unwrap_or(u32::MAX))
}
