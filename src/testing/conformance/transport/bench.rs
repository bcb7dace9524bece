//! Test Bench: what the author of a transport brings, and what can be done to his broker.

use crate::{message::wire::Raw, store::Store, transport::*};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};

/// The way to one broker, for one case. Two benches must not share a name, so that cases run side by side.
///
/// What a transport promises is read from its [`Promises`]; here stands only what a test must be told or lent.
#[async_trait]
pub trait Bench: Send + Sync + 'static {
    /// Connects as one more process does. What two of them declare under one name is the same queue, unless the outbox row is
    /// the message ([`Promises::keeps_rows`]): then they meet in the store alone.
    async fn connect(&self) -> Arc<dyn Transport>;

    /// Begins every name of this case, `[a-z0-9.-]+`, at most 40 bytes, and no name of any other.
    fn prefix(&self) -> &str;

    /// Puts bytes into the queue of a declared subscription as a foreign producer does. With properties where the broker has
    /// such; what it cannot carry it leaves away.
    async fn put(&self, subscription: &Subscription, raw: Raw);

    /// Opens the store of the cases that run whole workers, as one more process does: the same data at every call.
    async fn store(&self) -> Arc<dyn Store>;

    /// Whether two workers may be at work on [`store`](Self::store) at once.
    fn shares_store(&self) -> bool {
        true
    }

    /// How long a case waits for what must come. Only a broken promise waits so long.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// How long nothing must come until a case believes that nothing will. A passing case waits so long, too.
    fn quiet(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Delays that subscriptions are declared with, ascending, the first one at least a few times the accuracy of the broker.
    /// Cases wait for them.
    fn delays(&self) -> Vec<Duration> {
        [200, 500, 1_200].map(Duration::from_millis).into()
    }

    /// The most messages that one consumer holds in memory beside those that were received from it.
    fn most_held(&self) -> usize {
        4_096
    }

    /// Cuts all connections of the transports made so far, as a network or an operator does. `false`: there are none to cut.
    async fn cut(&self) -> bool {
        false
    }

    /// What lies in the Dead Letter Channel of a subscription. `None`: the bench cannot look into it.
    async fn dead_letters(&self, subscription: &Subscription) -> Option<Vec<Raw>> {
        let _ = subscription;
        None
    }

    /// Takes away what the case left behind.
    async fn clear(&self) {}
}
