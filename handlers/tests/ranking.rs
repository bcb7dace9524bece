//! Content-Based Filter and score: golden briefs over the real catalogue. Picks, scores and counts agree with a second
//! computation of them in Python from the same file.

use car_workers::recommendation::catalogue::Catalogue;
use car_workers::recommendation::contract::{
    Brief, Buyer, Class, Constraint, Drive, Fuel, GenerateRecommendationBrief, Money, Weights, Years,
};
use car_workers::recommendation::prices::FuelPrices;
use car_workers::recommendation::ranking::Ranking;
use std::sync::LazyLock;

static RANKING: LazyLock<Ranking> =
    LazyLock::new(|| Ranking::new(Catalogue::embedded().unwrap(), &FuelPrices::default()).unwrap());

const ECONOMY: Weights = Weights { economy: 1.0, recency: 0.0, room: 0.0, performance: 0.0 };
const RECENCY: Weights = Weights { economy: 0.0, recency: 1.0, room: 0.0, performance: 0.0 };
const ROOM: Weights = Weights { economy: 0.0, recency: 0.0, room: 1.0, performance: 0.0 };
const PERFORMANCE: Weights = Weights { economy: 0.0, recency: 0.0, room: 0.0, performance: 1.0 };

fn wish() -> GenerateRecommendationBrief {
    GenerateRecommendationBrief {
        brief_id: "b-1".into(),
        buyer: Buyer { id: "ada".into(), name: "Ada".into() },
        yearly_km: 15_000,
        yearly_fuel_budget: None,
        classes: vec![],
        drives: vec![],
        fuels: vec![],
        years: Years::default(),
        makes: vec![],
        avoid_makes: vec![],
        weights: Weights::default(),
        top: 3,
    }
}
fn euros(amount: u64) -> Option<Money> {
    Some(Money { amount, currency: "EUR".into() })
}
fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|s| (*s).into()).collect()
}
fn brief(wish: GenerateRecommendationBrief) -> Brief {
    RANKING.brief(&wish).unwrap()
}
/// `score id make model year` of each pick.
fn picks(brief: &Brief) -> Vec<String> {
    let line = |p: &car_workers::recommendation::contract::Pick| {
        format!("{:.3} {} {} {} {}", p.score, p.vehicle, p.make, p.model, p.year)
    };
    brief.picks.iter().map(line).collect()
}
fn excluded(brief: &Brief) -> Vec<(Constraint, u32, u32)> {
    brief.excluded.iter().map(|e| (e.by, e.vehicles, e.alone)).collect()
}

#[test]
fn economy_alone_puts_the_cheapest_first() {
    let brief = brief(GenerateRecommendationBrief { weights: ECONOMY, ..wish() });
    assert_eq!(
        picks(&brief),
        ["1.000 33307 Scion iQ EV 2013", "0.982 33640 Chevrolet Spark EV 2014", "0.979 33905 Honda Fit EV 2014"]
    );
    assert_eq!(brief.headline, "Scion iQ EV of 2013 leads the best 3 of 5,995 cars that fit");
    assert_eq!(
        brief.picks[0].reasons,
        ["uses 17.3 kWh/100 km: about 831 EUR a year for fuel", "the cheapest to run of the 5,995 that fit"]
    );
}

#[test]
fn every_constraint_filters() {
    let brief = brief(GenerateRecommendationBrief {
        yearly_fuel_budget: euros(1_500),
        classes: vec![Class::Compact, Class::Midsize],
        drives: vec![Drive::Front],
        fuels: vec![Fuel::Gasoline],
        years: Years { from: Some(2012), to: Some(2014) },
        makes: strings(&["toyota", " Honda ", "FORD"]),
        avoid_makes: strings(&["ford"]),
        ..wish()
    });
    assert_eq!(
        picks(&brief),
        ["0.769 34489 Toyota Prius 2014", "0.753 34395 Honda Accord Hybrid 2014", "0.738 34639 Toyota Prius c 2014"]
    );
    assert_eq!(
        brief.picks[0].reasons,
        [
            "uses 4.7 l/100 km: about 1,209 of your 1,500 EUR a year for fuel",
            "the cheapest to run of the 19 that fit",
            "of 2014, one model year before the newest",
            "a midsize car with front-wheel drive, as you asked"
        ]
    );
    assert_eq!(
        excluded(&brief),
        [
            (Constraint::FuelBudget, 5905, 60),
            (Constraint::Makes, 5165, 7),
            (Constraint::Classes, 4287, 3),
            (Constraint::Drives, 3942, 0),
            (Constraint::Years, 2444, 8),
            (Constraint::AvoidMakes, 385, 2),
            (Constraint::Fuels, 170, 7)
        ]
    );
    assert_eq!((brief.considered, brief.fitting), (5995, 19));
}

