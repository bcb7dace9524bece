//! Reads Rust far enough for the rules: what is code and what is only said about it, and which paths the code names.

/// A piece of code that the rules care about, with its line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The source with its comments and the contents of its literals blanked, line by line as before, so that a rule is not
/// broken by talking about it.
pub(crate) fn code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' if !follows_word(&chars, at) || is_prefix(&chars, at) => raw_string_end(&chars, at).unwrap_or(at),
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn line_end(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| from + length)
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && is_word(chars[at - 1])
}

/// The `r` of `br"…"` or `cr"…"`.
fn is_prefix(chars: &[char], at: usize) -> bool {
    matches!(chars[at - 1], 'b' | 'c') && (at == 1 || !is_word(chars[at - 2]))
}

fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let open = from + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |at: &usize| chars[*at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |close| close + 1 + hashes))
}

/// Nothing for a lifetime.
fn char_end(chars: &[char], from: usize) -> Option<usize> {
    let close = match chars.get(from + 1)? {
        '\\' => (from + 3..chars.len()).find(|at| chars[*at] == '\'')?,
        _ => from + 2,
    };
    (chars.get(close) == Some(&'\'')).then_some(close + 1)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words, `::`, and every other sign by itself.
pub(crate) fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, content) in code.lines().enumerate() {
        let mut rest = content.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            tokens.push(Token { line: index + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// A path as the code means it: `use a::{b, c::d as e};` names `a::b` and `a::c::d`.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

pub(crate) fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if tokens[at].text.starts_with(is_word) { tree(tokens, at, &[], &mut found) } else { at + 1 };
    }
    found
}

/// Reads one branch of a `use` tree, or a plain path; answers where it ends.
fn tree(tokens: &[Token], from: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut segments = prefix.to_vec();
    let mut at = from;
    let is_group = loop {
        match text(at) {
            "{" => break true,
            word if word.starts_with(is_word) => segments.push(word.to_owned()),
            "*" => {
                at += 1;
                break false;
            }
            _ => break false,
        }
        at += 1;
        if text(at) != "::" {
            break false;
        }
        at += 1;
    };
    if !is_group {
        found.push(Path { line: tokens[from].line, segments });
        return at;
    }
    at += 1;
    while at < tokens.len() && text(at) != "}" {
        // Past a comma, or an `as name`.
        at = match (text(at), text(at + 1)) {
            (",", _) => at + 1,
            ("as", _) => at + 2,
            (word, _) if word.starts_with(is_word) || matches!(word, "{" | "*") => tree(tokens, at, &segments, found),
            _ => at + 1,
        };
    }
    at + 1
}

/// The path from the crate's root, for one that begins there, at `self` or at `super`. An inline module is not counted:
/// its `super` is taken for that of its file.
pub(crate) fn from_root(file: &str, path: &[String]) -> Option<Vec<String>> {
    let mut module: Vec<String> = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module_of(file),
        _ => return None,
    };
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        match first.as_str() {
            "crate" | "self" => {}
            "super" => drop(module.pop()),
            _ => break,
        }
        rest = tail;
    }
    module.extend(rest.iter().cloned());
    Some(module)
}

fn module_of(file: &str) -> Vec<String> {
    let inside = file.split_once("src/").map_or(file, |(_, inside)| inside);
    let name = inside.trim_end_matches(".rs");
    if matches!(name, "lib" | "main") { Vec::new() } else { name.split('/').map(str::to_owned).collect() }
}

/// Where the tests of a file begin, by the convention that they come last.
pub(crate) fn first_test_line(code: &str) -> Option<usize> {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let begins = |at: &usize| lines[*at].starts_with("#[cfg(test)]") && lines[*at..].iter().take(4).any(is_module);
    (0..lines.len()).find(begins).map(|at| at + 1)
}

fn is_module(line: &&str) -> bool {
    let line = line.trim_start_matches("#[cfg(test)]").trim_start();
    (line.starts_with("mod ") || line.starts_with("pub mod ") || line.starts_with("pub(crate) mod "))
        && line.ends_with('{')
}

#[test]
fn code_is_told_from_what_is_said_about_it() {
    let source = "a(); // b\n/* c /* d */ e */ f(\"g // \\\" h\", r#\"i \" j\"#, br\"k\", '\"', 'l', '\\'', b'm');\nfn n<'o>(p: &'o str) {}";
    let words: Vec<_> = tokens(&code(source)).into_iter().map(|token| (token.line, token.text)).collect();
    let names: Vec<_> = words.iter().filter(|(_, text)| text.starts_with(is_word)).cloned().collect();
    let expected =
        [(1, "a"), (2, "f"), (2, "b"), (2, "b"), (3, "fn"), (3, "n"), (3, "o"), (3, "p"), (3, "o"), (3, "str")];
    assert_eq!(names, expected.map(|(line, text)| (line, text.to_owned())));
}

#[test]
fn a_use_tree_is_read_as_all_the_paths_that_it_names() {
    let source = "use crate::{a::{self, b}, c as d,\n super::e::*};\nlet f = g::h::<i>(x);";
    let named: Vec<_> = paths(&tokens(&code(source))).into_iter().map(|p| (p.line, p.segments.join("::"))).collect();
    for expected in [(1, "crate::a::self"), (1, "crate::a::b"), (1, "crate::c"), (2, "crate::super::e"), (3, "g::h")] {
        assert!(named.contains(&(expected.0, expected.1.to_owned())), "{expected:?} is not in {named:?}");
    }
    assert!(!named.iter().any(|(_, path)| path == "crate::d" || path == "d"), "{named:?}");
}

#[test]
fn a_relative_path_is_followed_to_the_root() {
    let root = |file, path: &str| {
        let path: Vec<_> = path.split("::").map(str::to_owned).collect();
        from_root(file, &path).map(|path| path.join("::"))
    };
    assert_eq!(
        root("src/store/postgres/inbox.rs", "super::super::super::transport::X").as_deref(),
        Some("transport::X")
    );
    assert_eq!(root("src/store.rs", "self::memory").as_deref(), Some("store::memory"));
    assert_eq!(root("src/lib.rs", "crate::store").as_deref(), Some("store"));
    assert_eq!(root("src/lib.rs", "tokio::time"), None);
}
