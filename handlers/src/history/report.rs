//! Normalizer: a provider's report, in its own words, becomes entries in ours, with what a buyer should be warned of.

use super::{
    contract::{Entry, EntryKind, Flag},
    vin::Vin,
};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;

/// More entries than any car has.
const MOST: usize = 1_000;
/// The longest text that is kept, in characters.
const TEXT: usize = 200;
/// No car has gone so far, in km.
const FARTHEST: f64 = 5_000_000.0;
/// A reading that is lower by so little is rounding, not a rollback, in km.
const ROUNDING: u32 = 100;
/// More warnings of one kind warn nobody better.
const FLAGS: usize = 20;
const MILE: f64 = 1.609_344;

/// A report as the provider words it. What is not named here is not needed.
#[derive(Debug, Deserialize)]
struct Report {
    vin: String,
    entries: Vec<RawEntry>,
}

#[derive(Debug, Deserialize)]
struct RawEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    date: Option<String>,
    /// A number, a text with or without a unit, or `{"value": …, "unit": …}`.
    #[serde(default)]
    odometer: Value,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    brand: Option<String>,
}

/// Why an answer is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not JSON, or not of its shape.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// About another car: the worst that could be told to a buyer.
    #[error("it is about `{}`", .0.escape_debug())]
    AnotherCar(String),
    /// More than is believed.
    #[error("{0} entries are more than any car has ({MOST})")]
    TooMany(usize),
}

/// Reads a report about `vin`. `model_year` and `now` tell which dates cannot be.
///
/// # Errors
/// The answer is no report about this car.
pub fn read(
    body: &[u8],
    vin: &Vin,
    model_year: Option<u16>,
    now: DateTime<Utc>,
) -> Result<(Vec<Entry>, Vec<Flag>), ReportError> {
    let report: Report = serde_json::from_slice(body)?;
    if !report.vin.trim().eq_ignore_ascii_case(vin.as_str()) {
        return Err(ReportError::AnotherCar(report.vin.chars().take(40).collect()));
    }
    if report.entries.len() > MOST {
        return Err(ReportError::TooMany(report.entries.len()));
    }
    let brands = brands(&report.entries);
    let mut entries: Vec<Entry> = report.entries.into_iter().map(entry).collect();
    let mut flags = out_of_order(&entries);
    // Stable: what happened on one day stays in the provider's order; what has no date is last.
    entries.sort_by_key(|entry| (entry.date.is_none(), entry.date));
    let mut seen = HashSet::new();
    entries.retain(|entry| seen.insert(entry.clone()));
    flags.extend(rollbacks(&entries).into_iter().take(FLAGS));
    flags.extend(impossible_dates(&entries, model_year, now).into_iter().take(FLAGS));
    flags.extend(brands.into_iter().take(FLAGS).map(|brand| Flag::BrandedTitle { brand }));
    Ok((entries, flags))
}

fn entry(raw: RawEntry) -> Entry {
    Entry {
        kind: kind(&raw.kind),
        date: raw.date.as_deref().and_then(date),
        odometer_km: odometer(&raw.odometer, raw.unit.as_deref()),
        place: raw.location.map(|place| clean(&place)).filter(|place| !place.is_empty()),
        text: clean(raw.description.as_deref().unwrap_or(&raw.kind)),
    }
}

/// By the words in it, so that `TITLE_ISSUED` and `title transfer` are the same kind. What is worst comes first: "damage found at
/// service" is damage.
fn kind(word: &str) -> EntryKind {
    const WORDS: &[(EntryKind, &[&str])] = &[
        (EntryKind::Accident, &["accident", "damage", "collision", "crash"]),
        (EntryKind::Recall, &["recall"]),
        (EntryKind::Title, &["title", "registration", "owner", "sale", "sold", "lien"]),
        (EntryKind::Service, &["service", "repair", "maintenance", "inspection", "emission"]),
        (EntryKind::Odometer, &["odometer", "mileage"]),
    ];
    let word = word.to_lowercase();
    let found = WORDS.iter().find(|(_, words)| words.iter().any(|known| word.contains(known)));
    found.map_or(EntryKind::Other, |(kind, _)| *kind)
}

