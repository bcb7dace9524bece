//! Content Enricher: `car.FetchVehicleHistory` becomes a history in the read model, and an event that tells it.
//!
//! The parts, in reading order: `contract.rs` (what travels and what is kept), `vin.rs` and `makers.rs` (which car), `provider.rs`
//! (whom we ask, and what each answer means), `report.rs` (the answer in our words; pure), `simulator.rs` (a provider for the demo
//! and for tests). This page only ties them to the runtime.

pub mod contract;
mod makers;
pub mod provider;
pub mod report;
pub mod simulate;
pub mod simulator;
pub mod vin;

use chrono::Datelike;
use contract::{Decoded, FetchVehicleHistory, VehicleHistory};
use pitcrew::{Breaker, Context, Handler, HandlerError, OrElse, Setup};
use provider::{Answer, Provider, ProviderConfig, ProviderError};
use vin::Vin;

/// A malformed answer is tried so often: the provider may have been in the middle of a rollout, but not for ever.
const MALFORMED: u32 = 3;

/// Answers `car.FetchVehicleHistory`.
///
/// The question to the provider is outside the database, so it is at-least-once: a worker that dies before the commit asks again.
/// It is a GET, so nobody is harmed. The document and the event are effects inside: they are there exactly once.
#[derive(Debug)]
pub struct Historian {
    provider: Provider,
    breaker: Breaker,
}

impl Historian {
    /// Reads the settings: a wrong one stops the start and not the first message.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        let provider = Provider::new(setup.config::<ProviderConfig>()?)?;
        let breaker = setup.breaker(provider.name());
        Ok(Self { provider, breaker })
    }

    /// What follows from an answer that is none. Outages never come here: the breaker has judged them.
    fn verdict(&self, error: ProviderError, cx: &Context) -> HandlerError {
        match error {
            ProviderError::Refused { .. } | ProviderError::Unauthorised { .. } => HandlerError::permanent(error),
            // Counted with other failures, so the last one has to have been of this kind, too.
            ProviderError::Malformed { .. } if cx.attempt() >= MALFORMED && was_malformed(cx) => {
                HandlerError::permanent(error)
            }
            ProviderError::Busy { retry_after: Some(wait), .. } => HandlerError::retry_after(wait, error),
            error => error.into(),
        }
    }
}

impl Handler<FetchVehicleHistory> for Historian {
    async fn handle(&self, command: FetchVehicleHistory, cx: &mut Context) -> pitcrew::Result {
        // A VIN that is wrong today is wrong tomorrow, and nobody is paid to look for it.
        let vin = Vin::parse(&command.vin).permanent()?;
        let known = cx.load::<VehicleHistory>(&vin).await?.filter(|known| known.provider == self.provider.name());
        let etag = known.as_ref().and_then(|known| known.etag.as_deref());

        // The first `?` is an outage, with the breaker's verdict; what is inside is about this car.
        let answer = self.breaker.call(self.provider.fetch(&vin, etag), ProviderError::outage).await?;
        let answer = answer.map_err(|error| self.verdict(error, cx))?;

        let (now, decoded) = (cx.now(), decode(&vin, cx.now().year()));
        let unknown = VehicleHistory {
            vin: vin.to_string(),
            provider: self.provider.name().to_owned(),
            known: false,
            decoded,
            entries: Vec::new(),
            flags: Vec::new(),
            etag: None,
            asked_at: now,
            writes: 0,
        };
        let history = match (answer, known) {
            (Answer::Unknown, _) => unknown,
            (Answer::NotModified, Some(known)) => VehicleHistory { asked_at: now, ..known },
            (Answer::NotModified, None) => {
                return Err(self.verdict(self.provider.malformed("304 about a car that was not known", b""), cx));
            }
            (Answer::Report { etag, body }, _) => {
                let read = report::read(&body, &vin, unknown.decoded.model_year, now);
                let (entries, flags) = read.map_err(|error| self.verdict(self.provider.malformed(error, &body), cx))?;
                VehicleHistory { known: true, entries, flags, etag, ..unknown }
            }
        };
        cx.emit(&history.told(command.listing_id))?;
        // Not an upsert on purpose: see `VehicleHistory::writes`.
        cx.update(&vin, |old| history.written_over(old)).await?;
        Ok(())
    }
}

fn was_malformed(cx: &Context) -> bool {
    cx.meta().hop.reason.as_deref().is_some_and(|reason| reason.contains("malformed"))
}

fn decode(vin: &Vin, year: i32) -> Decoded {
    Decoded {
        maker: vin.maker().map(str::to_owned),
        country: vin.country().map(str::to_owned),
        // Next year's models are sold this year.
        model_year: u16::try_from(year + 1).ok().and_then(|latest| vin.model_year(latest)),
    }
}
