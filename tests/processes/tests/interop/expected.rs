//! What must become of what foreign clients send: fate, attempts and reason of each message, effects, and what they hear.

use processes::{Worked, shop::Shop};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A message that can be read: its ID, its fate, its last attempt, the reason and the words of its letter if it has one.
pub(crate) type Readable = (&'static str, &'static str, u32, Option<(&'static str, &'static str)>);
/// Bytes that are no message: what is in them, how often they came, and why they are none.
pub(crate) type Unreadable = (&'static [u8], u32, &'static str);

/// Of what both scripts send (`cases.py`).
const READABLE: &[Readable] = &[
    ("done", "done", 1, None),
    ("retried", "done", 3, None),
    ("exhausted", "dead", 3, Some(("exhausted", "attempt 3 was to fail"))),
    ("refused", "dead", 1, Some(("permanent", "it can never be done"))),
    ("answered", "done", 1, None),
    (
        "answer-elsewhere",
        "dead",
        1,
        Some(("permanent", "reply to `elsewhere`: the channel is not in `replyto_allowed`")),
    ),
    ("twice", "done", 1, None),
    // The first one was done; the letter is the second one's.
    ("id-reused", "done", 1, Some(("id_reused", "came before with another payload"))),
    ("operation", "done", 1, None),
    ("operation-again", "duplicate", 1, None),
    ("operation-other", "dead", 1, Some(("key_conflict", "the same idempotencykey came before with another payload"))),
    ("not-json", "dead", 1, Some(("invalid_payload", "key must be a string at line 1 column 2"))),
    ("wrong-type", "dead", 1, Some(("invalid_payload", "n: invalid type: string \"one\", expected u32"))),
    ("empty-body", "dead", 1, Some(("invalid_payload", "EOF while parsing a value"))),
    ("no-handler", "dead", 1, Some(("unknown_type", "no handler for the type"))),
    ("too-new", "quarantined", 1, Some(("newer_version", "version 99 is newer than 1"))),
    ("too-late", "expired", 1, None),
    (
        "aaaaaaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee",
        "dead",
        1,
        Some(("from_the_future", "the time in its UUIDv7 is more than a day ahead")),
    ),
];

const UNREADABLE: &[Unreadable] = &[
    (b"no id", 1, "attribute `id` is missing"),
    (b"no type", 1, "attribute `type` is missing"),
    (
        b"no specversion",
        1,
        "attribute `specversion` is missing; `{prefix}` headers count only with `{prefix}specversion`",
    ),
    (b"old specversion", 1, "attribute `specversion` is `0.3`; only `1.0` is understood"),
    (b"version 0", 1, "attribute `schemaversion` is `0`; a whole number from 1 to 4294967295 is needed"),
    (b"no time", 1, "attribute `time` is `yesterday`; a time of RFC 3339 is needed"),
    (b"long id", 1, "attribute `id` is 201 bytes long; at most 200 are allowed"),
    (b"data as an attribute", 1, "attribute `data` is a reserved name; in binary mode the payload is the body"),
];

/// How many of each a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) events: usize,
    pub(crate) letters: usize,
    pub(crate) replies: usize,
}

/// All that must come of one script.
pub(crate) struct Expected {
    prefix: &'static str,
    readable: Vec<Readable>,
    unreadable: Vec<Unreadable>,
    /// Those that are answered.
    answered: Vec<&'static str>,
}

