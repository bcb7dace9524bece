//! A password, a key: a text that is never printed.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Deserializer, de};
use std::{fmt, path::Path};

/// It prints as `***`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text without the spaces and line ends around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The one that a section gives: as `key`, or in a file as `<key>_file`.
    ///
    /// # Errors
    /// Both are given, or the file cannot be read.
    pub fn given(key: &str, text: Option<Self>, file: Option<&Path>) -> anyhow::Result<Option<Self>> {
        match (text, file) {
            (Some(_), Some(_)) => bail!("both {key} and {key}_file are given; give one"),
            (text, None) => Ok(text),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("failed to read {key}_file `{}`", file.display()))?;
                Ok(Some(Self::new(&text)))
            }
        }
    }

    /// The text: for whoever it is for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own error would quote the value.
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self::new(&text)),
            _ => Err(de::Error::custom("a secret is no text; put it in quotes")),
        }
    }
}
