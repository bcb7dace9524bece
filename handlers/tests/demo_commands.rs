//! Test Data Generator: the demo's buyers.

use car_workers::demo::commands::{commands, is_poison};
use car_workers::recommendation::{catalogue::Catalogue, prices::FuelPrices, ranking::Ranking};
use std::collections::HashSet;

#[test]
fn the_same_seed_gives_the_same_commands() {
    assert!(commands(500, 7).eq(commands(500, 7)));
    assert!(commands(500, 7).ne(commands(500, 8)));
    assert!(commands(500, 7).eq(commands(1_000, 7).take(500)), "a longer demo begins like a shorter one");
}

#[test]
fn poison_and_nothing_else_is_refused() {
    let ranking = Ranking::new(Catalogue::embedded().unwrap(), &FuelPrices::default()).unwrap();
    for command in commands(1_000, 7) {
        let answer = ranking.brief(&command);
        assert_eq!(answer.is_err(), is_poison(&command), "{}: {answer:?}", command.brief_id);
    }
}

#[test]
fn every_200_commands_hold_one_poison() {
    let poison: Vec<bool> = commands(4_000, 7).map(|c| is_poison(&c)).collect();
    assert!(poison.chunks(200).all(|block| block.iter().filter(|p| **p).count() == 1));
}

#[test]
fn buyers_are_many_and_most_find_a_car() {
    let ranking = Ranking::new(Catalogue::embedded().unwrap(), &FuelPrices::default()).unwrap();
    let (mut ids, mut best, mut none) = (HashSet::new(), HashSet::new(), 0);
    for command in commands(1_000, 7) {
        assert!(ids.insert(command.brief_id.clone()));
        let Ok(brief) = ranking.brief(&command) else { continue };
        match brief.picks.first() {
            Some(pick) => drop(best.insert((pick.make.clone(), pick.model.clone()))),
            None => none += 1,
        }
        assert!(brief.picks.iter().all(|p| (2..=4).contains(&p.reasons.len())), "{:?}", brief.picks);
    }
    assert!(best.len() > 100, "{} different first picks", best.len());
    assert!((20..250).contains(&none), "{none} without a car");
}
