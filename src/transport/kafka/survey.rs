//! Topology, seen: the topics that a worker needs, how they stand, and what endangers them. One truth for a start and for a plan.

use super::{
    Options,
    reach::{self, PATIENCE, ask},
    topics,
};
use crate::{
    config::format_duration,
    transport::{Endpoints, Finding, Inspection, Standing, TransportError},
};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::Consumer,
    error::KafkaError,
    metadata::MetadataTopic,
    types::RDKafkaErrorCode,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

pub(super) type Admin = AdminClient<DefaultClientContext>;

/// What a topic is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) partitions: usize,
    /// The shortest time that its records have to stay.
    pub(super) keeps: Duration,
    /// Records of it are work: none may vanish before its time.
    pub(super) is_read: bool,
}

/// What a topic is. `None` where the broker does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    partitions: usize,
    replicas: usize,
    /// Milliseconds; -1 is for ever.
    retention: Option<i64>,
    cleanup: Option<String>,
    min_insync: Option<usize>,
}

/// How a topic stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Missing,
    /// This user may not even know whether it is there.
    Unseen,
    There(Found),
}

/// A retry topic of a delay that is no longer in the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stray {
    pub(super) subscription: String,
    pub(super) topic: String,
    partitions: usize,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Survey {
    topics: BTreeMap<String, (Wanted, State)>,
    pub(super) strays: Vec<Stray>,
    /// Topics whose settings this user may not read.
    closed: usize,
}

pub(super) fn wanted(options: &Options, endpoints: &Endpoints) -> BTreeMap<String, Wanted> {
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    for channel in &endpoints.channels {
        let sent_to = Wanted { partitions: options.partitions, keeps: Duration::ZERO, is_read: false };
        wanted.entry(channel.name.to_string()).or_insert(sent_to);
    }
    for subscription in &endpoints.subscriptions {
        let ladder: Duration = subscription.delays.iter().sum();
        let read = Wanted { partitions: options.partitions, keeps: ladder, is_read: true };
        let entry = wanted.entry(subscription.channel.to_string()).or_insert_with(|| read.clone());
        *entry = Wanted { keeps: entry.keeps.max(ladder), ..read };
        for delay in &subscription.delays {
            let copies = Wanted { partitions: options.retry_partitions, keeps: ladder, is_read: true };
            wanted.insert(topics::retry(&subscription.name, *delay), copies);
        }
        let letters = Wanted { partitions: 1, keeps: Duration::ZERO, is_read: false };
        wanted.insert(topics::dead(&subscription.name), letters);
    }
    wanted
}

/// Looks at every topic that is wanted, and for those that once were.
pub(super) async fn survey(options: &Options, endpoints: &Endpoints) -> Result<Survey, TransportError> {
    let (asking, wanted) = (options.clone(), wanted(options, endpoints));
    let ours: Vec<String> = endpoints.subscriptions.iter().map(|s| s.name.to_string()).collect();
    let looked = tokio::task::spawn_blocking(move || look(&asking, wanted, &ours));
    let mut survey = looked.await.map_err(|error| TransportError::Away(error.to_string()))??;
    survey.read_settings(&admin(options)?).await?;
    Ok(survey)
}

pub(super) fn admin(options: &Options) -> Result<Admin, TransportError> {
    options.client().create().map_err(|error| reach::unfit(&error))
}

pub(super) fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn look(options: &Options, wanted: BTreeMap<String, Wanted>, ours: &[String]) -> Result<Survey, TransportError> {
    let client = reach::reach(options, None)?;
    let all = reach::metadata(&client, options, None)?;
    let there: HashMap<&str, &MetadataTopic> = all.topics().iter().map(|topic| (topic.name(), topic)).collect();
    let mut topics = BTreeMap::new();
    let strays = all.topics().iter().filter(|topic| !wanted.contains_key(topic.name()));
    let strays = strays.filter_map(|topic| {
        let subscription = ours.iter().find(|name| topics::delay(name, topic.name()).is_some())?.clone();
        Some(Stray { subscription, topic: topic.name().to_owned(), partitions: topic.partitions().len() })
    });
    let mut strays: Vec<Stray> = strays.collect();
    strays.sort_by(|one, other| one.topic.cmp(&other.topic));
    for (name, wanted) in wanted {
        let state = match there.get(&*name) {
            Some(topic) => State::There(shape(topic)),
            // A list of all leaves out what this user may not see; asked by its name, the broker says so.
            None => {
                let asked = reach::metadata(&client, options, Some(&name))?;
                let error = asked.topics().iter().find_map(|topic| topic.error()).map(RDKafkaErrorCode::from);
                if error == Some(RDKafkaErrorCode::TopicAuthorizationFailed) { State::Unseen } else { State::Missing }
            }
        };
        topics.insert(name, (wanted, state));
    }
    Ok(Survey { topics, strays, closed: 0 })
}

