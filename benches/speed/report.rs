//! What is printed: a line for each arm and round, and a verdict for each target.

use crate::{arms::Measured, machine};

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Only stated.
    None,
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::None => true,
        }
    }
}

/// The verdicts of all cells.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<String>,
    missed: usize,
}

impl Report {
    /// The head of a cell.
    pub(crate) fn cell(&self, name: &str, what: &str) {
        println!("\n== {name}: {what}  (load {})", machine::load());
    }

    /// One arm in one round.
    pub(crate) fn arm(&self, round: usize, name: &str, m: Measured) {
        let mut line = format!("  {round:2}  {name:<44} {:8.0}/s", m.rate);
        for (value, unit) in
            [(m.client, "µs client"), (m.server, "µs server"), (m.broker, "µs broker"), (m.batch, "a commit")]
        {
            if value > 0.0 {
                line += &format!("  {value:6.1} {unit}");
            }
        }
        if m.connections > 0 {
            line += &format!("  {} connections", m.connections);
        }
        println!("{line}");
    }

    /// The median of all rounds against the target.
    pub(crate) fn verdict(&mut self, what: &str, rounds: &[f64], unit: &str, target: Target) {
        let (value, met) = (median(rounds), target.is_met(median(rounds)));
        self.missed += usize::from(!met);
        let (wanted, word) = match target {
            Target::AtLeast(least) => (format!("≥ {least}{unit}"), if met { "met" } else { "MISSED" }),
            Target::AtMost(most) => (format!("≤ {most}{unit}"), if met { "met" } else { "MISSED" }),
            Target::None => (String::new(), ""),
        };
        let (low, high) = rounds.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        let line = format!(
            "{what:<66} {:>10}  {:<22} {wanted:<12} {word}",
            number(value) + unit,
            format!("({} … {})", number(low), number(high))
        );
        println!("  => {line}");
        self.lines.push(line);
    }

    /// All verdicts once more. The answer: how many targets were missed.
    pub(crate) fn end(self) -> usize {
        println!(
            "\n== verdicts: the median of all rounds, and the lowest and highest of them  (load {})",
            machine::load()
        );
        for line in &self.lines {
            println!("  {line}");
        }
        self.missed
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
