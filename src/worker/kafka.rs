//! Connection Settings of Kafka, from the config: who logs in, what is verified, and what a member is called.

use crate::{
    config::{Config, GroupProtocol, Guarantees, Hidden, Name, OnLost, Sasl, TransportConfig},
    transport::kafka::{self, Login, Mechanism, Security},
};
use anyhow::{Context as _, bail};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;

/// The options for the transport of this name and url.
pub(super) fn options(
    config: &Config,
    name: &Name,
    transport: &TransportConfig,
    url: &str,
) -> anyhow::Result<kafka::Options> {
    let settings = &transport.kafka;
    let replication = i32::try_from(settings.replication).unwrap_or(i32::MAX);
    let address = Address::of(url);
    Ok(kafka::Options {
        declare: transport.declare,
        partitions: settings.partitions,
        retry_partitions: settings.retry_partitions,
        replication: if replication == 0 { -1 } else { replication },
        retention: settings.topic_retention,
        protocol: match settings.group_protocol {
            GroupProtocol::Classic => kafka::GroupProtocol::Classic,
            GroupProtocol::Consumer => kafka::GroupProtocol::Consumer,
        },
        session_timeout: settings.session_timeout,
        on_lost: match settings.on_lost {
            OnLost::Continue => kafka::OnLost::Continue,
            OnLost::Stop => kafka::OnLost::Stop,
        },
        warn_only: config.guarantees == Guarantees::Warn,
        prefixes: super::open::prefixes(config),
        security: security(name, transport, &address)?,
        instance_id: match filled(&settings.group_instance_id, variable)
            .with_context(|| format!("[transport.{name}.kafka] group_instance_id"))?
        {
            none if none.is_empty() => None,
            name => Some(name),
        },
        ..kafka::Options::new(address.brokers)
    })
}

/// `kafka://user:password@host:port,host:port`, taken apart. The schemes are checked where the config is read.
struct Address<'a> {
    tls: bool,
    user: Option<String>,
    password: Option<String>,
    brokers: &'a str,
}

impl<'a> Address<'a> {
    fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("kafka", url));
        let (login, brokers) = rest.rsplit_once('@').map_or((None, rest), |(login, brokers)| (Some(login), brokers));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok((user, password))) => (Some(decoded(user)), Some(decoded(password))),
            Some(Err(user)) => (Some(decoded(user)), None),
        };
        Self { tls: scheme == "kafkas", user: user.filter(|user| !user.is_empty()), password, brokers }
    }
}

fn security(name: &Name, transport: &TransportConfig, address: &Address<'_>) -> anyhow::Result<Security> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .with_context(|| format!("reading {}, [transport.{name}] password_file", path.display()))
    };
    // An editor ends the last line of a file; no password does.
    let file = transport.password_file.as_ref().map(read).transpose()?;
    let file = file.map(|text| Hidden::new(text.trim_end_matches(['\r', '\n'])));
    let password = address.password.as_ref().map(Hidden::new).or(file).or_else(|| transport.password.clone());
    let user = address.user.clone().or_else(|| transport.user.clone());
    let login = match (user, password) {
        (Some(user), Some(password)) => Some(Login { user, password, mechanism: mechanism(transport.kafka.sasl) }),
        (Some(user), None) => bail!("[transport.{name}] user: `{user}` has no password; set password_file"),
        (None, _) => None,
    };
    // The client would say only that it cannot be made.
    for (key, file) in [
        ("ca_file", &transport.ca_file),
        ("client_cert", &transport.client_cert),
        ("client_key", &transport.client_key),
    ] {
        if let Some(file) = file {
            std::fs::File::open(file)
                .with_context(|| format!("reading {}, [transport.{name}] {key}", file.display()))?;
        }
    }
    Ok(Security {
        tls: address.tls,
        ca_file: transport.ca_file.clone(),
        client_cert: transport.client_cert.clone(),
        client_key: transport.client_key.clone(),
        login,
    })
}

fn mechanism(sasl: Sasl) -> Mechanism {
    match sasl {
        Sasl::Plain => Mechanism::Plain,
        Sasl::ScramSha256 => Mechanism::ScramSha256,
        Sasl::ScramSha512 => Mechanism::ScramSha512,
    }
}

/// A template with each `${NAME}` in it replaced.
fn filled(template: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("${") {
        let named = after.split_once('}');
        let (name, after) = named.context("a `${` without its `}`")?;
        let value = variable(name).filter(|value| !value.is_empty());
        let Some(value) = value else {
            bail!("there is no `{name}` in the environment");
        };
        text += before;
        text += &value;
        rest = after;
    }
    Ok(text + rest)
}

/// Of the environment. Shells and containers have `HOSTNAME`, services have it only in a file.
fn variable(name: &str) -> Option<String> {
    let hostname = || {
        let name = std::fs::read_to_string("/etc/hostname").ok()?;
        Some(name.trim().to_owned())
    };
    std::env::var(name).ok().or_else(|| if name == "HOSTNAME" { hostname() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let parts = |url| {
            let Address { tls, user, password, brokers } = Address::of(url);
            (tls, user, password, brokers.to_owned())
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(parts("kafka://a:1,b:2"), (false, None, None, "a:1,b:2".into()));
        assert_eq!(parts("kafkas://app:p%40ss@a:1,b:2"), (true, text("app"), text("p@ss"), "a:1,b:2".into()));
        assert_eq!(parts("kafka://app@a:1"), (false, text("app"), None, "a:1".into()));
    }

    #[test]
    fn a_name_is_filled_from_the_environment() {
        let variable = |name: &str| (name == "HOST").then(|| "a1".to_owned());
        assert_eq!(filled("cars-${HOST}-${HOST}", variable).unwrap(), "cars-a1-a1");
        assert_eq!(filled("cars", variable).unwrap(), "cars");
        assert!(filled("cars-${POD}", variable).unwrap_err().to_string().contains("no `POD`"));
        assert!(filled("cars-${HOST", variable).is_err());
    }
}
