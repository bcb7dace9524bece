//! How many messages wait, where. What AMQP counts is of this moment; what only the management API counts is seconds old.

use super::{
    super::{Depth, Subscription, TransportError},
    declare,
    management::{Management, Queue},
    topology,
};
use chrono::DateTime;
use lapin::Connection;

/// Of the queue of this name; `known` has its delays, if this process declared it.
pub(super) async fn depth(
    connection: &Connection,
    management: Option<&Management>,
    name: &str,
    known: Option<&Subscription>,
) -> Result<Depth, TransportError> {
    let delays = known.map(|subscription| subscription.delays.as_slice()).unwrap_or_default();
    let delays: Vec<_> = delays.iter().map(|delay| topology::delay_queue(name, *delay)).collect();
    let (ready, consumers) = declare::count(connection, name).await?;
    let mut delayed = 0;
    for queue in &delays {
        delayed += declare::count_if_there(connection, queue).await?.unwrap_or(0);
    }
    let dead = declare::count_if_there(connection, &topology::dead_queue(name)).await?;
    let mut depth = Depth {
        ready: Some(ready),
        delayed: known.is_some().then_some(delayed),
        dead,
        consumers: Some(consumers),
        ..Depth::default()
    };
    if let Some(management) = management
        && let Some(queues) = management.statistics([vec![name.to_owned()], delays].concat()).await
    {
        complete(&mut depth, name, &queues);
    }
    Ok(depth)
}

/// By the statistics of the queue and its delay queues.
fn complete(depth: &mut Depth, name: &str, queues: &[Queue]) {
    let main = queues.iter().find(|queue| queue.name == name);
    depth.unacked = main.and_then(|queue| queue.messages_unacknowledged);
    depth.stuck = main.and_then(|queue| queue.messages_dlx);
    // AMQP does not count what is due and not taken back: it is out of the delay queue, and nowhere else.
    let due = queues.iter().filter(|queue| queue.name != name).filter_map(|queue| queue.messages_dlx).sum::<u64>();
    depth.delayed = depth.delayed.map(|delayed| delayed + due);
    let oldest = queues.iter().filter_map(|queue| queue.head_message_timestamp).min();
    depth.oldest = oldest.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn statistics_complete_what_amqp_counted() {
        let queues: Vec<Queue> = serde_json::from_value(json!([
            { "name": "c", "messages_unacknowledged": 3, "messages_dlx": 1, "head_message_timestamp": 1_700_000_000 },
            { "name": "c.retry.1s", "messages_dlx": 2, "messages_unacknowledged": 9 },
            { "name": "c.retry.2s", "head_message_timestamp": 1_600_000_000 },
        ]))
        .unwrap();
        let mut depth = Depth { delayed: Some(5), ..Depth::default() };
        complete(&mut depth, "c", &queues);
        let oldest = DateTime::from_timestamp(1_600_000_000, 0);
        assert_eq!(depth, Depth { unacked: Some(3), stuck: Some(1), delayed: Some(7), oldest, ..Depth::default() });
        complete(&mut depth, "c", &[Queue { name: "c".into(), ..Queue::default() }]);
        assert_eq!((depth.unacked, depth.stuck, depth.oldest), (None, None, None), "a new queue has no statistics yet");
    }
}
