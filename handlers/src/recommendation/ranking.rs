//! Content-Based Filter and score: from a command to a brief. Pure: no clock, no I/O, no chance.
//!
//! Constraints filter, weights score. A score is the weighted mean of four criteria of 0 to 1:
//!
//! | criterion | 1 | 0 |
//! | --- | --- | --- |
//! | economy | the cheapest to run of the cars that fit; twice the cost is 0.5 | |
//! | recency | the newest model year of the catalogue | the oldest |
//! | room | a minivan | a two-seater (the table is [`room`]) |
//! | performance | the largest engine of the catalogue; electric cars, of which it gives no power, 0.5 | |
//!
//! Equal scores (in thousandths: what the buyer sees as equal is equal) are told apart by cost, newer year, make, model and id,
//! so that the same command always gives the same brief. A model appears once, by its best variant.

mod wish;
mod words;

use super::catalogue::{Catalogue, Vehicle};
use super::contract::{Brief, Class, Constraint, Drive, Excluded, Fuel, GenerateRecommendationBrief, Money, Pick};
use super::prices::{FuelPrices, PriceError};
use std::cmp::Ordering;
use wish::{Wish, bit};

pub use wish::Invalid;

/// A catalogue with its prices, ready to be asked. Everything that no command can change is computed here, once.
#[derive(Debug)]
pub struct Ranking {
    catalogue: Catalogue,
    currency: String,
    /// By vehicle, in the catalogue's order.
    traits: Vec<Traits>,
    newest: u16,
}

/// What a scan needs of a vehicle, close together in memory.
#[derive(Debug, Clone, Copy)]
struct Traits {
    class: Class,
    drive: Drive,
    fuel: Fuel,
    year: u16,
    make: u16,
    model: u16,
    /// Of 100 km.
    cost: f64,
    recency: f64,
    room: f64,
    performance: f64,
    percent_with_less_room: u8,
    percent_with_smaller_engine: u8,
}

/// A car that fits, and its score.
#[derive(Debug, Clone, Copy)]
struct Scored {
    index: usize,
    thousandths: u16,
    cost: f64,
    /// Economy, recency, room, performance.
    criteria: [f64; 4],
}
impl Scored {
    fn yearly_cost(&self, wish: &Wish) -> u64 {
        (self.cost * wish.yearly_100_km).round() as u64
    }
}

/// What the reasons may refer to.
struct Facts<'a> {
    currency: &'a str,
    fitting: u32,
    lowest_cost: f64,
    mean_cost: f64,
    newest: u16,
    percent_with_less_room: u8,
    percent_with_smaller_engine: u8,
}

impl Ranking {
    /// Refuses prices that nothing can be computed with.
    pub fn new(catalogue: Catalogue, prices: &FuelPrices) -> Result<Self, PriceError> {
        prices.check()?;
        let (oldest, newest) = catalogue.years();
        let span = f64::from(newest - oldest).max(1.0);
        let rooms = sorted(catalogue.vehicles().iter().map(|v| room(v.class)));
        let engines = sorted(catalogue.vehicles().iter().map(litres));
        let largest = engines.last().copied().unwrap_or(0.0);
        let traits = |v: &Vehicle| Traits {
            class: v.class,
            drive: v.drive,
            fuel: v.fuel,
            year: v.year,
            make: v.make_index,
            model: v.model_index,
            cost: v.per_100_km * prices.of(v.grade),
            recency: f64::from(v.year - oldest) / span,
            room: room(v.class),
            performance: v.engine.map_or(0.5, |engine| engine.displacement / largest),
            percent_with_less_room: percent_below(&rooms, room(v.class)),
            percent_with_smaller_engine: percent_below(&engines, litres(v)),
        };
        let traits = catalogue.vehicles().iter().map(traits).collect();
        Ok(Self { traits, newest, currency: prices.currency.clone(), catalogue })
    }

    /// Answers `command`. The brief has not been written yet: its `writes` is 0.
    pub fn brief(&self, command: &GenerateRecommendationBrief) -> Result<Brief, Invalid> {
        let mut wish = Wish::parse(command, &self.catalogue, &self.currency)?;
        let (fitting, excluded) = self.filter(&wish);
        let picks = self.picks(&wish, &fitting);
        let mut notes = std::mem::take(&mut wish.notes);
        if fitting.is_empty() {
            notes.push(words::way_out(&excluded));
        }
        let (considered, fitting) = (self.traits.len() as u32, fitting.len() as u32);
        Ok(Brief {
            id: command.brief_id.clone(),
            buyer: command.buyer.clone(),
            headline: words::headline(&picks, considered, fitting, &excluded),
            picks,
            considered,
            fitting,
            excluded,
            notes,
            writes: 0,
        })
    }

