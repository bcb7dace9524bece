//! What a seller's text gives away: ways around the platform, and ways to pay that cannot be undone.

use regex::Regex;
use std::sync::LazyLock;

/// A way to be reached outside the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// An address of a mailbox, also one that hides its `@`.
    Mail,
    /// A number to call.
    Phone,
    /// A page elsewhere.
    Link,
    /// A messenger by its name.
    Messenger,
}
impl Contact {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Mail => "a mail address",
            Self::Phone => "a telephone number",
            Self::Link => "a link",
            Self::Messenger => "a messenger",
        }
    }
}

/// Beyond this a text is not read: nobody writes so much, and reading costs time.
const MOST: usize = 20_000;

struct Patterns {
    contacts: Vec<(Contact, Regex)>,
    payments: Vec<(&'static str, Regex)>,
}

/// Compiled at the first use; that they compile is tested.
static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(&format!("(?i){pattern}")).expect("a pattern of this file");
    let contacts = vec![
        (
            Contact::Mail,
            regex(
                r"[a-z0-9._%+-]+\s*(@|[(\[]\s*at\s*[)\]]|\bat\b)\s*[a-z0-9-]+\s*(\.|[(\[]\s*dot\s*[)\]]|\bdot\b)\s*(com|net|org|de|fr|ru|info|me|co\.uk|eu)\b",
            ),
        ),
        // A plus or a zero, and at least eight more digits; prices and kilometres begin with neither.
        (Contact::Phone, regex(r"(^|[^\d.,])(\+|00?)[ ./()-]{0,2}[1-9](?:[ ./()-]{0,2}\d){7,13}(?:\D|$)")),
        (
            Contact::Link,
            regex(r"(https?://|\bwww\.)[^\s]+|(^|[\s(,;:])[a-z0-9-]{3,}\.(com|net|ru|xyz|info|top|shop)\b"),
        ),
        (Contact::Messenger, regex(r"\b(whats\s?app|telegram|signal me|viber|wechat|messenger)\b")),
    ];
    let payments = vec![
        ("a money transfer service", regex(r"\b(western union|money\s?gram|wise transfer)\b")),
        ("gift cards", regex(r"\b(gift|steam|itunes|amazon)\s?(cards?|vouchers?)\b")),
        ("cryptocurrency", regex(r"\b(bitcoin|btc|usdt|crypto(currency)?)\b")),
        (
            "a deposit before anybody has seen the car",
            regex(r"\b(deposit|payment|pay|money)\b[^.!?]{0,40}\b(before|prior to|in advance|up\s?front)\b"),
        ),
        (
            "a shipping agent",
            regex(r"\b(shipping|transport|delivery)\s+(agent|company)\b|\bi am (abroad|overseas|offshore)\b"),
        ),
    ];
    Patterns { contacts, payments }
});

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST)]
}

/// The ways to be reached that a text names.
pub fn contacts(text: &str) -> Vec<Contact> {
    let found = PATTERNS.contacts.iter().filter(|(_, pattern)| pattern.is_match(beginning(text)));
    found.map(|(contact, _)| *contact).collect()
}

/// The ways to pay that a text names and that nobody can take back.
pub fn payments(text: &str) -> Vec<&'static str> {
    let found = PATTERNS.payments.iter().filter(|(_, pattern)| pattern.is_match(beginning(text)));
    found.map(|(payment, _)| *payment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_around_the_platform_are_found() {
        for (text, contact) in [
            ("write to ada.l@example.com", Contact::Mail),
            ("ada (at) mail (dot) com, any time", Contact::Mail),
            ("call +49 170 123 45 67", Contact::Phone),
            ("Tel. 0171/1234567", Contact::Phone),
            ("00 44 20 7946 0958", Contact::Phone),
            ("more photos: https://cars.example/x", Contact::Link),
            ("see cheap-cars.xyz", Contact::Link),
            ("WhatsApp only", Contact::Messenger),
        ] {
            assert_eq!(contacts(text), [contact], "{text}");
        }
    }

    #[test]
    fn ordinary_texts_hold_none() {
        for text in [
            "",
            "120 000 km, from 2014, 9 500 EUR",
            "Service at 105.000 km, timing belt 2021-04-03, next at 2026",
            "VIN 1HGCM82633A004352, engine 2.0, 150 hp",
            "Deposit is not needed. Pay when you have seen it. Meet at the station at 10.",
            "0 to 100 in 8.5 s",
            "Looked after at Smith & Co. Come in.",
        ] {
            assert_eq!((contacts(text), payments(text)), (vec![], vec![]), "{text}");
        }
    }

    #[test]
    fn payments_that_cannot_be_undone_are_found() {
        for text in [
            "Western Union preferred",
            "I take Amazon gift cards",
            "half now in BTC",
            "a small deposit before viewing please",
            "I am abroad, my shipping agent brings it",
        ] {
            assert!(!payments(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn long_and_hostile_texts_are_read_in_part() {
        let text = "ä".repeat(1_000_000) + "+49 170 1234567";
        assert_eq!((contacts(&text), payments(&text)), (vec![], vec![]));
        assert_eq!(contacts(&"+".repeat(100_000)), []);
    }
}
