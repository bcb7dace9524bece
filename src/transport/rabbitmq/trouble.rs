//! Errors of the broker in words that say what to do, and without a password.

use super::super::{PublishError, TransportError};
use lapin::{Error, ErrorKind};

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

/// A connection that did not come about. `user` and `vhost` are what was tried.
pub(super) fn connecting(error: &Error, user: &str, vhost: &str) -> TransportError {
    match reply(error) {
        Some((ACCESS_REFUSED, _)) => TransportError::Unfit(format!(
            "the broker refuses user `{user}`: check user and password in the url of the transport"
        )),
        Some((NOT_ALLOWED, text)) => TransportError::Unfit(format!(
            "the broker does not let user `{user}` into vhost `{vhost}` ({text}): check the path of the transport's url, \
             or let an operator add the vhost and the permission"
        )),
        _ => TransportError::Away(error.to_string()),
    }
}

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

/// A publish whose channel ended: whatever was in flight on it, the guilty one or not, may be in its queue.
pub(super) fn publishing(error: &Error) -> PublishError {
    match reply(error) {
        Some((_, text)) => PublishError::Unknown(text),
        None => PublishError::Unknown(error.to_string()),
    }
}
