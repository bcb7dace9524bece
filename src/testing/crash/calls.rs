//! Which repeats of a call do harm: those that the other side cannot know by their key.

use super::{
    external::{Call, Key},
    report::{Finding, Harm},
    world::{Expected, World},
};
use std::collections::{BTreeMap, BTreeSet};

/// The calls of one message by one name, run by run of its handler.
#[derive(Default)]
struct Made<'a> {
    keys: BTreeMap<u64, BTreeSet<&'a str>>,
    keyless: BTreeMap<u64, usize>,
}

impl Made<'_> {
    /// Each run makes a part of the same calls, so that the longest one makes all of them.
    fn different_keys(&self) -> Option<Vec<&str>> {
        let all: BTreeSet<&str> = self.keys.values().flatten().copied().collect();
        let longest = self.keys.values().map(BTreeSet::len).max().unwrap_or_default();
        (all.len() > longest).then(|| all.into_iter().collect())
    }

    fn repeats_without_a_key(&self) -> Option<(usize, usize)> {
        let (all, longest) = (self.keyless.values().sum(), self.keyless.values().max().copied().unwrap_or_default());
        (all > longest).then_some((all, longest))
    }

    fn len(&self) -> usize {
        self.keys.values().flatten().collect::<BTreeSet<_>>().len() + self.keyless.values().sum::<usize>()
    }
}

pub(super) fn judge(calls: &[Call], expected: &Expected, world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut made: BTreeMap<(String, String), Made<'_>> = BTreeMap::new();
    for call in calls {
        let Some(run) = &call.run else {
            findings.push(Finding::new(Harm::Unattributed, format!("`{}` was called", call.name)));
            continue;
        };
        let of_message = made.entry((world.name(&run.id), call.name.clone())).or_default();
        match &call.key {
            Key::Harmless => {}
            Key::None => *of_message.keyless.entry(run.nth).or_default() += 1,
            Key::Given(key) => drop(of_message.keys.entry(run.nth).or_default().insert(key)),
        }
    }
    for ((message, name), made) in &made {
        if let Some(keys) = made.different_keys() {
            let keys: Vec<String> = keys.into_iter().map(|key| format!("`{key}`")).collect();
            let what = format!("`{name}` was called for {message} with {} keys", keys.len());
            findings.push(Finding::new(Harm::NewKey, what).detail(keys.join(", ")));
        }
        if let Some((times, once)) = made.repeats_without_a_key() {
            let what = format!("`{name}` was called without a key for {message}, {times} times instead of {once}");
            findings.push(Finding::new(Harm::NoKey, what));
        }
    }
    for ((message, name), count) in &expected.calls {
        let found = made.get(&(message.clone(), name.clone())).map_or(0, Made::len);
        if found < *count && world.is_done(message) {
            let what = format!("{message} is done, and `{name}` was called {found} times instead of {count}");
            findings.push(Finding::new(Harm::Lost, what));
        }
    }
    findings
}