#[test]
fn electric_cars_are_counted_in_kwh() {
    let brief = brief(GenerateRecommendationBrief {
        yearly_fuel_budget: euros(1_000),
        fuels: vec![Fuel::Electric],
        years: Years { from: Some(2014), to: None },
        ..wish()
    });
    assert_eq!(
        picks(&brief),
        ["0.840 33905 Honda Fit EV 2014", "0.828 34918 Nissan Leaf 2015", "0.767 33640 Chevrolet Spark EV 2014"]
    );
    assert_eq!(
        brief.picks[0].reasons,
        [
            "uses 17.7 kWh/100 km: about 850 of your 1,000 EUR a year for fuel",
            "saves about 47 EUR a year against the average of the 9 that fit",
            "of 2014, one model year before the newest",
            "a station wagon: a roomier class than 58 % of the catalogue"
        ]
    );
}

#[test]
fn plug_in_hybrids_are_told_as_what_is_known_of_them() {
    let brief = brief(GenerateRecommendationBrief { fuels: vec![Fuel::PlugInHybrid], top: 1, ..wish() });
    assert_eq!(picks(&brief), ["0.769 34516 Toyota Prius Plug-in Hybrid 2014"]);
    assert_eq!(
        brief.picks[0].reasons,
        [
            "uses 4.7 l/100 km when never charged: at most about 1,198 EUR a year for fuel",
            "the cheapest to run of the 16 that fit",
            "of 2014, one model year before the newest"
        ]
    );
}

#[test]
fn who_wants_petrol_may_drive_flex_fuel_but_not_the_other_way_round() {
    let count = |fuel| brief(GenerateRecommendationBrief { fuels: vec![fuel], ..wish() }).fitting;
    assert_eq!((count(Fuel::Gasoline), count(Fuel::FlexFuel)), (5119 + 706, 706));
}

#[test]
fn performance_alone_puts_the_largest_engine_first() {
    let brief = brief(GenerateRecommendationBrief { weights: PERFORMANCE, ..wish() });
    assert_eq!(
        picks(&brief),
        [
            "1.000 29895 Dodge Viper Convertible 2010",
            "1.000 29896 Dodge Viper Coupe 2010",
            "1.000 34131 SRT Viper 2014"
        ]
    );
    assert_eq!(
        brief.picks[0].reasons,
        [
            "uses 14.8 l/100 km: about 4,119 EUR a year for fuel",
            "10 cylinders, 8.4 l: a larger engine than 99 % of the catalogue"
        ]
    );
}

#[test]
fn a_family_gets_room_before_economy() {
    let brief = brief(GenerateRecommendationBrief {
        weights: Weights { room: 5.0, economy: 2.0, recency: 1.0, performance: 0.0 },
        fuels: vec![Fuel::Gasoline, Fuel::Diesel],
        drives: vec![Drive::All],
        ..wish()
    });
    assert_eq!(
        picks(&brief),
        ["0.866 34887 BMW X3 xDrive28d 2015", "0.850 34372 Toyota Sienna AWD 2014", "0.840 34657 Mazda CX-5 4WD 2015"]
    );
    assert_eq!(
        brief.picks[0].reasons,
        [
            "uses 7.9 l/100 km: about 1,921 EUR a year for fuel",
            "an SUV: a roomier class than 70 % of the catalogue",
            "saves about 1,412 EUR a year against the average of the 2,039 that fit",
            "of 2015, the newest model year in the catalogue"
        ]
    );
}

