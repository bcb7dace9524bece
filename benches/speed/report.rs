//! What is printed: a line for each arm and round, and a verdict for each target. And a line of JSON for each cell, for programs.

use crate::{arms::Measured, machine};
use pitcrew::clock;
use serde_json::{Map, Value, json};
use std::io::Write as _;

/// Where the lines of JSON are added.
const LINES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/benches.jsonl");

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
pub(crate) struct Report {
    bench: &'static str,
    /// What the figures depend on: the machine, the services.
    facts: Map<String, Value>,
    cell: Option<Cell>,
    lines: Vec<String>,
    missed: usize,
}

/// The cell that is under way.
struct Cell {
    name: String,
    what: String,
    load: String,
    figures: Vec<Value>,
}

impl Report {
    pub(crate) fn of(bench: &'static str) -> Self {
        let mut report = Self { bench, facts: Map::new(), cell: None, lines: Vec::new(), missed: 0 };
        report.fact("machine", machine::description());
        report
    }

    /// Something that the figures of all further cells depend on.
    pub(crate) fn fact(&mut self, name: &str, value: String) {
        println!("{name}: {value}");
        self.facts.insert(name.into(), value.into());
    }

    /// The head of a cell.
    pub(crate) fn cell(&mut self, name: &str, what: &str) -> anyhow::Result<()> {
        self.write_cell()?;
        let load = machine::load();
        println!("\n== {name}: {what}  (load {load})");
        self.cell = Some(Cell { name: name.into(), what: what.into(), load, figures: Vec::new() });
        Ok(())
    }

    /// The cell before, as a line of JSON.
    fn write_cell(&mut self) -> anyhow::Result<()> {
        let Some(Cell { name, what, load, figures }) = self.cell.take() else { return Ok(()) };
        let line = json!({
            "at": clock::now(), "bench": self.bench, "cell": name, "what": what, "facts": self.facts, "load": load,
            "figures": figures,
        });
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(LINES)?;
        Ok(writeln!(file, "{line}")?)
    }

    /// One arm in one round.
    pub(crate) fn arm(&self, round: usize, name: &str, m: Measured) {
        let mut line = format!("  {round:2}  {name:<44} {:8.0}/s", m.rate);
        for (value, unit) in [
            (m.client, "µs client"),
            (m.server, "µs server"),
            (m.broker, "µs broker"),
            (m.wal, "B WAL"),
            (m.batch, "a commit"),
        ] {
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
        if let Some(cell) = &mut self.cell {
            let target = (target != Target::None).then_some(wanted.trim());
            cell.figures.push(json!({
                "what": what.trim(), "unit": unit.trim(), "median": value, "low": low, "high": high, "rounds": rounds,
                "target": target, "met": target.map(|_| met),
            }));
        }
    }

    /// All verdicts once more. The answer: how many targets were missed.
    pub(crate) fn end(mut self) -> anyhow::Result<usize> {
        self.write_cell()?;
        println!(
            "\n== verdicts: the median of all rounds, and the lowest and highest of them  (load {})",
            machine::load()
        );
        for line in &self.lines {
            println!("  {line}");
        }
        println!("\nas lines of JSON: {LINES}");
        Ok(self.missed)
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
