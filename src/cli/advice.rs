//! What to type: commands of this binary, for the same broker, store and configuration as were given here.

use crate::{
    cli::{Globals, binary_name},
    config::Secret,
};

/// Makes command lines that a shell takes as they are printed.
pub(crate) struct Advice {
    name: String,
    flags: Vec<String>,
}

impl Advice {
    pub(super) fn of(globals: &Globals) -> Self {
        let config = globals.config.as_ref().map(|path| path.to_string_lossy().into_owned());
        let shown = |url: &String| Secret::new(url).to_string();
        let given = [
            ("--config", config),
            ("--profile", globals.profile.clone()),
            ("--broker", globals.broker.as_ref().map(shown)),
            ("--store", globals.store.as_ref().map(shown)),
        ];
        let flags = given.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), quoted(&value?)?]));
        Self { name: binary_name(), flags: flags.flatten().collect() }
    }

    /// `words` with the flags behind them.
    pub(super) fn run(&self, words: &str) -> String {
        [&[self.name.clone(), words.to_owned()], &*self.flags].concat().join(" ")
    }

    /// `words` about this ID, or `otherwise` where there is none that can be typed.
    pub(super) fn about(&self, words: &str, id: Option<&str>, otherwise: &str) -> String {
        match id.and_then(|id| Some((id, quoted(id)?))) {
            // What looks like a flag stands behind all of them.
            Some((id, quoted)) if id.starts_with('-') => format!("{} -- {quoted}", self.run(words)),
            Some((_, quoted)) => self.run(&format!("{words} {quoted}")),
            None => self.run(otherwise),
        }
    }
}

/// As one word of a shell. `None`: it holds what no terminal should be shown.
pub(super) fn quoted(word: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    match word {
        _ if word.contains(char::is_control) => None,
        _ if !word.is_empty() && word.chars().all(is_plain) => Some(word.to_owned()),
        _ => Some(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_what_was_given_and_no_password() {
        let globals = Globals {
            config: Some("my config.toml".into()),
            broker: Some("amqp://app:s3cret@mq/cars".into()),
            store: Some("sqlite:a.db".into()),
            ..Globals::default()
        };
        let advice = Advice { name: "worker".into(), ..Advice::of(&globals) };
        assert_eq!(
            advice.run("dead groups"),
            "worker dead groups --config 'my config.toml' --broker 'amqp://app:***@mq/cars' --store sqlite:a.db"
        );
    }

    #[test]
    fn an_id_is_one_word_whatever_is_in_it() {
        let advice = Advice { name: "worker".into(), flags: vec!["--store".into(), "sqlite:a.db".into()] };
        let about = |id| advice.about("explain", id, "dead groups");
        assert_eq!(about(Some("a-1")), "worker explain a-1 --store sqlite:a.db");
        assert_eq!(about(Some("it's $(x)")), r"worker explain 'it'\''s $(x)' --store sqlite:a.db");
        assert_eq!(about(Some("--all")), "worker explain --store sqlite:a.db -- --all");
        assert_eq!(about(Some("a\x1b[2J")), "worker dead groups --store sqlite:a.db");
        assert_eq!(about(None), "worker dead groups --store sqlite:a.db");
    }
}