fn shape(topic: &MetadataTopic) -> Found {
    let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or_default();
    Found { partitions: topic.partitions().len(), replicas, ..Found::default() }
}

impl Survey {
    /// The names of all topics.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.topics.keys()
    }

    pub(super) fn missing(&self) -> BTreeMap<&str, &Wanted> {
        let missing = self.topics.iter().filter(|(_, (_, state))| *state == State::Missing);
        missing.map(|(name, (wanted, _))| (&**name, wanted)).collect()
    }

    pub(super) fn unseen(&self) -> Vec<&str> {
        self.topics.iter().filter(|(_, (_, state))| *state == State::Unseen).map(|(name, _)| &**name).collect()
    }

    /// Why a user who may not see them all cannot work.
    pub(super) fn forbidden(&self) -> Option<String> {
        let unseen = self.unseen();
        (!unseen.is_empty()).then(|| {
            format!(
                "this user may not use topics: {}; give it READ on those of subscriptions and WRITE on all",
                unseen.join(", ")
            )
        })
    }

    /// Everything that keeps a topic from being fit.
    pub(super) fn weak(&self) -> Vec<String> {
        let weak = |(name, (wanted, state)): (&String, &(Wanted, State))| match state {
            State::There(found) => weak(wanted, found).into_iter().map(|why| format!("topic `{name}` {why}")).collect(),
            State::Missing | State::Unseen => Vec::new(),
        };
        self.topics.iter().flat_map(weak).collect()
    }

    /// `true`: not all settings could be read.
    pub(super) fn is_short_sighted(&self) -> bool {
        self.closed > 0
    }

    async fn read_settings(&mut self, admin: &Admin) -> Result<(), TransportError> {
        let there = self.topics.iter_mut().filter_map(|(name, (_, state))| match state {
            State::There(found) => Some((name, found)),
            State::Missing | State::Unseen => None,
        });
        let mut there: Vec<_> = there.collect();
        let resources: Vec<_> = there.iter().map(|(name, _)| ResourceSpecifier::Topic(name)).collect();
        if resources.is_empty() {
            return Ok(());
        }
        let described = match admin.describe_configs(&resources, &admin_options()).await {
            Ok(described) => described,
            Err(KafkaError::AdminOp(RDKafkaErrorCode::TopicAuthorizationFailed)) => Vec::new(),
            Err(error) => return Err(TransportError::Away(error.to_string())),
        };
        let mut read = 0;
        for ((_, found), resource) in there.iter_mut().zip(described) {
            let Ok(resource) = resource else { continue };
            read += 1;
            let value = |key: &str| resource.get(key).and_then(|entry| entry.value.clone());
            found.retention = value("retention.ms").and_then(|text| text.parse().ok());
            found.cleanup = value("cleanup.policy");
            found.min_insync = value("min.insync.replicas").and_then(|text| text.parse().ok());
        }
        self.closed = there.len() - read;
        Ok(())
    }

    /// The same for people, one line a topic.
    pub(super) async fn tell(self, options: &Options) -> Result<Inspection, TransportError> {
        let mut findings = Vec::new();
        for (name, (wanted, state)) in &self.topics {
            let finding = |thing, standing| Finding { thing, standing };
            match state {
                State::Missing => findings.push(finding(
                    format!("topic `{name}`: {}", counted(wanted.partitions, "partition")),
                    Standing::Missing,
                )),
                State::Unseen => findings.push(finding(format!("topic `{name}`"), Standing::Unseen)),
                State::There(found) => {
                    let dangers = weak(wanted, found);
                    let standing = match (dangers.is_empty(), options.warn_only) {
                        (true, _) => Standing::Fits,
                        // A start is refused for it.
                        (false, false) => Standing::Differs(dangers.join("; it ")),
                        (false, true) => Standing::Endangered(dangers.join("; it ")),
                    };
                    findings.push(finding(format!("topic `{name}`: {}", found.in_words(wanted)), standing));
                }
            }
        }
        let (strays, asking) = (self.strays.clone(), options.clone());
        let left = tokio::task::spawn_blocking(move || left(&asking, &strays));
        let left = left.await.map_err(|error| TransportError::Away(error.to_string()))??;
        for (stray, left) in self.strays.iter().zip(left) {
            let what = match left {
                0 => "nothing is left in it".to_owned(),
                left => format!("{} left in it, which a worker still reads", counted(left, "copy")),
            };
            let thing = format!("topic `{}`: its delay is not among the tiers any more; {what}", stray.topic);
            findings.push(Finding { thing, standing: Standing::Stray });
        }
        Ok(Inspection { findings, reach: self.reach(), refusals: self.forbidden().into_iter().collect() })
    }

    fn reach(&self) -> String {
        let mut told = Vec::new();
        let unseen = self.unseen().len();
        if unseen > 0 {
            told.push(format!(
                "This user may not see {}: give it DESCRIBE (READ or WRITE include it) to know whether they are there.",
                counted(unseen, "topic")
            ));
        }
        if self.is_short_sighted() {
            told.push(format!(
                "Of {} this user may not read the settings, so retention, cleanup policy and min.insync.replicas were \
                 not checked: give it DESCRIBE_CONFIGS.",
                counted(self.closed, "topic")
            ));
        }
        told.join(" ")
    }
}

