//! Channel Adapter: lines at the end of a file.

use car_workers::notification::{
    contract::{Channel, Letter, Notification, Recipient},
    file_sink::{FileSink, SinkConfig},
};
use chrono::DateTime;
use std::{collections::HashSet, path::PathBuf};

fn notification(id: usize, text: &str) -> Notification {
    let letter = Letter {
        id: id.to_string(),
        to: Recipient { id: "ada".into(), name: "Ada".into() },
        about: "b-1".into(),
        subject: "one line".into(),
        text: text.into(),
    };
    Notification { at: DateTime::UNIX_EPOCH, channel: Channel::File, sent_to: "log".into(), letter }
}

fn config(path: PathBuf) -> SinkConfig {
    SinkConfig { path, sync: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_give_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notifications.log");
    let text = "two\nlines ".repeat(500);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let sink = FileSink::open(config(path.clone())).await.unwrap();
        let text = text.clone();
        writers.spawn(async move {
            for i in 0..50 {
                sink.append(&notification(writer * 50 + i, &text)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let written = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Notification> = written.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().all(|n| n.letter.text == text));
    assert_eq!((lines.len(), lines.iter().map(|n| &n.letter.id).collect::<HashSet<_>>().len()), (400, 400));
}

#[tokio::test]
async fn a_file_that_was_rotated_away_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notifications.log");
    let sink = FileSink::open(SinkConfig { path: path.clone(), sync: true }).await.unwrap();
    sink.append(&notification(1, "old")).await.unwrap();
    std::fs::rename(&path, folder.path().join("notifications.log.1")).unwrap();
    sink.append(&notification(2, "new")).await.unwrap();
    let lines = std::fs::read_to_string(&path).unwrap();
    assert!(lines.contains("new") && !lines.contains("old"), "{lines}");
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/folder/notifications.log");
    let refused = FileSink::open(config(path.clone())).await.unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("open the notifications file `{}`: No such file", path.display())),
        "{refused}"
    );
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_not_a_lost_line() {
    let full = PathBuf::from("/dev/full");
    if !full.exists() {
        return; // Linux only.
    }
    let sink = FileSink::open(config(full)).await.unwrap();
    let refused = sink.append(&notification(1, "text")).await.unwrap_err().to_string();
    assert!(refused.starts_with("write the notifications file `/dev/full`: No space left"), "{refused}");
}
