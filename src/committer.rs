//! Group commit.

/// Proof that the fate of a message is durable. [`Delivery::ack`](crate::transport::Delivery::ack) wants one, and only the
/// committer can make one.
#[derive(Debug)]
pub struct Committed {
    _minted_here: (),
}
