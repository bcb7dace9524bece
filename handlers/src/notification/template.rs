//! Message Translator: an event as words to a user, by a template that whoever runs the worker may replace.

use anyhow::Context as _;
use minijinja::{Environment, UndefinedBehavior, context};
use serde::Serialize;
use std::path::Path;

/// The longest subject, in characters: mail programs show less.
const SUBJECT: usize = 200;
/// The longest text, in bytes.
const TEXT: usize = 64 << 10;
/// Steps that a template may take: one that runs for ever ends.
const FUEL: u64 = 200_000;

/// A template: its first line is the subject, the rest the text. Both are [Jinja](https://docs.rs/minijinja), and see the event as
/// `event` and whom it is for as `to`.
#[derive(Debug)]
pub struct Template(Environment<'static>);

impl Template {
    /// Reads the file, if there is one, else takes `built_in`.
    ///
    /// # Errors
    /// It cannot be read, or is no template: with its line.
    pub fn load(file: Option<&Path>, built_in: &str) -> anyhow::Result<Self> {
        let Some(file) = file else { return Self::parse(built_in) };
        let named = || format!("the template `{}`", file.display());
        let source = std::fs::read_to_string(file).with_context(named)?;
        Self::parse(&source).with_context(named)
    }

    /// # Errors
    /// It is no template: with its line.
    pub fn parse(source: &str) -> anyhow::Result<Self> {
        let (subject, text) =
            source.split_once('\n').context("it has one line; the first is the subject, the rest the text")?;
        let mut environment = Environment::new();
        // A field that does not exist is a mistake in the template, and not an empty word to a user.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None); // plain text
        environment.set_keep_trailing_newline(false);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned("subject", subject.to_owned())?;
        // Its lines are counted as in the file.
        environment.add_template_owned("text", format!("\n{text}"))?;
        Ok(Self(environment))
    }

    /// Subject and text.
    ///
    /// # Errors
    /// The template asks for what the event has not, with its line, or takes too long.
    pub fn write(&self, event: &impl Serialize, to: &impl Serialize) -> anyhow::Result<(String, String)> {
        let render = |name: &str| {
            let template = self.0.get_template(name)?;
            template.render(context! { event => minijinja::Value::from_serialize(event), to => minijinja::Value::from_serialize(to) })
        };
        let (subject, mut text) = (render("subject")?, render("text")?.trim().to_owned());
        if text.len() > TEXT {
            text.truncate(text.floor_char_boundary(TEXT));
            text.push('…');
        }
        Ok((line(&subject), text))
    }
}

/// One line: a name with a line break in it must not become a header of a mail.
pub(super) fn line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(SUBJECT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(source: &str, event: serde_json::Value) -> anyhow::Result<(String, String)> {
        Template::parse(source)?.write(&event, &json!({ "id": "ada", "name": "Ada" }))
    }

    #[test]
    fn the_first_line_is_the_subject() {
        let (subject, text) = write("{{ event.what }} for {{ to.name }}\n\nHello <{{ to.name }}>,\n{% for n in event.ns %}{{ n }};{% endfor %}\n", json!({ "what": "News", "ns": [1, 2] })).unwrap();
        assert_eq!((&*subject, &*text), ("News for Ada", "Hello <Ada>,\n1;2;"));
    }

    #[test]
    fn a_stranger_writes_no_second_line_into_a_subject() {
        let (subject, text) =
            write("For {{ event.who }}\nx", json!({ "who": "Ada\r\nBcc: all@example.org\u{0}\u{2028}z" })).unwrap();
        assert_eq!((&*subject, &*text), ("For Ada Bcc: all@example.org z", "x"));
        let (subject, _) = write("{{ event.who }}\nx", json!({ "who": "é".repeat(500) })).unwrap();
        assert_eq!(subject.chars().count(), SUBJECT + 1);
        let (_, text) = write("s\n{{ event.who }}", json!({ "who": "é".repeat(TEXT) })).unwrap();
        assert!(text.len() <= TEXT + 3 && text.ends_with('…'));
    }

    #[test]
    fn a_stranger_writes_no_template() {
        let (subject, text) = write("{{ event.who }}\n{{ event.who }}", json!({ "who": "{{ to.name }}" })).unwrap();
        assert_eq!((&*subject, &*text), ("{{ to.name }}", "{{ to.name }}"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |source: &str| format!("{:#}", write(source, json!({ "what": "x" })).unwrap_err());
        assert!(told("one line").contains("the first is the subject"));
        assert!(told("s\nok\n{% if %}").contains("(in text:3)"), "{}", told("s\nok\n{% if %}"));
        let unknown = told("s\nok\n\n{{ event.wat }}");
        assert!(unknown.contains("undefined") && unknown.contains("text:4"), "{unknown}");
        assert!(
            told("s\n{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}").contains("fuel")
        );
    }
}
