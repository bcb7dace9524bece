//! Value Object: the names that become parts of queues, topics and schemas.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::units::text;

const NAME: &str = "a name: 1 to 100 small letters, digits, dots and hyphens";
const SCHEMA: &str =
    "a schema's name: small letters, digits and underscores, no digit first, at most 63, not beginning with pg_";
const TYPE: &str = "a message type: 1 to 200 characters without spaces";

/// A name of a channel, a service or a transport: `[a-z0-9.-]+`, so that it is fit for every broker as it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(String);

/// The name of a Message Channel.
pub type ChannelName = Name;

/// A text that cannot be a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("take `{0}` as a name: a name has 1 to 100 small letters, digits, dots and hyphens")]
pub struct NameError(pub String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest name to any text: how a binary's file name becomes a service's name.
    pub fn nearest(text: &str) -> Option<Self> {
        let fit = |c: char| if is_fit(c) { c } else { '-' };
        text.to_ascii_lowercase().chars().map(fit).take(100).collect::<String>().parse().ok()
    }

    /// For names that are written in this crate.
    pub(crate) fn fixed(text: &'static str) -> Self {
        debug_assert!(text.parse::<Name>().is_ok());
        Name(text.into())
    }
}

fn is_fit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-'
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=100).contains(&text.len()) && text.chars().all(is_fit);
        if fits { Ok(Name(text.into())) } else { Err(NameError(text.into())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, NAME, |text| text.parse().ok())
    }
}

/// A schema name goes into SQL unquoted, so it may be nothing but an identifier.
pub(super) fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let begins = |c: char| c.is_ascii_lowercase() || c == '_';
    let follows = |c: char| begins(c) || c.is_ascii_digit();
    text(deserializer, SCHEMA, |text| {
        let fits = text.starts_with(begins) && text.chars().all(follows) && text.len() <= 63;
        // Postgres keeps pg_ for itself.
        (fits && !text.starts_with("pg_")).then(|| text.to_owned())
    })
}

/// The list of message types that a channel carries.
pub(super) fn types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Type(String);
    impl<'de> Deserialize<'de> for Type {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text(deserializer, TYPE, |text| {
                let fits =
                    (1..=200).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control());
                fits.then(|| Type(text.into()))
            })
        }
    }
    Ok(Vec::<Type>::deserialize(deserializer)?.into_iter().map(|each| each.0).collect())
}
