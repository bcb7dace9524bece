//! Bad input through a whole worker: whatever comes, it ends in one letter or one effect, with a reason, and the next message
//! is handled as if nothing had been.

#[path = "bad_input/database.rs"]
mod database;
#[path = "bad_input/random.rs"]
mod random;

use bytes::Bytes;
use pitcrew::{
    Command, Context, Document, Envelope, Event, Handlers, Message,
    config::Config,
    message::wire::{Properties, Raw, STRUCTURED},
    store::{Fate, LetterState},
    testing::TestWorker,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A note to keep; its handler writes what it is given, wherever it is told to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Keep {
    text: String,
    #[serde(default)]
    into: String,
}
impl Message for Keep {
    type Kind = Command;
    const TYPE: &'static str = "notes.Keep";
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Kept {
    text: String,
}
impl Message for Kept {
    type Kind = Event;
    const TYPE: &'static str = "notes.Kept";
}

/// One for the whole worker: how many notes were kept, counted by a write that is not idempotent.
#[derive(Serialize, Deserialize)]
struct Count(u64);
impl Document for Count {
    const COLLECTION: &'static str = "count";
    fn id(&self) -> impl std::fmt::Display {
        "all"
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    id: String,
    text: String,
}
impl Document for Note {
    const COLLECTION: &'static str = "note";
    fn id(&self) -> impl std::fmt::Display {
        &self.id
    }
}

async fn keep(m: Keep, cx: &mut Context) -> pitcrew::Result {
    cx.update("all", |count: Option<Count>| Count(count.map_or(0, |c| c.0) + 1)).await?;
    match m.into.as_str() {
        "document" => cx.save(&Note { id: "1".into(), text: m.text })?,
        "id" => cx.save(&Note { id: m.text, text: String::new() })?,
        "event" => cx.emit(&Kept { text: m.text })?,
        "large event" => cx.emit(&Kept { text: "x".repeat(2_000_000) })?,
        _ => {}
    }
    Ok(())
}

fn handlers() -> Handlers {
    Handlers::new().handle(keep).emits::<Kept>()
}

async fn kept(worker: &TestWorker) -> u64 {
    worker.document::<Count>("all").await.map_or(0, |count| count.0)
}

const GOOD: &str = r#"{"text":"milk"}"#;

fn raw(headers: &[(&str, &str)], body: impl Into<Bytes>) -> Raw {
    let mut all = vec![("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/shop"), ("ce_type", Keep::TYPE)];
    for (name, value) in headers {
        all.retain(|(other, _)| other != name);
        all.push((name, value));
    }
    let headers = all.iter().map(|(n, v)| ((*n).to_owned(), Some(Bytes::copy_from_slice(v.as_bytes())))).collect();
    Raw { headers, body: body.into(), ..Raw::default() }
}

fn without(name: &str) -> Raw {
    let mut raw = raw(&[], GOOD);
    raw.headers.retain(|(other, _)| other != name);
    raw
}

fn structured(body: impl Into<Bytes>) -> Raw {
    let properties = Properties { content_type: Some(STRUCTURED.into()), ..Properties::default() };
    Raw { properties, body: body.into(), ..Raw::default() }
}

fn told(into: &str, text: &str) -> Raw {
    raw(&[], serde_json::to_vec(&Keep { text: text.into(), into: into.into() }).unwrap())
}

/// It is buried for this reason, with these words and all its bytes; it has no effect; and the next message is done.
#[track_caller]
fn check(config: Config, cases: &[(&str, Raw, &str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for (what, raw, reason, words) in cases {
        runtime.block_on(async {
            let worker = TestWorker::with_config(handlers(), config.clone()).await;
            let outcome = worker.deliver_raw(Keep::TYPE, raw.clone()).await;
            outcome.assert_dead(reason);
            assert!(outcome.error().contains(words), "{what}: {}", outcome.error());
            assert!(outcome.error().len() <= 600, "{what}: a reason of {} bytes", outcome.error().len());
            let letters = worker.letters().await;
            let [letter] = letters.as_slice() else { panic!("{what}: {letters:?}") };
            assert_eq!((letter.reason.as_str(), letter.state), (*reason, LetterState::Dead), "{what}");
            let whole = letter.payload == raw.body || raw.properties.content_type.as_deref() == Some(STRUCTURED);
            assert!(whole, "{what}: {} bytes were kept of {}", letter.payload.len(), raw.body.len());
            assert_eq!(kept(&worker).await, 0, "{what}: an effect");
            worker.deliver(&Keep { text: "bread".into(), into: String::new() }).await.assert_done();
            assert_eq!(kept(&worker).await, 1, "{what}");
        });
    }
}

#[test]
fn bytes_that_are_no_message() {
    let garbage = || vec![0u8, 159, 146, 150, 255];
    let not_utf8 = |name: &str| {
        let mut raw = without(name);
        raw.headers.push((name.into(), Some(Bytes::from_static(b"\xff\xfe"))));
        raw
    };
    let valueless = {
        let mut raw = without("ce_type");
        raw.headers.push(("ce_type".into(), None));
        raw
    };
    let no = |reason: &'static str| reason;
    check(
        Config::default(),
        &[
            (
                "garbage alone",
                Raw { body: garbage().into(), ..Raw::default() },
                no("undecodable"),
                "attribute `id` is missing",
            ),
            ("nothing at all", Raw::default(), no("undecodable"), "attribute `id` is missing"),
            ("no id", without("ce_id"), no("undecodable"), "attribute `id` is missing"),
            ("no type", without("ce_type"), no("undecodable"), "attribute `type` is missing"),
            ("no version of the specification", without("ce_specversion"), no("undecodable"), "ce_specversion"),
            ("another version", raw(&[("ce_specversion", "0.3")], GOOD), no("undecodable"), "only `1.0` is understood"),
            ("an empty id", raw(&[("ce_id", "")], GOOD), no("undecodable"), "attribute `id` is empty"),
            (
                "an id of 201 bytes",
                raw(&[("ce_id", &"é".repeat(101)[..201 - 1]), ("ce_id", &"x".repeat(201))], GOOD),
                no("undecodable"),
                "201 bytes",
            ),
            ("NUL in the id", raw(&[("ce_id", "a\0b")], GOOD), no("undecodable"), "control character"),
            ("NUL in the subject", raw(&[("ce_subject", "a\0b")], GOOD), no("undecodable"), "NUL"),
            ("NUL in a foreign attribute", raw(&[("ce_mine", "\0")], GOOD), no("undecodable"), "NUL"),
            ("an id that is not UTF-8", not_utf8("ce_id"), no("undecodable"), "attribute `id` is not UTF-8"),
            (
                "a subject that is not UTF-8",
                not_utf8("ce_subject"),
                no("undecodable"),
                "attribute `subject` is not UTF-8",
            ),
            ("a header without a value", valueless, no("undecodable"), "attribute `type` has no value"),
            ("no time at all in `time`", raw(&[("ce_time", "yesterday")], GOOD), no("undecodable"), "RFC 3339"),
            ("version 0", raw(&[("ce_schemaversion", "0")], GOOD), no("undecodable"), "schemaversion"),
            ("an attempt below 1", raw(&[("pitcrew-attempt", "0")], GOOD), no("undecodable"), "pitcrew-attempt"),
            ("garbage that says it is structured", structured(garbage()), no("undecodable"), "is not a JSON object"),
            (
                "a structured one that ends too early",
                structured(&br#"{"specversion":"1.0","id":"1""#[..]),
                no("undecodable"),
                "EOF",
            ),
        ],
    );
}

#[test]
fn payloads_that_are_not_of_their_type() {
    let deep = format!(r#"{{"text":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let sealed = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/s","type":"notes.Keep","data":{}{}}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let with = |body: &str| raw(&[], body.to_owned());
    let reason = "invalid_payload";
    check(
        Config::default(),
        &[
            ("none", with(""), reason, "EOF"),
            ("garbage", raw(&[], vec![0u8, 159, 146, 150]), reason, "invalid payload at"),
            ("a missing field", with("{}"), reason, "missing field `text`"),
            ("a wrong field", with(r#"{"text":7}"#), reason, "at text"),
            ("another thing behind it", with(r#"{"text":"a"} x"#), reason, "trailing characters"),
            ("half a surrogate", with(r#"{"text":"\ud800"}"#), reason, "hex escape"),
            ("not UTF-8", raw(&[], &b"{\"text\":\"\xff\"}"[..]), reason, "invalid unicode"),
            ("structured, and nested 50,000 deep", structured(sealed), reason, "invalid payload at"),
            ("nested 100,000 deep", with(&deep), reason, "invalid"),
        ],
    );
}

#[test]
fn what_a_handler_cannot_keep_is_dead_with_the_place() {
    let reason = "permanent";
    check(
        Config::default(),
        &[
            ("NUL in a document", told("document", "a\0b"), reason, "write `note`: it holds a NUL"),
            ("NUL in a document's id", told("id", "a\0b"), reason, "write `note`: it holds a NUL"),
            ("NUL in an event", told("event", "a\0b"), reason, "write `notes.Kept`: it holds a NUL"),
            ("an event that is too large", told("large event", ""), reason, "over the limit of 1000000"),
        ],
    );
}

#[test]
fn types_and_times_that_nobody_knows() {
    let tomorrow = pitcrew::clock::uuid_v7_at(chrono::Utc::now() + chrono::TimeDelta::days(3)).to_string();
    check(
        Config::default(),
        &[
            ("an unknown type", raw(&[("ce_type", "notes.Burn")], GOOD), "unknown_type", "no handler for the type"),
            (
                "an id of the day after tomorrow",
                raw(&[("ce_id", &tomorrow)], GOOD),
                "from_the_future",
                "more than a day ahead",
            ),
        ],
    );
}

#[test]
fn ten_megabytes_are_over_the_limit_unless_the_config_allows_them() {
    let large = || raw(&[], serde_json::to_vec(&Keep { text: "x".repeat(10_000_000), into: String::new() }).unwrap());
    let as_structured = structured(format!(r#"{{"specversion":"1.0","data":"{}"}}"#, "x".repeat(10_000_000)));
    let words = "is over the limit of 1000000 (worker.payload_limit)";
    check(
        Config::default(),
        &[("binary", large(), "too_large", words), ("structured", as_structured, "too_large", words)],
    );
    let mut roomy = Config::default();
    roomy.worker.payload_limit = 20_000_000;
    done(roomy, &[("within the limit", large())]);
}

/// Odd and right: it is handled, once.
#[track_caller]
fn done(config: Config, cases: &[(&str, Raw)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for (what, raw) in cases {
        runtime.block_on(async {
            let worker = TestWorker::with_config(handlers(), config.clone()).await;
            let outcome = worker.deliver_raw(Keep::TYPE, raw.clone()).await;
            assert_eq!(outcome.fate, Fate::Done, "{what}: {}", outcome.error());
            let again = worker.deliver_raw(Keep::TYPE, raw.clone()).await;
            assert_eq!(again.fate, Fate::Duplicate, "{what}");
            assert_eq!((kept(&worker).await, worker.letters().await.len()), (1, 0), "{what}");
        });
    }
}

#[test]
fn odd_messages_that_are_right_are_done() {
    let nested = format!(r#"{{"text":"a","more":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    done(
        Config::default(),
        &[
            ("an id of 200 bytes", raw(&[("ce_id", &"é".repeat(100))], GOOD)),
            ("an id of one byte", raw(&[("ce_id", "0")], GOOD)),
            ("a time in the far future", raw(&[("ce_time", "9999-12-31T23:59:59Z")], GOOD)),
            ("a time long past", raw(&[("ce_time", "0000-01-01T00:00:00Z")], GOOD)),
            ("no time", without("ce_time")),
            ("no source", without("ce_source")),
            ("an id with the time of long ago", raw(&[("ce_id", "00000000-0000-7000-8000-000000000000")], GOOD)),
            ("an id like SQL", raw(&[("ce_id", "'; drop table inbox; --")], GOOD)),
            ("NUL in what nobody writes", told("", "a\0b")),
            ("nested 100,000 deep where nobody looks", raw(&[], nested)),
            ("an unknown field", raw(&[], r#"{"text":"a","colour":"red"}"#)),
            ("another content type", {
                let mut raw = raw(&[], GOOD);
                raw.properties.content_type = Some("text/plain".into());
                raw
            }),
            ("headers that are not ours, in no alphabet", {
                let mut raw = raw(&[], GOOD);
                raw.headers.push(("x-death".into(), Some(Bytes::from_static(b"\xff\x00"))));
                raw
            }),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_waits_and_is_not_dead() {
    let worker = TestWorker::new(handlers()).await;
    let outcome = worker.deliver_raw(Keep::TYPE, raw(&[("ce_schemaversion", "2")], GOOD)).await;
    assert_eq!(outcome.fate, Fate::Quarantined);
    assert!(outcome.error().contains("version 2 is newer than 1"), "{}", outcome.error());
    let letters = worker.letters().await;
    assert_eq!(
        (letters.len(), letters[0].state, letters[0].payload.as_slice()),
        (1, LetterState::Quarantined, GOOD.as_bytes())
    );
    assert_eq!(kept(&worker).await, 0);
}

/// What is refused at the door of a client never becomes a row.
#[tokio::test(start_paused = true)]
async fn a_client_refuses_before_it_writes() {
    let worker = TestWorker::new(handlers()).await;
    let good = || Envelope::new(Keep::TYPE, "/shop", GOOD);
    let cases: [(Envelope, &str); 7] = [
        (Envelope { id: String::new(), ..good() }, "attribute `id` is empty"),
        (Envelope { id: "x".repeat(201), ..good() }, "201 bytes"),
        (Envelope { subject: Some("a\0b".into()), ..good() }, "NUL"),
        (Envelope { ty: "notes.Burn".into(), ..good() }, "no channel carries this type"),
        (Envelope { data: r#"{"text":"a\u0000b"}"#.into(), ..good() }, "NUL"),
        (Envelope { data: vec![b'1'; 1_000_001].into(), ..good() }, "over the limit of 1000000"),
        (Envelope { version: 0, ..good() }, "schemaversion"),
    ];
    for (envelope, words) in cases {
        let refused = worker.client().send_envelopes(vec![good(), envelope], None).await;
        let told = format!("{:#}", refused.expect_err(words));
        assert!(told.contains(words), "{told}");
    }
    worker.idle().await;
    assert_eq!((kept(&worker).await, worker.letters().await.len()), (0, 0), "not even the good ones beside them");
}
