//! A password, a key: a text that is never printed.

use serde::{Deserialize, Deserializer, de};
use std::fmt;

/// It prints as `***`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text without the spaces and line ends around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
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
