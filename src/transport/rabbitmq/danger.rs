//! What an operator's policies, or a full queue, do to one of our queues. Pure.

use super::management::Queue;
use crate::config::format_duration;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use std::time::Duration;

/// What a queue is for: its arguments say it.
enum Role {
    /// Consumed; buries into the dead letter exchange.
    Work,
    /// Keeps retries for so many milliseconds.
    Delay(i64),
    /// Dead letters, or answers: nothing leaves it by itself.
    Kept,
}

impl Role {
    fn of(arguments: &FieldTable) -> Self {
        match (arguments.inner().get("x-message-ttl"), arguments.inner().get("x-dead-letter-exchange")) {
            (Some(AMQPValue::LongLongInt(ttl)), _) => Self::Delay(*ttl),
            (_, Some(_)) => Self::Work,
            _ => Self::Kept,
        }
    }
}

/// Everything that endangers it, and what to do; `None`: nothing.
pub(super) fn of(queue: &Queue, arguments: &FieldTable) -> Option<String> {
    let role = Role::of(arguments);
    let mut dangers = Vec::new();
    let effects: Vec<_> = policy(queue).flat_map(|(key, value)| effect(key, value, &role, queue)).collect();
    if !effects.is_empty() {
        dangers.push(format!("{}: {}. Exempt this queue from it", named(queue), effects.join("; ")));
    }
    match (queue.messages_dlx.unwrap_or(0), &role) {
        (0, _) => {}
        (stuck, Role::Delay(_)) => dangers.push(format!(
            "{stuck} due retries do not get back into their queue: look whether it is there and has room; the broker tries \
             again every three minutes"
        )),
        (stuck, _) => dangers.push(format!(
            "{stuck} messages do not get into the dead letter exchange: look whether the dead letter queue is there, is \
             bound and has room"
        )),
    }
    (!dangers.is_empty()).then(|| dangers.join(". "))
}

fn policy(queue: &Queue) -> impl Iterator<Item = (&str, &Value)> {
    queue.effective_policy_definition.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn named(queue: &Queue) -> String {
    match (&queue.policy, &queue.operator_policy) {
        (Some(policy), Some(operator)) => format!("policy `{policy}` or operator policy `{operator}`"),
        (None, Some(operator)) => format!("operator policy `{operator}`"),
        (Some(policy), None) => format!("policy `{policy}`"),
        (None, None) => "a policy".into(),
    }
}

/// What a key of a policy does to such a queue. A dead letter exchange, key or strategy does nothing where the argument has one;
/// everything else in a policy counts beside the argument, or over it (`overflow`).
fn effect(key: &str, value: &Value, role: &Role, queue: &Queue) -> Option<String> {
    let span = |value: &Value| format_duration(Duration::from_millis(value.as_u64().unwrap_or(0)));
    let what = match (key, role) {
        ("max-length" | "max-length-bytes", Role::Work) => {
            "refuses messages when it is full, and a retry that is due then comes three minutes late".into()
        }
        ("max-length" | "max-length-bytes", Role::Delay(_)) => "refuses retries when it is full".into(),
        ("max-length" | "max-length-bytes", Role::Kept) => "drops the oldest messages when it is full".into(),
        ("message-ttl", Role::Work) => format!("buries what waits for longer than {}", span(value)),
        ("message-ttl", Role::Delay(own)) => {
            value.as_i64().filter(|ttl| ttl < own)?;
            format!("brings retries back after {}", span(value))
        }
        ("message-ttl", Role::Kept) => format!("drops what lies there for longer than {}", span(value)),
        ("expires", _) => format!("deletes it with its messages after {} without use", span(value)),
        ("delivery-limit", Role::Work | Role::Kept) => {
            let own = queue.arguments.get("x-delivery-limit").and_then(Value::as_i64).unwrap_or(0);
            let limit = value.as_i64().filter(|limit| *limit < own.min(i64::from(super::topology::DELIVERY_LIMIT)))?;
            let then = if matches!(role, Role::Work) { "buries" } else { "drops" };
            format!("{then} a message after {limit} returns (deploys and lost connections return messages too)")
        }
        ("overflow", Role::Work | Role::Delay(_)) if value != "reject-publish" => {
            "drops messages when it is full, and turns at-least-once dead-lettering off: a retry or a dead letter whose queue \
             is missing is lost"
                .into()
        }
        ("dead-letter-exchange", Role::Kept) => {
            format!("sends what the broker takes out of it to exchange {value}")
        }
        _ => return None,
    };
    Some(format!("{key} {what}"))
}

/// The first argument that differs, where AMQP does not compare them for this user.
pub(super) fn difference(queue: &Queue, arguments: &FieldTable) -> Option<String> {
    arguments.inner().iter().find_map(|(key, wanted)| {
        let wanted = match wanted {
            AMQPValue::LongString(text) => Value::from(String::from_utf8_lossy(text.as_bytes())),
            AMQPValue::LongInt(number) => Value::from(*number),
            AMQPValue::LongLongInt(number) => Value::from(*number),
            _ => return None,
        };
        let seen = queue.arguments.get(key.as_str()).unwrap_or(&Value::Null);
        (*seen != wanted).then(|| format!("argument {key} is {seen}, and {wanted} is needed"))
    })
}
