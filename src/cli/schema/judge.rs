//! Consumer-Driven Contract: may everything that one schema allows be read by another?
//!
//! Sound where it decides: what it passes is compatible. A keyword that it does not understand must not change at all.

use super::alternatives::{ANYTHING, Part, Shape, alternatives};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Something that is not as it was. The same words whichever way the two were compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change {
    /// JSON pointer to it: into the new schema, into the old one for what is gone.
    pub(super) at: String,
    pub(super) what: String,
}

/// Which of the two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The old: the new one reads what is on its way, kept, or sent by who has not changed yet.
    Old,
    /// The new: whoever listens still reads by the old.
    New,
}

/// What was found between two schemas.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The writer may write what the reader refuses, or reads as something else.
    pub(super) breaks: BTreeSet<Change>,
    /// Other, and both understand each other.
    pub(super) harmless: BTreeSet<Change>,
}

/// Compares the old schema with the new one.
pub(super) fn compare(old: &Value, new: &Value, writer: Writer) -> Result<Found, String> {
    let root = |schema| Part { at: String::new(), schema };
    let mut judge = Judge { old, new, writer, known: BTreeMap::new() };
    judge.part(&root(judge.written()), &root(judge.read()))
}

struct Judge<'a> {
    old: &'a Value,
    new: &'a Value,
    writer: Writer,
    /// By the pointers of the two. `None` while it is at work: what contains itself is compatible unless something else breaks.
    known: BTreeMap<(String, String), Option<Found>>,
}

/// A bound, and whether it is itself excluded.
type Bound = Option<(f64, bool)>;

