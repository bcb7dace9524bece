//! The judge of a soak: is what was measured flat?
//!
//! The rule: over the second half of the run, the Theil-Sen slope (the median of the slopes of all pairs of samples, which a few
//! peaks do not move) is at most the bound, or what it comes to in that half is too little to tell from noise. The first half is
//! left out, for there caches fill and pools open.

use std::fmt;

/// What a series may grow by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// More than this a minute is a leak, if it comes to more than `noise` in half the run.
    Leak { a_minute: f64, noise: f64 },
    /// It may grow by this share of itself in half the run.
    Share(f64),
}

/// What was measured, with the minutes since the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
    pub(crate) samples: Vec<(f64, f64)>,
}

/// Fewer samples in the second half say nothing.
const FEWEST: usize = 8;

/// What the judge says of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    name: String,
    unit: &'static str,
    /// Medians of the halves, and the highest of all.
    halves: [f64; 2],
    highest: f64,
    /// A minute, in the second half.
    slope: f64,
    /// What it may be.
    allowed: f64,
    is_measured: bool,
    pub(crate) is_flat: bool,
}

pub(crate) const HEAD: &str =
    "measured                              first half  second half     highest   a minute    allowed";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, unit, halves: [first, second], highest, slope, allowed, is_measured, is_flat } = self;
        let named = format!("{name}, {unit}");
        let verdict = match (is_measured, is_flat) {
            (false, _) => "NOT MEASURED (too few samples)",
            (true, true) => "flat",
            (true, false) => "GROWS",
        };
        write!(
            f,
            "{named:<36}  {first:>10.1}  {second:>11.1}  {highest:>10.1}  {slope:>9.3}  {allowed:>9.3}  {verdict}"
        )
    }
}

impl Series {
    /// Of a run of so many minutes.
    pub(crate) fn judged(&self, minutes: f64) -> Verdict {
        let (first, second): (Vec<_>, Vec<_>) = self.samples.iter().partition(|(at, _)| *at < minutes / 2.0);
        let values = |half: &[(f64, f64)]| half.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        let halves = [median(values(&first)), median(values(&second))];
        let slope = slope(&second);
        let allowed = match self.bound {
            Bound::Leak { a_minute, noise } => f64::max(a_minute, noise / (minutes / 2.0)),
            Bound::Share(share) => share * halves[1] / (minutes / 2.0),
        };
        let highest = self.samples.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        // What could not be measured is not flat.
        let is_measured = second.len() >= FEWEST;
        let is_flat = is_measured && slope <= allowed;
        Verdict { name: self.name.clone(), unit: self.unit, halves, highest, slope, allowed, is_measured, is_flat }
    }
}

/// Theil-Sen.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let pairs = samples.iter().enumerate().flat_map(|(n, one)| samples[n + 1..].iter().map(move |other| (one, other)));
    median(
        pairs
            .filter(|(one, other)| other.0 > one.0)
            .map(|(one, other)| (other.1 - one.1) / (other.0 - one.0))
            .collect(),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = values.len() / 2;
    match values[..] {
        [] => f64::NAN,
        _ if values.len() % 2 == 1 => values[at],
        _ => f64::midpoint(values[at - 1], values[at]),
    }
}

/// The judge judged: on doctored series it must see what grows, and nothing in what only wavers.
mod tests {
    use super::*;
    use processes::seed::Dice;

    const MINUTES: f64 = 20.0;
    const MEMORY: Bound = Bound::Leak { a_minute: 0.5, noise: 4.0 };
    const HANDLES: Bound = Bound::Leak { a_minute: 0.2, noise: 3.0 };

    /// 240 samples, as `value` of the minute and of dice says.
    fn series(bound: Bound, seed: u64, value: impl Fn(f64, &mut Dice) -> f64) -> Series {
        let mut dice = Dice::of(seed);
        let samples = (0..240).map(|n| f64::from(n) * MINUTES / 240.0).map(|at| (at, value(at, &mut dice))).collect();
        Series { name: "doctored".into(), unit: "MB", bound, samples }
    }

    /// 80 MB, 3 MB up or down, and 30 MB more in one of ten samples: a broker was away.
    fn memory(dice: &mut Dice) -> f64 {
        let peak = if dice.below(10) == 0 { 30.0 } else { 0.0 };
        77.0 + dice.below(600) as f64 / 100.0 + peak
    }

    #[test]
    fn a_leak_of_1_mb_a_minute_is_seen_and_noise_is_not() {
        for seed in 0..100 {
            let noise = series(MEMORY, seed, |_, dice| memory(dice)).judged(MINUTES);
            assert!(noise.is_flat, "seed {seed}: {noise}");
            let leak = series(MEMORY, seed, |at, dice| memory(dice) + at).judged(MINUTES);
            assert!(!leak.is_flat, "seed {seed}: {leak}");
            assert!((0.7..1.3).contains(&leak.slope), "seed {seed}: {leak}");
        }
    }

    #[test]
    fn a_warm_up_in_the_first_half_and_a_saw_are_flat() {
        let warm = series(MEMORY, 1, |at, dice| memory(dice) + 40.0 * (at / 8.0).min(1.0)).judged(MINUTES);
        assert!(warm.is_flat, "{warm}");
        // As a table between two vacuums.
        let saw = series(MEMORY, 2, |at, _| 10.0 + 8.0 * (at % 1.0)).judged(MINUTES);
        assert!(saw.is_flat, "{saw}");
    }

    #[test]
    fn a_handle_that_stays_open_every_other_minute_is_seen() {
        let handles = |dice: &mut Dice| 40.0 + dice.below(7) as f64;
        let leak = series(HANDLES, 3, |at, dice| handles(dice) + (at / 2.0).floor()).judged(MINUTES);
        assert!(!leak.is_flat, "{leak}");
        let steady = series(HANDLES, 3, |_, dice| handles(dice)).judged(MINUTES);
        assert!(steady.is_flat, "{steady}");
    }

    #[test]
    fn a_backlog_that_grows_is_seen_and_one_that_comes_and_goes_is_not() {
        let bound = Bound::Leak { a_minute: 10.0, noise: 50.0 };
        let grows = series(bound, 4, |at, dice| at * 20.0 + dice.below(40) as f64).judged(MINUTES);
        assert!(!grows.is_flat, "{grows}");
        // A broker is away for half a minute, every four.
        let comes = series(bound, 5, |at, dice| dice.below(9) as f64 + if at % 4.0 < 0.5 { 900.0 } else { 0.0 })
            .judged(MINUTES);
        assert!(comes.is_flat, "{comes}");
    }

    #[test]
    fn what_is_kept_may_cost_no_more_for_each_command() {
        let bound = Bound::Share(0.1);
        let same = series(bound, 6, |at, dice| 2_000.0 + 500.0 / (at + 1.0) + dice.below(50) as f64).judged(MINUTES);
        assert!(same.is_flat, "{same}");
        let more = series(bound, 7, |at, dice| 2_000.0 + 30.0 * at + dice.below(50) as f64).judged(MINUTES);
        assert!(!more.is_flat, "{more}");
    }

    #[test]
    fn what_was_not_measured_is_not_flat() {
        let mut steady = series(MEMORY, 8, |_, dice| memory(dice));
        steady.samples.truncate(125);
        let few = steady.judged(MINUTES);
        assert!(!few.is_flat && few.to_string().ends_with("NOT MEASURED (too few samples)"), "five samples: {few}");
        steady.samples.clear();
        assert!(!steady.judged(MINUTES).is_flat);
    }
}
