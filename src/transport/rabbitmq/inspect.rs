//! How the broker stands to what a worker needs, as deep as can be looked.

use super::{
    super::{Endpoints, Finding, Inspection, Standing, TransportError},
    danger, declare,
    management::{Binding, Flag, Management, Snapshot},
    strays,
    topology::Item,
};
use lapin::Connection;

/// Retries are at least once only with it; 3.10 may have it disabled after an upgrade, later versions have nothing else.
const FLAG: &str = "stream_queue";

/// Changes nothing. Without an answer of the management API it is what AMQP shows, and `reach` says why.
pub(super) async fn inspect(
    connection: &Connection,
    endpoints: &Endpoints,
    items: &[Item],
    management: Option<&Management>,
) -> Result<Inspection, TransportError> {
    let findings = declare::inspect(connection, items).await?;
    let Some(management) = management else {
        let reach = "Seen over AMQP only: no bindings, policies, feature flags or strays. Set `management` of the transport to \
                     the address of RabbitMQ's management API to see them.";
        return Ok(Inspection { findings, reach: reach.into(), refusals: Vec::new() });
    };
    match management.snapshot().await {
        Ok(seen) => Ok(deeper(findings, endpoints, items, &seen)),
        Err(why) => {
            let reach = format!("Seen over AMQP only: no bindings, policies, feature flags or strays, because {why}.");
            Ok(Inspection { findings, reach, refusals: Vec::new() })
        }
    }
}

/// Completes what AMQP showed by what the API shows.
fn deeper(mut findings: Vec<Finding>, endpoints: &Endpoints, items: &[Item], seen: &Snapshot) -> Inspection {
    for (finding, item) in findings.iter_mut().zip(items) {
        match item {
            Item::Binding { queue, exchange, key } => {
                let is = |binding: &Binding| {
                    (&binding.source, &binding.destination, &binding.routing_key) == (exchange, queue, key)
                        && binding.destination_type == "queue"
                };
                finding.standing = if seen.bindings.iter().any(is) { Standing::Fits } else { Standing::Missing };
            }
            Item::Queue { name, arguments } => {
                let Some(queue) = seen.queues.iter().find(|queue| queue.name == *name) else { continue };
                if finding.standing == Standing::Unseen {
                    let difference = danger::difference(queue, arguments);
                    finding.standing = difference.map_or(Standing::Fits, Standing::Differs);
                }
                if finding.standing == Standing::Fits
                    && let Some(danger) = danger::of(queue, arguments)
                {
                    finding.standing = Standing::Endangered(danger);
                }
            }
            Item::Exchange { .. } => {}
        }
    }
    findings.extend(seen.flags.as_deref().and_then(flag));
    findings.extend(strays::find(endpoints, items, seen));
    let reach = match seen.flags {
        Some(_) => String::new(),
        None => "All seen but the feature flags, which RabbitMQ 3 shows to users with the tag `administrator` only: \
                 `rabbitmqctl list_feature_flags` must have stream_queue enabled."
            .into(),
    };
    Inspection { findings, reach, refusals: Vec::new() }
}

