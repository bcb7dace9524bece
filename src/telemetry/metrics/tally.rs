//! Tallies: counters by channel and type, as atomics, all made before the first message.

use opentelemetry::KeyValue;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// What has no label of its own.
pub(crate) const OTHER: &str = "other";

/// So many pairs of channel and type have labels of their own: beyond it a scrape would cost more than it tells.
const MOST: usize = 300;

/// What can become of a delivery.
const FATES: [&str; 7] = ["done", "duplicate", "retry", "dead", "quarantined", "expired", "ignored"];
/// Why it is dead.
pub(crate) const REASONS: [&str; 16] = [
    "undecodable",
    "invalid_payload",
    "unknown_type",
    "permanent",
    "exhausted",
    "gave_up",
    "too_old",
    "from_the_future",
    "id_reused",
    "key_conflict",
    "kills_worker",
    "in_doubt",
    "too_large",
    "unstorable",
    "unpublishable",
    "buried",
];
/// How a try ends that does not end done.
const ATTEMPTS: [&str; 8] = ["failure", "timeout", "panic", "crash", "later", "conflict", "interrupted", "rejected"];
/// Why a row was not published.
const ERRORS: [&str; 4] = ["unknown", "unroutable", "refused", "permanent"];

/// How it was found that a delivery was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The inbox was asked before it ran.
    Inbox,
    /// Its commit found its inbox row, or its business key.
    Commit,
    /// The transaction of its own handler did.
    Handler,
}

const CAUSES: [&str; 3] = ["inbox", "commit", "handler"];

/// One subscription: whose messages are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listens<'a> {
    /// `rabbitmq`, `kafka`, `embedded`: `messaging.system`.
    pub(crate) system: &'static str,
    pub(crate) subscription: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) types: &'a [String],
}

/// One channel or subscription that is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sends<'a> {
    pub(crate) system: &'static str,
    pub(crate) destination: &'a str,
}

/// A counter for each of some words, and one for what is none of them.
struct Counts<const N: usize> {
    words: &'static [&'static str; N],
    counts: [AtomicU64; N],
    other: AtomicU64,
}

impl<const N: usize> Counts<N> {
    fn new(words: &'static [&'static str; N]) -> Self {
        Self { words, counts: [const { AtomicU64::new(0) }; N], other: AtomicU64::new(0) }
    }

    fn add(&self, word: &str, count: u64) {
        let at = self.words.iter().position(|known| *known == word);
        at.map_or(&self.other, |at| &self.counts[at]).fetch_add(count, Relaxed);
    }

    /// All of the words, so that a rise from nothing can be seen; the other one only if there was any.
    fn each(&self, mut show: impl FnMut(&'static str, u64)) {
        for (word, count) in self.words.iter().zip(&self.counts) {
            show(word, count.load(Relaxed));
        }
        let other = self.other.load(Relaxed);
        if other > 0 {
            show(OTHER, other);
        }
    }
}

/// One type in one channel.
pub(crate) struct Tally {
    labels: [KeyValue; 2],
    process: Vec<KeyValue>,
    fates: Counts<{ FATES.len() }>,
    reasons: Counts<{ REASONS.len() }>,
    attempts: Counts<{ ATTEMPTS.len() }>,
    duplicates: Counts<{ CAUSES.len() }>,
}

impl Tally {
    fn new(system: &'static str, channel: &str, ty: &str) -> Self {
        let (channel, ty): (Arc<str>, Arc<str>) = (channel.into(), ty.into());
        Self {
            process: vec![
                KeyValue::new("messaging.system", system),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.destination.name", channel.clone()),
                KeyValue::new("type", ty.clone()),
            ],
            labels: [KeyValue::new("channel", channel), KeyValue::new("type", ty)],
            fates: Counts::new(&FATES),
            reasons: Counts::new(&REASONS),
            attempts: Counts::new(&ATTEMPTS),
            duplicates: Counts::new(&CAUSES),
        }
    }

    pub(super) fn process(&self) -> &[KeyValue] {
        &self.process
    }

    pub(super) fn fate(&self, fate: &'static str, reason: Option<&'static str>) {
        self.fates.add(fate, 1);
        if let Some(reason) = reason {
            self.reasons.add(reason, 1);
        }
    }

    pub(super) fn attempt(&self, kind: &'static str) {
        self.attempts.add(kind, 1);
    }

    pub(super) fn duplicate(&self, cause: Cause) {
        self.duplicates.add(CAUSES[cause as usize], 1);
    }

    fn with(&self, key: &'static str, word: &'static str) -> [KeyValue; 3] {
        let [channel, ty] = self.labels.clone();
        [channel, ty, KeyValue::new(key, word)]
    }
}

/// What one subscription received.
struct Received {
    labels: [KeyValue; 4],
    count: AtomicU64,
    types: HashMap<String, Arc<Tally>>,
    other: Arc<Tally>,
}

/// What went to one destination.
struct Sent {
    labels: [KeyValue; 3],
    count: AtomicU64,
    failed: Counts<{ ERRORS.len() }>,
}

impl Sent {
    fn new(system: &'static str, destination: &str) -> Self {
        let labels = [
            KeyValue::new("messaging.system", system),
            KeyValue::new("messaging.operation.name", "publish"),
            KeyValue::new("messaging.destination.name", destination.to_owned()),
        ];
        Self { labels, count: AtomicU64::new(0), failed: Counts::new(&ERRORS) }
    }
}