impl<'a> Judge<'a> {
    fn written(&self) -> &'a Value {
        if self.writer == Writer::Old { self.old } else { self.new }
    }

    fn read(&self) -> &'a Value {
        if self.writer == Writer::Old { self.new } else { self.old }
    }

    /// The old one first.
    fn in_time<T>(&self, written: T, read: T) -> (T, T) {
        if self.writer == Writer::Old { (written, read) } else { (read, written) }
    }

    fn change(&self, written: &Shape<'a>, read: &Shape<'a>, what: String) -> Change {
        Change { at: self.in_time(written, read).1.at.clone(), what }
    }

    /// `was` and `is` of the same thing.
    fn differs(&self, w: &Shape<'a>, r: &Shape<'a>, what: &str, written: String, read: String) -> Change {
        let (was, is) = self.in_time(written, read);
        self.change(w, r, format!("{what} was {was}, is {is}"))
    }

    fn part(&mut self, w: &Part<'a>, r: &Part<'a>) -> Result<Found, String> {
        let key = (w.at.clone(), r.at.clone());
        match self.known.get(&key) {
            Some(Some(found)) => return Ok(found.clone()),
            Some(None) => return Ok(Found::default()),
            None => drop(self.known.insert(key.clone(), None)),
        }
        let (ws, rs) = (alternatives(self.written(), w)?, alternatives(self.read(), r)?);
        let mut found = Found::default();
        for written in &ws {
            found.add(self.any_of(written, &rs, ws.len() == 1, r)?);
        }
        self.known.insert(key, Some(found.clone()));
        Ok(found)
    }

    /// One alternative of the writer needs one of the reader.
    fn any_of(&mut self, w: &Shape<'a>, rs: &[Shape<'a>], alone: bool, r: &Part<'a>) -> Result<Found, String> {
        let mut nearest: Option<Found> = None;
        for read in rs {
            if !(self.alike(w, read) || (alone && rs.len() == 1 && read.value().is_none())) {
                continue;
            }
            let found = self.shape(w, read)?;
            if found.breaks.is_empty() {
                return Ok(found);
            }
            if nearest.as_ref().is_none_or(|nearest| found.breaks.len() < nearest.breaks.len()) {
                nearest = Some(found);
            }
        }
        Ok(nearest.unwrap_or_else(|| {
            let (word, at) = match self.writer {
                Writer::Old => ("is no longer allowed", &r.at),
                Writer::New => ("is new", &w.at),
            };
            Found::one(Change { at: at.clone(), what: format!("{} {word}", name(w)) })
        }))
    }

    /// Whether these two are the same alternative, perhaps changed.
    fn alike(&self, w: &Shape<'a>, r: &Shape<'a>) -> bool {
        let types = match (w.ty(), r.ty()) {
            (Some("integer"), Some("number")) | (_, None) => true,
            (written, read) => written == read,
        };
        let values = match (w.value(), r.value()) {
            (Some(written), Some(read)) => written == read,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        // A tag that both want tells alternatives apart, as does the name of the only property of each.
        let tags = w.properties.iter().all(|(name, written)| {
            r.properties.get(name).is_none_or(|read| {
                let [written, read] = [written, read].map(|part| part.schema.get("const"));
                written.is_none() || read.is_none() || written == read
            })
        });
        let shared = w.required.is_empty() || r.required.is_empty() || !w.required.is_disjoint(&r.required);
        types && values && tags && (shared || w.required.len() + r.required.len() > 2)
    }

    fn shape(&mut self, w: &Shape<'a>, r: &Shape<'a>) -> Result<Found, String> {
        let mut found = Found::default();
        let types = [w, r].map(|shape| shape.ty().unwrap_or("anything"));
        if !matches!(types, ["integer", "number"] | [_, "anything"]) && types[0] != types[1] {
            let [written, read] = types.map(ToOwned::to_owned);
            return Ok(Found::one(self.differs(w, r, "type", written, read)));
        }
        if let Some(read) = r.value()
            && w.value() != Some(read)
        {
            let written = w.value().map_or_else(|| "anything".into(), ToString::to_string);
            return Ok(Found::one(self.differs(w, r, "the value", written, read.to_string())));
        }
        self.bounds(w, r, &mut found);
        self.rest(w, r, &mut found);
        if matches!(w.ty(), None | Some("object")) {
            self.properties(w, r, &mut found)?;
        }
        if matches!(w.ty(), None | Some("array")) {
            self.items(w, r, &mut found)?;
        }
        Ok(found)
    }

    fn bounds(&self, w: &Shape<'a>, r: &Shape<'a>, found: &mut Found) {
        let (lower, upper) = ([w, r].map(least), [w, r].map(most));
        if !within(lower, |written, read| read < written) || !within(upper, |written, read| read > written) {
            let told = |shape: &Shape<'a>| match shape.rest.get("format") {
                Some(Value::String(format)) if range(format).is_some() => format.clone(),
                _ => format!("{} to {}", number(least(shape)), number(most(shape))),
            };
            let (mut written, mut read) = (told(w), told(r));
            if written == read {
                let spell = |n: usize| format!("{} to {}", number(lower[n]), number(upper[n]));
                (written, read) = (spell(0), spell(1));
            }
            found.breaks.insert(self.differs(w, r, "the range", written, read));
        }
        for (keyword, is_upper) in [
            ("minLength", false),
            ("minItems", false),
            ("minProperties", false),
            ("maxLength", true),
            ("maxItems", true),
            ("maxProperties", true),
        ] {
            let size = |shape: &Shape<'a>| {
                let size = shape.number(keyword).or_else(|| size_of(shape.value()?, keyword));
                // At least nothing is no bound.
                size.or((!is_upper).then_some(0.0)).map(|n| (n, false))
            };
            let sizes = [size(w), size(r)];
            if !within(sizes, |written, read| if is_upper { read > written } else { read < written }) {
                let [written, read] = sizes.map(number);
                found.breaks.insert(self.differs(w, r, keyword, written, read));
            }
        }
    }

    /// Keywords of which one says more than another only if it is the same, or not there.
    fn rest(&self, w: &Shape<'a>, r: &Shape<'a>, found: &mut Found) {
        for (keyword, read) in &r.rest {
            let written = w.rest.get(keyword);
            let holds = match *keyword {
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "minLength" | "maxLength" => true,
                "minItems" | "maxItems" | "minProperties" | "maxProperties" => true,
                "format"
                    if read.as_str().is_some_and(|format| range(format).is_some() || format.ends_with("float")) =>
                {
                    true
                }
                "format" if read.as_str() == Some("double") => true,
                "uniqueItems" if read.as_bool() == Some(false) => true,
                "multipleOf" => {
                    let (written, read) = (w.number(keyword), r.number(keyword));
                    matches!((written, read), (Some(written), Some(read)) if read != 0.0 && (written / read).fract() == 0.0)
                }
                _ => written == Some(read),
            };
            if !holds {
                let written = written.map_or_else(|| "none".to_owned(), |written| written.to_string());
                found.breaks.insert(self.differs(w, r, keyword, written, read.to_string()));
            }
        }
    }

    fn properties(&mut self, w: &Shape<'a>, r: &Shape<'a>, found: &mut Found) -> Result<(), String> {
        for name in r.required.difference(&w.required) {
            let what = match (self.writer, w.properties.contains_key(name)) {
                (Writer::Old, true) => format!("`{name}` was optional, is required"),
                (Writer::Old, false) => format!("`{name}` is new and required"),
                (Writer::New, true) => format!("`{name}` was required, is optional"),
                (Writer::New, false) => format!("`{name}` is gone, and was required"),
            };
            let part = self.in_time(r, w).0.properties.get(name).or_else(|| r.properties.get(name));
            let at = part.map_or_else(|| r.at.clone(), |part| part.at.clone());
            found.breaks.insert(Change { at, what });
        }
        for (name, written) in &w.properties {
            if let Some(read) = r.properties.get(name) {
                found.add(self.part(written, read)?);
                continue;
            }
            let at = written.at.clone();
            match (&r.others, self.writer) {
                (Some(others), writer) if others.schema.as_bool() == Some(false) => {
                    let what = match writer {
                        Writer::Old => format!("`{name}` is gone, and what is not known is refused"),
                        Writer::New => format!("`{name}` is new, and what was not known was refused"),
                    };
                    found.breaks.insert(Change { at, what });
                }
                (Some(others), _) => found.add(self.part(written, others)?),
                // Nobody refuses it, and nobody reads what every sender had to say.
                (None, Writer::Old) if w.required.contains(name) => {
                    found.breaks.insert(Change { at, what: format!("`{name}` is gone, and was required") });
                }
                (None, Writer::Old) => {
                    found
                        .harmless
                        .insert(Change { at, what: format!("`{name}` is gone; who still sends it is not refused") });
                }
                (None, Writer::New) => {
                    found.harmless.insert(Change { at, what: format!("`{name}` is new") });
                }
            }
        }
        // What the writer names nowhere it may still write, as its schema for others says.
        if let Some(others) = &w.others {
            for (_, read) in r.properties.iter().filter(|(name, _)| !w.properties.contains_key(*name)) {
                found.add(self.part(others, read)?);
            }
        }
        let closed =
            |shape: &Shape<'a>| shape.others.as_ref().is_some_and(|others| others.schema.as_bool() == Some(false));
        match (&w.others, &r.others) {
            // Who writes a struct writes what it has, however open its schema is; but who sends to an open one may send more.
            (None, Some(_)) if self.writer == Writer::New => {}
            (None, Some(_)) => {
                let what = if closed(r) { "are refused" } else { "must be of a schema" };
                found.breaks.insert(self.change(w, r, format!("properties that are not named were allowed, {what}")));
            }
            (Some(written), Some(read)) if !closed(w) => found.add(self.part(written, read)?),
            _ => {}
        }
        Ok(())
    }

    fn items(&mut self, w: &Shape<'a>, r: &Shape<'a>, found: &mut Found) -> Result<(), String> {
        let any = Part { at: w.at.clone() + "/items", schema: &ANYTHING };
        for n in 0..r.first_items.len().max(w.first_items.len()) {
            let Some(read) = r.first_items.get(n).or(r.items.as_ref()) else { continue };
            let written = w.first_items.get(n).or(w.items.as_ref()).unwrap_or(&any);
            found.add(self.part(written, read)?);
        }
        if let Some(read) = &r.items {
            // A list that ends where its first items end has no others.
            let all_named =
                w.items.is_none() && w.number("maxItems").is_some_and(|most| most <= w.first_items.len() as f64);
            if !all_named {
                found.add(self.part(w.items.as_ref().unwrap_or(&any), read)?);
            }
        }
        Ok(())
    }
}

