//! The environment as settings: `PITCREW_STORE__URL` is `url` in `[store]`.
//!
//! A shell can export neither dots nor hyphens, so in the name of a channel or a handler an underscore stands for
//! either: `PITCREW_CHANNEL__CAR_COMMANDS__CONCURRENCY` is `concurrency` in `[channel."car.commands"]`.

use figment::value::Value;

use super::explain::{Finding, Place};
use super::layer::{self, Layer};
use super::settings::RUNTIME_KEYS;

const PREFIX: &str = "PITCREW_";

/// Variables of the same prefix that are read elsewhere and are no settings: by the command line, docker-compose.yml, the tests.
const ELSEWHERE: [&str; 18] = [
    "PROFILE",
    "CONFIG",
    "LOG", //
    "POSTGRES_PASSWORD",
    "RABBITMQ_PASSWORD",
    "POSTGRES_URL",
    "KAFKA_URL",
    "RABBITMQ_URL",
    "RABBITMQ4_URL",
    "RABBITMQ4_ROOT",
    "KAFKA_JARS",
    "ALL",
    "ONLY",
    "REQUIRE",
    "SEED",
    "SOAK",
    "SOAK_RATE",
    "SCREENSHOT",
];

/// A layer for each variable, in the order of their names; `layers` are the files, whose names a variable may mean.
pub(super) fn read(environment: &[(String, String)], layers: &mut Vec<Layer>, findings: &mut Vec<Finding>) {
    let mut variables: Vec<_> = environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    let files = layers.len();
    let mut seen: Vec<(Vec<String>, &str)> = Vec::new();
    for (name, text) in variables {
        let place = Place::Environment(name.clone());
        match path(&name[PREFIX.len()..], &layers[..files]) {
            Ok(None) => {}
            Err(message) => findings.push(Finding { place, message }),
            Ok(Some(path)) => {
                if let Some((_, other)) = seen.iter().find(|(other, _)| *other == path) {
                    let message = format!("{other} sets the same; remove one of them");
                    findings.push(Finding { place: place.clone(), message });
                }
                layers.push(setting(place, &path, text));
                seen.push((path, name));
            }
        }
    }
}

/// A variable is text; a setting that is none (a number, a list) is read from it.
fn setting(place: Place, path: &[String], text: &str) -> Layer {
    let parsed = || {
        // figment cuts at the number of characters as if it were one of bytes where an escape follows letters beyond ASCII.
        let cuts = text.contains('\\') && !text.is_ascii();
        if !cuts {
            return text.parse::<Value>().unwrap_or_else(|never| match never {});
        }
        let escaped = ascii(text);
        match escaped.parse::<Value>().unwrap_or_else(|never| match never {}) {
            Value::String(_, read) if text.trim().starts_with('"') && read != escaped => read.into(),
            _ => text.into(), // none that could be read: as it is written
        }
    };
    let own = path[0] == "handlers" && path.get(2).is_some_and(|key| !RUNTIME_KEYS.contains(&key.as_str()));
    let as_text = Layer::setting(place.clone(), path, text.into());
    // What the author's own keys want is not known here, so they get what the text looks like.
    let fits = !own && layer::config(&as_text.values).is_ok();
    if fits { as_text } else { Layer::setting(place, path, parsed()) }
}

/// What is within quotes, with an escape for each letter that is none of ASCII.
fn ascii(text: &str) -> String {
    let escaped = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\U{:08X}", u32::from(c)) };
    text.chars().map(escaped).collect()
}

fn path(variable: &str, files: &[Layer]) -> Result<Option<Vec<String>>, String> {
    let own = |path: &[&str]| Ok(Some(path.iter().map(|part| (*part).to_owned()).collect()));
    match variable {
        "STORE" => return own(&["store", "url"]),
        "BROKER" => return own(&["transport", "default", "url"]),
        _ if ELSEWHERE.contains(&variable) || of_kubernetes(variable) => return Ok(None),
        // A build without fault points refuses it: whoever sets it wants a worker that dies.
        "FAULT" if cfg!(feature = "fault") => return Ok(None),
        _ => {}
    }
    let mut path: Vec<String> = variable.split("__").map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(
            "a part of the name is empty; parts are divided by two underscores, as in PITCREW_STORE__URL".into()
        );
    }
    for (depth, part) in path.iter_mut().enumerate() {
        if depth != 1 {
            *part = part.to_ascii_lowercase();
        }
    }
    if let [top, second, ..] = &mut path[..] {
        *second = match top.as_str() {
            "channel" | "transport" | "handlers" => named(top, second, files)?,
            _ => second.to_ascii_lowercase(),
        };
    }
    Ok(Some(path))
}

/// The name that a variable means: one that the files know, else the one that it spells.
fn named(top: &str, spelt: &str, files: &[Layer]) -> Result<String, String> {
    let sections = files.iter().filter_map(|layer| layer.values.get(top)?.as_dict());
    let mut known: Vec<_> = sections.flat_map(|names| names.keys()).filter(|name| same(name, spelt)).collect();
    known.sort();
    known.dedup();
    if known.iter().any(|name| *name == spelt) {
        return Ok(spelt.into());
    }
    match known[..] {
        [name] => Ok(name.clone()),
        [one, other, ..] => Err(format!("`{spelt}` means `{one}` as well as `{other}`; write the name itself")),
        [] if top != "handlers" => Ok(spelt.to_ascii_lowercase().replace('_', ".")),
        // Which letters of a handler's name are large cannot be told from a variable that has large ones only.
        [] if spelt.contains(|c: char| c.is_lowercase()) => Ok(spelt.into()),
        [] => Err(format!(
            "no file has a section of handler `{spelt}`; write one, or the name itself, as in \
             PITCREW_HANDLERS__car.GenerateRecommendationBrief__DEADLINE"
        )),
    }
}

fn same(name: &str, spelt: &str) -> bool {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['.', '-'], "_");
    plain(name) == plain(spelt)
}

/// Kubernetes gives every pod variables such as `PITCREW_SERVICE_HOST` and `PITCREW_PORT_80_TCP` for a service that is
/// called pitcrew. No setting is named like them.
fn of_kubernetes(variable: &str) -> bool {
    let name = format!("_{variable}");
    name.ends_with("_PORT")
        || name.ends_with("_SERVICE_HOST")
        || ["_PORT_", "_SERVICE_PORT"].iter().any(|part| name.contains(part))
}
