//! What a replay has read, and what became of it.

use crate::transport::{Passage, Progress};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The numbers of one moment.
pub(super) struct Account {
    channel: String,
    /// Of all partitions and subscriptions together.
    sum: Passage,
    /// Where each partition would go on: where the last of the subscriptions is.
    pub(super) resume: BTreeMap<i32, i64>,
    /// Offsets that are behind us, of so many.
    walked: (i64, i64),
    fates: BTreeMap<&'static str, u64>,
}

impl Account {
    pub(super) fn of(
        channel: &str,
        progress: &BTreeMap<Arc<str>, Arc<Progress>>,
        fates: BTreeMap<&'static str, u64>,
    ) -> Self {
        let (mut sum, mut resume, mut walked) = (Passage::default(), BTreeMap::new(), (0, 0));
        for (partition, passage) in progress.values().flat_map(|progress| progress.passages()) {
            sum.read += passage.read;
            sum.other_time += passage.other_time;
            sum.other_type += passage.other_type;
            walked.0 += passage.next - passage.from;
            walked.1 += passage.to - passage.from;
            let next: &mut i64 = resume.entry(partition).or_insert(passage.next);
            *next = passage.next.min(*next);
        }
        Self { channel: channel.to_owned(), sum, resume, walked, fates }
    }

    /// Everything was read and is settled.
    pub(super) fn is_whole(&self) -> bool {
        self.walked.0 >= self.walked.1
    }

    pub(super) fn progress(&self) -> String {
        let (done, all) = self.walked;
        let percent = if all > 0 { done * 100 / all } else { 100 };
        format!(
            "{percent} % of {all} offsets, {} {} again{}",
            self.sum.read,
            records(self.sum.read),
            self.by_fate(": ")
        )
    }

    fn by_fate(&self, before: &str) -> String {
        let fates: Vec<String> = self.fates.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
        if fates.is_empty() { String::new() } else { format!("{before}{}", fates.join(", ")) }
    }

    pub(super) fn lines(&self, again: &str) -> Vec<String> {
        let Passage { read, other_time, other_type, .. } = self.sum;
        let mut lines = vec![format!("{read} {} of {} read again{}", records(read), self.channel, self.by_fate(": "))];
        if other_time + other_type > 0 {
            lines.push(format!("passed over: {other_time} of another time, {other_type} of another type"));
        }
        if self.fates.contains_key("retry") {
            lines.push("what failed comes again by the retry topics, to a running worker".into());
        }
        if self.fates.contains_key("dead") {
            lines.push("`dead list` shows what is dead, and why".into());
        }
        if !self.is_whole() {
            lines.push(format!("it ended before the end; go on with\n  {again}"));
        }
        lines
    }

    pub(super) fn json(&self, again: &str) -> Value {
        let Passage { read, other_time, other_type, .. } = self.sum;
        let passed_over = json!({ "other_time": other_time, "other_type": other_type });
        json!({
            "channel": self.channel, "read": read, "fates": self.fates, "passed_over": passed_over,
            "complete": self.is_whole(), "resume": self.resume, "again": (!self.is_whole()).then_some(again),
        })
    }
}

pub(super) fn records(count: u64) -> &'static str {
    if count == 1 { "record" } else { "records" }
}