    /// The cars that meet every constraint, and what each constraint kept out, the strictest first.
    fn filter(&self, wish: &Wish) -> (Vec<usize>, Vec<Excluded>) {
        let mut fitting = Vec::new();
        let mut by_failures = [0_u32; 1 << Constraint::ALL.len()];
        for (index, traits) in self.traits.iter().enumerate() {
            let failed = wish.failed(traits);
            by_failures[usize::from(failed)] += 1;
            if failed == 0 {
                fitting.push(index);
            }
        }
        let count = |constraint: Constraint| {
            let bit = usize::from(bit(constraint));
            let vehicles = by_failures.iter().enumerate().filter(|(failed, _)| failed & bit != 0).map(|(_, n)| n).sum();
            Excluded { by: constraint, vehicles, alone: by_failures[bit] }
        };
        let mut excluded: Vec<_> = Constraint::ALL.iter().copied().map(count).filter(|e| e.vehicles > 0).collect();
        excluded.sort_by_key(|e| std::cmp::Reverse(e.vehicles)); // Stable: equals stay in the order of the contract.
        (fitting, excluded)
    }

    /// The best variant of each of the best models, best first.
    fn picks(&self, wish: &Wish, fitting: &[usize]) -> Vec<Pick> {
        let costs = || fitting.iter().map(|i| self.traits[*i].cost);
        let lowest_cost = costs().fold(f64::INFINITY, f64::min);
        let mean_cost = costs().sum::<f64>() / fitting.len() as f64;
        let mut best: Vec<Scored> = Vec::with_capacity(wish.top + 1);
        for index in fitting {
            self.admit(self.score(*index, wish, lowest_cost), &mut best, wish.top);
        }
        let pick = |scored: &Scored| {
            let (v, traits) = (&self.catalogue.vehicles()[scored.index], &self.traits[scored.index]);
            let facts = Facts {
                currency: &self.currency,
                fitting: fitting.len() as u32,
                lowest_cost,
                mean_cost,
                newest: self.newest,
                percent_with_less_room: traits.percent_with_less_room,
                percent_with_smaller_engine: traits.percent_with_smaller_engine,
            };
            Pick {
                vehicle: v.id,
                make: v.make.clone(),
                model: v.model.clone(),
                year: v.year,
                class: v.class,
                transmission: v.transmission.clone(),
                drive: v.drive,
                fuel: v.fuel,
                yearly_fuel_cost: Money { amount: scored.yearly_cost(wish), currency: self.currency.clone() },
                score: f64::from(scored.thousandths) / 1000.0,
                reasons: words::reasons(v, scored, wish, &facts),
            }
        };
        best.iter().map(pick).collect()
    }

    fn score(&self, index: usize, wish: &Wish, lowest_cost: f64) -> Scored {
        let t = &self.traits[index];
        let criteria = [lowest_cost / t.cost, t.recency, t.room, t.performance];
        let score: f64 = criteria.iter().zip(wish.weights).map(|(criterion, weight)| criterion * weight).sum();
        Scored { index, thousandths: (score * 1000.0).round() as u16, cost: t.cost, criteria }
    }

    /// Keeps `best` the best `top` of what it has seen, sorted, one a model.
    fn admit(&self, new: Scored, best: &mut Vec<Scored>, top: usize) {
        if best.len() == top && best.last().is_some_and(|last| self.order(&new, last).is_ge()) {
            return;
        }
        let model = |scored: &Scored| self.traits[scored.index].model;
        if let Some(at) = best.iter().position(|other| model(other) == model(&new)) {
            if self.order(&new, &best[at]).is_ge() {
                return;
            }
            best.remove(at);
        }
        let at = best.partition_point(|other| self.order(other, &new).is_lt());
        best.insert(at, new);
        best.truncate(top);
    }

    /// The better one first. Total: IDs are unique.
    fn order(&self, a: &Scored, b: &Scored) -> Ordering {
        let (v, w) = (&self.catalogue.vehicles()[a.index], &self.catalogue.vehicles()[b.index]);
        b.thousandths
            .cmp(&a.thousandths)
            .then_with(|| a.cost.total_cmp(&b.cost))
            .then_with(|| w.year.cmp(&v.year))
            .then_with(|| v.make.cmp(&w.make))
            .then_with(|| v.model.cmp(&w.model))
            .then_with(|| v.id.cmp(&w.id))
    }
}

/// How roomy a class is, two-seaters 0 and minivans 1: for cars the order of their volume by definition, for the rest our
/// judgement.
pub fn room(class: Class) -> f64 {
    match class {
        Class::TwoSeater => 0.0,
        Class::Minicompact => 0.15,
        Class::Subcompact => 0.3,
        Class::Compact => 0.45,
        Class::Pickup | Class::SpecialPurpose => 0.5,
        Class::Midsize => 0.6,
        Class::Large | Class::StationWagon => 0.75,
        Class::Suv => 0.85,
        Class::Van => 0.95,
        Class::Minivan => 1.0,
    }
}

fn litres(v: &Vehicle) -> f64 {
    v.engine.map_or(0.0, |engine| engine.displacement)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn percent_below(sorted: &[f64], value: f64) -> u8 {
    (sorted.partition_point(|v| *v < value) * 100 / sorted.len().max(1)) as u8
}
