//! What the author of a handler reads: a line for each place at which it was killed, and what was found.

use super::{
    external::{Call, Key},
    world::Expected,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What a crash did that it must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Harm {
    /// Something that should have become true did not.
    Lost,
    /// Something is there more often than it should be.
    Double,
    /// It is there, and says something else.
    Differs,
    /// A call was repeated with another key than the first.
    NewKey,
    /// A call without a key was repeated.
    NoKey,
    /// A call that belongs to no run of a handler, or to one of several.
    Unattributed,
    /// A message is dead although nobody was killed: it proves nothing.
    Dead,
}

impl Harm {
    fn lesson(self) -> &'static str {
        match self {
            Self::Lost => {
                "What a handler wants to become true belongs into its Context, which commits it with the message. A mark outside of it \
                 (a flag in a cache, a static, another database) that the message was done tells the next run to do nothing."
            }
            Self::Double => {
                "A message that comes again must find what its first run left, and nothing of that may be outside of the Context."
            }
            Self::Differs => {
                "The run after a crash came to another result. What it decides by must be in the message or in the store: not in the \
                 memory of the worker, and nothing that the first run changed outside."
            }
            Self::NewKey => {
                "The other side takes the second call for a new one, and does it twice. The key must be the same in each run: \
                 cx.meta().id, or the ID of what caused it. Not a new UUID, the time, or the attempt."
            }
            Self::NoKey => {
                "The other side cannot know the second call for a repeat. Send a key that is the same each time (External::call). If \
                 repeats do no harm by their nature, say so (External::call_harmless). If neither is possible, register the handler \
                 with .external(\"…\").in_doubt_is_dead(): then a person decides."
            }
            Self::Unattributed => {
                "Nobody knows for which message: tell External of a call from inside the handler, or while only one is at work."
            }
            Self::Dead => {
                "Give it what it needs: `.given(&message)` is handled before, `.config(…)` has the handler's settings."
            }
        }
    }
}

/// One thing that is wrong, and where the worker was killed when it was seen.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What kind of harm.
    pub harm: Harm,
    /// What was seen, as a sentence.
    pub what: String,
    /// Where the worker was killed.
    pub places: Vec<String>,
    detail: String,
}

impl Finding {
    pub(super) fn new(harm: Harm, what: String) -> Self {
        Self { harm, what, places: Vec::new(), detail: String::new() }
    }

    /// What is not the same each time it is seen.
    pub(super) fn detail(self, detail: String) -> Self {
        Self { detail, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = if self.detail.is_empty() { String::new() } else { format!(" ({})", self.detail) };
        writeln!(f, "{}{detail}", self.what)?;
        if self.places.is_empty() { Ok(()) } else { writeln!(f, "  killed: {}", self.places.join(", ")) }
    }
}

/// One place.
#[derive(Clone, Debug)]
pub(super) struct Row {
    place: String,
    fired: u32,
    kept: usize,
    in_doubt: usize,
    calls: BTreeMap<String, Calls>,
}

/// The most of one name in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Calls {
    times: usize,
    keys: usize,
}

impl Row {
    pub(super) fn new(place: String, kept: usize, in_doubt: usize, calls: &[Call]) -> Self {
        Self { place, fired: 1, kept, in_doubt, calls: count(calls) }
    }

    fn merge(&mut self, other: Self) {
        self.fired += other.fired;
        self.kept = self.kept.min(other.kept);
        self.in_doubt = self.in_doubt.max(other.in_doubt);
        for (name, calls) in other.calls {
            let most = self.calls.entry(name).or_default();
            *most = Calls { times: most.times.max(calls.times), keys: most.keys.max(calls.keys) };
        }
    }

    fn told(&self) -> String {
        let told = |(name, Calls { times, keys }): (&String, &Calls)| match keys {
            0 => format!("{name} {times}"),
            1 => format!("{name} {times} (1 key)"),
            keys => format!("{name} {times} ({keys} keys)"),
        };
        self.calls.iter().map(told).collect::<Vec<_>>().join(", ")
    }
}

