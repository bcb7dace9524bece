//! Where a partition begins when it becomes ours, and what is gone that should be there.
//!
//! The client never chooses an offset by itself (`auto.offset.reset=error`): a choice would pass over lost records in silence.

use super::{
    group::Notes,
    partition::{Mark, Name},
    reach::PATIENCE,
};
use crate::transport::Loss;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, KafkaResult},
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Mutex, PoisonError},
};

/// Records that were deleted before they were handled: from the first up to, without, the last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gap {
    pub(super) name: Name,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records {}–{} of p{} are gone", self.from, self.to - 1, self.name.number)
    }
}

/// All gaps that this process met, each once.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<Gaps>);

#[derive(Debug, Default)]
struct Gaps {
    met: HashSet<Gap>,
    untold: Vec<Loss>,
}

impl Lost {
    pub(super) fn note(&self, gap: &Gap) {
        let mut gaps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gaps.met.insert(gap.clone()) {
            let what = format!("{gap}: they were deleted before this group handled them");
            gaps.untold.push(Loss { topic: gap.name.topic.to_string(), what });
        }
    }

    /// What nobody has taken yet.
    pub(super) fn take(&self) -> Vec<Loss> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).untold)
    }

    pub(super) fn records(&self) -> u64 {
        let gaps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gaps.met.iter().map(|gap| u64::try_from(gap.to - gap.from).unwrap_or_default()).sum()
    }
}

/// Where one partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) name: Name,
    pub(super) offset: i64,
    pub(super) suspects_below: i64,
    pub(super) gap: Option<Gap>,
    /// What the group has committed already.
    committed: Option<Mark>,
}

/// What a partition's log holds: from its first offset up to, without, its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Log {
    first: i64,
    end: i64,
}

/// Asks the broker where each of these begins.
pub(super) fn starts(consumer: &BaseConsumer<Notes>, names: &[Name]) -> KafkaResult<Vec<Start>> {
    let committed = committed(consumer, names)?;
    let mut starts = Vec::with_capacity(names.len());
    for name in names {
        let (first, end) = consumer.fetch_watermarks(&name.topic, name.number, PATIENCE)?;
        starts.push(start(name, committed.get(name).cloned(), Log { first, end }));
    }
    Ok(starts)
}

/// Commits where these begin: whoever comes after us finds that we began.
pub(super) fn begin(consumer: &BaseConsumer<Notes>, starts: &[Start]) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for start in starts {
        let mark = Mark::open(start.offset);
        if start.committed.as_ref() != Some(&mark) {
            add(&mut list, &start.name, &mark)?;
        }
    }
    if list.count() > 0 { consumer.commit(&list, CommitMode::Sync) } else { Ok(()) }
}

/// Adds an offset to what is committed.
pub(super) fn add(list: &mut TopicPartitionList, name: &Name, mark: &Mark) -> KafkaResult<()> {
    let mut element = list.add_partition(&name.topic, name.number);
    element.set_offset(Offset::Offset(mark.offset))?;
    element.set_metadata(&mark.metadata);
    Ok(())
}

fn committed(consumer: &BaseConsumer<Notes>, names: &[Name]) -> KafkaResult<HashMap<Name, Mark>> {
    let mut list = TopicPartitionList::new();
    for name in names {
        list.add_partition(&name.topic, name.number);
    }
    let list = consumer.committed_offsets(list, PATIENCE)?;
    let mut marks = HashMap::new();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            let name = Name { topic: element.topic().into(), number: element.partition() };
            marks.insert(name, Mark { offset, metadata: element.metadata().to_owned() });
        }
    }
    Ok(marks)
}

/// A group that comes for the first time begins with the oldest record: what was sent before its first start is work, too.
fn start(name: &Name, committed: Option<Mark>, log: Log) -> Start {
    let gap = |from, to| Some(Gap { name: name.clone(), from, to });
    let (offset, suspects_below, gap) = match &committed {
        None => (log.first, log.first, None),
        Some(mark) if mark.offset < log.first => (log.first, mark.suspects_below(log.end), gap(mark.offset, log.first)),
        // The log was cut or made anew: what is in it now nobody has seen, and the inbox knows what was.
        Some(mark) if mark.offset > log.end => (log.first, log.end, gap(log.end, mark.offset)),
        Some(mark) => (mark.offset, mark.suspects_below(log.end), None),
    };
    Start { name: name.clone(), offset, suspects_below, gap, committed }
}

/// The records of running partitions that were deleted before they were fetched; `next` is what each expects.
pub(super) fn gaps(consumer: &BaseConsumer<Notes>, next: &[(Name, i64)]) -> Result<Vec<Gap>, GapError> {
    let mut gaps = Vec::new();
    for (name, next) in next {
        let (first, end) = consumer.fetch_watermarks(&name.topic, name.number, PATIENCE)?;
        if *next > end {
            return Err(GapError::Cut(name.clone()));
        }
        if *next < first {
            gaps.push(Gap { name: name.clone(), from: *next, to: first });
        }
    }
    Ok(gaps)
}

/// Why it is not known what is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum GapError {
    #[error("ask where the log begins: {0}")]
    Broker(#[from] KafkaError),
    #[error("read on: the log of {0} was cut below what was read")]
    Cut(Name),
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Log = Log { first: 30, end: 50 };

    fn name() -> Name {
        Name { topic: "shop.commands".into(), number: 3 }
    }

    fn begin(committed: Option<Mark>) -> (i64, i64, Option<(i64, i64)>) {
        let Start { offset, suspects_below, gap, .. } = start(&name(), committed, LOG);
        (offset, suspects_below, gap.map(|gap| (gap.from, gap.to)))
    }

    #[test]
    fn a_new_group_begins_with_the_oldest_record_and_suspects_nothing() {
        assert_eq!(begin(None), (30, 30, None));
    }

    #[test]
    fn a_known_group_goes_on_and_suspects_what_a_killed_owner_may_have_begun() {
        assert_eq!(begin(Some(Mark::open(40))), (40, 50, None));
        assert_eq!(begin(Some(Mark { offset: 40, metadata: "pitcrew:begun-below=44".into() })), (40, 44, None));
        assert_eq!(begin(Some(Mark::open(50))), (50, 50, None));
    }

    #[test]
    fn records_that_are_gone_are_a_gap() {
        assert_eq!(begin(Some(Mark::open(10))), (30, 50, Some((10, 30))));
        assert_eq!(begin(Some(Mark::open(60))), (30, 50, Some((50, 60))));
    }
}
