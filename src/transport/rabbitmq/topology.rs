//! What a worker needs on a broker: exchanges, queues and bindings with the arguments that keep the promises. Pure.

use crate::{
    config::format_duration,
    message::Intent,
    transport::{Endpoints, Subscription},
};
use lapin::types::{AMQPValue, FieldTable};
use std::{collections::HashSet, time::Duration};

/// Returns of one message to its queue (deploys, lost connections, broker restarts) before the broker buries it: only an endless
/// loop reaches it. Never left to the broker: 4.x would drop innocents at 20, and without a limit 3.10 requeues at the tail.
pub(super) const DELIVERY_LIMIT: i32 = 1_000;

/// A dead queue has nowhere to bury.
const NO_LIMIT: i32 = i32::MAX;

/// One thing that must be there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// `kind` is AMQP's word: `direct` or `topic`.
    Exchange {
        name: String,
        kind: &'static str,
    },
    Queue {
        name: String,
        arguments: FieldTable,
    },
    Binding {
        queue: String,
        exchange: String,
        key: String,
    },
}

/// Everything that these endpoints need, in the order in which it can be made; a queue comes after what it buries into.
///
/// `Err`: two of them would be one queue.
pub(super) fn items(endpoints: &Endpoints) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for channel in &endpoints.channels {
        if channel.types.is_empty() {
            // Answers: `reply-to` names a queue, in AMQP as here.
            items.push(queue(&channel.name, &[("x-delivery-limit", NO_LIMIT.into())]));
        } else {
            items.push(Item::Exchange { name: channel.name.to_string(), kind: kind(channel.intent) });
        }
    }
    for subscription in &endpoints.subscriptions {
        let exchange = Item::Exchange { name: subscription.channel.to_string(), kind: kind(subscription.intent) };
        if !items.contains(&exchange) {
            items.push(exchange);
        }
        items.extend(of_subscription(subscription));
    }
    let mut queues = HashSet::new();
    let twice = items.iter().find_map(|item| match item {
        Item::Queue { name, .. } if !queues.insert(name) => Some(name),
        _ => None,
    });
    match twice {
        Some(name) => {
            Err(format!("`{name}` would be the queue of two things: give the handler or the channel another name"))
        }
        None => Ok(items),
    }
}

fn of_subscription(subscription: &Subscription) -> Vec<Item> {
    let (name, channel) = (&*subscription.name, &*subscription.channel);
    let (dead, dead_exchange) = (dead_queue(name), dead_exchange(channel));
    let mut items = vec![
        // A topic exchange, so that `#` hears of every death.
        Item::Exchange { name: dead_exchange.clone(), kind: "topic" },
        queue(&dead, &[("x-delivery-limit", NO_LIMIT.into())]),
        Item::Binding { queue: dead, exchange: dead_exchange.clone(), key: name.to_owned() },
        queue(
            name,
            &[
                ("x-delivery-limit", DELIVERY_LIMIT.into()),
                ("x-dead-letter-exchange", text(&dead_exchange)),
                ("x-dead-letter-routing-key", text(name)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ],
        ),
    ];
    for ty in &subscription.types {
        items.push(Item::Binding { queue: name.to_owned(), exchange: channel.to_owned(), key: ty.clone() });
    }
    for delay in &subscription.delays {
        items.push(queue(
            &delay_queue(name, *delay),
            &[
                ("x-message-ttl", AMQPValue::LongLongInt(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))),
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(name)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ],
        ));
    }
    items
}

fn queue(name: &str, arguments: &[(&'static str, AMQPValue)]) -> Item {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    for (argument, value) in arguments {
        table.insert((*argument).into(), value.clone());
    }
    Item::Queue { name: name.to_owned(), arguments: table }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn kind(intent: Intent) -> &'static str {
    match intent {
        Intent::Command => "direct",
        Intent::Event => "topic",
    }
}

pub(super) fn dead_exchange(channel: &str) -> String {
    format!("{channel}.dead")
}

pub(super) fn dead_queue(subscription: &str) -> String {
    format!("{subscription}.dead")
}

pub(super) fn delay_queue(subscription: &str, delay: Duration) -> String {
    format!("{subscription}.retry.{}", format_duration(delay))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Channel;

    fn subscription(name: &str, channel: &str) -> Subscription {
        Subscription {
            name: name.into(),
            channel: channel.into(),
            intent: Intent::Command,
            types: vec!["car.A".into(), "car.B".into()],
            delays: vec![Duration::from_secs(1), Duration::from_secs(120)],
        }
    }

    fn names(items: &[Item]) -> Vec<String> {
        let name = |item: &Item| match item {
            Item::Exchange { name, kind } => format!("{} exchange {name}", kind),
            Item::Queue { name, .. } => format!("queue {name}"),
            Item::Binding { queue, exchange, key } => format!("{exchange} -{key}-> {queue}"),
        };
        items.iter().map(name).collect()
    }

    #[test]
    fn the_names_are_those_of_the_design() {
        let answers = Channel { name: "shop.answers".into(), intent: Intent::Command, types: Vec::new() };
        let events = Channel { name: "car.events".into(), intent: Intent::Event, types: vec!["car.C".into()] };
        let endpoints = Endpoints {
            subscriptions: vec![subscription("car.commands", "car.commands")],
            channels: vec![answers, events],
        };
        assert_eq!(
            names(&items(&endpoints).unwrap()),
            [
                "queue shop.answers",
                "topic exchange car.events",
                "direct exchange car.commands",
                "topic exchange car.commands.dead",
                "queue car.commands.dead",
                "car.commands.dead -car.commands-> car.commands.dead",
                "queue car.commands",
                "car.commands -car.A-> car.commands",
                "car.commands -car.B-> car.commands",
                "queue car.commands.retry.1s",
                "queue car.commands.retry.2m",
            ]
        );
    }

    #[test]
    fn a_name_that_would_be_two_queues_is_refused() {
        let endpoints = Endpoints {
            subscriptions: vec![subscription("a", "a"), subscription("a.dead", "a")],
            channels: Vec::new(),
        };
        assert!(items(&endpoints).unwrap_err().contains("`a.dead`"));
    }

    #[test]
    fn every_queue_has_a_delivery_limit_or_a_time_to_live() {
        let endpoints = Endpoints { subscriptions: vec![subscription("a", "a")], channels: Vec::new() };
        for item in items(&endpoints).unwrap() {
            if let Item::Queue { name, arguments } = item {
                let bounded = ["x-delivery-limit", "x-message-ttl"].iter().any(|key| arguments.contains_key(key));
                assert!(bounded, "{name}: 4.x would drop its messages at 20 returns");
            }
        }
    }
}
