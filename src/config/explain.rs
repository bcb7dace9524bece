//! Wording: where a setting is wrong, what was found, what is expected, and what a right one looks like.

use std::fmt;

use figment::error::{Actual, Kind};
use figment::value::Value;
use serde_json::Value as Json;

use super::layer::Layer;
use super::{Config, secret, show};

/// Everything that is wrong with the configuration, at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the configuration:{}", lines(.findings))]
pub struct ConfigError {
    /// Each thing that is wrong.
    pub findings: Vec<Finding>,
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n{finding}")).collect()
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it stands.
    pub place: Place,
    /// What it is, and what would be right.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Where a setting was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file, as far as known.
    File {
        /// The file as the user would name it.
        file: String,
        /// From 1.
        line: Option<usize>,
        /// From 1.
        column: Option<usize>,
    },
    /// In an environment variable.
    Environment(String),
    /// On the command line.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, column } => {
                f.write_str(file)?;
                line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
                column.map_or(Ok(()), |column| write!(f, ":{column}"))
            }
            Place::Environment(name) => write!(f, "environment {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The parts of a file whose sections have names.
const NAMED: [&str; 3] = ["transport", "channel", "handlers"];

/// What serde's error says to the person who wrote the file.
pub(super) fn finding(layer: &Layer, error: &figment::Error) -> Finding {
    let path = &error.path;
    let (name, section) = (name(path), section(path));
    let message = match &error.kind {
        Kind::UnknownField(_, known) => {
            // The short variable for the url of the default transport is no key of a file.
            let broker = matches!(layer.place(&[]), Place::Environment(_)) && path.len() == 1;
            let short = if broker { vec!["broker"] } else { vec![] };
            unknown(path, &[known.to_vec(), short].concat())
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            if layer.values_at(path).is_some_and(|value| value.as_dict().is_some()) && *found != Actual::Map {
                let example =
                    header(&[path[0].as_str(), if path[0] == "channel" { "car.commands" } else { "default" }]);
                format!("the name {name}{section} cannot be used, expected {expected}, for example {example}")
            } else {
                format!("{name}{section} is {}, expected {}", show_found(found), show_expected(path, expected))
            }
        }
        other => format!("{name}{section} {other}"),
    };
    Finding { place: layer.place(path), message }
}

fn unknown(path: &[String], known: &[&str]) -> String {
    let (name, section) = (name(path), section(path));
    let advice = if let Some(near) = path.last().and_then(|key| nearest(key, known.iter().copied())) {
        format!("did you mean `{near}`?")
    } else if let Some(home) = path.last().and_then(|key| home(key)) {
        format!("it belongs in {home}")
    } else {
        let known: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
        format!("known are {}", known.join(", "))
    };
    format!("unknown key `{name}`{section}; {advice}")
}

/// The nearest of the known words, if it is near at all.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known.map(|each| (distance(word, each), each)).filter(|(far, _)| *far <= limit).min().map(|(_, each)| each)
}

/// How many letters differ; a swap of two is one difference.
pub(super) fn distance(one: &str, other: &str) -> usize {
    strsim::damerau_levenshtein(one, other)
}

/// The last part of a path, `tiers[2]` for an item of a list.
fn name(path: &[String]) -> String {
    match path {
        [.., list, index] if index.bytes().all(|b| b.is_ascii_digit()) => format!("{list}[{index}]"),
        [.., last] => last.clone(),
        [] => "the configuration".into(),
    }
}

/// ` in [channel."car.commands"]`, and nothing at the top.
fn section(path: &[String]) -> String {
    let item = path.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let above = &path[..path.len().saturating_sub(if item { 2 } else { 1 })];
    if above.is_empty() { String::new() } else { format!(" in {}", header(above)) }
}

/// The header of a section as the file writes it.
pub(super) fn header(path: &[impl AsRef<str>]) -> String {
    let parts: Vec<_> = path.iter().map(|part| toml_edit::Key::new(part.as_ref()).to_string()).collect();
    format!("[{}]", parts.join("."))
}

fn show_found(found: &Actual) -> String {
    match found {
        // Nobody means to put a password here; some do.
        Actual::Str(text) => format!("{:?}", secret::masked(text).chars().take(80).collect::<String>()),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Char(value) => format!("{:?}", value.to_string()),
        Actual::Seq => "a list".into(),
        Actual::Map => "a table".into(),
        other => other.to_string(),
    }
}

fn show_expected(path: &[String], expected: &str) -> String {
    let table = expected.starts_with("struct ") || expected == "a map" || expected == "a table";
    match path {
        [top, _] if table => format!("a section, for example {}", header(&[top, "name"])),
        [top] if NAMED.contains(&top.as_str()) => {
            format!("sections with names, for example {}", header(&[top, "name"]))
        }
        _ if table => format!("a section, for example {}", header(path)),
        _ => {
            let expected = if expected == "a sequence" { "a list" } else { expected };
            match example(path) {
                Some(example) => format!("{expected}, for example {}", show::toml_value(&example)),
                None => expected.into(),
            }
        }
    }
}

/// A right value for the key at this path.
pub(super) fn example(path: &[String]) -> Option<Json> {
    let mut at = &sample();
    for (depth, part) in path.iter().enumerate() {
        at = match at {
            Json::Array(items) => items.first()?,
            Json::Object(map) if depth == 1 && map.contains_key("name") => &map["name"],
            _ => at.get(part)?,
        };
    }
    Some(at.clone())
}

/// The same as a setting.
pub(super) fn example_value(path: &[String]) -> Option<Value> {
    Value::serialize(example(path)?).ok()
}

/// The section that a key belongs to, if there is exactly one of that name.
fn home(key: &str) -> Option<String> {
    fn walk<'a>(at: &'a Json, path: &mut Vec<&'a str>, key: &str, homes: &mut Vec<String>) {
        for (name, value) in at.as_object().into_iter().flatten() {
            // A handler's keys are also a channel's, where they belong first.
            if name == key && !path.is_empty() && path[0] != "handlers" {
                homes.push(header(path));
            }
            path.push(if name == "name" { "NAME" } else { name });
            walk(value, path, key, homes);
            path.pop();
        }
    }
    let (sample, mut homes) = (sample(), Vec::new());
    walk(&sample, &mut Vec::new(), key, &mut homes);
    if homes.len() == 1 { homes.pop() } else { None }
}

/// A configuration in which every key has a value: the defaults, and under `name` what has a name of its own.
fn sample() -> Json {
    let mut all = serde_json::to_value(Config::default()).unwrap_or_default();
    let channel = serde_json::to_value(super::ChannelConfig::default()).unwrap_or_default();
    all["channel"]["name"] = channel;
    all["channel"]["name"]["types"] = serde_json::json!(["car.GenerateRecommendationBrief"]);
    all["transport"]["name"] = serde_json::json!({ "kind": "embedded", "url": "embedded" });
    all["handlers"]["name"] = serde_json::json!({ "deadline": "30s", "concurrency": 64, "dedup": "suspect" });
    all["replyto_allowed"] = serde_json::json!(["partner.replies"]);
    all
}
