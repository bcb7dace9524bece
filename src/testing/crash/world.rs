//! What a run left in the store, under names that do not change from run to run, and how two runs differ.

use super::{
    external::{Call, Key},
    report::{Finding, Harm},
};
use crate::{
    Envelope,
    store::{Fate, Finished, Purpose, Reason, Verdict, memory::MemoryStore},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

/// One thing that became true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    kind: String,
    /// Empty for those that are the only one of their kind.
    id: String,
}

impl Label {
    fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.id.is_empty() { Ok(()) } else { write!(f, " `{}`", self.id) }
    }
}

/// What a run left behind.
#[derive(Debug, Default)]
pub(super) struct World {
    effects: BTreeMap<Label, Vec<Value>>,
    /// The messages whose handlers wrote it.
    owners: BTreeMap<Label, BTreeSet<String>>,
    /// Messages by ID, under a name that is the same in each run.
    names: HashMap<String, String>,
    done: HashSet<String>,
    in_doubt: BTreeSet<String>,
    /// With the error.
    dead: Vec<(String, String)>,
}

impl World {
    /// `before`: what was committed when the messages began.
    pub(super) fn of(store: &MemoryStore, before: usize, messages: &[Arc<Envelope>]) -> Self {
        let mut world = Self::default();
        for (n, message) in messages.iter().enumerate() {
            world.names.insert(message.id.clone(), format!("{} (message {})", message.ty, n + 1));
        }
        let recorded = store.recorded();
        let stored = recorded.iter().skip(before).filter(|(_, verdict)| *verdict == Verdict::Stored);
        stored.for_each(|(finished, _)| world.learn(finished));
        for ((collection, id), document) in store.documents() {
            let body = serde_json::from_str(&document.body).unwrap_or_default();
            world.add(Label::new(format!("the document {collection}"), id), body);
        }
        for ((table, key), row) in store.own_rows() {
            world.add(Label::new(format!("the row of {table}"), key), row);
        }
        world
    }

    fn learn(&mut self, finished: &Finished) {
        if matches!(finished.fate, Fate::Retry(_)) {
            return;
        }
        let name = self.name(&finished.envelope.id);
        let fate = match *finished.consumer == *finished.envelope.ty {
            true => Label::new(format!("the fate of {name}"), ""),
            false => Label::new(format!("the fate of {name} with the handler"), &*finished.consumer),
        };
        self.add(fate.clone(), finished.fate.word().into());
        self.own(fate, &name);
        match &finished.fate {
            Fate::Done => drop(self.done.insert(name.clone())),
            Fate::Dead(reason) => {
                let error = finished.letter.as_ref().map_or("", |letter| &*letter.error);
                self.dead.push((name.clone(), format!("{}: {error}", reason.word())));
                if *reason == Reason::InDoubt {
                    self.in_doubt.insert(name.clone());
                }
            }
            _ => {}
        }
        for write in &finished.effects.documents {
            self.own(Label::new(format!("the document {}", write.collection), &write.id), &name);
        }
        for write in &finished.effects.rows {
            self.own(Label::new(format!("the row of {}", write.spec.table), &write.key), &name);
        }
        let mut of_type: HashMap<&str, u32> = HashMap::new();
        for row in &finished.effects.outbox {
            // One message has a row for each subscription.
            let sent = &row.envelope;
            if !matches!(row.purpose, Purpose::Message | Purpose::Reply) || self.names.contains_key(&sent.id) {
                continue;
            }
            let nth = of_type.entry(&sent.ty).or_default();
            *nth += 1;
            let child = match nth {
                1 => format!("{} of {name}", sent.ty),
                nth => format!("{} no. {nth} of {name}", sent.ty),
            };
            let label = Label::new(format!("the message {child}"), "");
            self.add(label.clone(), serde_json::from_slice(&sent.data).unwrap_or_default());
            self.own(label, &name);
            self.names.insert(sent.id.clone(), child);
        }
    }

    fn add(&mut self, label: Label, value: Value) {
        self.effects.entry(label).or_default().push(value);
    }

    fn own(&mut self, label: Label, name: &str) {
        self.owners.entry(label).or_default().insert(name.to_owned());
    }

    pub(super) fn name(&self, id: &str) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| format!("the message {id}"))
    }

    pub(super) fn is_done(&self, name: &str) -> bool {
        self.done.contains(name) && !self.is_in_doubt(name)
    }

    /// It, or what would have caused it.
    fn is_in_doubt(&self, name: &str) -> bool {
        self.in_doubt.iter().any(|doubt| name == doubt || name.ends_with(&format!(" of {doubt}")))
    }

    /// Where IDs are new in each run only their number says something.
    fn without_ids_of(self, kinds: &BTreeSet<String>) -> Self {
        fn cut<V>(map: BTreeMap<Label, V>, kinds: &BTreeSet<String>, mut add: impl FnMut(Label, V)) {
            for (label, value) in map {
                let label = if kinds.contains(&label.kind) { Label::new(label.kind, "") } else { label };
                add(label, value);
            }
        }
        let (mut effects, mut owners) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, BTreeSet<_>>::new());
        cut(self.effects, kinds, |label, values| effects.entry(label).or_default().extend(values));
        cut(self.owners, kinds, |label, names| owners.entry(label).or_default().extend(names));
        Self { effects, owners, ..self }
    }
}

/// What should be true after each run.
pub(super) struct Expected {
    world: World,
    /// As `world`, an hour later.
    later: World,
    /// Kinds whose IDs are new in each run.
    unsteady: BTreeSet<String>,
    /// Messages and the names of the calls that they make, with the number of different ones.
    pub(super) calls: BTreeMap<(String, String), usize>,
}