fn count(calls: &[Call]) -> BTreeMap<String, Calls> {
    let mut counted: BTreeMap<String, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for call in calls {
        let (times, keys) = counted.entry(call.name.clone()).or_default();
        *times += 1;
        if let Key::Given(key) = &call.key {
            keys.insert(key);
        }
    }
    counted.into_iter().map(|(name, (times, keys))| (name, Calls { times, keys: keys.len() })).collect()
}

/// What was found. Its [`Display`](fmt::Display) is a table with a line for each place, and the findings below it:
///
/// ```text
/// killed at       fired  effects  in doubt  calls
/// nowhere             -   3 of 3         0  charge 1 (1 key)
/// received            1   3 of 3         0  charge 1 (1 key)
/// after-handle        1   3 of 3         0  charge 2 (1 key)
/// ```
///
/// `fired`: so often it struck, at the first passing, the second, and so on; 0: these messages never come there. `effects`: fates,
/// documents, rows and messages, of the worst of them. `in doubt`: messages that wait for a person, as their handler wants.
/// `calls`: the most of one name in one run.
#[derive(Clone, Debug)]
pub struct CrashReport {
    expected: usize,
    rows: Vec<Row>,
    findings: Vec<Finding>,
}

impl CrashReport {
    pub(super) fn new(expected: &Expected, calls: &[Call]) -> Self {
        let sound = Row { fired: 0, ..Row::new("nowhere".into(), expected.len(), 0, calls) };
        let dead = |(message, why): &(String, String)| {
            Finding::new(Harm::Dead, format!("{message} is dead although nobody was killed")).detail(why.clone())
        };
        let findings = expected.dead().iter().map(dead).collect();
        Self { expected: expected.len(), rows: vec![sound], findings }
    }

    pub(super) fn add(&mut self, row: Row, findings: Vec<Finding>) {
        for finding in findings {
            let place = row.place.clone();
            match self.findings.iter_mut().find(|f| f.harm == finding.harm && f.what == finding.what) {
                Some(known) if known.places.contains(&place) => {}
                Some(known) => known.places.push(place),
                None => self.findings.push(Finding { places: vec![place], ..finding }),
            }
        }
        match self.rows.iter_mut().find(|known| known.place == row.place) {
            Some(known) => known.merge(row),
            None => self.rows.push(row),
        }
    }

    pub(super) fn never(&mut self, place: &str) {
        self.rows.push(Row { fired: 0, ..Row::new(place.to_owned(), 0, 0, &[]) });
    }

    /// All that is wrong; empty if nothing is.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How often the worker was killed there: by the name of a fault point, or `` behind `charge` `` and the like for a call.
    pub fn fired(&self, place: &str) -> u32 {
        self.rows.iter().find(|row| row.place == place).map_or(0, |row| row.fired)
    }

    /// # Panics
    /// A crash somewhere does harm: the message says what, where, and what to do about it.
    #[track_caller]
    pub fn assert_survived(&self) {
        assert!(self.findings.is_empty(), "a crash does harm:\n\n{self}");
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.rows.iter().map(|row| row.place.len()).max().unwrap_or_default().max(9);
        writeln!(f, "{:<wide$}  fired  effects  in doubt  calls", "killed at")?;
        for (n, row) in self.rows.iter().enumerate() {
            let fired = if n == 0 { "-".to_owned() } else { row.fired.to_string() };
            let (effects, in_doubt) = if n > 0 && row.fired == 0 {
                (String::from("-"), String::from("-"))
            } else {
                (format!("{} of {}", row.kept, self.expected), row.in_doubt.to_string())
            };
            let line = format!("{:<wide$}  {fired:>5}  {effects:>7}  {in_doubt:>8}  {}", row.place, row.told());
            writeln!(f, "{}", line.trim_end())?;
        }
        let mut told: Vec<Harm> = Vec::new();
        for finding in &self.findings {
            if told.contains(&finding.harm) {
                continue;
            }
            told.push(finding.harm);
            writeln!(f)?;
            self.findings
                .iter()
                .filter(|other| other.harm == finding.harm)
                .try_for_each(|other| write!(f, "{other}"))?;
            writeln!(f, "  {}", finding.harm.lesson())?;
        }
        Ok(())
    }
}
