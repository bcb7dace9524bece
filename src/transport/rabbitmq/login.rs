//! Who logs in, and how: by password, or by the certificate of the TLS connection (SASL EXTERNAL).

use super::Options;
use crate::config::Hidden;
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};

/// What the broker is told.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) how: How,
}

/// How the user proves it.
pub(super) enum How {
    Password(Hidden),
    /// None was given: what the broker makes of that.
    NoPassword,
    /// The broker takes the user from it.
    Certificate,
}

impl Login {
    /// The URL's, completed by the options, and as the client wants it in `uri`.
    pub(super) fn of(url: &str, uri: &mut AMQPUri, options: &Options) -> Self {
        let (has_user, has_password) = given(url);
        if !has_user && let Some(user) = &options.user {
            uri.authority.userinfo.username = user.clone();
        }
        let user = uri.authority.userinfo.username.clone();
        let by_certificate = options.identity.is_some() && uri.scheme == AMQPScheme::AMQPS;
        let how = match (&options.password, has_password) {
            (_, true) => How::Password(Hidden::new(uri.authority.userinfo.password.as_str())),
            (Some(password), false) => How::Password(password.clone()),
            (None, false) if by_certificate => How::Certificate,
            // Without any word on who it is, the broker's own default, as every client has it.
            (None, false) if !has_user && options.user.is_none() => How::Password(Hidden::new("guest")),
            (None, false) => How::NoPassword,
        };
        match &how {
            How::Password(password) => uri.authority.userinfo.password = password.expose().to_owned(),
            How::NoPassword => uri.authority.userinfo.password.clear(),
            How::Certificate => _ = uri.query.auth_mechanism.get_or_insert(SASLMechanism::External),
        }
        Self { user, how }
    }
}

/// Whether a URL has a user, and a password.
fn given(url: &str) -> (bool, bool) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.rsplit_once('@') {
        Some((user, _)) => (!user.is_empty() && !user.starts_with(':'), user.contains(':')),
        None => (false, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::rabbitmq::Identity;

    fn login(url: &str, options: Options) -> (String, String, Option<SASLMechanism>) {
        let mut uri = url.parse().unwrap();
        let login = Login::of(url, &mut uri, &options);
        assert_eq!(login.user, uri.authority.userinfo.username);
        (login.user, uri.authority.userinfo.password, uri.query.auth_mechanism)
    }

    fn own() -> Options {
        let identity = Identity { certificate: String::new(), key: Hidden::new("") };
        Options { identity: Some(identity), ..Options::default() }
    }

    #[test]
    fn the_url_says_who_logs_in_and_options_complete_it() {
        let is = |user: &str, password: &str| (user.to_owned(), password.to_owned(), None);
        let with = |user: Option<&str>, password: Option<&str>| Options {
            user: user.map(Into::into),
            password: password.map(Hidden::new),
            ..Options::default()
        };
        assert_eq!(login("amqp://mq", Options::default()), is("guest", "guest"));
        assert_eq!(login("amqp://a:b@mq", with(Some("c"), None)), is("a", "b"));
        assert_eq!(login("amqp://a@mq/v", with(None, Some("p"))), is("a", "p"));
        assert_eq!(login("amqp://mq", with(Some("a"), Some("p"))), is("a", "p"));
        assert_eq!(login("amqp://a@mq", Options::default()), is("a", ""));
    }

    #[test]
    fn a_certificate_is_the_login_where_no_password_is_given() {
        assert_eq!(login("amqps://mq", own()).2, Some(SASLMechanism::External));
        assert_eq!(login("amqps://a:b@mq", own()), ("a".into(), "b".into(), None));
        assert_eq!(login("amqp://mq", own()).2, None, "no TLS, no certificate");
    }
}
