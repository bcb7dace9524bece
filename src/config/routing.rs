//! Message Channel: which channel carries a type.

use std::collections::BTreeMap;

use super::explain::{Finding, Place, header};
use super::layer::Layer;
use super::{ChannelName, Config, Name};
use crate::message::Intent;

/// A type for which no channel can be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two channels list it.
    #[error("find the channel of `{kind}`: {} and {} both list it, and a type is in exactly one", header(&["channel", .first.as_str()]), header(&["channel", .second.as_str()]))]
    Twice {
        /// The message type.
        kind: String,
        /// The first channel that lists it.
        first: ChannelName,
        /// The second one.
        second: ChannelName,
    },
    /// None lists it, and its own name tells none.
    #[error(
        "find the channel of `{kind}`: no channel lists it, and its name begins with no prefix like the `car.` of `car.GenerateRecommendationBrief`; add it to `types` of a channel"
    )]
    NoPrefix {
        /// The message type.
        kind: String,
    },
}

/// The channel that lists the type, else `PREFIX.commands` or `PREFIX.events`.
pub(super) fn channel_of(config: &Config, kind: &str, what: Intent) -> Result<ChannelName, RouteError> {
    let mut listing = config.channel.iter().filter(|(_, channel)| channel.types.iter().any(|each| each == kind));
    match (listing.next(), listing.next()) {
        (Some((first, _)), Some((second, _))) => {
            Err(RouteError::Twice { kind: kind.into(), first: first.clone(), second: second.clone() })
        }
        (Some((only, _)), None) => Ok(only.clone()),
        (None, _) => {
            let suffix = match what {
                Intent::Command => "commands",
                Intent::Event => "events",
            };
            let prefix = kind.split_once('.').map(|(prefix, _)| prefix).filter(|prefix| !prefix.is_empty());
            let name = prefix.and_then(|prefix| format!("{prefix}.{suffix}").parse::<Name>().ok());
            name.ok_or_else(|| RouteError::NoPrefix { kind: kind.into() })
        }
    }
}

/// A type that is listed twice.
pub(super) struct Twice {
    pub(super) kind: String,
    pub(super) first: ChannelName,
    pub(super) second: ChannelName,
    /// Indexes in the two lists.
    at: (usize, usize),
}

/// All types that are listed twice, be it by two channels or by one.
pub(super) fn twice(config: &Config) -> Vec<Twice> {
    let mut seen: BTreeMap<&str, (&ChannelName, usize)> = BTreeMap::new();
    let mut twice = Vec::new();
    for (name, channel) in &config.channel {
        for (index, kind) in channel.types.iter().enumerate() {
            match seen.get(kind.as_str()) {
                Some((first, at)) => twice.push(Twice {
                    kind: kind.clone(),
                    first: (*first).clone(),
                    second: name.clone(),
                    at: (*at, index),
                }),
                None => _ = seen.insert(kind, (name, index)),
            }
        }
    }
    twice
}

/// The same with the places, which only the layers know.
pub(super) fn findings(config: &Config, layers: &[Layer]) -> Vec<Finding> {
    let place = |channel: &ChannelName, index: usize| {
        let path = ["channel", channel.as_str(), "types"].map(str::to_owned);
        // A list replaces the list below it, so the topmost one counts.
        let layer = layers.iter().rev().find(|layer| layer.values_at(&path).is_some())?;
        Some(layer.place(&[&path[..], &[index.to_string()]].concat()))
    };
    let finding = |twice: Twice| {
        let nowhere = || Place::File { file: "configuration".into(), line: None, column: None };
        let first = place(&twice.first, twice.at.0).unwrap_or_else(nowhere);
        let message = format!(
            "type `{}` in {} is also in {} ({first}); a type is in exactly one channel",
            twice.kind,
            header(&["channel", twice.second.as_str()]),
            header(&["channel", twice.first.as_str()]),
        );
        Finding { place: place(&twice.second, twice.at.1).unwrap_or_else(nowhere), message }
    };
    twice(config).into_iter().map(finding).collect()
}
