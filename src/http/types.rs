//! The commands that may be sent, with their schemas compiled: what is wrong is said before anything is stored.

use crate::{Envelope, Handlers, config::Config, message::Intent};
use anyhow::Context as _;
use jsonschema::Validator;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// So many mistakes are told at once.
const MOST: usize = 50;

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
    validator: Validator,
    /// Whether the handler could read it, where the schema says less than the code.
    check: fn(&Envelope) -> Result<(), crate::message::DecodeError>,
}

/// One thing that is wrong with a payload.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Mistake {
    /// JSON pointer to it.
    pub(super) pointer: String,
    /// What.
    pub(super) detail: String,
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
            let validator = jsonschema::options().should_validate_formats(true).build(&schema);
            let validator = validator.map_err(|error| anyhow::anyhow!("{error}"));
            let consumer = info.subscribers.first().cloned().flatten().unwrap_or_else(|| ty.to_owned());
            let command = CommandType {
                version: info.version,
                consumer,
                validator: validator.with_context(|| format!("the JSON Schema of `{ty}`"))?,
                schema,
                check,
            };
            commands.insert(ty, command);
        }
        Ok(Self { commands, events, service: config.service.as_str().to_owned() })
    }
}

impl CommandType {
    /// Everything that is wrong with it. What the schema passes is read as the handler would.
    pub(super) fn mistakes(&self, payload: &Value, envelope: &Envelope) -> Vec<Mistake> {
        let mistake = |error: jsonschema::ValidationError<'_>| Mistake {
            pointer: error.instance_path().to_string(),
            detail: error.to_string(),
        };
        let mut mistakes: Vec<_> = self.validator.iter_errors(payload).take(MOST).map(mistake).collect();
        if mistakes.is_empty()
            && let Err(error) = (self.check)(envelope)
        {
            mistakes.push(Mistake { pointer: String::new(), detail: error.to_string() });
        }
        mistakes
    }
}
