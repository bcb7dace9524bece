//! Value Object: what is asked over HTTP, and may want a password.

use super::{address::AddressError, secret::Secret};
use serde::{
    de::{self, Deserialize, Deserializer},
    ser::{Serialize, Serializer},
};
use std::{fmt, str::FromStr};

/// `http` or `https`, a host, and no more than a path: what has a space or a query is no address of ours, and the client would say so
/// only when it is first asked.
fn is_web_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.map(|rest| rest.rsplit_once('@').map_or(rest, |(_, host)| host));
    let is_host = |host: &str| !host.is_empty() && !host.starts_with(['/', ':']) && host.is_ascii();
    host.is_some_and(|host| is_host(host) && !host.contains([' ', '?', '#']))
}

macro_rules! web_url {
    ($(#[$about:meta])* $name:ident, $expected:literal) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Secret);

        impl $name {
            /// The text with its password, if it has one: for asking and for nothing else.
            pub fn expose(&self) -> &str {
                self.0.expose()
            }

            /// `https`?
            pub fn is_encrypted(&self) -> bool {
                self.expose().starts_with("https://")
            }
        }

        impl FromStr for $name {
            type Err = AddressError;
            fn from_str(text: &str) -> Result<Self, AddressError> {
                if is_web_url(text) { Ok($name(Secret::new(text))) } else { Err(AddressError::new(text, $expected)) }
            }
        }

        /// Without the password: what people may see.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

web_url! {
    /// Where the management API of RabbitMQ is: `http://host:15672` or `https://user:password@host:15671`.
    ManagementUrl, "http://host:15672 or https://host:15671, with user:password@ if it has a login of its own"
}

web_url! {
    /// Where an OpenTelemetry collector is: `http://host:4318`, OTLP over HTTP.
    CollectorUrl, "http://host:4318 or https://host:4318"
}
