//! Makes or verifies the topology, each thing on a channel of its own: a difference closes that channel and nothing else.

use super::{
    super::{Finding, Standing, TransportError},
    link,
    topology::Item,
    trouble::{self, ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED},
};
use lapin::{
    Connection, Error, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tracing::{debug, warn};

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
        Err(error) if trouble::code(&error) == Some(NOT_FOUND) => return Ok(Standing::Missing),
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
    let channel = link::channel(connection).await?;
    let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments.clone()).await?;
    channel.close(200, "seen".into()).await
}

async fn bind(connection: &Connection, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
    let channel = link::channel(connection).await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?;
    channel.close(200, "bound".into()).await
}

/// How many wait in a queue, and how many listen to it.
pub(super) async fn count(connection: &Connection, name: &str) -> Result<(u64, u64), TransportError> {
    look(connection, name).await.map_err(|error| trouble::operating(&format!("look at queue `{name}`"), &error))
}

/// How many wait in a queue that may not be there.
pub(super) async fn count_if_there(connection: &Connection, name: &str) -> Result<Option<u64>, TransportError> {
    match look(connection, name).await {
        Ok((ready, _)) => Ok(Some(ready)),
        Err(error) if trouble::code(&error) == Some(NOT_FOUND) => Ok(None),
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