/// ISO 8601 with or without a time, or as in America.
fn date(text: &str) -> Option<NaiveDate> {
    let text = text.trim();
    let day = text.get(..10).filter(|_| text.len() == 10 || text.as_bytes().get(10) == Some(&b'T')).unwrap_or(text);
    let read = |format| NaiveDate::parse_from_str(day, format).ok();
    // A year of two digits, or of five, is no year that can be told.
    read("%Y-%m-%d").or_else(|| read("%m/%d/%Y")).filter(|date| (1885..=9999).contains(&date.year()))
}

/// In whole km.
fn odometer(value: &Value, unit: Option<&str>) -> Option<u32> {
    let (number, unit) = match value {
        Value::Number(number) => (number.as_f64()?, unit.unwrap_or("km").to_owned()),
        Value::String(text) => {
            let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
            let (number, written) = text.split_at(end);
            let written = written.trim();
            (count(number)?, if written.is_empty() { unit.unwrap_or("km") } else { written }.to_owned())
        }
        Value::Object(parts) => {
            return odometer(plain(parts.get("value")?)?, parts.get("unit").and_then(Value::as_str));
        }
        _ => return None,
    };
    let km = match unit.trim_end_matches('.').to_lowercase().as_str() {
        "km" | "kms" | "kilometers" | "kilometres" => number,
        "mi" | "mile" | "miles" => number * MILE,
        _ => return None,
    };
    // Within the range, so the cast is exact to the km.
    (0.0..=FARTHEST).contains(&km).then(|| km.round() as u32)
}

/// No objects in objects.
fn plain(value: &Value) -> Option<&Value> {
    (value.is_number() || value.is_string()).then_some(value)
}

/// `123456`, `123,456`, `123.456`, `123 456` or `123456.7`: a sign before exactly three digits divides thousands.
fn count(text: &str) -> Option<f64> {
    let text = text.trim();
    let mut whole = String::new();
    let mut groups = text.split([',', '.', ' ', '\u{a0}', '\'']).peekable();
    let first = groups.next()?;
    whole.push_str(first);
    while let Some(group) = groups.next() {
        if group.len() == 3 && first.len() <= 3 {
            whole.push_str(group);
        } else if groups.peek().is_none() {
            whole.push('.');
            whole.push_str(group);
        } else {
            return None;
        }
    }
    let digits =
        whole.starts_with(|c: char| c.is_ascii_digit()) && whole.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    whole.parse().ok().filter(|_| digits)
}

/// Without what cannot be printed or stored, on one line, and not too long.
fn clean(text: &str) -> String {
    let words =
        text.split(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c)).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(TEXT).collect()
}

/// Marks that turn the direction of what follows, or hide in it.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn out_of_order(entries: &[Entry]) -> Vec<Flag> {
    let dates: Vec<NaiveDate> = entries.iter().filter_map(|entry| entry.date).collect();
    let wrong = |wrong: fn(&[NaiveDate]) -> bool| dates.windows(2).filter(|pair| wrong(pair)).count();
    // From old to new or from new to old, whichever it is more.
    let out = wrong(|pair| pair[0] > pair[1]).min(wrong(|pair| pair[0] < pair[1]));
    let undated = entries.len() - dates.len();
    let mut flags = Vec::new();
    flags.extend((out > 0).then(|| Flag::OutOfOrder { entries: small(out) }));
    flags.extend((undated > 0).then(|| Flag::Undated { entries: small(undated) }));
    flags
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A reading that is lower than the highest one of an earlier day. On one day nobody knows what came first.
fn rollbacks(entries: &[Entry]) -> Vec<Flag> {
    let readings = entries.iter().filter_map(|entry| Some((entry.date?, entry.odometer_km?)));
    let mut days: Vec<(NaiveDate, u32, u32)> = Vec::new();
    for (day, km) in readings {
        match days.last_mut() {
            Some((last, low, high)) if *last == day => (*low, *high) = ((*low).min(km), (*high).max(km)),
            _ => days.push((day, km, km)),
        }
    }
    let mut flags = Vec::new();
    let mut before: Option<(NaiveDate, u32)> = None;
    for (day, low, high) in days {
        match before {
            Some((on, km)) if low.saturating_add(ROUNDING) < km => {
                flags.push(Flag::OdometerRollback { before_km: km, before_on: on, after_km: low, after_on: day });
                // From here on the lower count goes on: one rollback is told once.
                before = Some((day, low));
            }
            Some((_, km)) if high < km => {}
            _ => before = Some((day, high)),
        }
    }
    flags
}

