//! Message Replay: old records of a topic, read by a client that is no member of any group and commits nothing.

use super::{
    Options,
    inbound::{Inbound, Item, Stage, Wake},
    partition::{Name, Partition},
    reach::{self, Heard, PATIENCE, ask},
    record,
    watermark::Arrival,
};
use crate::{
    message::wire::{self, Raw},
    transport::{Passage, Place, Progress, Stretch, Subscription, TransportError},
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tracing::warn;

/// The longest nap: a wake-up that was lost is made good after it.
const NAP: Duration = Duration::from_millis(100);

/// A reading on a thread of its own.
pub(super) struct Reread {
    consumer: BaseConsumer<Heard>,
    topic: Arc<str>,
    stretch: Stretch,
    courses: BTreeMap<i32, Course>,
    /// Fetched, and too far ahead of one that does not end: nothing more is fetched.
    held: Option<Fetched>,
    inbound: Arc<Inbound>,
    wake: Arc<Wake>,
    progress: Arc<Progress>,
}

/// One partition.
struct Course {
    partition: Arc<Partition>,
    passage: Passage,
    /// What an earlier reading of this process finished.
    before: u64,
    through: bool,
}

struct Fetched {
    partition: i32,
    offset: i64,
    millis: Option<i64>,
    raw: Arc<Raw>,
}

/// Why a record is not for this reading.
enum Other {
    Time,
    Type,
}

impl Reread {
    /// Asks where everything begins and ends, and begins to fetch. Blocks.
    pub(super) fn begin(
        options: &Options,
        subscription: &Subscription,
        stretch: &Stretch,
        inbound: Arc<Inbound>,
        progress: Arc<Progress>,
    ) -> Result<Self, TransportError> {
        let topic = subscription.channel.clone();
        let mut config = options.client();
        config
            // The name of the group is the right to read; without a subscription nobody becomes a member.
            .set("group.id", &*subscription.name)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // What is deleted while it is read is gone: on with what is left.
            .set("auto.offset.reset", "earliest")
            .set("queued.max.messages.kbytes", "16384");
        let consumer: BaseConsumer<Heard> =
            config.create_with_context(Heard::default()).map_err(|error| reach::unfit(&error))?;
        let spans = spans(&consumer, options, &topic, stretch)?;
        let (mut courses, mut list) = (BTreeMap::new(), TopicPartitionList::new());
        for (number, (from, to)) in spans {
            let name = Name { topic: topic.clone(), number };
            let before = progress.passages().get(&number).copied();
            let passage = match before {
                Some(before) => Passage { next: from, ..before },
                None => Passage { from, next: from, to, ..Passage::default() },
            };
            progress.note(number, passage);
            let partition = Partition::of_old(name, from, stretch.only_look, inbound.clone());
            let through = from >= passage.to;
            if !through {
                ask(list.add_partition_offset(&topic, number, Offset::Offset(from)))?;
            }
            courses.insert(number, Course { partition, passage, before: passage.read, through });
        }
        if list.count() > 0 {
            ask(consumer.assign(&list))?;
        }
        let wake = Arc::new(Wake::default());
        inbound.add_wake(wake.clone());
        Ok(Self { consumer, topic, stretch: stretch.clone(), courses, held: None, inbound, wake, progress })
    }

    /// The life of the thread: until all is handed out and settled, or nobody waits for it any more.
    pub(super) fn run(mut self) {
        let mut over = false;
        loop {
            let stage = self.inbound.stage();
            let open: usize = self.courses.values().map(|course| course.partition.open()).sum();
            if stage == Stage::Closing || (stage == Stage::Stopping && open == 0) {
                break;
            }
            let fetched = stage == Stage::Open && !over && self.fetch();
            self.tell();
            if !over && self.held.is_none() && self.courses.values().all(|course| course.through) {
                over = true;
                self.inbound.end(TransportError::Closed);
            }
            if !fetched {
                self.inbound.await_settling();
                self.wake.sleep(NAP);
            }
        }
        self.tell();
        for course in self.courses.values() {
            course.partition.end();
        }
    }

    /// `false`: nothing came, or there is no room for it.
    fn fetch(&mut self) -> bool {
        if let Some(held) = self.held.take() {
            self.arrive(held);
            return self.held.is_none();
        }
        if !self.inbound.has_room(1) {
            self.inbound.await_room();
            return false;
        }
        match self.consumer.poll(NAP) {
            None => return false,
            Some(Ok(record)) => {
                let millis = record.timestamp().to_millis();
                let (partition, offset) = (record.partition(), record.offset());
                let raw = Arc::new(record::raw(&record));
                self.arrive(Fetched { partition, offset, millis, raw });
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => self.is_through(partition),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                self.inbound.end(TransportError::Away(format!("the client gave up ({code}); another one is made")));
            }
            Some(Err(error)) => warn!(%error, "trouble with the broker; the reading goes on"),
        }
        true
    }

    fn arrive(&mut self, fetched: Fetched) {
        let other = self.other(&fetched);
        let Fetched { partition, offset, .. } = fetched;
        let Some(course) = self.courses.get_mut(&partition).filter(|course| !course.through) else { return };
        if offset < course.passage.to {
            match course.partition.arrive(offset) {
                Arrival::Known => {}
                Arrival::TooFarAhead => return self.held = Some(fetched),
                Arrival::Taken => match other {
                    Some(why) => {
                        course.partition.pass_over(offset);
                        match why {
                            Other::Time => course.passage.other_time += 1,
                            Other::Type => course.passage.other_type += 1,
                        }
                    }
                    None => {
                        let (partition, raw) = (course.partition.clone(), fetched.raw);
                        self.inbound.push(Item { partition, offset, raw, again: false });
                        self.inbound.announce();
                    }
                },
            }
        }
        if offset + 1 >= course.passage.to {
            self.is_through(partition);
        }
    }

    fn other(&self, fetched: &Fetched) -> Option<Other> {
        let millis = |place: Place| if let Place::Time(at) = place { Some(at.timestamp_millis()) } else { None };
        if let Some(at) = fetched.millis {
            let early = millis(self.stretch.from).is_some_and(|from| at < from);
            let late = self.stretch.to.and_then(millis).is_some_and(|to| at >= to);
            if early || late {
                return Some(Other::Time);
            }
        }
        if self.stretch.types.is_empty() {
            return None;
        }
        let ty = wire::parse(&fetched.raw, &self.topic).map(|envelope| envelope.ty);
        let wanted = ty.is_ok_and(|ty| self.stretch.types.contains(&ty));
        (!wanted).then_some(Other::Type)
    }

    fn is_through(&mut self, number: i32) {
        let Some(course) = self.courses.get_mut(&number).filter(|course| !course.through) else { return };
        course.through = true;
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, number);
        if let Err(error) = self.consumer.pause(&list) {
            warn!(%error, "a partition that was read could not be paused");
        }
    }

    fn tell(&mut self) {
        for (number, course) in &mut self.courses {
            let low = course.partition.low();
            course.passage.read = course.before + course.partition.finished();
            // Behind the last record may be offsets of no record.
            let done = course.through && low == course.partition.next();
            course.passage.next = if done { course.passage.to } else { low.min(course.passage.to) };
            self.progress.note(*number, course.passage);
        }
    }
}

