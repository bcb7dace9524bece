//! Layers: each source of settings on its own, so that what is wrong is found where it was written.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use toml_edit::{ImDocument, Item};

use super::explain::{self, Finding, Place};
use super::{BrokerUrl, Config, Sources};

/// One source of settings.
pub(super) struct Layer {
    origin: Origin,
    pub(super) values: Dict,
}

enum Origin {
    File { shown: String, document: Box<ImDocument<String>> },
    Setting(Place),
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place(&[]).to_string())
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

impl Layer {
    /// A layer of a single setting.
    pub(super) fn setting(place: Place, path: &[String], value: Value) -> Self {
        let mut values = Dict::new();
        if let [above @ .., last] = path {
            values.insert(last.clone(), value);
            for part in above.iter().rev() {
                values = Dict::from([(part.clone(), Value::from(values))]);
            }
        }
        Layer { origin: Origin::Setting(place), values }
    }

    /// A layer of a whole file.
    fn file(shown: String, text: String) -> Result<Self, Finding> {
        let lines = text.clone();
        match ImDocument::parse(text) {
            Ok(document) => {
                let values = dict(document.as_item());
                Ok(Layer { origin: Origin::File { shown, document: Box::new(document) }, values })
            }
            Err(error) => {
                let start = error.span().map_or(0, |span| span.start);
                let (line, column) = position(&lines, start);
                // Only the message: the error's own display quotes the line, which may hold a password.
                let message = error.message().trim().replace('\n', ", ");
                let place = Place::File { file: shown, line: Some(line), column: Some(column) };
                Err(Finding { place, message: format!("not TOML: {message}") })
            }
        }
    }

    /// Where the setting of this path was written: its key, or the nearest section above it.
    pub(super) fn place(&self, path: &[String]) -> Place {
        match &self.origin {
            Origin::Setting(place) => place.clone(),
            Origin::File { shown, document } => {
                let line = offset(document.as_item(), path).map(|start| position(document.raw(), start).0);
                Place::File { file: shown.clone(), line, column: None }
            }
        }
    }

    /// The setting of this path.
    pub(super) fn values_at(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.values.get(first)?, |at, part| match at {
            Value::Dict(_, dict) => dict.get(part),
            Value::Array(_, items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Everything that is wrong in this layer. What was wrong is taken out of it, so that the next error shows itself.
    pub(super) fn findings(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for path in infinite(&self.values) {
            let message = format!("{} is not a finite number", path.join("."));
            findings.push(Finding { place: self.place(&path), message });
            mend(&mut self.values, &path);
        }
        while let Err(error) = config(&self.values) {
            findings.push(explain::finding(self, &error));
            if !mend(&mut self.values, &error.path) {
                break;
            }
        }
        findings.sort_by(|one, other| one.place.cmp(&other.place));
        findings
    }
}

/// Does this setting stand by itself?
pub(super) fn config(values: &Dict) -> Result<Config, Box<figment::Error>> {
    serde::Deserialize::deserialize(&Value::from(values.clone())).map_err(Box::new)
}

/// Takes what is wrong away, or puts something right in its place where its neighbours would move.
fn mend(values: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return values.remove(first).is_some();
    }
    let Some(mut at) = values.get_mut(first) else { return false };
    for (depth, part) in rest.iter().enumerate() {
        let last = depth + 1 == rest.len();
        at = match at {
            Value::Dict(_, dict) if last => return dict.remove(part).is_some(),
            Value::Dict(_, dict) => match dict.get_mut(part) {
                Some(below) => below,
                None => return false,
            },
            Value::Array(_, items) => match part.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                Some(item) if last => {
                    let right = explain::example_value(path).filter(|right| right != item);
                    return right.map(|right| *item = right).is_some();
                }
                Some(below) => below,
                None => return false,
            },
            _ => return false,
        };
    }
    false
}

/// Numbers that no JSON holds: they would reach a handler as null.
fn infinite(values: &Dict) -> Vec<Vec<String>> {
    fn walk(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        let below: Vec<(String, &Value)> = match value {
            Value::Dict(_, dict) => dict.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(_, items) => items.iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
            Value::Num(_, number) if number.to_f64().is_some_and(|number| !number.is_finite()) => {
                found.push(path.clone());
                return;
            }
            _ => return,
        };
        for (key, value) in below {
            path.push(key);
            walk(value, path, found);
            path.pop();
        }
    }
    let mut found = Vec::new();
    walk(&Value::from(values.clone()), &mut Vec::new(), &mut found);
    found
}

fn dict(item: &Item) -> Dict {
    let entries = item.as_table_like().into_iter().flat_map(|table| table.iter());
    entries.filter_map(|(key, item)| Some((key.to_owned(), value(item)?))).collect()
}

fn value(item: &Item) -> Option<Value> {
    use toml_edit::Value as Toml;
    match item {
        Item::None => None,
        Item::Table(_) => Some(dict(item).into()),
        Item::ArrayOfTables(tables) => {
            let tables = tables.iter().map(|table| Value::from(dict(&Item::Table(table.clone()))));
            Some(tables.collect::<Vec<_>>().into())
        }
        Item::Value(toml) => Some(match toml {
            Toml::String(text) => text.value().as_str().into(),
            Toml::Integer(number) => (*number.value()).into(),
            Toml::Float(number) => (*number.value()).into(),
            Toml::Boolean(flag) => (*flag.value()).into(),
            Toml::Datetime(time) => time.value().to_string().into(),
            Toml::Array(items) => {
                let items = items.iter().filter_map(|item| value(&Item::Value(item.clone())));
                items.collect::<Vec<_>>().into()
            }
            Toml::InlineTable(_) => dict(item).into(),
        }),
    }
}

fn offset(root: &Item, path: &[String]) -> Option<usize> {
    let mut at = root;
    let mut found = None;
    for part in path {
        if let Some((key, item)) = at.as_table_like().and_then(|table| table.get_key_value(part)) {
            found = key.span().or_else(|| item.span()).map(|span| span.start).or(found);
            at = item;
        } else {
            let index = part.parse::<usize>().ok()?;
            // The items of a list are values, not items, so this is as deep as the walk goes.
            let span = match at {
                Item::Value(toml) => toml.as_array().and_then(|items| items.get(index)).and_then(|item| item.span()),
                Item::ArrayOfTables(tables) => tables.get(index).and_then(|table| table.span()),
                _ => None,
            };
            return span.map(|span| span.start).or(found);
        }
    }
    found
}

/// Line and column of an offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The files: the base, and the profile's beside it.
pub(super) fn files(sources: &Sources, findings: &mut Vec<Finding>) -> Vec<Layer> {
    let mut layers = Vec::new();
    let base = base(sources, findings);
    if let Some(path) = &base {
        let named = match (&sources.file, variable(sources, CONFIG)) {
            (Some(_), _) => Some(Place::Flag("--config".into())),
            (None, Some(_)) => Some(Place::Environment(CONFIG.into())),
            (None, None) => None,
        };
        let missing = |error| match named {
            Some(place) => Finding { place, message: format!("{} cannot be read: {error}", path.display()) },
            None => Finding { place: whole(path), message: format!("cannot be read: {error}") },
        };
        layers.extend(read(sources, path, missing, findings));
    }
    if let Some((place, profile)) = profile(sources, findings) {
        let base = base.unwrap_or_else(|| PathBuf::from(DEFAULTS[0]));
        let stem = base.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let path = base.with_file_name(format!("{stem}.{profile}.toml"));
        let missing = |error| Finding {
            place,
            message: format!("{} of profile `{profile}` cannot be read: {error}", path.display()),
        };
        layers.extend(read(sources, &path, missing, findings));
    }
    layers
}

const DEFAULTS: [&str; 2] = ["config/pitcrew.toml", "pitcrew.toml"];
/// Names the file where nobody gives `--config`: a container says it once, for all commands.
const CONFIG: &str = "PITCREW_CONFIG";

/// A variable that says something.
fn variable<'a>(sources: &'a Sources, name: &str) -> Option<&'a str> {
    let found = sources.environment.iter().find(|(known, value)| known == name && !value.is_empty());
    found.map(|(_, value)| value.as_str())
}