fn impossible_dates(entries: &[Entry], model_year: Option<u16>, now: DateTime<Utc>) -> Vec<Flag> {
    // It is tomorrow already elsewhere.
    let tomorrow = now.date_naive().succ_opt().unwrap_or(NaiveDate::MAX);
    let mut flags = Vec::new();
    for on in entries.iter().filter_map(|entry| entry.date) {
        // A model year begins, at the earliest, on the second day of the year before it (40 CFR 85.2304).
        if let Some(model_year) = model_year.filter(|year| on.year() < i32::from(*year) - 1) {
            flags.push(Flag::BeforeItsTime { on, model_year });
        } else if on > tomorrow {
            flags.push(Flag::InTheFuture { on });
        }
    }
    flags.dedup();
    flags
}

/// What titles are branded with, each once.
fn brands(entries: &[RawEntry]) -> Vec<String> {
    let mut brands: Vec<String> = Vec::new();
    for brand in entries.iter().filter_map(|entry| entry.brand.as_deref()) {
        let brand: String = clean(brand).to_lowercase().chars().take(40).collect();
        if !matches!(brand.as_str(), "" | "clean" | "clear" | "none" | "normal") && !brands.contains(&brand) {
            brands.push(brand);
        }
    }
    brands
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const VIN: &str = "1HGCM82633A004352";

    fn at(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn read_entries(entries: Value) -> (Vec<Entry>, Vec<Flag>) {
        let body = json!({ "vin": VIN, "entries": entries }).to_string();
        let now = at("2026-11-26").and_hms_opt(12, 0, 0).unwrap().and_utc();
        read(body.as_bytes(), &Vin::parse(VIN).unwrap(), Some(2003), now).unwrap()
    }

    fn refused(body: &[u8]) -> String {
        read(body, &Vin::parse(VIN).unwrap(), None, pitcrew::clock::now()).unwrap_err().to_string()
    }

    #[test]
    fn entries_of_all_kinds_are_normalised_and_sorted() {
        let (entries, flags) = read_entries(json!([
            { "type": "TITLE_ISSUED", "date": "2003-05-01", "odometer": 12, "unit": "mi", "location": "Ohio", "brand": "CLEAN" },
            { "type": "Odometer reading", "date": "2005-06-07T10:00:00Z", "odometer": "45,200 mi" },
            { "type": "accident_report", "date": "07/09/2006", "description": "rear\n damage\u{202e}" },
            { "type": "service", "date": "2007-01-02", "odometer": { "value": 98000, "unit": "km" }, "extra": [1, 2] },
            { "type": "RECALL", "date": "2008-01-02" },
            { "type": "ESCAPED", "date": "2009-01-02" },
        ]));
        let told: Vec<_> = entries.iter().map(|e| (e.kind, e.date.unwrap().to_string(), e.odometer_km)).collect();
        assert_eq!(
            told,
            [
                (EntryKind::Title, "2003-05-01".into(), Some(19)),
                (EntryKind::Odometer, "2005-06-07".into(), Some(72_742)),
                (EntryKind::Accident, "2006-07-09".into(), None),
                (EntryKind::Service, "2007-01-02".into(), Some(98_000)),
                (EntryKind::Recall, "2008-01-02".into(), None),
                (EntryKind::Other, "2009-01-02".into(), None),
            ]
        );
        assert_eq!((entries[0].place.as_deref(), &*entries[2].text), (Some("Ohio"), "rear damage"));
        assert_eq!(flags, []);
    }

    #[test]
    fn a_rollback_is_told_once_and_rounding_is_none() {
        let reading = |date: &str, km: u32| json!({ "type": "odometer", "date": date, "odometer": km });
        let (_, flags) = read_entries(json!([
            reading("2004-01-01", 50_000),
            reading("2005-01-01", 120_000),
            reading("2005-01-01", 119_000), // the same day
            reading("2006-01-01", 119_950), // rounded
            reading("2007-01-01", 60_000),
            reading("2008-01-01", 70_000),
        ]));
        let rollback = Flag::OdometerRollback {
            before_km: 120_000,
            before_on: at("2005-01-01"),
            after_km: 60_000,
            after_on: at("2007-01-01"),
        };
        assert_eq!(flags, [rollback]);
    }

    #[test]
    fn dates_that_cannot_be_and_lists_out_of_order_are_flagged() {
        let on = |date: Value| json!({ "type": "service", "date": date });
        let (entries, flags) = read_entries(json!([
            on(json!("2010-01-01")),
            on(json!("2009-01-01")),
            on(json!("2008-01-01")), // from new to old is an order
            on(json!("2031-01-01")),
            on(json!("2001-12-31")),
            on(json!("2002-01-01")), // a model of 2003 may be sold in 2002
            on(json!("someday")),
            on(json!(null)),
        ]));
        assert_eq!(
            flags,
            [
                Flag::OutOfOrder { entries: 2 },
                Flag::Undated { entries: 2 },
                Flag::BeforeItsTime { on: at("2001-12-31"), model_year: 2003 },
                Flag::InTheFuture { on: at("2031-01-01") },
            ]
        );
        assert!(entries[..6].is_sorted_by_key(|entry| entry.date));
        assert_eq!(entries.len(), 7, "two that are the same in everything are one");
    }

    #[test]
    fn a_branded_title_is_flagged_once() {
        let title = |brand: &str| json!({ "type": "title", "date": "2005-01-01", "brand": brand });
        let (_, flags) = read_entries(json!([title("Salvage"), title(" SALVAGE "), title("clean"), title("")]));
        assert_eq!(flags, [Flag::BrandedTitle { brand: "salvage".into() }]);
    }

    #[test]
    fn odometers_are_read_as_people_write_them_or_not_at_all() {
        let km = |value: Value| odometer(&value, None);
        for right in
            ["123456", "123,456", "123.456", "123 456", "123'456", "123456.2", "123456 km", "123,456km", "76712 mi"]
        {
            assert_eq!(km(json!(right)), Some(123_456), "{right}");
        }
        assert_eq!((km(json!(0)), km(json!("1,234,567"))), (Some(0), Some(1_234_567)));
        assert_eq!(odometer(&json!(100), Some("miles")), Some(161));
        for wrong in ["", "-5", "km", "1e6", "12 leagues", "1,2,3", "NaN", "∞", "99999999999", "12,34,567.8"] {
            assert_eq!(km(json!(wrong)), None, "{wrong}");
        }
        for wrong in [json!(-1), json!(1e300), json!(true), json!([1]), json!({ "value": { "value": 1 } }), json!(null)]
        {
            assert_eq!(km(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_report_about_this_car_is_refused() {
        assert!(refused(b"<html>").starts_with("expected value"));
        assert!(refused(b"{\"vin\": \"1HGCM82633A004352\"").starts_with("EOF"));
        assert!(refused(b"{\"vin\": \"1HGCM82633A004352\"}").starts_with("missing field `entries`"));
        let deep =
            format!("{{\"vin\": \"{VIN}\", \"entries\": [{{\"type\": \"x\", \"odometer\": {}", "[".repeat(100_000));
        assert!(refused(deep.as_bytes()).starts_with("recursion limit exceeded"), "{}", refused(deep.as_bytes()));
        assert_eq!(refused(b"{\"vin\": \"WVWZZZ1JZXW000001\", \"entries\": []}"), "it is about `WVWZZZ1JZXW000001`");
        let many = json!({ "vin": VIN, "entries": vec![json!({ "type": "x" }); MOST + 1] }).to_string();
        assert_eq!(refused(many.as_bytes()), "1001 entries are more than any car has (1000)");
    }

    #[test]
    fn hostile_texts_are_made_safe() {
        let (entries, flags) = read_entries(json!([{
            "type": "a\0b", "date": "99999-01-01", "location": "\u{0}\u{200b}", "description": "x".repeat(10_000),
            "brand": "\u{1b}[31mlemon"
        }]));
        assert_eq!((entries[0].date, entries[0].place.as_deref(), entries[0].text.len()), (None, None, TEXT));
        assert_eq!(flags[1], Flag::BrandedTitle { brand: "[31mlemon".into() });
        assert_eq!(date("２００５-01-01"), None);
        assert_eq!(date("2005-01-01é"), None);
    }
}
