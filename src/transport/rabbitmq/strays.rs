//! What is there under our names, and nobody wants any more. Pure.
//!
//! Only what is surely ours: another service's subscription to the same events looks like one of ours, and is left alone.

use super::{
    management::{Binding, Queue, Snapshot},
    topology::{self, Item},
};
use crate::{
    message::Intent,
    transport::{Endpoints, Finding, Standing},
};
use std::collections::HashSet;

/// Queues, exchanges and bindings without a purpose.
pub(super) fn find(endpoints: &Endpoints, items: &[Item], seen: &Snapshot) -> Vec<Finding> {
    let queues = seen.queues.iter().filter(|queue| is_stray_queue(queue, endpoints, items, seen)).map(|queue| {
        let held = match queue.messages {
            Some(0) => ", empty".into(),
            Some(1) => ", 1 message".into(),
            Some(count) => format!(", {count} messages"),
            None => String::new(),
        };
        format!("queue `{}`{held}", queue.name)
    });
    let exchanges = stray_exchanges(endpoints, items, seen).map(|name| format!("exchange `{name}`"));
    let bindings = seen.bindings.iter().filter(|binding| is_stray_binding(binding, endpoints, items)).map(|binding| {
        let Binding { source, destination, destination_type, routing_key } = binding;
        let to = if destination_type == "queue" { "" } else { "exchange " };
        format!("binding of {to}`{destination}` to `{source}` by `{routing_key}`")
    });
    let things = queues.chain(exchanges).chain(bindings);
    things.map(|thing| Finding { thing, standing: Standing::Stray }).collect()
}

/// The names of our channels, and whether they carry commands.
fn channels(endpoints: &Endpoints) -> impl Iterator<Item = (&str, Intent)> {
    let listened = endpoints.subscriptions.iter().map(|subscription| (&*subscription.channel, subscription.intent));
    let sent = endpoints.channels.iter().filter(|channel| !channel.types.is_empty());
    listened.chain(sent.map(|channel| (&*channel.name, channel.intent)))
}

fn wants_queue(items: &[Item], name: &str) -> bool {
    items.iter().any(|item| matches!(item, Item::Queue { name: wanted, .. } if wanted == name))
}

fn is_stray_queue(queue: &Queue, endpoints: &Endpoints, items: &[Item], seen: &Snapshot) -> bool {
    let name = queue.name.as_str();
    if wants_queue(items, name) {
        return false;
    }
    if let Some(subscription) = of_subscription(name) {
        let ours = endpoints.subscriptions.iter().any(|wanted| &*wanted.name == subscription);
        // The leftovers of one that is gone.
        let orphaned = || !seen.queues.iter().any(|queue| queue.name == subscription);
        let below = channels(endpoints).any(|(channel, _)| is_below(subscription, channel));
        return ours || (below && orphaned()) || (below && is_stray_subscription(subscription, endpoints, items, seen));
    }
    is_stray_subscription(name, endpoints, items, seen)
}

/// Commands have one receiver: a second subscription of our making to a channel of commands is of a handler that is gone.
fn is_stray_subscription(name: &str, endpoints: &Endpoints, items: &[Item], seen: &Snapshot) -> bool {
    let Some(queue) = seen.queues.iter().find(|queue| queue.name == name) else { return false };
    let buries = queue.arguments.get("x-dead-letter-exchange").and_then(|exchange| exchange.as_str());
    let commands = |(channel, intent): (&str, Intent)| {
        intent == Intent::Command
            && is_below(name, channel)
            && buries.is_some_and(|exchange| exchange == topology::dead_exchange(channel))
    };
    let listens = endpoints.subscriptions.iter().map(|subscription| (&*subscription.channel, subscription.intent));
    !wants_queue(items, name) && listens.into_iter().any(commands)
}

/// `<subscription>.dead` and `<subscription>.retry.<delay>`.
fn of_subscription(queue: &str) -> Option<&str> {
    let retry = || {
        let (subscription, delay) = queue.rsplit_once(".retry.")?;
        crate::config::parse_duration(delay).map(|_| subscription)
    };
    queue.strip_suffix(".dead").or_else(retry)
}

fn is_below(name: &str, channel: &str) -> bool {
    name.strip_prefix(channel).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Dead letter exchanges of our channels into which no queue buries.
fn stray_exchanges<'a>(
    endpoints: &Endpoints,
    items: &[Item],
    seen: &'a Snapshot,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let wanted: HashSet<String> = items
        .iter()
        .filter_map(|item| match item {
            Item::Exchange { name, .. } => Some(name.clone()),
            _ => None,
        })
        .collect();
    let candidates: HashSet<String> =
        channels(endpoints).map(|(channel, _)| topology::dead_exchange(channel)).collect();
    seen.exchanges.iter().map(|exchange| exchange.name.as_str()).filter(move |name| {
        let used = |queue: &Queue| {
            queue.arguments.get("x-dead-letter-exchange").and_then(|exchange| exchange.as_str()) == Some(*name)
        };
        candidates.contains(*name) && !wanted.contains(*name) && !seen.queues.iter().any(used)
    })
}

/// Into one of our queues by a key that nobody wants; or out of our exchange of commands into somebody else's queue.
fn is_stray_binding(binding: &Binding, endpoints: &Endpoints, items: &[Item]) -> bool {
    let Binding { source, destination, destination_type, routing_key } = binding;
    // The default exchange binds every queue by itself.
    if source.is_empty() {
        return false;
    }
    let wanted = items.iter().any(|item| {
        matches!(item, Item::Binding { queue, exchange, key }
            if queue == destination && exchange == source && key == routing_key && destination_type == "queue")
    });
    let ours = destination_type == "queue" && wants_queue(items, destination);
    let listens = endpoints.subscriptions.iter().filter(|subscription| subscription.intent == Intent::Command);
    let of_commands = listens.into_iter().any(|subscription| &*subscription.channel == source);
    !wanted && (ours || of_commands)
}
