//! Cars are reserved, each for one buyer.

use anyhow::anyhow;
use pitcrew::{Command, Context, Document, Event, Handlers, Message, OrElse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// "Keep this car for this buyer."
#[derive(Serialize, Deserialize, JsonSchema)]
struct ReserveCar {
    car: String,
    buyer: String,
}
impl Message for ReserveCar {
    type Kind = Command; // asks for work: one handler answers it
    const TYPE: &'static str = "shop.ReserveCar";

    /// Messages about one car run one after another.
    fn subject(&self) -> Option<String> {
        Some(self.car.clone())
    }
}

/// "This car is kept for this buyer."
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct CarReserved {
    car: String,
    buyer: String,
}
impl Message for CarReserved {
    type Kind = Event; // states a fact: anybody may listen
    const TYPE: &'static str = "shop.CarReserved";
}

/// What is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Reservation {
    car: String,
    buyer: String,
}
impl Document for Reservation {
    const COLLECTION: &'static str = "reservation";

    fn id(&self) -> impl std::fmt::Display {
        &self.car
    }
}

async fn reserve(m: ReserveCar, cx: &mut Context) -> pitcrew::Result {
    let new = Reservation { car: m.car.clone(), buyer: m.buyer.clone() };
    cx.update(&m.car, |old| old.unwrap_or(new)).await?; // whoever was first stays
    let kept: Option<Reservation> = cx.load(&m.car).await?;
    if kept.is_some_and(|kept| kept.buyer != m.buyer) {
        Err(anyhow!("the car `{}` is taken", m.car)).permanent()?; // trying again would not help
    }
    cx.emit(&CarReserved { car: m.car, buyer: m.buyer })?;
    Ok(()) // all of it commits here, or nothing
}

fn handlers() -> Handlers {
    Handlers::new().handle(reserve).emits::<CarReserved>()
}

fn main() -> anyhow::Result<()> {
    pitcrew::main(handlers())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitcrew::testing::{TestWorker, crash_everywhere};

    fn by(buyer: &str) -> ReserveCar {
        ReserveCar { car: "prius".into(), buyer: buyer.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_car_is_kept_for_the_first_who_asks() {
        let worker = TestWorker::new(handlers()).await;
        let ada = worker.deliver(&by("ada")).await;
        ada.assert_done();
        assert_eq!(ada.emitted::<CarReserved>(), [CarReserved { car: "prius".into(), buyer: "ada".into() }]);
        worker.deliver(&by("bob")).await.assert_dead("is taken");
        worker.deliver_envelope((*ada.envelope).clone()).await.assert_duplicate();
    }

    #[test]
    fn a_crash_anywhere_reserves_it_once() {
        crash_everywhere(handlers).deliver(&by("ada")).run().assert_survived();
    }
}
