//! What is looked at: each signal is a value from 0 (nothing found) to 1, and a sentence for whoever decides. Pure: the same
//! command, evidence and market always give the same.

use super::{
    contract::{Listing, ScoreFraudReview, SignalName},
    market::Market,
    sightings::Sighting,
    wording::{self, Contact},
};
use crate::history::{
    contract::{EntryKind, Flag, VehicleHistory},
    vin::Vin,
};
use chrono::{Datelike as _, NaiveDate};
use std::collections::BTreeSet;

/// What is known beside the command.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The car's history, if the history worker has one.
    pub history: Option<VehicleHistory>,
    /// Photos like those of the listing, in other listings.
    pub elsewhere: Vec<Sighting>,
}

/// One signal before it is weighed.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which one.
    pub name: SignalName,
    /// 0 to 1.
    pub value: f64,
    /// Why, in words.
    pub sentence: String,
}

/// Looks at everything: one finding for each signal, in the order of [`SignalName::ALL`].
pub fn look(command: &ScoreFraudReview, evidence: &Evidence, market: &Market) -> Vec<Finding> {
    let listing = &command.listing;
    let history = evidence.history.as_ref().filter(|history| history.known);
    SignalName::ALL
        .into_iter()
        .map(|name| {
            let (value, sentence) = match name {
                SignalName::Price => price(listing, market),
                SignalName::PhotoReuse => photo_reuse(listing, &evidence.elsewhere),
                SignalName::Vin => vin(listing),
                SignalName::Odometer => odometer(listing, history),
                SignalName::Mileage => mileage(listing),
                SignalName::HiddenHistory => hidden_history(listing, history),
                SignalName::AccountAge => account_age(listing),
                SignalName::Contact => contact(listing),
                SignalName::Payment => payment(listing),
            };
            Finding { name, value: round(value), sentence }
        })
        .collect()
}

/// Three digits: enough for a decision, and the same on every machine.
pub(super) fn round(value: f64) -> f64 {
    (value.clamp(0.0, 1.0) * 1000.0).round() / 1000.0
}

/// 0 at `none`, 1 at `full`, straight in between; works both ways.
fn between(value: f64, none: f64, full: f64) -> f64 {
    ((value - none) / (full - none)).clamp(0.0, 1.0)
}

fn price(listing: &Listing, market: &Market) -> (f64, String) {
    if listing.price.currency != market.currency() {
        let sentence = format!("the price is in {}, and only {} is judged", listing.price.currency, market.currency());
        return (0.0, sentence);
    }
    let Some(estimate) = market.estimate(listing) else {
        return (0.0, format!("the catalogue knows no {} {} to compare with", listing.make, listing.model));
    };
    let asked = u32::try_from(listing.price.amount).map_or(f64::from(u32::MAX), f64::from);
    let share = asked / estimate.price;
    let of = format!(
        "{} {} asked, about {:.0} expected from {} variants of the {} {}",
        listing.price.amount, listing.price.currency, estimate.price, estimate.neighbours, listing.make, listing.model
    );
    let value = between(share, 0.65, 0.3);
    let judged = if value > 0.0 { "far too cheap" } else { "a plausible price" };
    (value, format!("{judged}: {of}"))
}

fn photo_reuse(listing: &Listing, elsewhere: &[Sighting]) -> (f64, String) {
    if listing.photos.is_empty() {
        return (0.2, "there are no photos".into());
    }
    let (own, foreign): (Vec<_>, Vec<_>) = elsewhere.iter().partition(|other| other.seller == listing.seller.id);
    let listings = |of: &[&Sighting]| of.iter().map(|other| other.listing.clone()).collect::<BTreeSet<_>>();
    let photos: BTreeSet<_> = foreign.iter().map(|other| other.fingerprint.0).collect();
    match (listings(&foreign).into_iter().collect::<Vec<_>>(), listings(&own).into_iter().collect::<Vec<_>>()) {
        (foreign, _) if !foreign.is_empty() => {
            let value = if photos.len() > 1 || listing.photos.len() == 1 { 1.0 } else { 0.7 };
            (value, format!("the same photos are in listings of other sellers: {}", few(&foreign)))
        }
        (_, own) if !own.is_empty() => (0.15, format!("the seller uses the same photos in {}", few(&own))),
        _ => (0.0, format!("{} photos, none of them seen elsewhere", listing.photos.len())),
    }
}

/// The first three, and how many more.
fn few(all: &[String]) -> String {
    match all {
        [] | [_] | [_, _] | [_, _, _] => all.join(", "),
        [first @ .., _] => format!("{} and {} more", first[..3].join(", "), all.len() - 3),
    }
}

fn vin(listing: &Listing) -> (f64, String) {
    let Some(text) = &listing.vin else { return (0.25, "there is no VIN".into()) };
    let vin = match Vin::parse(text) {
        Ok(vin) => vin,
        Err(error) => return (0.8, format!("{error}")),
    };
    let listed = u16::try_from(listing.listed_at.year()).unwrap_or(u16::MAX);
    let mut wrong = Vec::new();
    if let Some(maker) = vin.maker().filter(|maker| !same_make(maker, &listing.make)) {
        wrong.push(format!("the VIN is one of {maker}, and a {} is offered", listing.make));
    }
    let year = vin.model_year(listed.saturating_add(1));
    if let Some(year) = year.filter(|year| year.abs_diff(listing.year) > 1) {
        wrong.push(format!("the VIN says model year {year}, the listing says {}", listing.year));
    }
    if wrong.is_empty() { (0.0, "the VIN fits the make and the model year".into()) } else { (1.0, wrong.join("; ")) }
}

