//! Test Data Generator: many different buyers, made of the real catalogue. The same seed gives the same buyers.
//!
//! One in 200 is poison on purpose: it can never be answered, so that a demo shows dead letters, too. Which ones is written in
//! their ID, for an account that sees only what came out.

use crate::recommendation::catalogue::Catalogue;
use crate::recommendation::contract::{Buyer, Class, Drive, Fuel, GenerateRecommendationBrief, Money, Weights, Years};

pub(super) const POISON: &str = "poison";
const ONE_IN: usize = 200;

const NAMES: [&str; 24] = [
    "Ada Berger",
    "Aylin Demir",
    "Bruno Costa",
    "Chen Wei",
    "Chiara Rossi",
    "David Okafor",
    "Elena Petrova",
    "Emma Jansen",
    "Fatima Haddad",
    "Finn Olsen",
    "Greta Lindqvist",
    "Hugo Martin",
    "Ines Pereira",
    "Jakub Nowak",
    "Kofi Mensah",
    "Lara Schmidt",
    "Linh Nguyen",
    "Maria Santos",
    "Mateo Garcia",
    "Noor Khan",
    "Oskar Virtanen",
    "Priya Sharma",
    "Sean Murphy",
    "Zoe Dubois",
];

/// What kind of buyer: the classes wanted, what matters, how far they drive.
struct Kind {
    classes: &'static [Class],
    /// Economy, recency, room, performance.
    weights: [u8; 4],
    km: (u32, u32),
}
const KINDS: [Kind; 7] = [
    // Into town and back.
    Kind {
        classes: &[Class::Minicompact, Class::Subcompact, Class::Compact],
        weights: [6, 2, 0, 1],
        km: (4_000, 12_000),
    },
    // The long way to work.
    Kind { classes: &[Class::Compact, Class::Midsize], weights: [8, 2, 1, 1], km: (20_000, 45_000) },
    // A family.
    Kind {
        classes: &[Class::Minivan, Class::StationWagon, Class::Suv, Class::Large],
        weights: [3, 2, 6, 1],
        km: (10_000, 25_000),
    },
    // Tools and trailers.
    Kind { classes: &[Class::Pickup, Class::Van], weights: [2, 1, 2, 3], km: (15_000, 40_000) },
    // A car for Sundays.
    Kind { classes: &[Class::TwoSeater, Class::Minicompact], weights: [1, 2, 0, 8], km: (2_000, 8_000) },
    // Mountain roads in winter.
    Kind { classes: &[Class::Suv, Class::StationWagon], weights: [3, 2, 3, 2], km: (8_000, 22_000) },
    // Anything that drives.
    Kind { classes: &[], weights: [5, 1, 1, 1], km: (5_000, 30_000) },
];

/// `n` commands.
///
/// # Panics
/// Never in a build whose tests pass: one of them reads the catalogue in the binary, from which the makes are drawn.
pub fn commands(n: usize, seed: u64) -> impl Iterator<Item = GenerateRecommendationBrief> {
    let catalogue = Catalogue::embedded().expect("the catalogue in the binary can be read");
    // By vehicles, not by makes: a make with many models is asked for more often.
    let makes: Vec<String> = catalogue.vehicles().iter().map(|v| v.make.clone()).collect();
    let mut dice = Dice(seed);
    let mut poisoned = 0;
    (0..n).map(move |i| {
        if i % ONE_IN == 0 {
            poisoned = i + dice.below(ONE_IN);
        }
        let command = buyer(i, seed, &makes, &mut dice);
        if i == poisoned { poison(command, &mut dice) } else { command }
    })
}

/// Whether `command` was made to be refused.
pub fn is_poison(command: &GenerateRecommendationBrief) -> bool {
    is_poison_id(&command.brief_id)
}

/// The same from a brief's ID (the `subject` of its command).
pub fn is_poison_id(brief_id: &str) -> bool {
    brief_id.starts_with(POISON)
}

fn buyer(i: usize, seed: u64, makes: &[String], dice: &mut Dice) -> GenerateRecommendationBrief {
    let kind = dice.one_of(&KINDS);
    let (least, most) = kind.km;
    let yearly_km = least + dice.below((most - least) as usize / 500) as u32 * 500;
    let number = dice.below(5_000);
    let [economy, recency, room, performance] = kind.weights.map(|w| f64::from(w) + dice.below(3) as f64);
    GenerateRecommendationBrief {
        brief_id: format!("brief-{seed:x}-{i:06}"),
        buyer: Buyer { id: format!("buyer-{number:04}"), name: NAMES[number % NAMES.len()].into() },
        yearly_km,
        // 9 to 26 a 100 km: from what few cars reach to what nearly all do.
        yearly_fuel_budget: dice.chance(70).then(|| Money {
            amount: u64::from(yearly_km / 100) * (9 + dice.below(18) as u64),
            currency: "EUR".into(),
        }),
        classes: kind.classes.to_vec(),
        drives: if dice.chance(25) { vec![*dice.one_of(Drive::ALL)] } else { vec![] },
        fuels: if dice.chance(20) { fuels(dice) } else { vec![] },
        years: Years { from: dice.chance(60).then(|| 2010 + dice.below(5) as u16), to: None },
        makes: if dice.chance(35) { (0..=dice.below(4)).map(|_| dice.one_of(makes).clone()).collect() } else { vec![] },
        avoid_makes: if dice.chance(35) { vec![dice.one_of(makes).clone()] } else { vec![] },
        weights: Weights { economy, recency, room, performance },
        top: 3 + dice.below(3) as u8,
    }
}

fn fuels(dice: &mut Dice) -> Vec<Fuel> {
    dice.one_of(&[&[Fuel::Gasoline][..], &[Fuel::Diesel], &[Fuel::Electric, Fuel::PlugInHybrid], &[Fuel::FlexFuel]])
        .to_vec()
}

fn poison(mut command: GenerateRecommendationBrief, dice: &mut Dice) -> GenerateRecommendationBrief {
    command.brief_id = format!("{POISON}-{}", command.brief_id);
    match dice.below(4) {
        0 => command.weights.economy = -1.0,
        1 => command.weights = Weights { economy: 0.0, recency: 0.0, room: 0.0, performance: 0.0 },
        2 => command.buyer.name.clear(),
        _ => command.years = Years { from: Some(2015), to: Some(2010) },
    }
    command
}

/// splitmix64: small, and the same on every machine and in every version.
pub(super) struct Dice(pub(super) u64);
impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
