//! Normal form of a JSON Schema, for comparing: its alternatives, each of one type, references followed.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Nobody's contract has more: an enum of all countries has 250 values.
const MOST: usize = 4_096;

/// References to references and alternatives in alternatives, at most: a schema that is only itself has no end.
const DEEPEST: usize = 64;

/// What says nothing: any value is of it.
pub(super) static ANYTHING: Value = Value::Bool(true);

/// What does not change which values are valid.
const WORDS: [&str; 14] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
];

/// A schema inside a document, and the JSON pointer to it.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    pub(super) at: String,
    pub(super) schema: &'a Value,
}

/// One alternative: what all its keywords say together.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape<'a> {
    pub(super) at: String,
    /// `None`: any. After [`alternatives`] at most one.
    types: Option<Vec<&'a str>>,
    /// `None`: any. After [`alternatives`] at most one.
    values: Option<Vec<&'a Value>>,
    pub(super) properties: BTreeMap<&'a str, Part<'a>>,
    pub(super) required: BTreeSet<&'a str>,
    /// What properties that are not named must be; absent: anything.
    pub(super) others: Option<Part<'a>>,
    pub(super) items: Option<Part<'a>>,
    pub(super) first_items: Vec<Part<'a>>,
    /// Bounds, patterns, formats, and what nobody here understands.
    pub(super) rest: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Shape<'a> {
    pub(super) fn ty(&self) -> Option<&'a str> {
        self.types.as_ref().and_then(|types| types.first().copied())
    }

    /// The only value, if there is only one.
    pub(super) fn value(&self) -> Option<&'a Value> {
        self.values.as_ref().and_then(|values| values.first().copied())
    }

    pub(super) fn number(&self, keyword: &str) -> Option<f64> {
        self.rest.get(keyword).and_then(|value| value.as_f64())
    }

    fn of(keywords: &'a Map<String, Value>, at: &str) -> Self {
        let mut shape = Self { at: at.to_owned(), ..Self::default() };
        let part = |keyword: &str, schema| Part { at: below(at, keyword), schema };
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref" | "allOf" | "anyOf" | "oneOf", _) => {}
                ("type", Value::String(ty)) => shape.types = Some(vec![ty]),
                ("type", Value::Array(types)) => shape.types = Some(types.iter().filter_map(Value::as_str).collect()),
                ("const", value) => shape.values = Some(vec![value]),
                ("enum", Value::Array(values)) => shape.values = Some(values.iter().collect()),
                ("properties", Value::Object(properties)) => {
                    let at = below(at, "properties");
                    let part = |(name, schema): (&'a String, &'a Value)| {
                        (name.as_str(), Part { at: below(&at, name), schema })
                    };
                    shape.properties = properties.iter().map(part).collect();
                }
                ("required", Value::Array(names)) => {
                    shape.required = names.iter().filter_map(Value::as_str).collect();
                }
                // With an empty schema as without the keyword.
                ("additionalProperties" | "unevaluatedProperties", schema) if !is_anything(schema) => {
                    shape.others = Some(part(keyword, schema));
                }
                ("additionalProperties" | "unevaluatedProperties", _) => {}
                ("items", schema) => shape.items = Some(part(keyword, schema)),
                ("prefixItems", Value::Array(items)) => {
                    let at = below(at, "prefixItems");
                    let part = |(n, schema): (usize, _)| Part { at: below(&at, &n.to_string()), schema };
                    shape.first_items = items.iter().enumerate().map(part).collect();
                }
                (word, _) if WORDS.contains(&word) || word.starts_with("x-") => {}
                (keyword, value) => drop(shape.rest.insert(keyword, value)),
            }
        }
        shape
    }

    /// What is valid for both; `None` if nothing is.
    fn and(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        both.at.clone_from(&other.at);
        both.types = match (&self.types, &other.types) {
            (Some(ours), Some(theirs)) => Some(ours.iter().filter_map(|ty| common(ty, theirs)).collect()),
            (ours, theirs) => ours.as_ref().or(theirs.as_ref()).cloned(),
        };
        both.values = match (&self.values, &other.values) {
            (Some(ours), Some(theirs)) => Some(ours.iter().copied().filter(|value| theirs.contains(value)).collect()),
            (ours, theirs) => ours.as_ref().or(theirs.as_ref()).cloned(),
        };
        let nothing = both.types.as_ref().is_some_and(Vec::is_empty) || both.values.as_ref().is_some_and(Vec::is_empty);
        both.properties.extend(other.properties.clone());
        both.required.extend(&other.required);
        both.rest.extend(&other.rest);
        both.others = both.others.or_else(|| other.others.clone());
        both.items = both.items.or_else(|| other.items.clone());
        if both.first_items.is_empty() {
            both.first_items.clone_from(&other.first_items);
        }
        (!nothing).then_some(both)
    }

    /// One for each value, else one for each type.
    fn split(self) -> Vec<Self> {
        if let Some(values) = &self.values {
            let allowed =
                |value: &&'a Value| self.types.as_ref().is_none_or(|types| common(type_of(value), types).is_some());
            let one = |value| Self { types: Some(vec![type_of(value)]), values: Some(vec![value]), ..self.clone() };
            return values.iter().copied().filter(allowed).map(one).collect();
        }
        match &self.types {
            Some(types) => types.iter().map(|ty| Self { types: Some(vec![ty]), ..self.clone() }).collect(),
            None => vec![self],
        }
    }
}

