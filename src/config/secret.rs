//! Secrets: texts that may hold a password and never print it.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

const MASK: &str = "***";

/// An address with its password, if it has one. `Debug` and `Display` print `***` in its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text as it stands.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text with its password: for opening the connection and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&masked(&self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", masked(&self.0))
    }
}

/// A text that is secret as a whole: a password, a private key. `Debug`, `Display` and `Serialize` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Takes the text as it stands.
    pub fn new(text: impl Into<String>) -> Self {
        Hidden(text.into())
    }

    /// The text itself: for logging in and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(MASK)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Hidden;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hidden, E> {
                Ok(Hidden::new(text))
            }
            // Said in words of our own: serde's would quote the number, which is the password.
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Hidden, E> {
                Err(E::custom(NO_TEXT))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Hidden, E> {
                Err(E::custom(NO_TEXT))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Hidden, E> {
                Err(E::custom(NO_TEXT))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

const NO_TEXT: &str = "must be a text in quotes (what it is is not shown)";

/// The text with every password of a URL in it replaced; a text that is no URL is left as it is.
pub(super) fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    // The last `@`, not the first and not that before the first `/`: a password may hold both unescaped, and a mask
    // that covers too much is a blemish, one that covers too little is a leak.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:{MASK}@{host}"),
            None => format!("{user}@{host}"),
        },
        None => rest.into(),
    };
    match rest.split_once('?') {
        Some((address, query)) => {
            let parameters: Vec<_> = query.split('&').map(masked_parameter).collect();
            format!("{scheme}://{address}?{}", parameters.join("&"))
        }
        None => format!("{scheme}://{rest}"),
    }
}

fn masked_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        // A percent sign in the name could spell `password` in a way that only the client understands.
        Some((name, _)) if is_secret(name) || name.contains('%') => format!("{name}={MASK}"),
        _ => parameter.into(),
    }
}

/// Does a key of this name hold a secret? Handlers have keys that this crate cannot know.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 11] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "secrets",
        "token",
        "credential",
        "credentials",
        "apikey",
        "pwd",
        "sslpassword",
    ];
    const KEYS: [&str; 6] = ["api", "access", "private", "signing", "encryption", "account"];
    let name = name.to_ascii_lowercase();
    let words: Vec<_> = name.split(['_', '-', '.']).collect();
    words.iter().any(|word| WORDS.contains(word))
        || words.windows(2).any(|pair| KEYS.contains(&pair[0]) && pair[1] == "key")
}

/// A handler's own settings without their secrets.
pub(super) fn masked_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(masked(text)),
        Value::Array(items) => Value::Array(items.iter().map(masked_value).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(name, value)| (name.clone(), of(name, value))).collect()),
        other => other.clone(),
    }
}

fn of(name: &str, value: &Value) -> Value {
    if is_secret(name) && !value.is_null() { Value::String(MASK.into()) } else { masked_value(value) }
}
