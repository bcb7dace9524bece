//! Event-Driven Consumer: tells the buyer that a brief is there.
//!
//! The parts: `contract.rs` (what is kept), `letter.rs` (what is said: pure), `file_sink.rs` (where it goes).

pub mod contract;
pub mod file_sink;
pub mod letter;

use crate::recommendation::contract::RecommendationBriefGenerated;
use contract::Notification;
use file_sink::{FileSink, SinkConfig};
use pitcrew::{Context, Handler, Setup};

/// Answers `car.RecommendationBriefGenerated`.
///
/// The line in the file is an effect *outside* the database, so it is at-least-once: a worker that dies between the append and
/// the commit appends again when the event comes again. Each line carries the event's ID, by which a reader drops the second
/// one. The [`Notification`] is an effect inside: it is there exactly once.
#[derive(Debug)]
pub struct Notifier {
    sink: FileSink,
}

impl Notifier {
    /// Opens the file once, so that a path that cannot be written stops the start and not the first message.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        let config: SinkConfig = setup.config()?;
        Ok(Self { sink: FileSink::open(config).await? })
    }
}

impl Handler<RecommendationBriefGenerated> for Notifier {
    async fn handle(&self, event: RecommendationBriefGenerated, cx: &mut Context) -> pitcrew::Result {
        let notification = Notification {
            id: cx.meta().id.clone(),
            at: cx.now(),
            to: event.buyer.clone(),
            brief_id: event.brief_id.clone(),
            text: letter::write(&event),
            sent_to: self.sink.path().display().to_string(),
        };
        // First what can fail here, then what cannot be taken back.
        cx.save(&notification)?;
        self.sink.append(&notification).await?;
        Ok(())
    }
}