fn base(sources: &Sources, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    if let Some(file) = &sources.file {
        return Some(file.clone());
    }
    if let Some(file) = variable(sources, CONFIG) {
        return Some(file.into());
    }
    let present: Vec<_> = DEFAULTS.iter().filter(|path| sources.directory.join(path).exists()).collect();
    if let [first, second] = present[..] {
        // To read one and pass over the other would leave somebody's settings without effect and without a word.
        let message = format!("{second} is there too; remove one of them, or name one with --config");
        findings.push(Finding { place: whole(Path::new(first)), message });
    }
    present.first().map(PathBuf::from)
}

fn profile(sources: &Sources, findings: &mut Vec<Finding>) -> Option<(Place, String)> {
    let name = "PITCREW_PROFILE";
    let (place, profile) = match (&sources.profile, variable(sources, name)) {
        (Some(profile), _) => (Place::Flag("--profile".into()), profile.clone()),
        (None, Some(value)) => (Place::Environment(name.into()), value.to_owned()),
        (None, None) => return None,
    };
    // It becomes part of a path, so it may not leave the folder.
    match profile.parse::<super::Name>() {
        Ok(_) => Some((place, profile)),
        Err(error) => {
            findings.push(Finding { place, message: format!("cannot {error}") });
            None
        }
    }
}

fn read<F>(sources: &Sources, path: &Path, missing: F, findings: &mut Vec<Finding>) -> Option<Layer>
where
    F: FnOnce(std::io::Error) -> Finding,
{
    let layer = match std::fs::read_to_string(sources.directory.join(path)) {
        Ok(text) => Layer::file(path.display().to_string(), text),
        Err(error) => Err(missing(error)),
    };
    layer.map_err(|finding| findings.push(finding)).ok()
}

fn whole(path: &Path) -> Place {
    Place::File { file: path.display().to_string(), line: None, column: None }
}

impl Layer {
    /// A layer that gives a transport's url gives its kind with it, and one that says embedded needs no url: else the
    /// kind of one layer would stand beside the url of another.
    pub(super) fn complete_transports(&mut self) {
        let Some(Value::Dict(_, transports)) = self.values.get_mut("transport") else { return };
        for transport in transports.values_mut() {
            let Value::Dict(_, keys) = transport else { continue };
            let text = |key: &str| keys.get(key).and_then(|value| value.as_str());
            match (text("kind"), text("url").and_then(|url| url.parse::<BrokerUrl>().ok())) {
                (None, Some(url)) => _ = keys.insert("kind".into(), url.kind().as_str().into()),
                (Some("embedded"), None) => _ = keys.insert("url".into(), "embedded".into()),
                _ => {}
            }
        }
    }
}
