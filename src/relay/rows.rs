//! Sets of outbox rows by their numbers. Those are UUIDv7s of our own making, random at their end: a hash against strangers, asked
//! seven times for each message, would cost as much as publishing it.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};
use uuid::Uuid;

pub(super) type Rows = HashSet<Uuid, BuildHasherDefault<End>>;

/// Hashes the last eight bytes.
#[derive(Default)]
pub(super) struct End(u64);

impl Hasher for End {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(end) = bytes.last_chunk() {
            // The set looks at both ends of the number: the lowest bits come from the last bytes, which are random, and the product
            // carries them to the highest.
            self.0 = u64::from_be_bytes(*end).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, BuildHasherDefault};

    #[test]
    fn rows_made_one_after_another_spread() {
        let hashes = BuildHasherDefault::<End>::default();
        let buckets: HashSet<u64> = (0..1_000).map(|_| hashes.hash_one(crate::clock::uuid_v7()) % 4_096).collect();
        assert!(buckets.len() > 700, "{} of 4,096 buckets for 1,000 rows", buckets.len());
    }
}
