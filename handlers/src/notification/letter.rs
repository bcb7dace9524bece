//! Message Translator: an event as words to the buyer.

use crate::recommendation::contract::RecommendationBriefGenerated;

/// What the buyer reads.
pub fn write(event: &RecommendationBriefGenerated) -> String {
    let greeting = format!("Hello {}, your car recommendation is ready: {}.", event.buyer.name, event.headline);
    match &event.best {
        Some(best) => format!(
            "{greeting} First pick: {} {} of {}, score {:.2}: {}.",
            best.make,
            best.model,
            best.year,
            best.score,
            best.reasons.join("; ")
        ),
        None => format!("{greeting} The brief tells what each wish excluded and what could be given up."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommendation::contract::{Buyer, Class, Drive, Fuel, Money, Pick};

    fn event(best: Option<Pick>) -> RecommendationBriefGenerated {
        RecommendationBriefGenerated {
            brief_id: "b-1".into(),
            buyer: Buyer { id: "ada".into(), name: "Ada".into() },
            headline: "one line".into(),
            best,
        }
    }

    #[test]
    fn the_first_pick_and_its_reasons_are_told() {
        let pick = Pick {
            vehicle: 1,
            make: "Toyota".into(),
            model: "Prius".into(),
            year: 2014,
            class: Class::Midsize,
            transmission: "Automatic".into(),
            drive: Drive::Front,
            fuel: Fuel::Gasoline,
            yearly_fuel_cost: Money { amount: 1200, currency: "EUR".into() },
            score: 0.8125,
            reasons: vec!["thrifty".into(), "roomy".into()],
        };
        assert_eq!(
            write(&event(Some(pick))),
            "Hello Ada, your car recommendation is ready: one line. First pick: Toyota Prius of 2014, score 0.81: thrifty; roomy."
        );
    }

    #[test]
    fn who_gets_no_pick_is_told_where_to_look() {
        assert_eq!(
            write(&event(None)),
            "Hello Ada, your car recommendation is ready: one line. The brief tells what each wish excluded and what could be given up."
        );
    }
}