#[test]
fn equal_scores_are_told_apart_by_cost_then_year_then_name_then_id() {
    // Recency alone: every car of 2015 scores 1, and the cheapest to run leads.
    let by_cost = brief(GenerateRecommendationBrief { weights: RECENCY, top: 4, ..wish() });
    assert_eq!(
        picks(&by_cost),
        [
            "1.000 34918 Nissan Leaf 2015",
            "1.000 34855 Honda Fit 2015",
            "1.000 34884 Nissan Versa 2015",
            "1.000 34892 Chevrolet Spark 2015"
        ]
    );
    // Room alone, minivans: all score 1; Kia and Hyundai cost the same, so the
    // newer leads; Chrysler, Dodge, Volkswagen and the older Ram do, too, and of one year the make decides.
    let wish = GenerateRecommendationBrief { weights: ROOM, classes: vec![Class::Minivan], top: 20, ..wish() };
    let by_name = brief(wish);
    assert_eq!(
        picks(&by_name),
        [
            "1.000 34318 Mazda 5 2014",
            "1.000 33717 Honda Odyssey 2014",
            "1.000 34370 Nissan Quest 2014",
            "1.000 33121 Toyota Sienna 2WD 2013",
            "1.000 34118 Ram C/V 2014",
            "1.000 31283 Kia Sedona 2012",
            "1.000 30173 Hyundai Entourage 2011",
            "1.000 33959 Chrysler Town and Country 2014",
            "1.000 33960 Dodge Grand Caravan 2014",
            "1.000 33961 Volkswagen Routan 2014",
            "1.000 32228 Ram C/V Cargo Van 2012",
            "1.000 31899 Toyota Sienna AWD 2012",
            "1.000 26464 Toyota Sienna 4WD 2010"
        ]
    );
}

#[test]
fn a_model_appears_once_by_its_best_variant() {
    let brief = brief(GenerateRecommendationBrief { makes: strings(&["Tesla"]), top: 20, ..wish() });
    assert_eq!(brief.fitting, 6);
    assert_eq!(
        picks(&brief),
        [
            "0.842 34776 Tesla Model S (60 kW-hr battery pack) 2014",
            "0.808 34775 Tesla Model S (85 kW-hr battery pack) 2014",
            "0.803 33612 Tesla Model S (40 kW-hr battery pack) 2013",
            "0.741 32557 Tesla Model S 2012"
        ]
    );
}

#[test]
fn no_match_says_what_excluded_the_most_and_what_could_be_given_up() {
    let brief = brief(GenerateRecommendationBrief {
        yearly_fuel_budget: euros(900),
        classes: vec![Class::Pickup],
        fuels: vec![Fuel::Diesel],
        ..wish()
    });
    assert_eq!(brief.headline, "no car of 5,995 fits: the fuel budget excluded the most, 5,983");
    assert_eq!(brief.picks, []);
    assert_eq!(
        excluded(&brief),
        [(Constraint::FuelBudget, 5983, 3), (Constraint::Fuels, 5888, 0), (Constraint::Classes, 5519, 0)]
    );
    assert_eq!(brief.notes, ["without the fuel budget, 3 would fit"]);
}

#[test]
fn no_match_by_two_constraints_that_each_exclude_all_says_so() {
    let brief = brief(GenerateRecommendationBrief {
        yearly_fuel_budget: euros(0),
        years: Years { from: Some(2024), to: None },
        ..wish()
    });
    assert_eq!(excluded(&brief), [(Constraint::FuelBudget, 5995, 0), (Constraint::Years, 5995, 0)]);
    assert_eq!(brief.notes[1], "giving up one constraint is not enough: at least two exclude every car");
}

#[test]
fn no_match_by_one_constraint_says_so() {
    let brief = brief(GenerateRecommendationBrief {
        makes: strings(&["Tesler"]),
        years: Years { from: Some(2013), to: None },
        ..wish()
    });
    assert_eq!(brief.headline, "no car of 5,995 fits: the makes to include excluded the most, 5,995");
    assert_eq!(brief.notes, ["the catalogue has no make `Tesler`", "without the makes to include, 2,603 would fit"]);
}

#[test]
fn years_outside_the_catalogue_are_no_match_and_are_noted() {
    let brief = brief(GenerateRecommendationBrief { years: Years { from: Some(2024), to: None }, ..wish() });
    assert_eq!(brief.headline, "no car of 5,995 fits: the model years excluded the most, 5,995");
    assert_eq!(
        brief.notes,
        ["the catalogue holds the model years 2010 to 2015", "without the model years, 5,995 would fit"]
    );
}

#[test]
fn the_same_command_always_gives_the_same_brief() {
    let again = Ranking::new(Catalogue::embedded().unwrap(), &FuelPrices::default()).unwrap();
    for command in car_workers::demo::commands::commands(300, 42) {
        assert_eq!(RANKING.brief(&command), again.brief(&command));
    }
}

#[test]
fn weights_count_by_their_proportions_only() {
    let with = |economy, room| {
        picks(&brief(GenerateRecommendationBrief {
            weights: Weights { economy, recency: 0.0, room, performance: 0.0 },
            ..wish()
        }))
    };
    assert_eq!(with(2.0, 1.0), with(100.0, 50.0));
    assert_eq!(with(2.0, 1.0), with(2e-308, 1e-308));
    assert_ne!(with(2.0, 1.0), with(1.0, 5.0));
}