/// Where each partition begins and ends, without the end.
fn spans(
    consumer: &BaseConsumer<Heard>,
    options: &Options,
    topic: &str,
    stretch: &Stretch,
) -> Result<BTreeMap<i32, (i64, i64)>, TransportError> {
    let all = reach::metadata(consumer, options, Some(topic))?;
    let numbers = all.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return Err(TransportError::Unfit(format!("there is no topic `{topic}`")));
    }
    let asked = stretch.partition.into_iter().chain(stretch.resume.keys().copied());
    if let Some(absent) = asked.into_iter().find(|partition| !numbers.contains(partition)) {
        return Err(TransportError::Unfit(format!(
            "topic `{topic}` has no partition {absent}: it has {}, counted from 0",
            numbers.len()
        )));
    }
    numbers.retain(|number| stretch.partition.is_none_or(|only| only == *number));
    numbers.retain(|number| stretch.resume.is_empty() || stretch.resume.contains_key(number));
    let times = times(consumer, topic, &numbers, stretch)?;
    let mut spans = BTreeMap::new();
    for number in numbers {
        let (first, end) = reach::watermarks(consumer, topic, number)?;
        let from = match (stretch.resume.get(&number).copied(), stretch.from) {
            (Some(offset), _) | (None, Place::Offset(offset)) => offset,
            // None is as young.
            (None, Place::Time(_)) => times.get(&number).copied().unwrap_or(end),
        };
        let to = match stretch.to {
            Some(Place::Offset(offset)) => offset.clamp(first, end),
            Some(Place::Time(_)) | None => end, // a younger record may lie before an older one
        };
        spans.insert(number, (from.clamp(first, to.max(first)), to));
    }
    Ok(spans)
}

/// The first offset of each partition that is not older.
fn times(
    consumer: &BaseConsumer<Heard>,
    topic: &str,
    numbers: &[i32],
    stretch: &Stretch,
) -> Result<BTreeMap<i32, i64>, TransportError> {
    let Place::Time(at) = stretch.from else { return Ok(BTreeMap::new()) };
    let mut list = TopicPartitionList::new();
    for number in numbers {
        ask(list.add_partition_offset(topic, *number, Offset::Offset(at.timestamp_millis())))?;
    }
    let found = reach::ask_leader(|| {
        let found = consumer.offsets_for_times(list.clone(), PATIENCE)?;
        // A partition that cannot answer is not one without younger records.
        found.elements().iter().try_for_each(|element| element.error())?;
        Ok(found)
    })?;
    let offsets = found.elements();
    let offsets = offsets.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    Ok(offsets.collect())
}
