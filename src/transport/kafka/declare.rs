//! Topology: the topics of a worker, made or verified, and every refusal of a start at once.

use super::{Options, topics};
use crate::{
    config::format_duration,
    transport::{Endpoints, TransportError},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tracing::{info, warn};

/// How long the broker may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

type Admin = AdminClient<DefaultClientContext>;

/// What a topic is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    partitions: usize,
    /// The shortest time that its records have to stay.
    keeps: Duration,
    /// Records of it are work: none may vanish before its time.
    is_read: bool,
}

/// What a topic is. `None` where the broker does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    replicas: usize,
    retention: Option<i64>,
    cleanup: Option<String>,
    min_insync: Option<usize>,
}

/// Makes what is missing, if it may, and checks all of it. The answer: every topic.
pub(super) async fn declare(options: &Options, endpoints: &Endpoints) -> Result<Vec<String>, TransportError> {
    let admin: Admin = options.client().create().map_err(|error| away(&error))?;
    let admin = Arc::new(admin);
    let wanted = wanted(options, endpoints);
    let there = replicas(&admin).await?;
    let missing: BTreeMap<&str, &Wanted> =
        wanted.iter().filter(|(name, _)| !there.contains_key(*name)).map(|(name, wanted)| (&**name, wanted)).collect();
    if !missing.is_empty() && options.declare {
        make(&admin, options, &missing).await?;
    } else if !missing.is_empty() {
        let names: Vec<&str> = missing.keys().copied().collect();
        return Err(TransportError::Unfit(format!(
            "topics are missing: {}; make them, or set the transport's declare = true",
            names.join(", ")
        )));
    }
    let found = describe(&admin, &wanted).await?;
    let weak: Vec<String> = wanted.iter().flat_map(|(name, wanted)| weak(name, wanted, &found)).collect();
    for refusal in weak.iter().filter(|_| options.warn_only) {
        warn!("{refusal}");
    }
    if !weak.is_empty() && !options.warn_only {
        return Err(TransportError::Unfit(format!("the topics are not fit:\n  - {}", weak.join("\n  - "))));
    }
    Ok(wanted.into_keys().collect())
}

fn wanted(options: &Options, endpoints: &Endpoints) -> BTreeMap<String, Wanted> {
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

/// What keeps a topic from being fit.
fn weak(name: &str, wanted: &Wanted, found: &HashMap<String, Found>) -> Vec<String> {
    let Some(found) = found.get(name) else { return Vec::new() };
    let mut weak = Vec::new();
    if let Some(millis) = found.retention.and_then(|millis| u64::try_from(millis).ok()) {
        let retention = Duration::from_millis(millis);
        if wanted.is_read && retention < wanted.keeps {
            weak.push(format!(
                "topic `{name}` keeps records for {}, the retry ladder needs {}: raise its retention.ms",
                format_duration(retention),
                format_duration(wanted.keeps)
            ));
        }
    }
    if wanted.is_read && found.cleanup.as_deref().is_some_and(|policy| policy.contains("compact")) {
        weak.push(format!(
            "topic `{name}` is compacted, a message vanishes when another of its key comes: set its cleanup.policy to delete"
        ));
    }
    if let Some(min) = found.min_insync.filter(|min| found.replicas < *min) {
        weak.push(format!(
            "topic `{name}` has {} replicas and min.insync.replicas is {min}: add replicas, or lower it",
            found.replicas
        ));
    }
    weak
}

async fn replicas(admin: &Arc<Admin>) -> Result<HashMap<String, usize>, TransportError> {
    let admin = admin.clone();
    let asked = tokio::task::spawn_blocking(move || -> KafkaResult<HashMap<String, usize>> {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
        let least = |topic: &rdkafka::metadata::MetadataTopic| {
            topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or_default()
        };
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), least(topic))).collect())
    });
    asked.await.map_err(|error| away(&error))?.map_err(|error| away(&error))
}

