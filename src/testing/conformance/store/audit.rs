//! Cases: the audit trail of messages, where it goes in the end, and what operators did.

use super::{
    Subject,
    history::{RETENTION, finished_at, made_at, maintain},
    samples::*,
};
use crate::{clock, store::*};
use chrono::{DateTime, Utc};
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// A folder that goes with the case.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("pitcrew-sink-{}", clock::uuid_v7()));
        std::fs::create_dir(&path).expect("a folder is made");
        Self(path)
    }

    fn retention(&self) -> Retention {
        Retention { sink: Some(Sink::new(&self.0)), ..RETENTION }
    }

    fn names(&self) -> BTreeSet<String> {
        let files = std::fs::read_dir(&self.0).expect("the folder is read");
        files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect()
    }

    /// What field `name` is in each line, of all files that begin so.
    fn lines(&self, begin: &str, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        for file in self.names().iter().filter(|file| file.starts_with(begin)) {
            let text = std::fs::read_to_string(self.0.join(file)).expect("it is read");
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
                found.push(line[name].as_str().expect("a text").to_owned());
            }
        }
        found.sort_unstable();
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn whole() -> Span {
    Span { since: DateTime::UNIX_EPOCH, until: clock::now() + 2 * DAY }
}

/// All pages of this size.
async fn pages(on: &Subject, span: Span, size: usize) -> Vec<Handled> {
    let mut all: Vec<Handled> = Vec::new();
    loop {
        let page = on.store.handled(&span, all.last(), size).await.expect("the store answers");
        assert!(page.len() <= size);
        let is_last = page.len() < size;
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

fn ids(handled: &[Handled]) -> Vec<&str> {
    handled.iter().map(|handled| handled.row.id.as_str()).collect()
}

pub(super) async fn what_was_handled_is_paged_whole_and_once(on: Subject) {
    let now = clock::now();
    let mut batch: Vec<_> = (0..9).map(|n| made_at(now - n * 60 * SECOND, done)).collect();
    batch.extend(["1", "2", "3"].map(|id| finished_at(now, &command_of(id), done)));
    // The same message at another handler, and the same ID of another source.
    let event = batch[0].envelope.clone();
    batch.push(done(&event).with(|m| m.consumer = "analytics".into()));
    batch.push(done(&event.as_ref().clone().with(|e| e.source = "/elsewhere".into())));
    batch.push(finished_at(now, &command_of("2"), done).with(|m| m.consumer = "analytics".into()));
    on.commit(&batch).await;
    let key = |consumer: &str, source: &str, id: &str| (consumer.to_owned(), source.to_owned(), id.to_owned());
    let expected: BTreeSet<_> = batch.iter().map(|m| key(&m.consumer, &m.envelope.source, &m.envelope.id)).collect();
    for size in [1, 2, 3, 4, 15, 16, 1_000] {
        let all = pages(&on, whole(), size).await;
        let found: BTreeSet<_> = all.iter().map(|h| key(&h.row.consumer, &h.row.source, &h.row.id)).collect();
        assert_eq!((all.len(), &found), (expected.len(), &expected), "in pages of {size}");
        assert!(all.is_sorted_by_key(|handled| handled.sent), "in pages of {size}: {:?}", ids(&all));
    }
}

pub(super) async fn what_was_handled_is_found_by_when_it_was_sent(on: Subject) {
    let now = clock::now();
    let [early, late] = [made_at(now - 600 * SECOND, done), made_at(now - 60 * SECOND, done)];
    // Sent early and done late counts as early; without a time in its ID there is only the end.
    let early = early.with(|m| m.at = now);
    let undated =
        [("first", now - 600 * SECOND), ("second", now)].map(|(id, at)| finished_at(at, &command_of(id), done));
    on.commit(&[early.clone(), late.clone(), undated[0].clone(), undated[1].clone()]).await;
    let found = async |since: DateTime<Utc>, until: DateTime<Utc>| {
        let all = pages(&on, Span { since, until }, 10).await;
        ids(&all).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let [early, late] = [&early, &late].map(|m| m.envelope.id.clone());
    let border = now - 300 * SECOND;
    assert_eq!(found(now - 700 * SECOND, border).await, ["first".to_owned(), early.clone()]);
    assert_eq!(found(border, now + SECOND).await, ["second".to_owned(), late]);
    assert_eq!(found(now + SECOND, now + 2 * SECOND).await, Vec::<String>::new());
    // At the time itself is since, and not until.
    let sent = pages(&on, whole(), 10).await[2].sent.expect("it has a time");
    assert_eq!(found(sent, sent + Duration::from_micros(1)).await, [early]);
    assert_eq!(found(sent - SECOND, sent).await, Vec::<String>::new());
}

pub(super) async fn what_was_handled_is_told_with_its_reason(on: Subject) {
    let envelope = command().with(|e| {
        e.actor = Some("ada".into());
        e.subject = Some("car/17".into());
        e.causation_id = Some("the first".into());
        e.hop.attempt = 3;
    });
    let message = dead(&envelope).with(|m| m.duration = Duration::from_micros(12_500));
    on.commit(&[message.clone(), done(&command_of("17"))]).await;
    let all = pages(&on, whole(), 10).await;
    assert_eq!((all[0].sent, all[0].reason.as_deref()), (None, None));
    let row = on.history(&envelope.id).await.inbox.remove(0);
    let crate::message::KeyTime::At(sent) = envelope.key_time() else { panic!("a UUIDv7 has a time") };
    assert_eq!(all[1], Handled { sent: Some(sent), row, reason: Some("permanent".into()) });
}

/// Messages and an action that [`RETENTION`] has passed, and some that it has not.
async fn some_old(on: &Subject, now: DateTime<Utc>) -> (Vec<String>, Vec<String>) {
    let old = now - 40 * DAY;
    let gone = [made_at(old, done), made_at(old - 3 * DAY, dead), finished_at(old, &command_of("old"), done)];
    let kept = [made_at(now - DAY, done), finished_at(now - DAY, &command_of("young"), done)];
    on.commit(&gone).await;
    on.commit(&kept).await;
    for at in [now - 500 * DAY, now - DAY] {
        let bodies = Some(Box::new(Bodies { before: b"{\"as\": \"it died\"}".into(), after: b"mended".into() }));
        let action = Audit { at, bodies, ..audit("declare", &format!("mq/{}", at.timestamp())) };
        on.store.record_action(&action).await.expect("it is recorded");
    }
    let sorted = |batch: &[Finished]| {
        let mut ids: Vec<_> = batch.iter().map(|m| m.envelope.id.clone()).collect();
        ids.sort_unstable();
        ids
    };
    (sorted(&gone), sorted(&kept))
}

async fn left(on: &Subject) -> Vec<String> {
    let mut left: Vec<_> = pages(on, whole(), 10).await.into_iter().map(|handled| handled.row.id).collect();
    left.sort_unstable();
    left
}

async fn actions(on: &Subject) -> usize {
    on.store.audit_trail(&AuditFilter::default(), 10).await.expect("the store answers").len()
}

pub(super) async fn what_retention_drops_is_in_the_sink_first(on: Subject) {
    let (now, folder) = (clock::now(), Folder::new());
    let (gone, kept) = some_old(&on, now).await;
    let done = on.store.maintain(&folder.retention(), now).await.expect("housekeeping is done");
    assert_eq!(done.kept, Vec::<String>::new());
    assert_eq!(folder.lines("inbox", "id"), gone, "each once");
    assert_eq!(folder.lines("operators", "target"), [format!("mq/{}", (now - 500 * DAY).timestamp())]);
    assert_eq!(folder.lines("operators", "after"), ["mended"], "both payloads too");
    assert_eq!((left(&on).await, actions(&on).await), (kept, 1));
    let names = folder.names();
    assert_eq!(done.exported.iter().cloned().collect::<BTreeSet<_>>(), names, "and nothing unfinished");
    // Again there is nothing to do.
    let again = on.store.maintain(&folder.retention(), now).await.expect("housekeeping is done");
    assert_eq!((again.exported.len(), again.trimmed, folder.names()), (0, 0, names));
}

pub(super) async fn what_the_sink_does_not_take_is_kept_until_it_does(on: Subject) {
    let (now, folder) = (clock::now(), Folder::new());
    let (gone, kept) = some_old(&on, now).await;
    std::fs::remove_dir(&folder.0).expect("the folder goes");
    for _ in 0..2 {
        let done = on.store.maintain(&folder.retention(), now).await.expect("housekeeping is done");
        assert!(!done.kept.is_empty(), "{done:?}");
        assert_eq!(done.exported, Vec::<String>::new());
    }
    let mut all = [gone.clone(), kept.clone()].concat();
    all.sort_unstable();
    assert_eq!((left(&on).await, actions(&on).await), (all, 2));
    std::fs::create_dir(&folder.0).expect("the folder is back");
    let done = on.store.maintain(&folder.retention(), now).await.expect("housekeeping is done");
    assert_eq!(done.kept, Vec::<String>::new());
    assert_eq!((folder.lines("inbox", "id"), left(&on).await, actions(&on).await), (gone, kept, 1));
}

pub(super) async fn what_operators_did_has_its_own_retention(on: Subject) {
    let now = clock::now();
    for days in [1_u32, 399, 401, 4_000] {
        let action = Audit { at: now - days * DAY, ..audit("declare", &days.to_string()) };
        on.store.record_action(&action).await.expect("it is recorded");
    }
    maintain(&on, now).await;
    let trail = on.store.audit_trail(&AuditFilter::default(), 10).await.expect("the store answers");
    assert_eq!(trail.iter().map(|audit| audit.target.as_str()).collect::<Vec<_>>(), ["1", "399"]);
}
