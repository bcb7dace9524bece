//! Settings of one kind of broker, written for another: without effect, and nobody would know.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::explain::{Finding, header};
use super::layer::Layer;
use super::{BrokerUrl, Config, KafkaConfig, TransportKind};

/// `[transport.NAME.kafka]` for a RabbitMQ, each key where it was written. A default is no harm: `config show` prints them all.
pub(super) fn findings(config: &Config, layers: &[Layer]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, transport) in &config.transport {
        for (at, layer) in layers.iter().enumerate() {
            let section = ["transport", name.as_str(), "kafka"].map(str::to_owned);
            let Some(Value::Dict(_, keys)) = layer.values_at(&section) else { continue };
            // A flag that names another broker for once makes no mistake of what the file says for its own.
            let kind = kind_below(&layers[..=at], name.as_str()).unwrap_or(transport.kind);
            if kind != TransportKind::Rabbitmq {
                continue;
            }
            for key in keys.iter().filter(|(key, value)| !is_default(key, value)).map(|(key, _)| key) {
                let message = format!(
                    "{key} in {} has no effect: {} is a RabbitMQ; remove it",
                    header(&["transport", name.as_str(), "kafka"]),
                    header(&["transport", name.as_str()]),
                );
                found
                    .push(Finding { place: layer.place(&[&section[..], std::slice::from_ref(key)].concat()), message });
            }
        }
    }
    found
}

/// What the url says that is in force so far, if there is one.
fn kind_below(layers: &[Layer], name: &str) -> Option<TransportKind> {
    let path = ["transport", name, "url"].map(str::to_owned);
    let url = layers.iter().rev().find_map(|layer| layer.values_at(&path))?;
    Some(url.as_str()?.parse::<BrokerUrl>().ok()?.kind())
}

fn is_default(key: &str, value: &Value) -> bool {
    let alone: Dict = BTreeMap::from([(key.to_owned(), value.clone())]);
    let read: Result<KafkaConfig, figment::Error> = serde::Deserialize::deserialize(&Value::from(alone));
    read.is_ok_and(|settings| settings == KafkaConfig::default())
}
