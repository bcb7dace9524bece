//! Payloads as text: laid out for people, typed by them, and compared.

use crate::{
    cli::{output, send::at_most},
    clock,
};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What a person typed, and where it is.
pub(super) struct Draft {
    data: Vec<u8>,
    place: Place,
}

enum Place {
    /// A file of this command's, which goes when it is not needed any more.
    Ours(PathBuf),
    /// A file of the person's.
    Theirs,
    /// Nowhere: it came through a pipe.
    Nowhere,
}

impl Draft {
    /// Opens the text in the person's editor.
    pub(super) fn from_editor(text: &str, limit: usize) -> anyhow::Result<Self> {
        let named = |name| std::env::var(name).ok().filter(|editor: &String| !editor.trim().is_empty());
        let Some(editor) = named("VISUAL").or_else(|| named("EDITOR")) else {
            bail!("there is no editor: set VISUAL or EDITOR, or give the new payload by --data");
        };
        let path = written(text.as_bytes())?;
        // As others do it: the variable may hold arguments, the path is one word whatever it holds.
        let ended = Command::new("sh").arg("-c").arg(format!("{editor} \"$@\"")).arg(&editor).arg(&path).status();
        let draft = || {
            let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            let data = at_most(file, limit).with_context(|| format!("reading {}", path.display()))?;
            anyhow::Ok(Self { data, place: Place::Ours(path.clone()) })
        };
        match ended {
            Ok(status) if status.success() => {
                draft().with_context(|| format!("what was typed is kept in {}", path.display()))
            }
            ended => {
                let typed = draft().ok().filter(|draft| !draft.is_unchanged(text.as_bytes()));
                let kept = match &typed {
                    Some(_) => format!("; what was typed is kept in {}", path.display()),
                    None => String::new(),
                };
                if typed.is_none() {
                    let _ = std::fs::remove_file(&path);
                }
                match ended {
                    Ok(status) => bail!("the editor `{editor}` ended with {status}: nothing was done{kept}"),
                    Err(error) => bail!("the editor `{editor}` cannot be started: {error}"),
                }
            }
        }
    }

    pub(super) fn in_file(data: Vec<u8>) -> Self {
        Self { data, place: Place::Theirs }
    }

    pub(super) fn typed(data: Vec<u8>) -> Self {
        Self { data, place: Place::Nowhere }
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Another layout is no change.
    pub(super) fn is_unchanged(&self, old: &[u8]) -> bool {
        let text = |bytes: &[u8]| compact(String::from_utf8_lossy(bytes).trim());
        self.data == old || text(&self.data) == text(old)
    }

    /// It is not needed any more.
    pub(super) fn forget(&self) {
        if let Place::Ours(path) = &self.place {
            let _ = std::fs::remove_file(path); // it is in the folder for what is temporary
        }
    }

    /// It was not sent: says where it is, and how to go on with it.
    pub(super) fn tell_kept(&self, again: impl FnOnce(&Path) -> String) {
        let path = match &self.place {
            Place::Theirs => return,
            Place::Ours(path) => Ok(path.clone()),
            Place::Nowhere => written(&self.data),
        };
        match path {
            Ok(path) => eprintln!("what was typed is kept; go on with: {}", again(&path)),
            Err(error) => output::error(&error.context("keeping what was typed")),
        }
    }
}

/// A new file for nobody else's eyes: a payload may hold anything.
fn written(data: &[u8]) -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("pitcrew-edit-{}.json", clock::uuid_v7()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("making {}", path.display()))?;
    file.write_all(data).with_context(|| format!("writing {}", path.display()))?;
    ensure!(path.is_absolute(), "the folder for temporary files is no absolute path: {}", path.display());
    Ok(path)
}

/// JSON laid out for people. Every token stays as it was written: a number is not rounded, a field not moved. What is no JSON stays
/// as it is.
pub(super) fn pretty(json: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return json.to_owned();
    }
    let (mut text, mut depth) = (String::with_capacity(2 * json.len()), 0_usize);
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    let tokens: Vec<&str> = tokens(json).collect();
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).copied().unwrap_or_default();
        let is_empty_pair = matches!((*token, next), ("{", "}") | ("[", "]"));
        if matches!(*token, "}" | "]") {
            depth = depth.saturating_sub(1);
            if !matches!(tokens.get(at.wrapping_sub(1)).copied(), Some("{" | "[")) {
                line(&mut text, depth);
            }
        }
        text.push_str(token);
        match *token {
            "{" | "[" => {
                depth += 1;
                if !is_empty_pair {
                    line(&mut text, depth);
                }
            }
            "," => line(&mut text, depth),
            ":" => text.push(' '),
            _ => {}
        }
    }
    text.push('\n');
    text
}

/// The same without layout. What is no JSON stays as it is.
pub(super) fn compact(json: &str) -> String {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) => tokens(json).collect(),
        Err(_) => json.to_owned(),
    }
}

