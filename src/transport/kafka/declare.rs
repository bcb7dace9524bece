//! Topology: the topics of a worker, made or verified, and every refusal of a start at once.

use super::{
    Options, reach,
    survey::{self, Stray, Survey, Wanted},
    topics,
};
use crate::transport::{Endpoints, TransportError};
use rdkafka::{
    TopicPartitionList,
    admin::{NewTopic, TopicReplication},
    consumer::Consumer,
    types::RDKafkaErrorCode,
};
use std::{collections::BTreeMap, time::Duration};
use tracing::{info, warn};

/// Makes what is missing, if it may, and checks all of it. The answer: every topic, and the strays.
pub(super) async fn declare(
    options: &Options,
    endpoints: &Endpoints,
) -> Result<(Vec<String>, Vec<Stray>), TransportError> {
    let mut seen = survey::survey(options, endpoints).await?;
    let missing = seen.missing();
    if !missing.is_empty() && options.declare {
        make(options, &missing).await?;
        seen = known(options, endpoints).await?;
    }
    let mut refusals = Vec::new();
    let missing: Vec<&str> = seen.missing().into_keys().collect();
    if !missing.is_empty() {
        refusals.push(format!(
            "topics are missing: {}; make them, or set the transport's declare = true",
            missing.join(", ")
        ));
    }
    refusals.extend(seen.forbidden());
    refusals.extend(groups(options, endpoints).await?);
    if seen.is_short_sighted() {
        warn!("this user may not read the topics' settings (DESCRIBE_CONFIGS); they are not checked");
    }
    let weak = seen.weak();
    if options.warn_only {
        weak.iter().for_each(|refusal| warn!("{refusal}"));
    } else {
        refusals.extend(weak);
    }
    match &refusals[..] {
        [] => Ok((seen.names().cloned().collect(), seen.strays)),
        [one] => Err(TransportError::Unfit(one.clone())),
        many => Err(TransportError::Unfit(format!("the topics are not fit:\n  - {}", many.join("\n  - ")))),
    }
}

async fn make(options: &Options, missing: &BTreeMap<&str, &Wanted>) -> Result<(), TransportError> {
    let retention = |wanted: &Wanted| options.retention.max(wanted.keeps * 2).as_millis().to_string();
    let retentions: Vec<String> = missing.values().map(|wanted| retention(wanted)).collect();
    let new = missing.iter().zip(&retentions).map(|((name, wanted), retention)| {
        let partitions = i32::try_from(wanted.partitions).unwrap_or(i32::MAX);
        NewTopic::new(name, partitions, TopicReplication::Fixed(options.replication))
            .set("retention.ms", retention)
            .set("cleanup.policy", "delete")
    });
    let new: Vec<NewTopic<'_>> = new.collect();
    let made = survey::admin(options)?.create_topics(&new, &survey::admin_options()).await;
    let mut refused = Vec::new();
    for result in made.map_err(|error| TransportError::Away(error.to_string()))? {
        match result {
            Ok(name) => info!(topic = name, "made a topic"),
            // Another worker was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)) => {
                refused.push(format!(
                    "topic `{name}` is missing and this user may not make it: give it CREATE, or make it and set the \
                     transport's declare = false"
                ));
            }
            Err((name, code)) => refused.push(format!("topic `{name}` could not be made: {code}")),
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(TransportError::Unfit(refused.join("\n  - "))) }
}

/// Made is not the same as known to every broker.
async fn known(options: &Options, endpoints: &Endpoints) -> Result<Survey, TransportError> {
    for _ in 0..100 {
        let seen = survey::survey(options, endpoints).await?;
        if seen.missing().is_empty() {
            return Ok(seen);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(TransportError::Away("the new topics are not known to the brokers yet".into()))
}

/// The groups that this user may not use. Where we have no name, nothing is forbidden to us alone, and nothing is asked.
pub(super) async fn groups(options: &Options, endpoints: &Endpoints) -> Result<Vec<String>, TransportError> {
    if options.security.login.is_none() && options.security.client_cert.is_none() {
        return Ok(Vec::new());
    }
    let mut refusals = Vec::new();
    for subscription in &endpoints.subscriptions {
        let name = subscription.name.to_string();
        for group in [name.clone(), topics::retry_group(&name)] {
            let (options, channel, asked) = (options.clone(), subscription.channel.clone(), group.clone());
            let asking = tokio::task::spawn_blocking(move || is_forbidden(&options, &asked, &channel));
            if asking.await.map_err(|error| TransportError::Away(error.to_string()))?? {
                refusals.push(format!("this user may not use group `{group}`: give it READ on it"));
            }
        }
    }
    Ok(refusals)
}

fn is_forbidden(options: &Options, group: &str, topic: &str) -> Result<bool, TransportError> {
    const FORBIDDEN: RDKafkaErrorCode = RDKafkaErrorCode::GroupAuthorizationFailed;
    let client = reach::reach(options, Some(group))?;
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    for _ in 0..10 {
        let Err(error) = client.committed_offsets(list.clone(), Duration::from_millis(500)) else { return Ok(false) };
        // The client asks for the group's coordinator on its own, and tells only beside the answer that it gets none.
        reach::listen(&client);
        if error.rdkafka_error_code() == Some(FORBIDDEN) || client.context().of(FORBIDDEN).is_some() {
            return Ok(true);
        }
    }
    // Whatever else is wrong is the members' business: a coordinator may be on its way.
    Ok(false)
}
