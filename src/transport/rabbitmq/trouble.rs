//! Errors of the broker in words that say what to do, and without a password.

use super::{
    super::TransportError,
    login::{How, Login},
    tls,
};
use lapin::{Error, ErrorKind, uri::AMQPUri};

/// AMQP reply codes that are told apart (AMQP 0-9-1, section 1.2).
pub(super) const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// The code and text of an error that the broker sent.
pub(super) fn reply(error: &Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().to_string())),
        _ => None,
    }
}

pub(super) fn code(error: &Error) -> Option<u16> {
    reply(error).map(|(code, _)| code)
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
        Some((ACCESS_REFUSED, text)) => TransportError::Unfit(format!("the broker does not permit to {what}: {text}")),
        // Of the channel, not of the connection: an operator's business, like a queue that is gone or held for too long.
        Some((NOT_FOUND..=PRECONDITION_FAILED, text)) => TransportError::Unfit(format!("{what}: {text}")),
        Some((_, text)) => TransportError::Away(format!("{what}: {text}")),
        None => TransportError::Away(format!("{what}: {error}")),
    }
}