/// The tokens of valid JSON: strings, signs, and words that are neither.
fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let first = rest.chars().next()?;
        let end = match first {
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            '"' => end_of_string(rest),
            _ => rest.find(|c: char| "{}[],:\" \t\n\r".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// Behind its closing quote.
fn end_of_string(text: &str) -> usize {
    let mut escaped = true; // so that the opening quote does not close it
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

/// What differs, place by place: `-` what was, `+` what is. `None`: it was no JSON.
pub(super) fn changes(old: Option<&Value>, new: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    match old {
        Some(old) => compare("", old, new, &mut lines),
        None => lines.push(format!("+ (the whole): {}", output::short(&new.to_string(), 200))),
    }
    if lines.is_empty() {
        lines.push("the same fields and values, written otherwise".to_owned());
    }
    lines
}

fn compare(place: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    let mut differ = |sign: char, place: &str, value: &Value| {
        let place = if place.is_empty() { "(the whole)" } else { place };
        lines.push(format!("{sign} {}: {}", output::short(place, 120), output::short(&value.to_string(), 200)));
    };
    let below: Vec<(String, Option<&Value>, Option<&Value>)> = match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let added =
                new.iter().filter(|(name, _)| !old.contains_key(*name)).map(|(name, value)| (name, None, Some(value)));
            let kept = old.iter().map(|(name, value)| (name, Some(value), new.get(name)));
            kept.chain(added).map(|(name, old, new)| (name.replace('~', "~0").replace('/', "~1"), old, new)).collect()
        }
        (Value::Array(old), Value::Array(new)) => {
            let longest = old.len().max(new.len());
            (0..longest).map(|at| (at.to_string(), old.get(at), new.get(at))).collect()
        }
        (old, new) => {
            if old != new {
                differ('-', place, old);
                differ('+', place, new);
            }
            return;
        }
    };
    for (name, old, new) in below {
        let place = format!("{place}/{name}");
        match (old, new) {
            (Some(old), Some(new)) => compare(&place, old, new, lines),
            (Some(gone), None) => lines.push(format!("- {place}: {}", output::short(&gone.to_string(), 200))),
            (None, Some(added)) => lines.push(format!("+ {place}: {}", output::short(&added.to_string(), 200))),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_layout_changes_no_token() {
        let json = r#"{"b":[1.0,123456789012345678901234567890,{}],"a":{"x y":"a\"b\\","e":[]},"b2":null,"u":"\u00e9 { [ , :"}"#;
        let laid_out = pretty(json);
        assert_eq!(
            laid_out,
            "{\n  \"b\": [\n    1.0,\n    123456789012345678901234567890,\n    {}\n  ],\n  \"a\": {\n    \"x y\": \"a\\\"b\\\\\",\n    \
             \"e\": []\n  },\n  \"b2\": null,\n  \"u\": \"\\u00e9 { [ , :\"\n}\n"
        );
        assert_eq!(compact(&laid_out), json);
        assert_eq!(pretty(&laid_out), laid_out);
        for plain in ["1", "\"a b\"", "[]", "{}", "null"] {
            assert_eq!((pretty(plain), compact(&format!(" {plain}\n"))), (format!("{plain}\n"), plain.to_owned()));
        }
        assert_eq!((pretty("{ no"), compact("{ no")), ("{ no".to_owned(), "{ no".to_owned()));
    }

    #[test]
    fn changes_are_told_place_by_place() {
        let old = json!({ "top": "3", "gone": 1, "buyer": { "name": "Ada", "a/b~": [1, 2, 3] } });
        let new = json!({ "top": 3, "buyer": { "name": "Ada", "a/b~": [1, 7] }, "added": { "x": [] } });
        assert_eq!(
            changes(Some(&old), &new),
            [
                "- /buyer/a~1b~0/1: 2",
                "+ /buyer/a~1b~0/1: 7",
                "- /buyer/a~1b~0/2: 3",
                "- /gone: 1",
                "- /top: \"3\"",
                "+ /top: 3",
                "+ /added: {\"x\":[]}"
            ]
        );
        assert_eq!(changes(Some(&json!([1])), &json!({})), ["- (the whole): [1]", "+ (the whole): {}"]);
        assert_eq!(changes(None, &json!(1)), ["+ (the whole): 1"]);
        assert_eq!(changes(Some(&old), &old), ["the same fields and values, written otherwise"]);
    }

    #[test]
    fn another_layout_is_no_change() {
        let draft = |text: &str| Draft::typed(text.as_bytes().to_vec());
        assert!(draft("{\n  \"a\": 1\n}\n").is_unchanged(br#"{"a":1}"#));
        assert!(!draft(r#"{"a":1.0}"#).is_unchanged(br#"{"a":1}"#));
        assert!(!draft(r#"{"a":"1 "}"#).is_unchanged(br#"{"a":"1"}"#));
        assert!(draft("not JSON").is_unchanged(b"not JSON"));
        assert!(!draft("{}").is_unchanged(&[0, 159]));
    }
}
