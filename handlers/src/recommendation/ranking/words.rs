//! Explanation: the numbers of a ranking as sentences for the buyer.

use super::wish::Wish;
use super::{Facts, Scored};
use crate::recommendation::catalogue::Vehicle;
use crate::recommendation::contract::{Class, Excluded, Fuel, Pick};

/// A brief names at most so many reasons a car, and at least two.
const REASONS: usize = 4;

/// Why this car: what it costs first, then what counted most in its score.
pub(super) fn reasons(v: &Vehicle, scored: &Scored, wish: &Wish, facts: &Facts) -> Vec<String> {
    let mut reasons = vec![cost(v, scored, wish, facts)];
    let arguments = [economy(scored, wish, facts), recency(v, facts), room(v, facts), performance(v, facts)];
    let mut by_weight: Vec<_> = arguments.into_iter().enumerate().filter(|(i, _)| wish.weights[*i] > 0.0).collect();
    let share = |i: usize| wish.weights[i] * scored.criteria[i];
    by_weight.sort_by(|(a, _), (b, _)| share(*b).total_cmp(&share(*a)).then(a.cmp(b)));
    reasons.extend(by_weight.into_iter().filter_map(|(_, argument)| argument));
    if reasons.len() < REASONS && (reasons.len() < 2 || wish.asked_class || wish.asked_drive) {
        reasons.push(wanted(v, wish));
    }
    reasons.truncate(REASONS);
    reasons
}

fn cost(v: &Vehicle, scored: &Scored, wish: &Wish, facts: &Facts) -> String {
    let (unit, amount) = (v.grade.unit(), grouped(scored.yearly_cost(wish)));
    let of = wish.budget.map_or(String::new(), |budget| format!(" of your {}", grouped(budget)));
    let (never, most) = match v.fuel {
        Fuel::PlugInHybrid => (" when never charged", "at most "),
        _ => ("", ""),
    };
    let currency = facts.currency;
    format!("uses {:.1} {unit}/100 km{never}: {most}about {amount}{of} {currency} a year for fuel", v.per_100_km)
}

fn economy(scored: &Scored, wish: &Wish, facts: &Facts) -> Option<String> {
    if facts.fitting == 1 {
        return None;
    }
    let fitting = grouped(facts.fitting);
    if scored.cost <= facts.lowest_cost {
        return Some(format!("the cheapest to run of the {fitting} that fit"));
    }
    let saved = (facts.mean_cost - scored.cost) * wish.yearly_100_km;
    let currency = facts.currency;
    (saved >= 1.0).then(|| {
        format!("saves about {} {currency} a year against the average of the {fitting} that fit", grouped(saved as u64))
    })
}

fn recency(v: &Vehicle, facts: &Facts) -> Option<String> {
    match facts.newest.saturating_sub(v.year) {
        0 => Some(format!("of {}, the newest model year in the catalogue", v.year)),
        1 => Some(format!("of {}, one model year before the newest", v.year)),
        _ => None,
    }
}

fn room(v: &Vehicle, facts: &Facts) -> Option<String> {
    let percent = facts.percent_with_less_room;
    (percent >= 50).then(|| format!("{}: a roomier class than {percent} % of the catalogue", with_article(v.class)))
}

fn performance(v: &Vehicle, facts: &Facts) -> Option<String> {
    let (engine, percent) = (v.engine?, facts.percent_with_smaller_engine);
    (percent >= 50).then(|| {
        let (litres, cylinders) = (engine.displacement, engine.cylinders);
        format!("{cylinders} cylinders, {litres:.1} l: a larger engine than {percent} % of the catalogue")
    })
}

fn wanted(v: &Vehicle, wish: &Wish) -> String {
    let (class, drive) = (with_article(v.class), v.drive.words());
    match (wish.asked_class, wish.asked_drive) {
        (true, true) => format!("{class} with {drive}, as you asked"),
        (true, false) => format!("{class}, as you asked"),
        (false, true) => format!("{drive}, as you asked"),
        (false, false) => format!("{class} with {drive}"),
    }
}

fn with_article(class: Class) -> String {
    let article = if class == Class::Suv { "an" } else { "a" };
    format!("{article} {}", class.words())
}

/// The brief in one sentence.
pub(super) fn headline(picks: &[Pick], considered: u32, fitting: u32, excluded: &[Excluded]) -> String {
    let name = |p: &Pick| format!("{} {} of {}", p.make, p.model, p.year);
    match (picks, excluded) {
        ([one], _) if fitting == 1 => format!("{} is the one car of {} that fits", name(one), grouped(considered)),
        ([one], _) => format!("{} is the best of {} cars that fit", name(one), grouped(fitting)),
        ([best, ..], _) => {
            format!("{} leads the best {} of {} cars that fit", name(best), picks.len(), grouped(fitting))
        }
        ([], [strictest, ..]) => format!(
            "no car of {} fits: {} excluded the most, {}",
            grouped(considered),
            strictest.by.words(),
            grouped(strictest.vehicles)
        ),
        ([], []) => format!("no car of {} fits", grouped(considered)),
    }
}

/// What a buyer whom nothing fits could give up.
pub(super) fn way_out(excluded: &[Excluded]) -> String {
    match excluded.iter().reduce(|best, e| if e.alone > best.alone { e } else { best }) {
        Some(e) if e.alone > 0 => format!("without {}, {} would fit", e.by.words(), grouped(e.alone)),
        _ => "giving up one constraint is not enough: at least two exclude every car".into(),
    }
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