impl Found {
    fn in_words(&self, wanted: &Wanted) -> String {
        let mut words = vec![counted(self.partitions, "partition")];
        if self.partitions != wanted.partitions {
            words[0] += &format!(" (a new one would get {})", wanted.partitions);
        }
        words.push(counted(self.replicas, "replica"));
        words.extend(self.min_insync.map(|min| format!("min.insync.replicas {min}")));
        words.extend(self.retention.map(|millis| match u64::try_from(millis) {
            Ok(millis) => format!("kept {}", format_duration(Duration::from_millis(millis))),
            Err(_) => "kept for ever".into(),
        }));
        words.extend(self.cleanup.as_ref().map(|policy| format!("cleanup {policy}")));
        words.join(", ")
    }
}

/// What keeps a topic from being fit: each the end of a sentence about it.
fn weak(wanted: &Wanted, found: &Found) -> Vec<String> {
    let mut weak = Vec::new();
    if let Some(millis) = found.retention.and_then(|millis| u64::try_from(millis).ok()) {
        let retention = Duration::from_millis(millis);
        if wanted.is_read && retention < wanted.keeps {
            weak.push(format!(
                "keeps records for {}, the retry ladder needs {}: raise its retention.ms",
                format_duration(retention),
                format_duration(wanted.keeps)
            ));
        }
    }
    if wanted.is_read && found.cleanup.as_deref().is_some_and(|policy| policy.contains("compact")) {
        weak.push(
            "is compacted, a message vanishes when another of its key comes: set its cleanup.policy to delete".into(),
        );
    }
    if let Some(min) = found.min_insync.filter(|min| found.replicas < *min) {
        weak.push(format!(
            "has {} and min.insync.replicas is {min}: add replicas, or lower it",
            counted(found.replicas, "replica")
        ));
    }
    weak
}

/// How many copies are in each of these that their group has not read.
fn left(options: &Options, strays: &[Stray]) -> Result<Vec<usize>, TransportError> {
    let mut left = Vec::with_capacity(strays.len());
    for Stray { subscription, topic, partitions } in strays {
        let client = reach::reach(options, Some(&topics::retry_group(subscription)))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, i32::try_from(*partitions).unwrap_or(i32::MAX) - 1);
        let mut copies = 0;
        for element in ask(client.committed_offsets(list, PATIENCE))?.elements() {
            let (first, end) = reach::watermarks(&client, topic, element.partition())?;
            let begin = if let Offset::Offset(offset) = element.offset() { offset.max(first) } else { first };
            copies += usize::try_from(end - begin).unwrap_or_default();
        }
        left.push(copies);
    }
    Ok(left)
}

fn counted(count: usize, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_could_lose_a_message_is_not_fit() {
        let wanted = Wanted { partitions: 1, keeps: Duration::from_secs(600), is_read: true };
        let fit = Found {
            partitions: 1,
            replicas: 3,
            retention: Some(600_000),
            cleanup: Some("delete".into()),
            min_insync: Some(2),
        };
        assert_eq!(weak(&wanted, &fit), [""; 0]);
        assert_eq!(weak(&wanted, &Found { retention: Some(-1), ..fit.clone() }), [""; 0], "-1 keeps them for ever");
        let cases = [
            (Found { retention: Some(599_999), ..fit.clone() }, "retention.ms"),
            (Found { cleanup: Some("compact,delete".into()), ..fit.clone() }, "cleanup.policy"),
            (Found { replicas: 1, ..fit }, "min.insync.replicas"),
        ];
        for (found, setting) in cases {
            let weak = weak(&wanted, &found);
            assert!(weak.len() == 1 && weak[0].contains(setting), "{weak:?}");
        }
    }

    #[test]
    fn things_are_counted_as_people_count() {
        assert_eq!(
            [(1, "copy"), (2, "copy"), (1, "topic"), (0, "topic")].map(|(n, what)| counted(n, what)),
            ["1 copy", "2 copies", "1 topic", "0 topics"]
        );
    }
}
