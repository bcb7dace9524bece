//! Inverted index: which photo was seen in which listing, so that the same photo in two of them is found.
//!
//! A handler reads documents by ID only, and photos that look alike differ in a few of their 64 bits. So each fingerprint lies on
//! four shelves, one for each 16 of its bits: two fingerprints that differ in at most [`ALIKE`] bits have a shelf in common
//! (pigeonhole principle; multi-index hashing, Norouzi et al. 2012).

use super::contract::{Listing, Photo};
use crate::image::contract::Fingerprint;
use pitcrew::Document;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// Photos whose fingerprints differ in so many bits at most show the same.
pub const ALIKE: u32 = 3;
/// Sightings on one shelf; the oldest makes room. Photos of nothing (a white wall) would fill it without a bound.
const ROOM: usize = 64;

/// One photo in one listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// What it looks like.
    pub fingerprint: Fingerprint,
    /// Where.
    pub listing: String,
    /// Whose listing.
    pub seller: String,
}
impl Sighting {
    /// `photo` in `listing`.
    pub fn of(photo: &Photo, listing: &Listing) -> Self {
        Self { fingerprint: photo.fingerprint, listing: listing.id.clone(), seller: listing.seller.id.clone() }
    }

    /// Where it lies.
    pub fn shelves(&self) -> [String; 4] {
        let bits = self.fingerprint.0;
        [0, 1, 2, 3].map(|quarter| format!("{quarter}-{:04x}", (bits >> (48 - 16 * quarter)) & 0xffff))
    }
}

/// A shelf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sightings {
    /// Which quarter of the fingerprint, and its bits.
    pub shelf: String,
    /// The oldest first.
    pub seen: Vec<Sighting>,
}
impl Document for Sightings {
    const COLLECTION: &'static str = "photo_sightings";

    fn id(&self) -> impl Display {
        &self.shelf
    }
}
impl Sightings {
    /// The sightings of other listings that show what `mine` shows.
    pub fn like(&self, mine: &Sighting) -> impl Iterator<Item = &Sighting> {
        let mine = mine.clone();
        self.seen
            .iter()
            .filter(move |other| other.listing != mine.listing && other.fingerprint.distance(mine.fingerprint) <= ALIKE)
    }

    /// The shelf with `sighting` on it: once, however often the listing is looked at.
    pub fn with(old: Option<Self>, shelf: &str, sighting: Sighting) -> Self {
        let mut shelf = old.unwrap_or_else(|| Self { shelf: shelf.to_owned(), seen: Vec::new() });
        if !shelf.seen.contains(&sighting) {
            let too_many = (shelf.seen.len() + 1).saturating_sub(ROOM);
            shelf.seen.drain(..too_many);
            shelf.seen.push(sighting);
        }
        shelf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(fingerprint: u64, listing: &str) -> Sighting {
        Sighting { fingerprint: Fingerprint(fingerprint), listing: listing.into(), seller: "s".into() }
    }

    #[test]
    fn what_differs_in_three_bits_shares_a_shelf() {
        let one = sighting(0x0123_4567_89ab_cdef, "a");
        for bits in 0..64_u32 {
            for more in [(bits + 17) % 64, (bits + 1) % 64] {
                for third in [(bits + 34) % 64, (bits + 2) % 64] {
                    let other = sighting(one.fingerprint.0 ^ (1 << bits) ^ (1 << more) ^ (1 << third), "b");
                    let shelf = other.shelves().into_iter().find(|shelf| one.shelves().contains(shelf));
                    let shelf = shelf.unwrap_or_else(|| panic!("bits {bits}, {more}, {third}"));
                    let known = Sightings::with(None, &shelf, one.clone());
                    assert_eq!(known.like(&other).collect::<Vec<_>>(), [&one]);
                }
            }
        }
    }

    #[test]
    fn the_own_listing_and_other_pictures_are_no_reuse() {
        let mine = sighting(0xffff_0000_ffff_0000, "a");
        let shelf = Sightings::with(None, &mine.shelves()[0], mine.clone());
        assert_eq!(shelf.like(&mine).count(), 0);
        assert_eq!(shelf.like(&sighting(0xffff_0000_ffff_000f, "b")).count(), 0, "four bits differ");
        assert_eq!(shelf.like(&sighting(0xffff_0000_ffff_0007, "b")).count(), 1);
    }

    #[test]
    fn a_shelf_is_bounded_and_holds_each_sighting_once() {
        let mut shelf = None;
        for listing in 0..200 {
            let seen = sighting(7, &listing.to_string());
            shelf = Some(Sightings::with(shelf, "3-0007", seen.clone()));
            shelf = Some(Sightings::with(shelf, "3-0007", seen));
        }
        let shelf = shelf.unwrap();
        assert_eq!(shelf.seen.len(), ROOM);
        assert_eq!((shelf.seen[0].listing.as_str(), shelf.seen[ROOM - 1].listing.as_str()), ("136", "199"));
    }
}
