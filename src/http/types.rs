//! The commands that may be sent, with their schemas compiled: what is wrong is said before anything is stored.

use crate::{Handlers, config::Config, message::Intent, payload::Format};
use serde_json::Value;
use std::collections::BTreeMap;

/// All commands by type.
pub(super) struct Types {
    pub(super) commands: BTreeMap<&'static str, CommandType>,
    /// What is known and is no command.
    pub(super) events: Vec<&'static str>,
    pub(super) service: String,
}

/// A command that this build handles or sends.
pub(super) struct CommandType {
    pub(super) version: u32,
    /// The name of its handler.
    pub(super) consumer: String,
    pub(super) schema: Value,
    pub(super) format: Format,
}

impl Types {
    pub(super) fn of(handlers: &Handlers, config: &Config) -> anyhow::Result<Self> {
        let (contract, mut schemas, checks) = (handlers.contract(), handlers.schemas(), handlers.checks());
        let (mut commands, mut events) = (BTreeMap::new(), Vec::new());
        for (ty, info) in contract.types {
            let (Some(schema), Some(check)) = (schemas.remove(ty), checks.get(ty).copied()) else { continue };
            if info.intent != Intent::Command {
                events.push(ty);
                continue;
            }
            let schema = schema.to_value();
            let consumer = info.subscribers.first().cloned().flatten().unwrap_or_else(|| ty.to_owned());
            let command =
                CommandType { version: info.version, consumer, format: Format::of(ty, &schema, check)?, schema };
            commands.insert(ty, command);
        }
        Ok(Self { commands, events, service: config.service.as_str().to_owned() })
    }
}
