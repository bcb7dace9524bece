//! Contract test: what became of each message's contract since it was last exported, and the way out of a break.

use super::judge::{Change, Writer, compare};
use crate::{
    handler::{Contract, TypeInfo},
    message::Intent,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Beside the keywords of an exported schema: what it says of the message itself.
pub(super) const ABOUT: &str = "x-pitcrew";

const HANDLE: &str =
    "keep its handler until nobody sends it and none is on its way, kept or dead; then write FILE anew";
const SEND: &str = "send it until nobody waits for it any more; then write FILE anew";

/// What a build does with a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    kind: String,
    version: u32,
    handled: bool,
    emitted: bool,
}

impl About {
    pub(super) fn of(info: &TypeInfo) -> Self {
        let kind = if info.intent == Intent::Command { "command" } else { "event" };
        let handled = !info.subscribers.is_empty();
        Self { kind: kind.into(), version: info.version, handled, emitted: info.emitted }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// Nobody must do anything.
    Unchanged,
    New,
    Compatible,
    /// A break, told by a higher version.
    Raised,
    Broken,
}

/// What became of one type.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(super) verdict: Verdict,
    /// The version, and the one before it if that was another.
    pub(super) title: String,
    pub(super) breaks: Vec<Told>,
    pub(super) compatible: Vec<Told>,
    /// What to do about the breaks.
    pub(super) ways_out: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    pub(super) pointer: String,
    pub(super) what: String,
}

/// Every type of the two, in order. `old` is what was exported, `new` is what would be now.
pub(super) fn judge(old: &Map<String, Value>, new: &Map<String, Value>, contract: &Contract) -> Vec<Judged> {
    let types: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let judged = types.into_iter().map(|ty| {
        let about = contract.types.get(ty.as_str()).map(About::of);
        match (old.get(ty), new.get(ty).zip(about)) {
            (Some(old), Some((new, about))) => both(ty, old, new, &about),
            (None, Some((_, about))) => Judged::new(ty, Verdict::New, title(&about, None)),
            (old, None) => gone(ty, old.and_then(told_of)),
        }
    });
    judged.collect()
}

fn gone(ty: &str, was: Option<About>) -> Judged {
    let mut judged = Judged::new(ty, Verdict::Broken, was.as_ref().map(|was| title(was, None)).unwrap_or_default());
    let emitted_only = was.is_some_and(|was| was.emitted && !was.handled);
    judged.breaks("the type is gone", if emitted_only { SEND } else { HANDLE });
    judged
}

fn both(ty: &str, old: &Value, new: &Value, about: &About) -> Judged {
    let was = told_of(old);
    // An export that does not say it is taken for one of the same version: a break is then a break.
    let version = was.as_ref().map_or(about.version, |was| was.version);
    let raised = about.version > version;
    let mut judged = Judged::new(ty, Verdict::Unchanged, title(about, was.as_ref()));
    // What no version excuses.
    if let Some(was) = &was {
        judged.compare_roles(was, about);
    }
    let (mut broken, mut harmless) = (BTreeSet::new(), BTreeSet::new());
    // What is handled here comes from whoever has not changed yet; what is sent from here is read by whoever has not.
    for (role, writer, other) in [(about.handled, Writer::Old, Writer::New), (about.emitted, Writer::New, Writer::Old)]
    {
        if !role {
            continue;
        }
        let compared = compare(old, new, writer).and_then(|forth| Ok((forth, compare(old, new, other)?)));
        match compared {
            Ok((forth, back)) => {
                harmless.extend(forth.harmless.into_iter().chain(back.breaks).chain(back.harmless));
                if !forth.breaks.is_empty() && !raised {
                    judged.ways_out.push(way_out(writer, version));
                }
                broken.extend(forth.breaks);
            }
            Err(error) => judged.breaks(&format!("cannot be compared: {error}"), "look at both, and write FILE anew"),
        }
    }
    harmless.retain(|change| !broken.contains(change));
    judged.verdict = match () {
        () if !judged.breaks.is_empty() || (!broken.is_empty() && !raised) => Verdict::Broken,
        () if raised => Verdict::Raised,
        () if harmless.is_empty() => Verdict::Unchanged,
        () => Verdict::Compatible,
    };
    judged.breaks.extend(broken.into_iter().map(Told::from));
    judged.compatible.extend(harmless.into_iter().map(Told::from));
    judged
}

fn way_out(writer: Writer, version: u32) -> String {
    let next = version.saturating_add(1);
    match writer {
        Writer::Old => format!(
            "messages of version {version} could not be read: raise VERSION to {next} and let `upcast({version}, old)` make a \
             new payload of an old one, or read both (`#[serde(default)]` for what may be missing)"
        ),
        Writer::New => format!(
            "listeners of version {version} could not read it: raise VERSION to {next}, which they keep until they know it, \
             or go on telling the old beside the new"
        ),
    }
}

fn title(about: &About, was: Option<&About>) -> String {
    let About { kind, version, .. } = about;
    match was.filter(|was| was.version != *version) {
        Some(was) => format!("{kind}, version {} before, {version} now", was.version),
        None => format!("{kind}, version {version}"),
    }
}

fn told_of(schema: &Value) -> Option<About> {
    serde_json::from_value(schema.get(ABOUT)?.clone()).ok()
}

impl Judged {
    fn breaks(&mut self, what: &str, way_out: &str) {
        self.breaks.push(Told { pointer: String::new(), what: what.to_owned() });
        self.ways_out.push(way_out.to_owned());
    }

    fn compare_roles(&mut self, was: &About, is: &About) {
        if was.kind != is.kind {
            self.breaks(&format!("was a message of kind {}", was.kind), "give the new one a TYPE of its own");
        }
        if was.version > is.version {
            let what = format!("VERSION was {}, is {}", was.version, is.version);
            self.breaks(&what, "messages of the higher version would be kept as too new: raise VERSION again");
        }
        if was.handled && !is.handled {
            self.breaks("is no longer handled", HANDLE);
        }
        if was.emitted && !is.emitted {
            self.breaks("is no longer sent", SEND);
        }
    }

    fn new(ty: &str, verdict: Verdict, title: String) -> Self {
        Self { ty: ty.to_owned(), verdict, title, breaks: Vec::new(), compatible: Vec::new(), ways_out: Vec::new() }
    }
}

impl From<Change> for Told {
    fn from(change: Change) -> Self {
        Self { pointer: change.at, what: change.what }
    }
}
