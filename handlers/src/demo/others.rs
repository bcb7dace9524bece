//! Test Data Generator: photos that are drawn here, VINs right and wrong, listings honest and not. The same seed gives the same.

use super::commands::{Dice, POISON};
use crate::{
    fraud::contract::{Listing, Photo, ScoreFraudReview, Seller},
    history::{
        contract::FetchVehicleHistory,
        simulator::{Fault, Simulator, vin_of},
    },
    image::{
        contract::{Fingerprint, ProcessListingImage, Source},
        drawing::Scene,
    },
    recommendation::{catalogue::Catalogue, contract::Money},
};
use anyhow::Context as _;
use chrono::Days;
use pitcrew::clock;
use std::path::Path;

/// Photos of one listing.
const ALBUM: usize = 4;
/// One command in so many is poison.
const POISONED: usize = 10;

/// `n` commands, and their photos in `folder`: each taken somewhere, with the camera held anyhow. The last of each ten is no photo.
pub(super) fn images(n: usize, seed: u64, folder: &Path) -> anyhow::Result<Vec<ProcessListingImage>> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let draw = |i: usize| {
        let poison = i % POISONED == POISONED - 1;
        let key = format!("{i:04}.jpg");
        let bytes = if poison { b"this is no photo".to_vec() } else { Scene::of(seed ^ (i as u64) << 20).jpeg() };
        std::fs::write(folder.join(&key), bytes).with_context(|| format!("drawing {key}"))?;
        let photo_id = if poison { format!("{POISON}-{i}") } else { format!("photo-{i}") };
        let listing_id = format!("listing-{seed:x}-{}", i / ALBUM);
        Ok(ProcessListingImage { listing_id, photo_id, source: Source::Key(key) })
    };
    // Drawing takes longer than all the rest of the preparation: on all processors.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let numbers: Vec<usize> = (0..n).collect();
    let parts = std::thread::scope(|scope| {
        let draw = &draw;
        let part = |part: &[usize]| {
            let part = part.to_vec();
            scope.spawn(move || part.into_iter().map(draw).collect::<anyhow::Result<Vec<_>>>())
        };
        let drawing: Vec<_> = numbers.chunks(n.div_ceil(threads).max(1)).map(part).collect();
        drawing.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("drawing panicked"))).collect()
    });
    let parts: anyhow::Result<Vec<Vec<_>>> = parts;
    Ok(parts?.into_iter().flatten().collect())
}

/// `n` commands, one in ten with a VIN in which something is wrong.
pub(super) fn histories(n: usize) -> Vec<FetchVehicleHistory> {
    let vin = |i: usize| {
        let vin = vin_of(u32::try_from(i).unwrap_or_default());
        match i % POISONED {
            3 => format!("{}I{}", &vin[..5], &vin[6..]), // I is no character of a VIN
            _ => vin,
        }
    };
    (0..n).map(|i| FetchVehicleHistory { vin: vin(i), listing_id: None }).collect()
}

/// A provider on a bad day: of its first answers some are none.
pub(super) async fn provider() -> anyhow::Result<Simulator> {
    let simulator = Simulator::start().await.context("starting the provider of histories")?;
    let busy = || Fault::Later(429, "1".into());
    simulator.next([
        Fault::Status(503),
        Fault::Broken,
        Fault::Status(500),
        Fault::NotJson,
        Fault::Half,
        Fault::Status(502),
        busy(),
    ]);
    Ok(simulator)
}

/// `n` commands: one listing in five is not what it seems, one in ten cannot be scored.
pub(super) fn reviews(n: usize, seed: u64) -> anyhow::Result<Vec<ScoreFraudReview>> {
    let catalogue = Catalogue::embedded().context("reading the catalogue")?;
    let (vehicles, mut dice, now) = (catalogue.vehicles(), Dice(seed ^ 0xF4A0), clock::now());
    let review = |i: usize| {
        let vehicle = dice.one_of(vehicles);
        let (poison, shady) = (i % POISONED == 6, i % 5 == 1);
        let days = if shady { 3 } else { 200 + dice.below(2_000) as u64 };
        let price = if shady { 1_500 } else { 7_000 + dice.below(9_000) as u64 };
        let text =
            if shady { "Quick sale, write to me on WhatsApp, Western Union only." } else { "One owner, serviced." };
        let name = if poison { format!("{POISON}-{seed:x}-{i}") } else { format!("review-{seed:x}-{i}") };
        let listing = Listing {
            id: format!("offer-{seed:x}-{i}"),
            seller: Seller {
                id: format!("seller-{}", dice.below(500)),
                name: "Robin Weber".into(),
                since: now.checked_sub_days(Days::new(days)).unwrap_or(now),
            },
            make: vehicle.make.clone(),
            model: vehicle.model.clone(),
            year: if poison { 1_492 } else { vehicle.year },
            vin: None,
            price: Money { amount: price, currency: "EUR".into() },
            odometer_km: 20_000 + dice.below(150_000) as u32,
            text: text.into(),
            photos: vec![Photo { id: "front".into(), fingerprint: Fingerprint(dice.next()) }],
            listed_at: now,
        };
        ScoreFraudReview { review_id: name, listing }
    };
    Ok((0..n).map(review).collect())
}
