//! Format Check: everything that is wrong with a payload, each mistake with its place, before anything is stored.

use crate::{
    Envelope,
    handler::{Check, Handlers},
};
#[cfg(feature = "http")]
use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

/// So many mistakes are told at once.
#[cfg(feature = "http")]
const MOST: usize = 50;

/// One thing that is wrong with a payload.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mistake {
    /// JSON pointer to it; empty for the whole.
    pub(crate) pointer: String,
    /// What.
    pub(crate) detail: String,
}

/// What the payload of a type must be.
pub(crate) struct Format {
    /// Without the feature `http` there is none: the first mistake that the handler would meet is told.
    #[cfg(feature = "http")]
    validator: jsonschema::Validator,
    /// Whether the handler could read it, where the schema says less than the code.
    check: Check,
}

impl Format {
    /// Of a type that this build handles or sends.
    ///
    /// # Errors
    /// Its JSON Schema is none.
    pub(crate) fn of(ty: &str, schema: &Value, check: Check) -> anyhow::Result<Self> {
        #[cfg(feature = "http")]
        {
            let validator = jsonschema::options().should_validate_formats(true).build(schema);
            let validator = validator.map_err(|error| anyhow::anyhow!("{error}"));
            Ok(Self { validator: validator.with_context(|| format!("the JSON Schema of `{ty}`"))?, check })
        }
        #[cfg(not(feature = "http"))]
        {
            let _ = (ty, schema);
            Ok(Self { check })
        }
    }

    /// The same, found among the handlers of this build. `None`: it knows no such type.
    pub(crate) fn find(ty: &str, handlers: &Handlers) -> anyhow::Result<Option<Self>> {
        let (schema, check) = (handlers.schemas().remove(ty), handlers.checks().remove(ty));
        let found = schema.zip(check);
        found.map(|(schema, check)| Self::of(ty, &schema.to_value(), check)).transpose()
    }

    /// Everything that is wrong with it. What the schema passes is read as the handler would.
    pub(crate) fn mistakes(&self, payload: &Value, envelope: &Envelope) -> Vec<Mistake> {
        let mut mistakes = self.by_schema(payload);
        if mistakes.is_empty()
            && let Err(error) = (self.check)(envelope)
        {
            mistakes.push(Mistake { pointer: String::new(), detail: error.to_string() });
        }
        mistakes
    }

    #[cfg(feature = "http")]
    fn by_schema(&self, payload: &Value) -> Vec<Mistake> {
        let mistake = |error: jsonschema::ValidationError<'_>| Mistake {
            pointer: error.instance_path().to_string(),
            detail: error.to_string(),
        };
        self.validator.iter_errors(payload).take(MOST).map(mistake).collect()
    }

    #[cfg(not(feature = "http"))]
    fn by_schema(&self, _: &Value) -> Vec<Mistake> {
        Vec::new()
    }
}