/// Makers of one group sell under several names; the code is the group's.
fn same_make(of_vin: &str, claimed: &str) -> bool {
    const GROUPS: [&[&str]; 9] = [
        &["chevrolet", "gmc", "buick", "cadillac", "pontiac", "opel", "vauxhall", "general motors"],
        &["chrysler", "dodge", "jeep", "ram", "fiat", "srt"],
        &["ford", "lincoln", "mercury"],
        &["honda", "acura"],
        &["nissan", "infiniti", "datsun"],
        &["toyota", "lexus", "scion"],
        &["hyundai", "kia", "genesis"],
        &["volkswagen", "audi", "seat", "skoda", "škoda", "cupra", "porsche", "bentley"],
        &["bmw", "mini", "rolls-royce"],
    ];
    let (a, b) = (of_vin.to_lowercase(), claimed.trim().to_lowercase());
    a.starts_with(&b) || b.starts_with(&a) || GROUPS.iter().any(|g| g.contains(&a.as_str()) && g.contains(&b.as_str()))
}

fn odometer(listing: &Listing, history: Option<&VehicleHistory>) -> (f64, String) {
    let Some(history) = history else { return (0.0, "there is no history to compare the odometer with".into()) };
    let listed = listing.listed_at.date_naive();
    let read = history.entries.iter().filter(|entry| entry.date.is_none_or(|date| date <= listed));
    let highest = read.filter_map(|entry| Some((entry.odometer_km?, entry.date))).max_by_key(|(km, _)| *km);
    let on = |date: Option<NaiveDate>| date.map_or_else(|| "once".to_owned(), |date| format!("on {date}"));
    if let Some((km, date)) = highest.filter(|(km, _)| *km > listing.odometer_km.saturating_add(500)) {
        let value = between(f64::from(km - listing.odometer_km), 0.0, 20_000.0).max(0.5);
        return (value, format!("{} km are claimed, and {km} km were read {}", listing.odometer_km, on(date)));
    }
    for flag in &history.flags {
        if let Flag::OdometerRollback { before_km, after_km, after_on, .. } = flag {
            return (0.6, format!("the history has a rollback from {before_km} to {after_km} km on {after_on}"));
        }
    }
    match highest {
        Some((km, date)) => (0.0, format!("the odometer fits: {km} km were read {}", on(date))),
        None => (0.0, "the history has no reading of the odometer".into()),
    }
}

fn mileage(listing: &Listing) -> (f64, String) {
    let age = (f64::from(listing.listed_at.year()) - f64::from(listing.year)).max(1.0);
    let yearly = f64::from(listing.odometer_km) / age;
    let told = format!("{yearly:.0} km a year over {age:.0} years");
    if age >= 4.0 && yearly < 2_500.0 {
        (between(yearly, 2_500.0, 500.0), format!("hardly driven: {told}"))
    } else if yearly > 60_000.0 {
        (between(yearly, 60_000.0, 120_000.0), format!("driven more than anybody drives: {told}"))
    } else {
        (0.0, format!("an ordinary distance: {told}"))
    }
}

/// What an honest text about such a car says somewhere.
const TOLD: [&str; 9] = ["accident", "damage", "salvage", "rebuilt", "repair", "flood", "lemon", "total loss", "crash"];

fn hidden_history(listing: &Listing, history: Option<&VehicleHistory>) -> (f64, String) {
    let Some(history) = history else { return (0.0, "there is no history to compare the text with".into()) };
    let brand = history.flags.iter().find_map(|flag| match flag {
        Flag::BrandedTitle { brand } => Some(brand),
        _ => None,
    });
    let accidents = history.entries.iter().filter(|entry| entry.kind == EntryKind::Accident).count();
    let (value, what) = match (brand, accidents) {
        (Some(brand), _) => (1.0, format!("a title branded `{brand}`")),
        (None, 0) => return (0.0, "the history has no accident and no branded title".into()),
        (None, n) => (if n > 1 { 0.7 } else { 0.5 }, format!("{n} accident(s)")),
    };
    let text = listing.text.to_lowercase();
    if TOLD.iter().any(|word| text.contains(word)) {
        (0.0, format!("the history has {what}, and the text speaks of it"))
    } else {
        (value, format!("the history has {what}, and the text says nothing of it"))
    }
}

fn account_age(listing: &Listing) -> (f64, String) {
    let days = (listing.listed_at - listing.seller.since).num_days();
    if days < 0 {
        return (1.0, "the listing is older than the seller's account".into());
    }
    let value = between(f64::from(u16::try_from(days).unwrap_or(u16::MAX)), 60.0, 1.0);
    (value, format!("the account was {days} days old when the listing was put up"))
}

fn contact(listing: &Listing) -> (f64, String) {
    let found = wording::contacts(&listing.text);
    if found.is_empty() {
        return (0.0, "the text names no way around the platform".into());
    }
    let words: Vec<_> = found.iter().map(|contact| contact.words()).collect();
    let value = if found.len() > 1 || found.contains(&Contact::Messenger) { 1.0 } else { 0.7 };
    (value, format!("the text leads away from the platform: {}", words.join(", ")))
}

fn payment(listing: &Listing) -> (f64, String) {
    let found = wording::payments(&listing.text);
    if found.is_empty() {
        return (0.0, "the text asks for no unusual payment".into());
    }
    (if found.len() > 1 { 1.0 } else { 0.8 }, format!("the text speaks of {}", found.join(", ")))
}