#[test]
fn the_currency_and_the_prices_are_the_operators() {
    let prices = FuelPrices { currency: "USD".into(), electricity: 3.2, ..FuelPrices::default() };
    let ranking = Ranking::new(Catalogue::embedded().unwrap(), &prices).unwrap();
    let brief = ranking.brief(&GenerateRecommendationBrief { weights: ECONOMY, ..wish() }).unwrap();
    assert_eq!(
        picks(&brief),
        [
            "1.000 34728 Honda Civic Natural Gas 2014",
            "0.910 30601 Honda Civic CNG 2011",
            "0.837 34516 Toyota Prius Plug-in Hybrid 2014"
        ]
    );
    assert_eq!(brief.picks[0].yearly_fuel_cost.currency, "USD");
}

#[test]
fn prices_that_are_none_are_refused() {
    let refused = |prices: FuelPrices| prices.check().unwrap_err().to_string();
    assert_eq!(
        refused(FuelPrices { diesel: f64::NAN, ..FuelPrices::default() }),
        "accept `prices.diesel` = NaN: a price is more than 0 and at most 1,000,000"
    );
    assert_eq!(
        refused(FuelPrices { regular: 0.0, ..FuelPrices::default() }),
        "accept `prices.regular` = 0: a price is more than 0 and at most 1,000,000"
    );
    assert_eq!(
        refused(FuelPrices { currency: "euro".into(), ..FuelPrices::default() }),
        "accept `prices.currency` = `euro`: write three capital letters, e.g. `EUR`"
    );
}

/// What cannot be answered, and what is said about it.
#[test]
fn an_impossible_command_is_refused_with_its_reason() {
    let refused = |change: &dyn Fn(&mut GenerateRecommendationBrief)| {
        let mut command = wish();
        change(&mut command);
        RANKING.brief(&command).unwrap_err().to_string()
    };
    assert_eq!(refused(&|c| c.brief_id.clear()), "accept `brief_id`: it is empty");
    assert_eq!(refused(&|c| c.brief_id = "x".repeat(201)), "accept `brief_id`: it has 201 bytes; 200 at most");
    assert_eq!(refused(&|c| c.brief_id.push('\0')), "accept `brief_id`: it holds a control character");
    assert_eq!(refused(&|c| c.buyer.id = "  ".into()), "accept `buyer.id`: it is empty");
    assert_eq!(refused(&|c| c.buyer.name.clear()), "accept `buyer.name`: it is empty");
    assert_eq!(refused(&|c| c.yearly_km = 0), "accept `yearly_km`: 0 km; a year is 1 to 500,000 km");
    assert_eq!(refused(&|c| c.yearly_km = 500_001), "accept `yearly_km`: 500,001 km; a year is 1 to 500,000 km");
    assert_eq!(refused(&|c| c.top = 0), "accept `top`: 0 cars; a brief names 1 to 20");
    assert_eq!(refused(&|c| c.top = 21), "accept `top`: 21 cars; a brief names 1 to 20");
    assert_eq!(
        refused(&|c| c.weights.economy = -1.0),
        "accept `weights.economy`: -1 is not a weight; a weight is 0 to 100"
    );
    assert_eq!(
        refused(&|c| c.weights.room = 100.5),
        "accept `weights.room`: 100.5 is not a weight; a weight is 0 to 100"
    );
    assert_eq!(
        refused(&|c| c.weights.recency = f64::NAN),
        "accept `weights.recency`: NaN is not a weight; a weight is 0 to 100"
    );
    assert_eq!(
        refused(&|c| c.weights = Weights { economy: 0.0, ..ECONOMY }),
        "accept `weights`: all are 0; at least one must be above 0"
    );
    assert_eq!(
        refused(&|c| c.years = Years { from: Some(2015), to: Some(2012) }),
        "accept `years`: from 2015 to 2012 holds no year"
    );
    assert_eq!(
        refused(&|c| c.yearly_fuel_budget = Some(Money { amount: 1, currency: "USD".into() })),
        "accept `yearly_fuel_budget.currency`: the budget is in `USD`, but fuel prices are known in `EUR` only"
    );
    assert_eq!(refused(&|c| c.makes = vec![String::new()]), "accept `makes`: it is empty");
    assert_eq!(
        refused(&|c| c.avoid_makes = strings(&["x"; 101])),
        "accept `avoid_makes`: it has 101 entries; 100 at most"
    );
}
