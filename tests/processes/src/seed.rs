//! The seed of what these tests choose at random: what comes twice, in which order, at which moment a process is killed.

/// `PITCREW_SEED`, else one that differs from run to run. What it cannot repeat: IDs, for their first half is the time (and by them
/// Kafka chooses partitions), and how the machine shares its cores out.
///
/// # Panics
/// The variable is no number.
#[must_use]
pub fn of_run() -> u64 {
    std::env::var("PITCREW_SEED").map_or_else(
        |_| u64::from(std::process::id()),
        |text| text.parse().unwrap_or_else(|_| panic!("PITCREW_SEED is a number, not `{text}`")),
    )
}

/// The same, told: whoever reads of a failure can repeat it.
#[must_use]
pub fn told() -> u64 {
    let seed = of_run();
    println!("seed {seed}: PITCREW_SEED={seed} chooses the same again");
    seed
}

/// SplitMix64: of a seed always the same.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// From 0 up to `below`, without it.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}
