//! Errors of the broker in words that say what to do, and without a password.

use super::{
    super::TransportError,
    login::{How, Login},
    tls,
};
use lapin::{Error, ErrorKind, uri::AMQPUri};

/// AMQP reply codes that are told apart (AMQP 0-9-1, section 1.2).
pub(super) const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// The code and text of an error that the broker sent.
pub(super) fn reply(error: &Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().to_string())),
        _ => None,
    }
}

/// What was asked for is not there.
pub(super) fn is_missing(error: &Error) -> bool {
    reply(error).is_some_and(|(code, text)| code == NOT_FOUND && says_missing(&text))
}

/// It is there, and cannot be reached: nobody leads it, or another worker is just making it (the broker looks for a queue in two
/// places, one after the other). The broker has the same code for both, and other words: `home node … is down or inaccessible`.
pub(super) fn is_out_of_reach(error: &Error) -> bool {
    reply(error).is_some_and(|(code, text)| code == NOT_FOUND && !says_missing(&text))
}

/// `NOT_FOUND - no queue 'a' in vhost '/'`.
fn says_missing(text: &str) -> bool {
    text.trim_start_matches("NOT_FOUND - ").starts_with("no ")
}

/// A connection that did not come about.
pub(super) fn connecting(error: &Error, login: &Login, uri: &AMQPUri) -> TransportError {
    let (user, vhost) = (&login.user, &uri.vhost);
    match reply(error) {
        Some((ACCESS_REFUSED, _)) => TransportError::Unfit(match &login.how {
            How::Password(_) => format!(
                "the broker refuses user `{user}`: check user and password of the transport, in `url` or in `user` and \
                 `password_file`"
            ),
            How::NoPassword => format!(
                "the broker refuses user `{user}`, for whom no password is given: set `password_file` of the transport, or \
                 `client_cert` and `client_key`"
            ),
            How::Certificate => NO_SUCH_CERTIFICATE.into(),
        }),
        Some((NOT_ALLOWED, text)) => TransportError::Unfit(format!(
            "the broker does not let user `{user}` into vhost `{vhost}` ({text}): check the path of the transport's url, \
             or let an operator add the vhost and the permission"
        )),
        _ => match error.kind() {
            ErrorKind::IOError(io) if let Some(error) = io.get_ref().and_then(|inner| inner.downcast_ref()) => {
                let authority = &uri.authority;
                TransportError::Unfit(tls::failure(error, "`url` of the transport", &authority.host, authority.port))
            }
            _ => TransportError::Away(error.to_string()),
        },
    }
}

const NO_SUCH_CERTIFICATE: &str = "the broker takes the certificate of `client_cert` for no user of its own (EXTERNAL): the \
                                   name in it must be a user's, the plugin rabbitmq_auth_mechanism_ssl enabled, and EXTERNAL \
                                   among `auth_mechanisms`; or give the transport a password";

/// An operation on a channel that failed, in the words of `what` was tried.
pub(super) fn operating(what: &str, error: &Error) -> TransportError {
    match reply(error) {
        Some((_, text)) if is_out_of_reach(error) => TransportError::Away(format!("{what}: {text}")),
        Some((ACCESS_REFUSED, text)) => TransportError::Unfit(format!("the broker does not permit to {what}: {text}")),
        // Of the channel, not of the connection: an operator's business, like a queue that is gone or held for too long.
        Some((NOT_FOUND..=PRECONDITION_FAILED, text)) => TransportError::Unfit(format!("{what}: {text}")),
        Some((_, text)) => TransportError::Away(format!("{what}: {text}")),
        None => TransportError::Away(format!("{what}: {error}")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};

    pub(in super::super) fn not_found(text: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::new(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND), text.into())).into()
    }

    #[test]
    fn what_is_out_of_reach_is_not_missing() {
        // The words of RabbitMQ 3.10 and 4.0.
        for missing in ["NOT_FOUND - no queue 'a' in vhost '/'", "NOT_FOUND - no exchange 'a' in vhost '/'"] {
            let error = not_found(missing);
            assert!(is_missing(&error) && !is_out_of_reach(&error), "{missing}");
            assert!(matches!(operating("look at it", &error), TransportError::Unfit(_)), "{missing}");
        }
        let away =
            not_found("NOT_FOUND - home node 'rabbit@b' of durable queue 'a' in vhost '/' is down or inaccessible");
        assert!(is_out_of_reach(&away) && !is_missing(&away));
        assert!(matches!(operating("declare it", &away), TransportError::Away(_)));
    }
}
