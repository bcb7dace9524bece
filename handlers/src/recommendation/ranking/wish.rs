//! Parse, don't validate: a command becomes a question that can be answered, or says why it cannot.

use super::{Traits, words::grouped};
use crate::recommendation::catalogue::Catalogue;
use crate::recommendation::contract::{Class, Constraint, Drive, Fuel, GenerateRecommendationBrief, Years};
use std::ops::RangeInclusive;

const YEARLY_KM: RangeInclusive<u32> = 1..=500_000;
const WEIGHT: RangeInclusive<f64> = 0.0..=100.0;
const TOP: RangeInclusive<u8> = 1..=20;
/// A brief's ID becomes a CloudEvents `subject` and a key in the database.
const NAME_BYTES: usize = 200;
const LIST_ENTRIES: usize = 100;

/// Why a command can never be answered: trying again would not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("accept `{field}`: {problem}")]
pub struct Invalid {
    /// The path in the command.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// The constraints that a car fails, one bit each: `1 << Constraint as u8`.
pub(super) type Failed = u8;

/// A checked command, in the form in which a scan can use it.
#[derive(Debug)]
pub(super) struct Wish {
    classes: u16,
    drives: u8,
    fuels: u8,
    years: RangeInclusive<u16>,
    /// By make: what the make alone fails.
    makes: Vec<Failed>,
    /// What a year's fuel may cost.
    pub(super) budget: Option<u64>,
    /// A year's distance, in 100 km.
    pub(super) yearly_100_km: f64,
    /// Economy, recency, room, performance; their sum is 1.
    pub(super) weights: [f64; 4],
    pub(super) top: usize,
    pub(super) asked_class: bool,
    pub(super) asked_drive: bool,
    pub(super) notes: Vec<String>,
}

impl Wish {
    pub(super) fn parse(
        command: &GenerateRecommendationBrief,
        catalogue: &Catalogue,
        currency: &str,
    ) -> Result<Self, Invalid> {
        name("brief_id", &command.brief_id)?;
        name("buyer.id", &command.buyer.id)?;
        name("buyer.name", &command.buyer.name)?;
        check("yearly_km", YEARLY_KM.contains(&command.yearly_km), || {
            format!(
                "{} km; a year is {} to {} km",
                grouped(command.yearly_km),
                YEARLY_KM.start(),
                grouped(*YEARLY_KM.end())
            )
        })?;
        check("top", TOP.contains(&command.top), || {
            format!("{} cars; a brief names {} to {}", command.top, TOP.start(), TOP.end())
        })?;
        if let Some(budget) = &command.yearly_fuel_budget {
            check("yearly_fuel_budget.currency", budget.currency == currency, || {
                format!("the budget is in `{}`, but fuel prices are known in `{currency}` only", budget.currency)
            })?;
        }
        let mut notes = Vec::new();
        Ok(Self {
            classes: bits(&command.classes, Class::ALL),
            drives: bits(&command.drives, Drive::ALL) as u8,
            fuels: fuels(&command.fuels),
            years: years(command.years, catalogue.years(), &mut notes)?,
            makes: makes(command, catalogue.makes(), &mut notes)?,
            budget: command.yearly_fuel_budget.as_ref().map(|b| b.amount),
            yearly_100_km: f64::from(command.yearly_km) / 100.0,
            weights: weights(command)?,
            top: command.top.into(),
            asked_class: !command.classes.is_empty(),
            asked_drive: !command.drives.is_empty(),
            notes,
        })
    }

