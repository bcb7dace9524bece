//! Gauges: what stands at some value now, each with its name, unit and meaning.

use opentelemetry::KeyValue;

/// One value of one gauge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) gauge: Gauge,
    pub(crate) value: f64,
    pub(crate) labels: Vec<KeyValue>,
}

/// A value with its labels.
pub(crate) fn reading(gauge: Gauge, value: f64, labels: &[(&'static str, &str)]) -> Reading {
    let labels = labels.iter().map(|(key, value)| KeyValue::new(*key, (*value).to_owned())).collect();
    Reading { gauge, value, labels }
}

macro_rules! gauges {
    ($($gauge:ident $name:literal $unit:literal $about:literal)*) => {
        /// All gauges but the build's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Gauge { $($gauge),* }
        impl Gauge {
            pub(crate) const ALL: [Self; [$($name),*].len()] = [$(Self::$gauge),*];
            pub(crate) fn name(self) -> &'static str { match self { $(Self::$gauge => $name),* } }
            pub(crate) fn unit(self) -> &'static str { match self { $(Self::$gauge => $unit),* } }
            pub(crate) fn about(self) -> &'static str { match self { $(Self::$gauge => $about),* } }
        }
    };
}

gauges! {
    InboxMessages "pitcrew.inbox.messages" "{message}" "Messages that the inbox remembers (Postgres: an estimate)."
    InboxAge "pitcrew.inbox.oldest.age" "s" "Age of the oldest of them."
    OutboxMessages "pitcrew.outbox.messages" "{message}" "Rows of the outbox."
    OutboxAge "pitcrew.outbox.oldest.age" "s" "How long the oldest row could have left."
    DeadLetters "pitcrew.dead.letters" "{message}" "Letters that wait for a person, or for a newer build."
    DeadLettersAge "pitcrew.dead.letters.oldest.age" "s" "How long the oldest of them has been waiting."
    LagMessages "pitcrew.lag.messages" "{message}" "What waits to be handled, by where it waits."
    LagSeconds "pitcrew.lag" "s" "How late the oldest of it is."
    QueueDepth "pitcrew.queue.depth" "{message}" "Messages with the broker, by state."
    QueueConsumers "pitcrew.queue.consumers" "{consumer}" "Who listens, in all processes."
    InFlight "pitcrew.in_flight" "{message}" "Received and without a fate."
    InFlightBytes "pitcrew.in_flight.bytes" "" "Bytes of that."
    HandlersRunning "pitcrew.handlers.running" "{handler}" "Slots that handlers hold now."
    HandlerWaiting "pitcrew.handler.waiting" "{message}" "Held in front of a handler that is in a storm or left alone."
    StormLimit "pitcrew.handler.storm.limit" "{handler}" "So many run at once while the storm lasts."
    BreakerOpen "pitcrew.breaker.open" "" "1 while a provider is left alone."
    BreakerReopens "pitcrew.breaker.reopens" "s" "Until it is probed."
    ConnectionUp "pitcrew.connection.up" "" "1 while it answers."
    LoopBeatAge "pitcrew.loop.beat.age" "s" "How long a loop has not moved though it has something to do."
    GatherAge "pitcrew.gather.age" "s" "How old the gauges of store and broker are."
}
