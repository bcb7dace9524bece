//! Makes or verifies the topology, each thing on a channel of its own: a difference closes that channel and nothing else.

use super::{
    super::{Finding, Standing, TransportError},
    link,
    topology::Item,
    trouble::{self, ACCESS_REFUSED, PRECONDITION_FAILED},
};
use crate::clock;
use lapin::{
    Connection, Error, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use std::time::Duration;
use tracing::{debug, warn};

/// How long a queue that is there may be out of reach.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes what is missing (if `make`) and refuses what differs.
pub(super) async fn all(connection: &Connection, items: &[Item], make: bool) -> Result<(), TransportError> {
    let mut refusals = Vec::new();
    for item in items {
        let found = match item {
            // AMQP shows no bindings; to make one anew changes nothing if it is there.
            Item::Binding { .. } if make => Standing::Missing,
            Item::Binding { .. } => continue,
            _ => find(connection, item).await?,
        };
        match found {
            Standing::Fits | Standing::Stray | Standing::Endangered(_) => {}
            Standing::Unseen => warn!(item = %item.title(), "it is there; this user may not see its arguments, so they were not verified"),
            Standing::Missing if make => match create(connection, item).await {
                Ok(()) => debug!(item = %item.title(), "declared"),
                // What could not be made cannot be bound either: one complaint is enough.
                Err(_) if !refusals.is_empty() && matches!(item, Item::Binding { .. }) => {}
                Err(TransportError::Unfit(why)) => refusals.push(why),
                Err(error) => return Err(error),
            },
            Standing::Missing => refusals.push(format!(
                "{} is missing and `declare = false`: let an operator run `topology apply`",
                item.title()
            )),
            Standing::Differs(how) => refusals.push(format!(
                "{} is there with other arguments: {how}. Change it by a policy where the broker lets you, or delete it \
                 once it is empty and start again, or give the channel another name",
                item.title()
            )),
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(TransportError::Unfit(refusals.join("\n  - "))) }
}

/// Looks at everything without changing anything.
pub(super) async fn inspect(connection: &Connection, items: &[Item]) -> Result<Vec<Finding>, TransportError> {
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        found.push(Finding { thing: item.title(), standing: find(connection, item).await? });
    }
    Ok(found)
}

/// Looks without changing anything.
async fn find(connection: &Connection, item: &Item) -> Result<Standing, TransportError> {
    let seen = match item {
        Item::Exchange { name, kind } => exchange(connection, name, kind, true).await,
        Item::Queue { name, arguments } => queue(connection, name, arguments, true).await,
        Item::Binding { .. } => return Ok(Standing::Unseen),
    };
    match seen {
        Err(error) if trouble::is_missing(&error) => return Ok(Standing::Missing),
        Err(error) => return Err(trouble::operating(&format!("look at {}", item.title()), &error)),
        Ok(()) => {}
    }
    // A passive look passes over arguments. What is there can be declared again: that changes nothing, and compares them.
    let compared = match item {
        Item::Exchange { name, kind } => exchange(connection, name, kind, false).await,
        Item::Queue { name, arguments } => queue(connection, name, arguments, false).await,
        Item::Binding { .. } => Ok(()),
    };
    let Err(error) = compared else { return Ok(Standing::Fits) };
    match trouble::reply(&error) {
        Some((PRECONDITION_FAILED, text)) => Ok(Standing::Differs(text)),
        Some((ACCESS_REFUSED, _)) => Ok(Standing::Unseen),
        _ => Err(trouble::operating(&format!("verify {}", item.title()), &error)),
    }
}

async fn create(connection: &Connection, item: &Item) -> Result<(), TransportError> {
    let made = match item {
        Item::Exchange { name, kind } => exchange(connection, name, kind, false).await,
        Item::Queue { name, arguments } => queue(connection, name, arguments, false).await,
        Item::Binding { queue, exchange, key } => bind(connection, queue, exchange, key).await,
    };
    made.map_err(|error| trouble::operating(&format!("declare {}", item.title()), &error))
}

async fn exchange(connection: &Connection, name: &str, kind: &str, passive: bool) -> Result<(), Error> {
    let channel = link::channel(connection).await?;
    let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), ExchangeKind::Custom(kind.into()), options, FieldTable::default()).await?;
    channel.close(200, "seen".into()).await
}

async fn queue(connection: &Connection, name: &str, arguments: &FieldTable, passive: bool) -> Result<(), Error> {
    let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
    ask_again(|| async {
        let channel = link::channel(connection).await?;
        channel.queue_declare(name.into(), options, arguments.clone()).await?;
        channel.close(200, "seen".into()).await
    })
    .await
}

/// Until the queue can be reached, for [`PATIENCE`]: workers that start together make their queues at the same moment.
async fn ask_again<T, A: Future<Output = Result<T, Error>>>(ask_once: impl Fn() -> A) -> Result<T, Error> {
    let until = clock::instant() + PATIENCE;
    loop {
        match ask_once().await {
            Err(error) if trouble::is_out_of_reach(&error) && clock::instant() < until => {
                debug!(%error, "asked again");
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

async fn bind(connection: &Connection, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
    ask_again(|| async {
        let channel = link::channel(connection).await?;
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?;
        channel.close(200, "bound".into()).await
    })
    .await
}

/// How many wait in a queue, and how many listen to it.
pub(super) async fn count(connection: &Connection, name: &str) -> Result<(u64, u64), TransportError> {
    look(connection, name).await.map_err(|error| trouble::operating(&format!("look at queue `{name}`"), &error))
}

/// How many wait in a queue that may not be there.
pub(super) async fn count_if_there(connection: &Connection, name: &str) -> Result<Option<u64>, TransportError> {
    match look(connection, name).await {
        Ok((ready, _)) => Ok(Some(ready)),
        Err(error) if trouble::is_missing(&error) => Ok(None),
        Err(error) => Err(trouble::operating(&format!("look at queue `{name}`"), &error)),
    }
}

async fn look(connection: &Connection, name: &str) -> Result<(u64, u64), Error> {
    let channel = link::channel(connection).await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    let _ = channel.close(200, "seen".into()).await;
    Ok((queue.message_count().into(), queue.consumer_count().into()))
}

impl Item {
    pub(super) fn title(&self) -> String {
        match self {
            Self::Exchange { name, kind } => format!("{kind} exchange `{name}`"),
            Self::Queue { name, .. } => format!("queue `{name}`"),
            Self::Binding { queue, exchange, key } => format!("binding of `{queue}` to `{exchange}` by `{key}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::trouble::tests::not_found, *};
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn a_queue_out_of_reach_is_asked_for_again_and_a_missing_one_is_not() {
        let asked = Cell::new(0);
        let answer = async |after: u32, text: &str| {
            asked.set(0);
            ask_again(|| async {
                asked.set(asked.get() + 1);
                if asked.get() > after { Ok(asked.get()) } else { Err(not_found(text)) }
            })
            .await
        };
        let away = "NOT_FOUND - home node 'rabbit@b' of durable queue 'a' in vhost '/' is down or inaccessible";
        assert_eq!(answer(3, away).await.expect("it came into reach"), 4);
        assert!(trouble::is_missing(
            &answer(3, "NOT_FOUND - no queue 'a' in vhost '/'").await.expect_err("it is missing")
        ));
        assert_eq!(asked.get(), 1);
        assert!(trouble::is_out_of_reach(&answer(u32::MAX, away).await.expect_err("there is an end to it")));
    }
}