async fn make(admin: &Arc<Admin>, options: &Options, missing: &BTreeMap<&str, &Wanted>) -> Result<(), TransportError> {
    let retention = |wanted: &Wanted| options.retention.max(wanted.keeps * 2).as_millis().to_string();
    let retentions: Vec<String> = missing.values().map(|wanted| retention(wanted)).collect();
    let new = missing.iter().zip(&retentions).map(|((name, wanted), retention)| {
        let partitions = i32::try_from(wanted.partitions).unwrap_or(i32::MAX);
        NewTopic::new(name, partitions, TopicReplication::Fixed(options.replication))
            .set("retention.ms", retention)
            .set("cleanup.policy", "delete")
    });
    let new: Vec<NewTopic<'_>> = new.collect();
    let made = admin.create_topics(&new, &admin_options()).await.map_err(|error| away(&error))?;
    let mut refused = Vec::new();
    for result in made {
        match result {
            Ok(name) => info!(topic = name, "made a topic"),
            // Another worker was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => refused.push(format!("topic `{name}` could not be made: {code}")),
        }
    }
    if !refused.is_empty() {
        return Err(TransportError::Unfit(refused.join("\n  - ")));
    }
    // Made is not the same as known to every broker.
    for _ in 0..100 {
        let there = replicas(admin).await?;
        if missing.keys().all(|name| there.contains_key(*name)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(TransportError::Away("the new topics are not known to the brokers yet".into()))
}

async fn describe(
    admin: &Arc<Admin>,
    wanted: &BTreeMap<String, Wanted>,
) -> Result<HashMap<String, Found>, TransportError> {
    let there = replicas(admin).await?;
    let resources: Vec<_> = wanted.keys().map(|name| ResourceSpecifier::Topic(name)).collect();
    let described = match admin.describe_configs(&resources, &admin_options()).await {
        Ok(described) => described,
        Err(KafkaError::AdminOp(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
            warn!("this user may not read the topics' settings; they are not checked");
            return Ok(HashMap::new());
        }
        Err(error) => return Err(away(&error)),
    };
    let mut found = HashMap::new();
    for (name, resource) in wanted.keys().zip(described) {
        let Ok(resource) = resource else {
            warn!(topic = name, "this user may not read the topic's settings; they are not checked");
            continue;
        };
        let value = |key: &str| resource.get(key).and_then(|entry| entry.value.clone());
        found.insert(
            name.clone(),
            Found {
                replicas: there.get(name).copied().unwrap_or_default(),
                retention: value("retention.ms").and_then(|text| text.parse().ok()),
                cleanup: value("cleanup.policy"),
                min_insync: value("min.insync.replicas").and_then(|text| text.parse().ok()),
            },
        );
    }
    Ok(found)
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn away(error: &dyn std::fmt::Display) -> TransportError {
    TransportError::Away(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weaknesses(found: Found) -> Vec<String> {
        let wanted = Wanted { partitions: 1, keeps: Duration::from_secs(600), is_read: true };
        weak("shop.commands", &wanted, &HashMap::from([("shop.commands".to_owned(), found)]))
    }

    #[test]
    fn a_topic_that_could_lose_a_message_is_not_fit() {
        let fit = Found { replicas: 3, retention: Some(600_000), cleanup: Some("delete".into()), min_insync: Some(2) };
        assert_eq!(weaknesses(fit.clone()), [""; 0]);
        assert_eq!(weaknesses(Found { retention: Some(-1), ..fit.clone() }), [""; 0], "-1 keeps them for ever");
        let cases = [
            (Found { retention: Some(599_999), ..fit.clone() }, "retention.ms"),
            (Found { cleanup: Some("compact,delete".into()), ..fit.clone() }, "cleanup.policy"),
            (Found { replicas: 1, ..fit }, "min.insync.replicas"),
        ];
        for (found, setting) in cases {
            let weak = weaknesses(found);
            assert!(weak.len() == 1 && weak[0].contains(setting), "{weak:?}");
        }
    }
}
