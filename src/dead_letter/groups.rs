//! Letters that died alike stand together: a person decides once for all of them.

use crate::store::{LetterHead, LetterState};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;

/// The longest fingerprint, in characters.
const LONGEST: usize = 200;

/// Letters of one channel and type that died of the same reason with the same error, but for what differs from message to message.
#[derive(Debug, Serialize)]
pub(crate) struct Group<'a> {
    pub(crate) channel: &'a str,
    #[serde(rename = "type")]
    pub(crate) ty: &'a str,
    pub(crate) reason: &'a str,
    /// Of the newest.
    pub(crate) state: LetterState,
    /// Of the newest.
    pub(crate) error: &'a str,
    /// Deliveries: the same message may have died more than once.
    pub(crate) count: u64,
    pub(crate) first: DateTime<Utc>,
    pub(crate) last: DateTime<Utc>,
    /// The newest.
    pub(crate) example: &'a str,
}

/// The largest group first. `letters` come newest first.
pub(crate) fn groups(letters: &[LetterHead]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for letter in letters {
        let group = groups.entry(kind(letter)).or_insert_with(|| Group {
            channel: &letter.channel,
            ty: &letter.ty,
            reason: &letter.reason,
            state: letter.state,
            error: &letter.error,
            count: 0,
            first: letter.first_at,
            last: letter.last_at,
            example: &letter.key.id,
        });
        group.count += u64::from(letter.count);
        group.first = group.first.min(letter.first_at);
        group.last = group.last.max(letter.last_at);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

/// Whether two letters belong to one group.
pub(crate) fn alike(one: &LetterHead, other: &LetterHead) -> bool {
    kind(one) == kind(other)
}

fn kind(letter: &LetterHead) -> (&str, &str, &str, String) {
    (&letter.channel, &letter.ty, &letter.reason, fingerprint(&letter.error))
}

/// The first line, without what differs from message to message: what stands in quotes, and words with a digit in them, are `#`.
fn fingerprint(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let mut plain = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let closing = rest[first.len_utf8()..].find(first).filter(|_| matches!(first, '`' | '"'));
        let word = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let taken = match (closing, word) {
            (Some(closing), _) => {
                plain.push('#');
                first.len_utf8() + closing + first.len_utf8()
            }
            (None, 0) => {
                plain.push(first);
                first.len_utf8()
            }
            (None, word) => {
                let has_digit = rest[..word].contains(|c: char| c.is_ascii_digit());
                plain.push_str(if has_digit { "#" } else { &rest[..word] });
                word
            }
        };
        rest = &rest[taken..];
    }
    plain.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_message_to_message_is_left_out() {
        let same = |one: &str, other: &str| fingerprint(one) == fingerprint(other);
        assert!(same("row 17 of order 4c1f9 is gone", "row 18 of order 99ab0 is gone"));
        assert!(same("no user `ada`", "no user `bob the 2nd`"));
        assert!(same("got \"x\", not a number\nat line 3", "got \"\", not a number"));
        assert!(!same("connection refused", "connection reset"));
        assert!(!same("a user", "a car"));
        assert_eq!(fingerprint("it's 5 o'clock: `x"), "it's # o'clock: `x", "a quote without its end is a letter");
        assert_eq!(fingerprint("größe 3 ist \"ü\" 🚗"), "größe # ist # 🚗");
        assert_eq!(fingerprint(""), "");
        assert_eq!(fingerprint(&"é".repeat(500)).chars().count(), LONGEST);
    }
}