fn flag(flags: &[Flag]) -> Option<Finding> {
    let flag = flags.iter().find(|flag| flag.name == FLAG)?;
    let standing = match flag.state.as_str() {
        "enabled" => Standing::Fits,
        state => Standing::Endangered(format!(
            "it is {state}, so a retry whose queue is missing or full when it is due is lost; enable it with `rabbitmqctl \
             enable_feature_flag {FLAG}`, and make the delay queues anew"
        )),
    };
    Some(Finding { thing: format!("feature flag `{FLAG}`"), standing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::Intent,
        transport::{Subscription, rabbitmq::topology},
    };
    use serde_json::json;
    use std::time::Duration;

    fn endpoints(intent: Intent) -> Endpoints {
        let subscription = Subscription {
            name: if intent == Intent::Command { "c".into() } else { "c.shop".into() },
            channel: "c".into(),
            intent,
            types: vec!["car.A".into()],
            delays: vec![Duration::from_secs(1)],
        };
        Endpoints { subscriptions: vec![subscription], channels: Vec::new() }
    }

    /// A broker that has all that is wanted, and these queues too.
    fn broker(endpoints: &Endpoints, beside: serde_json::Value) -> (Vec<Item>, Snapshot) {
        let items = topology::items(endpoints).unwrap();
        let mut seen = Snapshot::default();
        for item in &items {
            match item {
                Item::Queue { name, .. } => seen.queues.push(serde_json::from_value(json!({ "name": name })).unwrap()),
                Item::Exchange { name, .. } => {
                    seen.exchanges.push(serde_json::from_value(json!({ "name": name })).unwrap());
                }
                Item::Binding { queue, exchange, key } => seen.bindings.push(Binding {
                    source: exchange.clone(),
                    destination: queue.clone(),
                    destination_type: "queue".into(),
                    routing_key: key.clone(),
                }),
            }
        }
        let beside: Vec<super::super::management::Queue> = serde_json::from_value(beside).unwrap();
        seen.queues.extend(beside);
        (items, seen)
    }

    /// The things that are not as they should be.
    fn told(endpoints: &Endpoints, items: &[Item], seen: &Snapshot) -> Vec<(String, Standing)> {
        let as_amqp = |item: &Item| match item {
            Item::Binding { .. } => Standing::Unseen,
            _ => Standing::Fits,
        };
        let findings = items.iter().map(|item| Finding { thing: item.title(), standing: as_amqp(item) }).collect();
        let findings = deeper(findings, endpoints, items, seen).findings.into_iter();
        findings.map(|finding| (finding.thing, finding.standing)).filter(|(_, is)| *is != Standing::Fits).collect()
    }

    #[test]
    fn nothing_is_told_where_all_is_well() {
        let endpoints = endpoints(Intent::Command);
        let beside =
            json!([{ "name": "other" }, { "name": "car" }, { "name": "other.dead" }, { "name": "cc.retry.1s" }]);
        let (items, seen) = broker(&endpoints, beside);
        assert_eq!(told(&endpoints, &items, &seen), []);
    }

    #[test]
    fn a_binding_that_is_gone_is_missing() {
        let endpoints = endpoints(Intent::Command);
        let (items, mut seen) = broker(&endpoints, json!([]));
        seen.bindings.retain(|binding| binding.routing_key != "car.A");
        assert_eq!(
            told(&endpoints, &items, &seen),
            [("binding of `c` to `c` by `car.A`".to_owned(), Standing::Missing)]
        );
    }

    #[test]
    fn leftovers_of_ours_are_strays() {
        let endpoints = endpoints(Intent::Command);
        let old = json!({ "x-dead-letter-exchange": "c.dead" });
        let beside = json!([
            { "name": "c.retry.7s", "messages": 0 },
            { "name": "c.old", "arguments": old, "messages": 2 },
            { "name": "c.old.dead", "messages": 1 },
            { "name": "c.gone.retry.1m" },
            { "name": "c.retry.soon" },
        ]);
        let (items, mut seen) = broker(&endpoints, beside);
        let foreign = Binding { routing_key: "car.B".into(), ..seen.bindings[1].clone() };
        seen.bindings.push(foreign);
        let told = told(&endpoints, &items, &seen).into_iter();
        let strays: Vec<_> = told.filter(|(_, is)| *is == Standing::Stray).map(|(thing, _)| thing).collect();
        assert_eq!(
            strays,
            [
                "queue `c.retry.7s`, empty",
                "queue `c.old`, 2 messages",
                "queue `c.old.dead`, 1 message",
                "queue `c.gone.retry.1m`",
                "binding of `c` to `c` by `car.B`",
            ]
        );
    }

    #[test]
    fn another_service_of_the_same_events_is_no_stray() {
        let endpoints = endpoints(Intent::Event);
        let arguments = json!({ "x-dead-letter-exchange": "c.dead" });
        let beside = json!([
            { "name": "c.other", "arguments": arguments },
            { "name": "c.other.dead" },
            { "name": "c.other.retry.1s" },
        ]);
        let (items, mut seen) = broker(&endpoints, beside);
        let other = Binding { destination: "c.other".into(), ..seen.bindings[1].clone() };
        seen.bindings.push(other);
        assert_eq!(told(&endpoints, &items, &seen), []);
        // Its own queue is gone, and these were left behind.
        seen.queues.retain(|queue| queue.name != "c.other");
        let strays: Vec<_> = told(&endpoints, &items, &seen).into_iter().map(|(thing, _)| thing).collect();
        assert_eq!(strays, ["queue `c.other.dead`", "queue `c.other.retry.1s`"]);
    }

    fn endangered(name: &str, queue: serde_json::Value) -> Option<String> {
        let endpoints = endpoints(Intent::Command);
        let (items, mut seen) = broker(&endpoints, json!([]));
        let place = seen.queues.iter().position(|queue| queue.name == name).unwrap();
        seen.queues[place] = serde_json::from_value(queue).unwrap();
        seen.queues[place].name = name.into();
        match told(&endpoints, &items, &seen).pop() {
            Some((_, Standing::Endangered(how))) => Some(how),
            other => {
                assert_eq!(other, None);
                None
            }
        }
    }

    #[test]
    fn a_policy_endangers_a_queue_by_what_it_changes() {
        let with = |name: &str, definition: serde_json::Value| {
            let arguments = json!({ "x-delivery-limit": if name == "c" { 1_000 } else { i32::MAX } });
            endangered(
                name,
                json!({ "policy": "p", "arguments": arguments, "effective_policy_definition": definition }),
            )
        };
        for (name, definition, words) in [
            ("c", json!({ "max-length": 10 }), "refuses messages when it is full"),
            ("c.dead", json!({ "max-length-bytes": 10 }), "drops the oldest messages"),
            ("c", json!({ "message-ttl": 60_000 }), "buries what waits for longer than 1m"),
            ("c.retry.1s", json!({ "message-ttl": 100 }), "brings retries back after 100ms"),
            ("c.retry.1s", json!({ "expires": 60_000 }), "deletes it with its messages"),
            ("c", json!({ "delivery-limit": 3 }), "after 3 returns"),
            ("c.retry.1s", json!({ "overflow": "drop-head" }), "is lost"),
            ("c.dead", json!({ "dead-letter-exchange": "x" }), "to exchange \"x\""),
        ] {
            let told = with(name, definition.clone()).unwrap_or_else(|| panic!("{definition} endangers {name}"));
            assert!(told.contains("policy `p`") && told.contains(words), "{told}");
        }
        for (name, definition) in [
            ("c", json!([])),
            ("c", json!({ "max-in-memory-length": 10, "dead-letter-exchange": "x", "overflow": "reject-publish" })),
            ("c", json!({ "delivery-limit": 5_000 })),
            ("c.dead", json!({ "delivery-limit": 5_000 })),
            ("c.retry.1s", json!({ "message-ttl": 5_000, "delivery-limit": 1 })),
        ] {
            assert_eq!(with(name, definition), None);
        }
    }

    #[test]
    fn messages_that_nobody_takes_endanger_a_queue() {
        assert!(endangered("c", json!({ "messages_dlx": 3 })).unwrap().starts_with("3 messages do not get"));
        assert!(endangered("c.retry.1s", json!({ "messages_dlx": 1 })).unwrap().contains("every three minutes"));
    }

    #[test]
    fn a_disabled_feature_flag_is_a_danger_and_one_that_is_no_more_is_none() {
        let flags = |state: &str| flag(&[Flag { name: FLAG.into(), state: state.into() }]).unwrap().standing;
        assert_eq!(flags("enabled"), Standing::Fits);
        assert!(matches!(flags("disabled"), Standing::Endangered(_)));
        assert_eq!(flag(&[]), None);
    }
}