/// All that `part` allows, one alternative each; none: nothing is valid. `root` is where its references begin.
pub(super) fn alternatives<'a>(root: &'a Value, part: &Part<'a>) -> Result<Vec<Shape<'a>>, String> {
    let split: Vec<_> = expand(root, part, 0)?.into_iter().flat_map(Shape::split).collect();
    not_too_many(split, part)
}

fn expand<'a>(root: &'a Value, part: &Part<'a>, depth: usize) -> Result<Vec<Shape<'a>>, String> {
    let keywords = match part.schema {
        Value::Bool(true) => return Ok(vec![Shape { at: part.at.clone(), ..Shape::default() }]),
        Value::Bool(false) => return Ok(Vec::new()),
        Value::Object(keywords) => keywords,
        _ => return Err(format!("{} is no JSON Schema", told(&part.at))),
    };
    if depth > DEEPEST {
        return Err(format!("{} refers to itself for ever", told(&part.at)));
    }
    let mut shapes = vec![Shape::of(keywords, &part.at)];
    if let Some(to) = keywords.get("$ref") {
        let path = to.as_str().and_then(|to| to.strip_prefix('#'));
        match path.and_then(|path| Some(Part { at: path.to_owned(), schema: root.pointer(path)? })) {
            Some(target) => shapes = together(&shapes, &expand(root, &target, depth + 1)?, part)?,
            None => return Err(format!("{} refers to {to}, which is not in it", told(&part.at))),
        }
    }
    let below = |keyword: &str| {
        let schemas = keywords.get(keyword).and_then(Value::as_array).into_iter().flatten();
        let at = below(&part.at, keyword);
        schemas.enumerate().map(move |(n, schema)| Part { at: below(&at, &n.to_string()), schema })
    };
    for every in below("allOf") {
        shapes = together(&shapes, &expand(root, &every, depth + 1)?, part)?;
    }
    // That `oneOf` refuses what two of them allow is not looked at: serde's alternatives exclude each other.
    for keyword in ["anyOf", "oneOf"].into_iter().filter(|keyword| keywords.contains_key(*keyword)) {
        let mut any = Vec::new();
        for one in below(keyword) {
            any.extend(expand(root, &one, depth + 1)?);
        }
        shapes = together(&shapes, &any, part)?;
    }
    Ok(shapes)
}

fn together<'a>(ours: &[Shape<'a>], theirs: &[Shape<'a>], part: &Part<'a>) -> Result<Vec<Shape<'a>>, String> {
    if ours.len().saturating_mul(theirs.len()) > MOST {
        return Err(too_many(part));
    }
    Ok(ours.iter().flat_map(|one| theirs.iter().filter_map(|other| one.and(other))).collect())
}

fn not_too_many<'a>(shapes: Vec<Shape<'a>>, part: &Part<'a>) -> Result<Vec<Shape<'a>>, String> {
    if shapes.len() > MOST { Err(too_many(part)) } else { Ok(shapes) }
}

fn too_many(part: &Part<'_>) -> String {
    format!("{} has more than {MOST} alternatives, too many to compare", told(&part.at))
}

/// A pointer for people: that of the whole document is empty.
fn told(at: &str) -> String {
    if at.is_empty() { "the schema".into() } else { format!("the schema at {at}") }
}

/// The JSON pointer to `name` below `at`.
pub(super) fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn is_anything(schema: &Value) -> bool {
    schema.as_bool() == Some(true) || schema.as_object().is_some_and(Map::is_empty)
}

/// What a value of type `ty` is among these types: each integer is a number.
fn common<'a>(ty: &'a str, among: &[&'a str]) -> Option<&'a str> {
    match ty {
        "number" if !among.contains(&"number") && among.contains(&"integer") => Some("integer"),
        "integer" if among.contains(&"number") => Some("integer"),
        ty => among.contains(&ty).then_some(ty),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
