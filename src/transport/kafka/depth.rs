//! Lag: how far the readers of a subscription are, by partition, and how old what they have not finished is.

use super::{
    GroupProtocol, Options,
    reach::{self, Heard, PATIENCE, ask},
    topics,
};
use crate::{
    clock,
    transport::{Depth, Lag, Subscription, TransportError},
};
use chrono::{DateTime, Utc};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use std::{collections::HashMap, time::Duration};

/// How long to wait for the next of the oldest records. An offset may belong to no record (a mark of a transaction).
const GLANCE: Duration = Duration::from_secs(2);

/// Blocks. `unacked` is what this process holds of the channel.
pub(super) fn depth(options: &Options, subscription: &Subscription, unacked: u64) -> Result<Depth, TransportError> {
    let (name, channel) = (&*subscription.name, &*subscription.channel);
    let client = reach::reach(options, Some(name))?;
    let all = reach::metadata(&client, options, None)?;
    let count = |topic: &str| all.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len());
    let mut partitions = lags(&client, &[(channel, count(channel))])?;
    let ready = waiting(&partitions);
    let consumers = members(&client, options, name);

    // With those of delays that are no longer in the ladder.
    let retries = all.topics().iter().filter(|topic| topics::delay(name, topic.name()).is_some());
    let retries: Vec<(&str, usize)> = retries.map(|topic| (topic.name(), topic.partitions().len())).collect();
    let reader = reach::reach(options, Some(&topics::retry_group(name)))?;
    let copies = lags(&reader, &retries)?;
    let delayed = waiting(&copies);
    partitions.extend(copies);
    let partitions: Vec<Lag> = partitions.into_iter().map(|reader| reader.lag).collect();

    let dead = topics::dead(name);
    let mut letters = None;
    for partition in 0..i32::try_from(count(&dead)).unwrap_or_default() {
        let (first, end) = reach::watermarks(&client, &dead, partition)?;
        *letters.get_or_insert(0) += u64::try_from(end - first).unwrap_or_default();
    }
    Ok(Depth {
        // Of a topic that is not there nobody can say that nothing waits in it.
        ready: (count(channel) > 0).then(|| ready.saturating_sub(unacked)),
        unacked: Some(unacked),
        delayed: Some(delayed),
        dead: letters,
        consumers,
        oldest: partitions.iter().filter_map(|lag| lag.oldest).min(),
        partitions,
        ..Depth::default()
    })
}

/// One partition, and the offset of its oldest record that is not finished.
struct Reader {
    lag: Lag,
    begin: i64,
}

fn waiting(readers: &[Reader]) -> u64 {
    readers.iter().map(|reader| u64::try_from(reader.lag.end - reader.begin).unwrap_or_default()).sum()
}

fn lags(client: &BaseConsumer<Heard>, topics: &[(&str, usize)]) -> Result<Vec<Reader>, TransportError> {
    let mut list = TopicPartitionList::new();
    for (topic, partitions) in topics {
        for partition in 0..i32::try_from(*partitions).unwrap_or(i32::MAX) {
            list.add_partition(topic, partition);
        }
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let mut readers = Vec::with_capacity(list.count());
    for element in ask(client.committed_offsets(list, PATIENCE))?.elements() {
        let (topic, partition) = (element.topic(), element.partition());
        let (first, end) = reach::watermarks(client, topic, partition)?;
        let committed = if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
        // A group that never was here begins with the oldest record; one whose records were deleted goes on with what is left.
        let begin = committed.unwrap_or(first).max(first);
        let lag = Lag { topic: topic.to_owned(), partition, committed, end, oldest: None };
        readers.push(Reader { lag, begin });
    }
    let ages = ask(ages(client, &readers))?;
    for Reader { lag, .. } in &mut readers {
        lag.oldest = ages.get(&(lag.topic.clone(), lag.partition)).copied();
    }
    Ok(readers)
}

/// When the oldest unfinished record of each partition was written: it is read, by nobody of the group.
fn ages(client: &BaseConsumer<Heard>, readers: &[Reader]) -> Result<HashMap<(String, i32), DateTime<Utc>>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for Reader { lag, begin } in readers.iter().filter(|reader| reader.begin < reader.lag.end) {
        list.add_partition_offset(&lag.topic, lag.partition, Offset::Offset(*begin))?;
    }
    let mut ages: HashMap<_, Option<DateTime<Utc>>> = HashMap::new();
    let wanted = list.count();
    if wanted == 0 {
        return Ok(HashMap::new());
    }
    client.assign(&list)?;
    let mut until = clock::instant() + GLANCE;
    while ages.len() < wanted && clock::instant() < until {
        let Some(Ok(record)) = client.poll(Duration::from_millis(100)) else { continue };
        let place = (record.topic().to_owned(), record.partition());
        let millis = record.timestamp().to_millis().and_then(DateTime::from_timestamp_millis);
        if let std::collections::hash_map::Entry::Vacant(first) = ages.entry(place) {
            first.insert(millis);
            let mut read = TopicPartitionList::new();
            read.add_partition(record.topic(), record.partition());
            client.pause(&read)?;
            until = clock::instant() + GLANCE;
        }
    }
    client.unassign()?;
    Ok(ages.into_iter().filter_map(|(place, at)| Some((place, at?))).collect())
}

/// `None` where the broker does not tell: of groups of the newer protocol it tells nothing to a client of this kind.
fn members(client: &BaseConsumer<Heard>, options: &Options, group: &str) -> Option<u64> {
    let groups = client.fetch_group_list(Some(group), PATIENCE).ok()?;
    let found = groups.groups().iter().find(|found| found.name() == group && !found.members().is_empty());
    match (found, options.protocol) {
        (Some(found), _) => Some(found.members().len() as u64),
        (None, GroupProtocol::Classic) => Some(0),
        (None, GroupProtocol::Consumer) => None,
    }
}
