//! Control Bus: what can be seen of a broker, for those who watch it.

#[cfg(doc)]
use super::Transport;
use chrono::{DateTime, Utc};

/// One thing that a broker must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, for people.
    pub thing: String,
    /// How it stands.
    pub standing: Standing,
}

/// How one thing stands on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it should be.
    Fits,
    /// Not there: it would be made.
    Missing,
    /// There, and otherwise; in the broker's words.
    Differs(String),
    /// The broker does not show it to this user.
    Unseen,
    /// There, and nobody in this list wants it.
    Stray,
    /// There as it should be, and something around it endangers it: what, and what to do.
    Endangered(String),
}

/// What [`Transport::inspect`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// One for each thing; none where there is nothing to declare.
    pub findings: Vec<Finding>,
    /// How deep it could look, and how to look deeper: a sentence for people. Empty: it saw everything.
    pub reach: String,
    /// What else a start is refused for, each a sentence with its fix: a permission that this user has not.
    pub refusals: Vec<String>,
}

/// Messages of a subscription by state, on the broker. `None` where the broker does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Not delivered yet.
    pub ready: Option<u64>,
    /// Delivered, not settled.
    pub unacked: Option<u64>,
    /// In delay queues or retry topics, due or not.
    pub delayed: Option<u64>,
    /// In the Dead Letter Channel's own queue, not collected yet.
    pub dead: Option<u64>,
    /// On their way to the Dead Letter Channel, which does not take them.
    pub stuck: Option<u64>,
    /// Who listens.
    pub consumers: Option<u64>,
    /// When the oldest message that is not finished was sent.
    pub oldest: Option<DateTime<Utc>>,
    /// The same by partition, where the broker is a log.
    pub partitions: Vec<Lag>,
}

/// How far the readers of one partition of a log are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The log (a topic: of the channel itself, or of retries).
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// All below this offset are finished. `None`: nothing was ever committed.
    pub committed: Option<i64>,
    /// The offset that the next record will get.
    pub end: i64,
    /// When the oldest record that is not finished was written.
    pub oldest: Option<DateTime<Utc>>,
}