/// All counters of a worker.
pub(super) struct Tallies {
    subscriptions: HashMap<String, Received>,
    /// The same by their labels, each once.
    tallies: BTreeMap<(String, String), Arc<Tally>>,
    destinations: HashMap<String, Sent>,
    /// What goes to none of them, by its broker. Never empty.
    elsewhere: Vec<(&'static str, Sent)>,
    unknown: Arc<Tally>,
    overflow: AtomicU64,
}

impl Default for Tallies {
    fn default() -> Self {
        Self::new(&[], &[], &[])
    }
}

impl Tallies {
    pub(super) fn new(systems: &[&'static str], listens: &[Listens<'_>], sends: &[Sends<'_>]) -> Self {
        let mut tallies: BTreeMap<(String, String), Arc<Tally>> = BTreeMap::new();
        let mut tally = |system: &'static str, channel: &str, ty: &str, needed: bool| {
            let full = tallies.len() >= MOST;
            let label = (channel.to_owned(), ty.to_owned());
            match tallies.get(&label) {
                Some(tally) => Some(tally.clone()),
                None if full && !needed => None,
                None => {
                    let tally = Arc::new(Tally::new(system, channel, ty));
                    tallies.insert(label, tally.clone());
                    Some(tally)
                }
            }
        };
        let systems = if systems.is_empty() { &[""] } else { systems };
        let unknown = Arc::new(Tally::new(systems[0], OTHER, OTHER));
        let mut subscriptions = HashMap::new();
        for &Listens { system, subscription, channel, types } in listens.iter().take(MOST) {
            // Subscriptions share it, if they share a channel.
            let Some(other) = tally(system, channel, OTHER, true) else { continue };
            let types = types.iter().filter_map(|ty| Some((ty.clone(), tally(system, channel, ty, false)?))).collect();
            let labels = [
                KeyValue::new("messaging.system", system),
                KeyValue::new("messaging.operation.name", "receive"),
                KeyValue::new("messaging.destination.name", channel.to_owned()),
                KeyValue::new("messaging.consumer.group.name", subscription.to_owned()),
            ];
            let received = Received { labels, count: AtomicU64::new(0), types, other };
            subscriptions.insert(subscription.to_owned(), received);
        }
        let sent = |to: &Sends<'_>| (to.destination.to_owned(), Sent::new(to.system, to.destination));
        let destinations = sends.iter().take(MOST).map(sent).collect();
        let elsewhere = systems.iter().map(|&system| (system, Sent::new(system, OTHER))).collect();
        Self { subscriptions, tallies, destinations, elsewhere, unknown, overflow: AtomicU64::new(0) }
    }

    pub(super) fn of(&self, subscription: &str, ty: &str) -> &Tally {
        let Some(received) = self.subscriptions.get(subscription) else { return &self.unknown };
        received.types.get(ty).unwrap_or_else(|| {
            self.overflow.fetch_add(1, Relaxed);
            &received.other
        })
    }

    pub(super) fn label(&self, channel: &str, ty: &str) -> (Arc<str>, Arc<str>) {
        let known = |channel: &str, ty: &str| self.tallies.contains_key(&(channel.to_owned(), ty.to_owned()));
        match () {
            () if known(channel, ty) => (channel.into(), ty.into()),
            () if known(channel, OTHER) => (channel.into(), OTHER.into()),
            () => (OTHER.into(), OTHER.into()),
        }
    }

    pub(super) fn consumed(&self, subscription: &str, count: u64) {
        if let Some(received) = self.subscriptions.get(subscription) {
            received.count.fetch_add(count, Relaxed);
        }
    }

    pub(super) fn published(&self, to: Sends<'_>, sent: u64, failed: &[&'static str]) -> &[KeyValue] {
        let elsewhere = || {
            let of_broker = self.elsewhere.iter().find(|(system, _)| *system == to.system);
            &of_broker.unwrap_or(&self.elsewhere[0]).1
        };
        let to = self.destinations.get(to.destination).unwrap_or_else(elsewhere);
        to.count.fetch_add(sent, Relaxed);
        failed.iter().for_each(|error| to.failed.add(error, 1));
        &to.labels
    }

    pub(super) fn overflow(&self) -> u64 {
        self.overflow.load(Relaxed)
    }

    pub(super) fn show_consumed(&self, show: &mut dyn FnMut(u64, &[KeyValue])) {
        for received in self.subscriptions.values() {
            show(received.count.load(Relaxed), &received.labels);
        }
    }

    pub(super) fn show_sent(&self, show: &mut dyn FnMut(u64, &[KeyValue])) {
        for sent in self.destinations.values().chain(self.elsewhere.iter().map(|(_, sent)| sent)) {
            show(sent.count.load(Relaxed), &sent.labels);
            sent.failed.each(|error, count| {
                let mut labels = sent.labels.to_vec();
                labels.push(KeyValue::new("error.type", error));
                show(count, &labels);
            });
        }
    }

    pub(super) fn show_fates(&self, show: &mut dyn FnMut(u64, &[KeyValue])) {
        for tally in self.all() {
            let reason = |reason| KeyValue::new("reason", reason);
            tally.fates.each(|fate, count| {
                if fate != "dead" {
                    let [channel, ty, fate] = tally.with("fate", fate);
                    show(count, &[channel, ty, fate, reason("")]);
                }
            });
            tally.reasons.each(|why, count| {
                let [channel, ty, fate] = tally.with("fate", "dead");
                show(count, &[channel, ty, fate, reason(why)]);
            });
        }
    }

    pub(super) fn show_attempts(&self, show: &mut dyn FnMut(u64, &[KeyValue])) {
        for tally in self.all() {
            tally.attempts.each(|kind, count| show(count, &tally.with("kind", kind)));
        }
    }

    pub(super) fn show_duplicates(&self, show: &mut dyn FnMut(u64, &[KeyValue])) {
        for tally in self.all() {
            tally.duplicates.each(|cause, count| show(count, &tally.with("cause", cause)));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Tally>> {
        self.tallies.values().chain([&self.unknown])
    }
}

#[cfg(test)]
mod tests;
