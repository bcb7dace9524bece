//! Cases: what is due later comes then, and holds up nothing that is due sooner.

use super::{Subject, ear::Heard, samples::*};
use crate::{Envelope, clock, message::Hop, store::Destination, transport::Subscription};
use chrono::TimeDelta;
use std::time::Duration;

/// A copy that is due in `delay`, as a retry is.
fn due_in(delay: Duration) -> Envelope {
    let due = clock::to_micros(clock::now() + TimeDelta::from_std(delay).unwrap_or_default());
    Envelope { hop: Hop { attempt: 2, failures: 1, due: Some(due), ..Hop::default() }, ..message() }
}

/// Publishes copies with these delays and hears them in their time. Those that the transport does not keep are the relay's.
async fn each_comes_in_its_time(on: &Subject, queue: &Subscription, delays: &[Duration]) {
    let longest = on.promises().longest_delay;
    let sent: Vec<_> = delays.iter().filter(|delay| **delay <= longest).map(|delay| due_in(*delay)).collect();
    let mut ear = on.listen(queue).await;
    on.publish_all(&Destination::Subscription(queue.name.clone()), &sent).await;
    let accuracy = on.promises().delay_accuracy;
    for _ in &sent {
        for heard in ear.take(1).await {
            let now = clock::now();
            let due = heard.envelope.hop.due.expect("it says when it was due");
            assert!(now >= due, "{} came {} early", heard.envelope.id, due - now);
            let late = clock::between(due, now);
            // Until the next longer delay that the broker has, and no longer.
            let kept = sent.iter().find(|e| e.id == heard.envelope.id).expect("one of these");
            assert_eq!(heard.envelope, *kept);
            assert!(late <= accuracy + rounding(queue, &sent, kept), "{} came {late:?} late", kept.id);
            heard.ack();
        }
    }
    ear.hears_nothing().await;
}

/// What is between two delays of the broker may wait for the longer one.
fn rounding(queue: &Subscription, sent: &[Envelope], kept: &Envelope) -> Duration {
    let _ = sent;
    let due = kept.hop.due.unwrap_or_default();
    let asked = clock::between(kept.time.unwrap_or_default(), due);
    queue.delays.iter().find(|delay| **delay >= asked).map_or(Duration::ZERO, |delay| *delay - asked)
}

pub(super) async fn a_delayed_message_comes_in_its_time(on: Subject) {
    let queue = on.queue("later").await;
    let delays = on.bench.delays();
    for delay in delays {
        each_comes_in_its_time(&on, &queue, &[delay]).await;
    }
}

pub(super) async fn a_long_delay_holds_up_no_short_one(on: Subject) {
    let queue = on.queue("mixed-delays").await;
    let mut delays = on.bench.delays();
    delays.reverse();
    each_comes_in_its_time(&on, &queue, &delays.repeat(5)).await;
}

pub(super) async fn what_is_due_already_comes_at_once(on: Subject) {
    if on.promises().longest_delay.is_zero() {
        return;
    }
    let queue = on.queue("overdue").await;
    let mut ear = on.listen(&queue).await;
    let mut overdue = due_in(Duration::ZERO);
    overdue.hop.due = overdue.hop.due.map(|due| due - TimeDelta::seconds(5));
    let began = clock::instant();
    on.publish_all(&Destination::Subscription(queue.name.clone()), std::slice::from_ref(&overdue)).await;
    ear.take(1).await.into_iter().for_each(Heard::ack);
    let shortest = queue.delays.first().copied().unwrap_or_default();
    assert!(began.elapsed() <= on.promises().delay_accuracy + shortest, "it waited {:?}", began.elapsed());
}