impl Expected {
    pub(super) fn of(world: World, later: World, calls: &[Call]) -> Self {
        let of = |world: &World, kind: &str| -> Vec<Label> {
            world.effects.keys().filter(|label| label.kind == kind).cloned().collect()
        };
        let kinds = world.effects.keys().chain(later.effects.keys()).map(|label| label.kind.clone());
        let unsteady: BTreeSet<_> = kinds.filter(|kind| of(&world, kind) != of(&later, kind)).collect();
        let mut different: BTreeMap<_, (BTreeSet<&str>, usize)> = BTreeMap::new();
        for call in calls.iter().filter(|call| call.key != Key::Harmless) {
            let Some(run) = &call.run else { continue };
            let (keys, keyless) = different.entry((world.name(&run.id), call.name.clone())).or_default();
            match &call.key {
                Key::Given(key) => drop(keys.insert(key)),
                _ => *keyless += 1,
            }
        }
        let calls = different.into_iter().map(|(what, (keys, keyless))| (what, keys.len() + keyless)).collect();
        let (world, later) = (world.without_ids_of(&unsteady), later.without_ids_of(&unsteady));
        Self { world, later, unsteady, calls }
    }

    /// So many effects.
    pub(super) fn len(&self) -> usize {
        self.world.effects.values().map(Vec::len).sum()
    }

    /// Messages that die although nobody is killed, and why.
    pub(super) fn dead(&self) -> &[(String, String)] {
        &self.world.dead
    }

    /// What differs, how many effects are there, and how many messages are in doubt.
    pub(super) fn compare(&self, world: &World, contents: bool) -> (Vec<Finding>, usize, usize) {
        let mut findings = Vec::new();
        let owned_by_doubt = |label: &Label| {
            let owners = self.world.owners.get(label);
            owners.is_some_and(|names| names.iter().any(|name| world.is_in_doubt(name)))
        };
        let effects =
            World { effects: world.effects.clone(), ..World::default() }.without_ids_of(&self.unsteady).effects;
        let mut kept = 0;
        for (label, expected) in &self.world.effects {
            let found = effects.get(label).map_or(&[][..], |found| found);
            kept += found.len().min(expected.len());
            if owned_by_doubt(label) {
                continue;
            }
            let (count, expected_count) = (found.len(), expected.len());
            if count < expected_count {
                let what = if expected_count == 1 {
                    format!("{label} is missing")
                } else {
                    format!("{label}: {count} instead of {expected_count}")
                };
                findings.push(Finding::new(Harm::Lost, what));
            } else if count > expected_count {
                findings.push(Finding::new(Harm::Double, format!("{label}: {count} instead of {expected_count}")));
            } else if contents && let ([found], [expected], Some([later])) = (found, &expected[..], self.later(label)) {
                let Some(path) = differs(expected, later, found) else { continue };
                let at = |value: &Value| value.pointer(&path).map_or_else(|| "nothing".into(), Value::to_string);
                let place = if path.is_empty() { String::new() } else { format!(" at {path}") };
                let what = format!("{label}{place} is {} instead of {}", at(found), at(expected));
                findings.push(Finding::new(Harm::Differs, what));
            }
        }
        for label in effects.keys().filter(|label| !self.world.effects.contains_key(label)) {
            findings.push(Finding::new(Harm::Double, format!("{label} is there and should not be")));
        }
        (findings, kept, world.in_doubt.len())
    }

    fn later(&self, label: &Label) -> Option<&[Value]> {
        self.later.effects.get(label).map(Vec::as_slice)
    }
}

/// The pointer to the first value in which `found` differs from what was `expected`, where that did not change by itself until `later`.
fn differs(expected: &Value, later: &Value, found: &Value) -> Option<String> {
    match (expected, later, found) {
        (Value::Object(expected), Value::Object(later), Value::Object(found)) => {
            let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
            keys.into_iter().find_map(|key| {
                let (expected, later, found) = (expected.get(key), later.get(key), found.get(key));
                within(key, expected, later, found)
            })
        }
        (Value::Array(expected), Value::Array(later), Value::Array(found)) if expected.len() == later.len() => {
            let longest = expected.len().max(found.len());
            (0..longest).find_map(|n| within(&n.to_string(), expected.get(n), later.get(n), found.get(n)))
        }
        _ => (expected == later && expected != found).then(String::new),
    }
}

fn within(key: &str, expected: Option<&Value>, later: Option<&Value>, found: Option<&Value>) -> Option<String> {
    let key = key.replace('~', "~0").replace('/', "~1");
    let path = match (expected, later, found) {
        (Some(expected), Some(later), Some(found)) => differs(expected, later, found)?,
        // What is there in one of two sound runs may be there or not.
        (expected, later, found) if expected.is_some() == later.is_some() && expected != found => String::new(),
        _ => return None,
    };
    Some(format!("/{key}{path}"))
}

#[cfg(test)]
mod tests {
    use super::differs;
    use serde_json::json;

    #[test]
    fn what_changes_by_itself_makes_no_difference() {
        let (first, second) = (json!({ "at": 1, "n": 1, "list": [1, 2] }), json!({ "at": 2, "n": 1, "list": [1, 2] }));
        let with = |at, n, list| json!({ "at": at, "n": n, "list": list });
        assert_eq!(differs(&first, &second, &with(3, 1, json!([1, 2]))), None);
        assert_eq!(differs(&first, &second, &with(1, 2, json!([1, 2]))).as_deref(), Some("/n"));
        assert_eq!(differs(&first, &second, &with(1, 1, json!([1, 2, 2]))).as_deref(), Some("/list/2"));
        assert_eq!(differs(&first, &second, &json!({ "at": 1, "list": [1, 2] })).as_deref(), Some("/n"));
        assert_eq!(differs(&json!(1), &json!(2), &json!(3)), None);
    }
}
