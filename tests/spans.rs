//! What a tracing backend is told of one attempt: the OpenTelemetry conventions for messaging, by their names.

use pitcrew::{Command, Context, Envelope, Handlers, Message, testing::TestWorker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, layer::SubscriberExt, registry::LookupSpan};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Greet {
    name: String,
}
impl Message for Greet {
    type Kind = Command;
    const TYPE: &'static str = "demo.Greet";
}

/// A log line of the author's, inside the span of its attempt.
async fn greet(m: Greet, cx: &mut Context) -> pitcrew::Result {
    tracing::info!("greeting");
    if cx.attempt() == 1 && m.name == "Bob" {
        return Err(anyhow::anyhow!("not at first").into());
    }
    Ok(())
}

type Fields = BTreeMap<String, String>;

/// Every span `process`, and the name of the span in which each log line stands.
#[derive(Clone, Default)]
struct Recorder {
    spans: Arc<Mutex<Vec<Fields>>>,
    lines_in: Arc<Mutex<Vec<String>>>,
}

struct Reader(Fields);
impl Visit for Reader {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: tracing_subscriber::layer::Context<'_, S>) {
        if attributes.metadata().name() == "process" {
            let mut reader = Reader(Fields::new());
            attributes.record(&mut reader);
            self.spans.lock().unwrap().push(reader.0);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, cx: tracing_subscriber::layer::Context<'_, S>) {
        let span = cx.event_span(event).map(|span| span.name().to_owned()).unwrap_or_default();
        if event.metadata().target() == module_path!() {
            self.lines_in.lock().unwrap().push(span);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_a_span_with_the_conventions_for_messaging() {
    let recorder = Recorder::default();
    let _recording = tracing::subscriber::set_default(tracing_subscriber::registry().with(recorder.clone()));
    let worker = TestWorker::new(Handlers::new().handle(greet)).await;
    let mut envelope = Envelope::of(&Greet { name: "Bob".into() }, "/shop").unwrap();
    envelope.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    envelope.correlation_id = Some("talk-1".into());
    let first = worker.deliver_envelope(envelope.clone()).await;
    worker.next_attempt(&first).await.assert_done();

    let spans = recorder.spans.lock().unwrap();
    let expected = |attempt: &str| -> Fields {
        let fields = [
            ("otel.name", "process demo.commands"),
            ("otel.kind", "consumer"),
            ("messaging.system", "test"),
            ("messaging.operation.type", "process"),
            ("messaging.operation.name", "process"),
            ("messaging.destination.name", "demo.commands"),
            ("messaging.consumer.group.name", "demo.commands"),
            ("messaging.message.id", &envelope.id),
            ("messaging.message.conversation_id", "talk-1"),
            ("pitcrew.message.type", "demo.Greet"),
            ("pitcrew.attempt", attempt),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    assert_eq!(*spans, [expected("1"), expected("2")], "the retry is in the same trace");
    assert_eq!(*recorder.lines_in.lock().unwrap(), ["process", "process"], "what a handler logs is inside");
}