    /// Which constraints a car with these traits fails; 0: it fits.
    pub(super) fn failed(&self, car: &Traits) -> Failed {
        let unless = |met: bool, constraint| if met { 0 } else { bit(constraint) };
        let in_budget = self.budget.is_none_or(|budget| car.cost * self.yearly_100_km <= budget as f64);
        self.makes.get(usize::from(car.make)).copied().unwrap_or(0)
            | unless(self.classes & (1 << car.class as u16) != 0, Constraint::Classes)
            | unless(self.drives & (1 << car.drive as u8) != 0, Constraint::Drives)
            | unless(self.fuels & (1 << car.fuel as u8) != 0, Constraint::Fuels)
            | unless(self.years.contains(&car.year), Constraint::Years)
            | unless(in_budget, Constraint::FuelBudget)
    }
}

pub(super) fn bit(constraint: Constraint) -> Failed {
    1 << constraint as u8
}

fn check(field: &'static str, good: bool, problem: impl FnOnce() -> String) -> Result<(), Invalid> {
    if good { Ok(()) } else { Err(Invalid { field, problem: problem() }) }
}

fn name(field: &'static str, text: &str) -> Result<(), Invalid> {
    check(field, !text.trim().is_empty(), || "it is empty".into())?;
    check(field, text.len() <= NAME_BYTES, || {
        format!("it has {} bytes; {NAME_BYTES} at most", grouped(text.len() as u64))
    })?;
    check(field, !text.chars().any(char::is_control), || "it holds a control character".into())
}

/// One bit for each wanted item; an empty list wants all.
fn bits<T: Copy + PartialEq>(wanted: &[T], all: &[T]) -> u16 {
    let is_wanted = |item: &T| wanted.is_empty() || wanted.contains(item);
    all.iter().enumerate().filter(|(_, item)| is_wanted(item)).fold(0, |bits, (i, _)| bits | 1 << i)
}

fn fuels(wanted: &[Fuel]) -> u8 {
    let mut bits = bits(wanted, Fuel::ALL) as u8;
    if wanted.contains(&Fuel::Gasoline) {
        bits |= 1 << Fuel::FlexFuel as u8; // It runs on petrol, too.
    }
    bits
}

fn years(asked: Years, (oldest, newest): (u16, u16), notes: &mut Vec<String>) -> Result<RangeInclusive<u16>, Invalid> {
    let (from, to) = (asked.from.unwrap_or(u16::MIN), asked.to.unwrap_or(u16::MAX));
    check("years", from <= to, || format!("from {from} to {to} holds no year"))?;
    if to < oldest || from > newest {
        notes.push(format!("the catalogue holds the model years {oldest} to {newest}"));
    }
    Ok(from..=to)
}

fn makes(c: &GenerateRecommendationBrief, known: &[String], notes: &mut Vec<String>) -> Result<Vec<Failed>, Invalid> {
    for (field, list) in [("makes", &c.makes), ("avoid_makes", &c.avoid_makes)] {
        check(field, list.len() <= LIST_ENTRIES, || {
            format!("it has {} entries; {LIST_ENTRIES} at most", grouped(list.len() as u64))
        })?;
        for make in list {
            name(field, make)?;
            if !among(known, make) {
                notes.push(format!("the catalogue has no make `{}`", make.trim()));
            }
        }
    }
    let failed = |make: &String| {
        let missing = if c.makes.is_empty() || among(&c.makes, make) { 0 } else { bit(Constraint::Makes) };
        let avoided = if among(&c.avoid_makes, make) { bit(Constraint::AvoidMakes) } else { 0 };
        missing | avoided
    };
    Ok(known.iter().map(failed).collect())
}

fn among(list: &[String], make: &str) -> bool {
    list.iter().any(|m| m.trim().eq_ignore_ascii_case(make.trim()))
}

fn weights(command: &GenerateRecommendationBrief) -> Result<[f64; 4], Invalid> {
    let w = command.weights;
    let named = [
        ("weights.economy", w.economy),
        ("weights.recency", w.recency),
        ("weights.room", w.room),
        ("weights.performance", w.performance),
    ];
    for (field, weight) in named {
        check(field, WEIGHT.contains(&weight), || {
            format!("{weight} is not a weight; a weight is {} to {}", WEIGHT.start(), WEIGHT.end())
        })?;
    }
    // By the largest first: a sum of tiny weights must not lose their proportions.
    let largest = named.iter().fold(0.0, |max: f64, (_, weight)| max.max(*weight));
    check("weights", largest > 0.0, || "all are 0; at least one must be above 0".into())?;
    let scaled = named.map(|(_, weight)| weight / largest);
    let sum: f64 = scaled.iter().sum();
    Ok(scaled.map(|weight| weight / sum))
}
