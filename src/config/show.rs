//! What the configuration is, as a file that could be loaded again, without its secrets.

use serde_json::Value as Json;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

/// The whole as a TOML document.
pub(super) fn toml(config: &Json) -> String {
    let mut document = DocumentMut::new();
    if let Json::Object(map) = config {
        // An empty section at the top says nothing.
        for (key, value) in map.iter().filter(|(_, value)| value.as_object().is_none_or(|map| !map.is_empty())) {
            document.insert(key, item(value, true));
        }
    }
    document.to_string()
}

/// A value on one line, as the file writes it.
pub(super) fn toml_value(value: &Json) -> String {
    self::value(value).map(|value| value.to_string()).unwrap_or_default()
}

/// Objects become sections; inside lists, where TOML has no sections that nest freely, inline tables.
fn item(json: &Json, top: bool) -> Item {
    match json {
        Json::Object(map) => {
            let mut table = Table::new();
            // `[channel]` above `[channel.x]` says nothing, but an empty section is still a section.
            table.set_implicit(top && !map.is_empty());
            for (key, value) in map {
                table.insert(key, item(value, false));
            }
            Item::Table(table)
        }
        other => value(other).map_or(Item::None, Item::Value),
    }
}

/// Null has no form in TOML; what is null is left out.
fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Null => None,
        Json::Bool(flag) => Some((*flag).into()),
        Json::String(text) => Some(text.as_str().into()),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Some(whole.into()),
            None => number.as_f64().map(Into::into),
        },
        Json::Array(items) => Some(items.iter().filter_map(value).collect::<Array>().into()),
        Json::Object(map) => {
            let pairs = map.iter().filter_map(|(key, json)| Some((key.as_str(), value(json)?)));
            Some(pairs.collect::<InlineTable>().into())
        }
    }
}