impl Expected {
    /// `prefix`: what its headers begin with.
    pub(crate) fn of(
        prefix: &'static str,
        done: &[&'static str],
        others: &[Readable],
        unreadable: &[Unreadable],
    ) -> Self {
        let done = done.iter().map(|id| (*id, "done", 1, None));
        Self {
            prefix,
            readable: done.chain(READABLE.iter().chain(others).copied()).collect(),
            unreadable: UNREADABLE.iter().chain(unreadable).copied().collect(),
            answered: vec!["answered"],
        }
    }

    /// This one is answered, too.
    pub(crate) fn answered(mut self, id: &'static str) -> Self {
        self.answered.push(id);
        self
    }

    fn done(&self) -> impl Iterator<Item = &Readable> {
        self.readable.iter().filter(|(_, fate, ..)| *fate == "done")
    }

    /// Of every letter that is a message a copy comes to the dead letter channel.
    fn copies(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let letters = self.readable.iter().filter_map(|(id, _, _, letter)| Some((*id, (*letter)?.0)));
        letters.filter(|(_, reason)| *reason != "newer_version")
    }

    pub(crate) fn heard(&self) -> Heard {
        Heard { events: self.done().count(), letters: self.copies().count(), replies: self.answered.len() }
    }

    /// Looks into the database, and at what the listener heard: JSON lines.
    pub(crate) async fn hold(&self, shop: &Shop, output: &str) {
        shop.until("an empty outbox", async || (shop.store.counts().await.expect("counts").outbox == 0).then_some(()))
            .await;
        for expected in &self.readable {
            self.readable_one(shop, expected).await;
        }
        self.unreadable_ones(shop).await;
        self.listened(shop, output).await;
    }

    async fn readable_one(&self, shop: &Shop, &(id, fate, attempt, letter): &Readable) {
        let history = shop.history(id).await;
        let [row] = &history.inbox[..] else { panic!("`{id}` has {} fates; {}", history.inbox.len(), shop.logs()) };
        assert_eq!((&*row.fate, row.attempt), (fate, attempt), "`{id}`: {history:?}");
        let letters: Vec<_> = history.letters.iter().map(|letter| (&*letter.reason, &*letter.error)).collect();
        match (&letters[..], letter) {
            ([], None) => {}
            ([(reason, error)], Some((expected, words))) => {
                assert!(*reason == expected && error.contains(words), "`{id}`: {reason}: {error}");
                assert_eq!(history.letters[0].key.attempt, attempt, "`{id}`");
            }
            _ => panic!("`{id}` has the letters {letters:?} instead of {letter:?}"),
        }
    }

    async fn unreadable_ones(&self, shop: &Shop) {
        let letters = shop.letters().await;
        let mut unreadable: Vec<_> = letters.iter().filter(|letter| letter.reason == "undecodable").collect();
        for (body, count, error) in &self.unreadable {
            let error = error.replace("{prefix}", self.prefix);
            let holds = |payload: &[u8]| {
                payload.windows(body.len().max(1)).any(|part| part == *body) || (body.is_empty() && payload.is_empty())
            };
            let found = unreadable.iter().position(|letter| holds(&letter.payload) && letter.error.starts_with(&error));
            let Some(found) = found else {
                let body = String::from_utf8_lossy(body);
                let all: Vec<_> = unreadable.iter().map(|l| (String::from_utf8_lossy(&l.payload), &l.error)).collect();
                panic!("no letter of {body:?} with {error:?} in {all:#?}");
            };
            let letter = unreadable.remove(found);
            assert_eq!((letter.count, letter.key.attempt), (*count, 1), "{letter:?}");
            assert_eq!((&*letter.subscription, &*letter.ty), (&*shop.commands(), ""), "{letter:?}");
        }
        assert!(unreadable.is_empty(), "not expected: {unreadable:?}");
    }

    async fn listened(&self, shop: &Shop, output: &str) {
        let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let on = |what: &str| lines.iter().filter(|line| line["on"] == what).collect::<Vec<_>>();
        let (events, letters, replies) = (on("events"), on("letters"), on("replies"));
        let heard = Heard { events: events.len(), letters: letters.len(), replies: replies.len() };
        assert_eq!(heard, self.heard(), "{output}");

        // Of each message that was done one event, which says so and whom it came of.
        let causes: BTreeMap<String, Value> =
            events.iter().map(|event| (self.attribute(event, "causationid"), body(event))).collect();
        assert_eq!(
            causes.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            self.done().map(|(id, ..)| *id).collect()
        );
        for (id, _, attempt, _) in self.done() {
            let worked: Worked = serde_json::from_value(causes[*id].clone()).expect("an event");
            assert_eq!(worked.attempt, *attempt, "`{id}`");
            let effects = shop.effects(worked.n).await;
            assert_eq!((effects.done, effects.heard), (1, 1), "`{id}`");
        }
        for line in events.iter().chain(&replies) {
            let told: Vec<_> = ["specversion", "type", "source"].map(|name| self.attribute(line, name)).into();
            assert_eq!(told, ["1.0", "test.Worked", "/shop"], "{line}");
        }

        // Of each letter a copy, as it came, and why.
        let reasons = letters.iter().map(|letter| {
            assert_eq!(letter["headers"]["pitcrew-origin"], shop.commands(), "{letter}");
            let reason = letter["headers"]["pitcrew-reason"].as_str().expect("a reason");
            (self.attribute(letter, "id"), reason.split(':').next().unwrap_or_default().to_owned())
        });
        let expected: BTreeSet<_> = self.copies().map(|(id, reason)| (id.to_owned(), reason.to_owned())).collect();
        assert_eq!(reasons.collect::<BTreeSet<_>>(), expected);
        let exhausted = letters.iter().find(|letter| self.attribute(letter, "id") == "exhausted").expect("its copy");
        assert_eq!(exhausted["headers"]["pitcrew-attempt"], "3", "{exhausted}");

        // The answers come to whoever asked.
        let answered: BTreeSet<_> = replies.iter().map(|reply| self.attribute(reply, "causationid")).collect();
        assert_eq!(answered, self.answered.iter().map(|id| (*id).to_owned()).collect());
        let reply = replies.iter().find(|reply| self.attribute(reply, "causationid") == "answered").expect("a reply");
        assert_eq!((self.attribute(reply, "correlationid").as_str(), &body(reply)["n"]), ("order-7", &Value::from(5)));
    }

    /// An attribute of what was heard, which is written with the broker's own prefix.
    pub(crate) fn attribute(&self, line: &Value, name: &str) -> String {
        line["headers"][format!("{}{name}", self.prefix)].as_str().unwrap_or_default().to_owned()
    }
}

fn body(line: &Value) -> Value {
    serde_json::from_str(line["body"].as_str().expect("a body")).expect("JSON")
}

/// The one line of those heard on `what` that came of the message `cause`.
pub(crate) fn caused_by(output: &str, what: &str, prefix: &str, cause: &str) -> Value {
    let lines = output.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut found = lines.filter(|line| line["on"] == what && line["headers"][format!("{prefix}causationid")] == cause);
    let line = found.next().unwrap_or_else(|| panic!("nothing of {cause} was heard on {what}: {output}"));
    assert_eq!(found.next(), None, "heard twice");
    line
}