impl Found {
    fn one(change: Change) -> Self {
        Self { breaks: BTreeSet::from([change]), ..Self::default() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.breaks.extend(other.breaks);
        self.harmless.extend(other.harmless);
    }
}

/// What people call an alternative: its value, its tag, the property that it must have, its type.
fn name(shape: &Shape<'_>) -> String {
    if let Some(value) = shape.value() {
        return format!("the value {value}");
    }
    let tag = shape.properties.iter().find_map(|(name, part)| Some((name, part.schema.get("const")?)));
    match (tag, shape.required.first(), shape.ty()) {
        (Some((name, value)), ..) => format!("`{name}` {value}"),
        (None, Some(name), _) => format!("the alternative with `{name}`"),
        (None, None, Some("null")) => "null".into(),
        (None, None, Some(ty)) => format!("any {ty}"),
        (None, None, None) => "any value".into(),
    }
}

fn within(bounds: [Bound; 2], is_wider: impl Fn(f64, f64) -> bool) -> bool {
    match bounds {
        [_, None] => true,
        [None, Some(_)] => false,
        [Some((written, writes_less)), Some((read, reads_less))] => {
            is_wider(written, read) || (written == read && (writes_less || !reads_less))
        }
    }
}

fn least(shape: &Shape<'_>) -> Bound {
    let format = shape.rest.get("format").and_then(|format| range(format.as_str()?));
    let value = shape.value().and_then(Value::as_f64);
    let bounds = [
        value.map(|n| (n, false)),
        shape.number("minimum").map(|n| (n, false)),
        shape.number("exclusiveMinimum").map(|n| (n, true)),
        format.map(|(least, _)| (least, false)),
    ];
    bounds.into_iter().flatten().reduce(|a, b| if b.0 > a.0 || (b.0 == a.0 && b.1) { b } else { a })
}

fn most(shape: &Shape<'_>) -> Bound {
    let format = shape.rest.get("format").and_then(|format| range(format.as_str()?));
    let value = shape.value().and_then(Value::as_f64);
    let bounds = [
        value.map(|n| (n, false)),
        shape.number("maximum").map(|n| (n, false)),
        shape.number("exclusiveMaximum").map(|n| (n, true)),
        format.map(|(_, most)| (most, false)),
    ];
    bounds.into_iter().flatten().reduce(|a, b| if b.0 < a.0 || (b.0 == a.0 && b.1) { b } else { a })
}

/// What fits into an integer of Rust, as schemars names them.
fn range(format: &str) -> Option<(f64, f64)> {
    let (signed, bits) = match format.strip_prefix("uint") {
        Some(bits) => (false, bits),
        None => (true, format.strip_prefix("int")?),
    };
    let bits = if bits.is_empty() { 64 } else { bits.parse::<i32>().ok().filter(|bits| (1..=128).contains(bits))? };
    Some(if signed { (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1)) } else { (0.0, 2f64.powi(bits)) })
}

fn number(bound: Bound) -> String {
    match bound {
        None => "none".into(),
        Some((n, false)) => n.to_string(),
        Some((n, true)) => format!("{n} (excluded)"),
    }
}

fn size_of(value: &Value, keyword: &str) -> Option<f64> {
    let size = match value {
        Value::String(text) if keyword.ends_with("Length") => text.chars().count(),
        Value::Array(items) if keyword.ends_with("Items") => items.len(),
        Value::Object(fields) if keyword.ends_with("Properties") => fields.len(),
        _ => return None,
    };
    Some(size as f64)
}
