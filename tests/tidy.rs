//! The house rules, as tests. Each rule says why it is there and carries a text that breaks it and one that keeps it,
//! so that a rule that can no longer fail is noticed.

#[path = "tidy/source.rs"]
mod source;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use source::{Token, code, first_test_line, from_root, paths, tokens};

struct Rule {
    /// What must hold, and why: the whole message for whoever broke it.
    law: &'static str,
    find: fn(&File) -> Vec<Finding>,
    /// Files, as path and text, that break the rule.
    broken: &'static [(&'static str, &'static str)],
    /// Files that come close and keep it.
    kept: &'static [(&'static str, &'static str)],
}

struct Finding {
    line: usize,
    what: String,
}

struct File {
    path: String,
    text: String,
    code: String,
    tokens: Vec<Token>,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code(text) } else { String::new() };
        Self { path: path.to_owned(), text: text.to_owned(), tokens: tokens(&code), code }
    }

    fn is_rust_in(&self, folders: &[&str]) -> bool {
        self.path.ends_with(".rs") && folders.iter().any(|folder| self.path.starts_with(folder))
    }

    fn is_one_of(&self, prefixes: &[&str]) -> bool {
        prefixes.iter().any(|prefix| self.path.starts_with(prefix))
    }

    /// The line from which on this file is test code, if it has any.
    fn tests_from(&self) -> Option<usize> {
        let only_tests =
            self.is_rust_in(&["tests/", "handlers/tests/", "src/testing"]) || self.path.ends_with("/tests.rs");
        if only_tests { Some(1) } else { first_test_line(&self.code) }
    }

    fn is_excused(&self, line: usize, excuse: &str) -> bool {
        let lines = self.text.lines().skip(line.saturating_sub(2)).take(2);
        lines.into_iter().any(|text| has_reason(text, excuse))
    }
}

fn has_reason(line: &str, excuse: &str) -> bool {
    line.split_once(excuse).is_some_and(|(_, reason)| reason.trim().len() >= 10)
}

fn violations(rule: &Rule, path: &str, text: &str) -> Vec<String> {
    let mut findings = (rule.find)(&File::new(path, text));
    findings.sort_by_key(|finding| finding.line);
    findings.into_iter().map(|Finding { line, what }| format!("{path}:{line}: {what}")).collect()
}

/// The rule can fail, and the repository keeps it.
fn hold(rule: &Rule) {
    assert!(!rule.broken.is_empty(), "a rule without a text that breaks it proves nothing: {}", rule.law);
    for (path, text) in rule.broken {
        assert!(!violations(rule, path, text).is_empty(), "missed in {path}: {text:?}\n{}", rule.law);
    }
    for (path, text) in rule.kept {
        let found = violations(rule, path, text);
        assert!(found.is_empty(), "a false alarm in {text:?}: {found:?}\n{}", rule.law);
    }
    let found: Vec<String> = REPOSITORY.iter().flat_map(|(path, text)| violations(rule, path, text)).collect();
    assert!(found.is_empty(), "{}\n\n{}\n", rule.law, found.join("\n"));
}

// --- the rules ---

#[test]
fn only_the_clock_reads_a_clock() {
    hold(&Rule {
        law: "Only src/clock.rs reads a clock: whoever else does cannot be tested with paused time, and the wall clock \
              must not leak into what is correct.",
        find: |file| {
            if !file.is_rust_in(&["src/", "handlers/src/"]) || file.is_one_of(&["src/clock.rs", "handlers/src/demo"]) {
                return Vec::new();
            }
            let reads = |segments: &[String]| match segments {
                [.., what, now] => {
                    (now == "now" && matches!(what.as_str(), "Utc" | "Local" | "SystemTime" | "Instant"))
                        || (what == "Uuid" && now.starts_with("now_"))
                }
                _ => false,
            };
            let read = paths(&file.tokens).into_iter().filter(|path| reads(&path.segments));
            read.map(|path| Finding { line: path.line, what: path.segments.join("::") }).collect()
        },
        broken: &[
            ("src/retry.rs", "let due = chrono::Utc::now() + delay;"),
            ("src/worker.rs", "let began = tokio::time::Instant::now();"),
            ("src/store/sqlite.rs", "let t = SystemTime::now();"),
            ("handlers/src/image.rs", "let began = Instant::now();"),
            ("src/message.rs", "Id(uuid::Uuid::now_v7())"),
            ("src/message.rs", "ids.get_or_insert_with(Uuid::now_v7)"),
        ],
        kept: &[
            ("src/clock.rs", "chrono::Utc::now()"),
            ("src/retry.rs", "// Utc::now() would jump.\nlet due = clock.now();"),
            ("src/store/postgres.rs", "let sql = \"select Utc::now\";"),
            ("handlers/src/demo/kill.rs", "let began = Instant::now();"),
            ("benches/rate.rs", "let began = Instant::now();"),
        ],
    });
}

#[test]
fn every_file_says_in_its_first_line_what_it_is() {
    hold(&Rule {
        law: "A Rust file of src/ and handlers/src/ begins with `//! Pattern name: what it does`, so that the file list \
              is a table of contents.",
        find: |file| {
            let silent = file.is_rust_in(&["src/", "handlers/src/"]) && !file.text.starts_with("//! ");
            let what = file.text.lines().next().unwrap_or("(empty)").to_owned();
            silent.then_some(Finding { line: 1, what }).into_iter().collect()
        },
        broken: &[("src/relay.rs", "use crate::store;\n//! Relay."), ("handlers/src/image.rs", "")],
        kept: &[("src/relay.rs", "//! Outbox relay: publishes.\n"), ("tests/relay.rs", "use pitcrew::Client;")],
    });
}

const LONGEST: usize = 400;

/// A text that begins so and has more than 400 lines.
macro_rules! lines {
    ($begin:literal) => {
        concat!($begin, lines!(@ten lines!(@ten lines!(@ten "\n"))))
    };
    (@ten $text:expr) => {
        concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
    };
}

#[test]
fn a_long_file_says_why() {
    hold(&Rule {
        law: "A file of src/ has at most 400 lines: one idea each. If a longer one reads better, it has a line \
              `// tidy: long, because …` with the reason among its first ten.",
        find: |file| {
            let lines = file.text.lines().count();
            let excused = file.text.lines().take(10).any(|line| has_reason(line, "// tidy: long, because "));
            let long = file.is_rust_in(&["src/"]) && lines > LONGEST && !excused;
            long.then(|| Finding { line: lines, what: format!("{lines} lines") }).into_iter().collect()
        },
        broken: &[("src/pipeline.rs", LONG), ("src/pipeline.rs", LONG_WITHOUT_REASON)],
        kept: &[("tests/crash.rs", LONG), ("src/pipeline.rs", LONG_WITH_REASON), ("src/lanes.rs", "//! Lanes.\n")],
    });
}

const LONG: &str = lines!("//! Lanes.\n");
const LONG_WITHOUT_REASON: &str = lines!("//! Lanes.\n// tidy: long, because\n");
const LONG_WITH_REASON: &str = lines!("//! Lanes.\n// tidy: long, because the walk reads as one page.\n");

#[test]
fn a_lint_is_only_silenced_with_a_reason() {
    hold(&Rule {
        law: "`#[expect(lint, reason = \"…\")]`, never a bare `allow`: the reason tells the next reader when it can go, \
              and `expect` tells when it is no longer needed.",
        find: |file| {
            let text = |at: usize| file.tokens.get(at).map_or("", |token| token.text.as_str());
            let opens =
                |at: &usize| text(*at) == "#" && (text(at + 1) == "[" || (text(at + 1) == "!" && text(at + 2) == "["));
            let silences = |at: &usize| {
                let attribute = attribute(&file.tokens[*at..]);
                let silenced = attribute.windows(2).any(|pair| matches!(pair, ["allow" | "expect", "("]));
                silenced && !attribute.contains(&"reason")
            };
            let bare = (0..file.tokens.len()).filter(opens).filter(silences);
            bare.map(|at| Finding { line: file.tokens[at].line, what: "silenced without a reason".into() }).collect()
        },
        broken: &[
            ("src/lanes.rs", "#[allow(dead_code)]\nfn f() {}"),
            ("src/lanes.rs", "#![allow(\n    clippy::all,\n)]"),
            ("tests/crash.rs", "#[expect(unused)]\nfn f() {}"),
            ("src/lanes.rs", "#[cfg_attr(test, allow(unused))]\nfn f() { let reason = 1; }"),
        ],
        kept: &[
            ("src/lanes.rs", "#[expect(dead_code, reason = \"the console reads it\")]\nfn f() {}"),
            ("src/lanes.rs", "// #[allow(dead_code)]\n#[derive(Debug)]\nstruct S([u8; 4]);"),
        ],
    });
}

/// The words and signs of the attribute that begins here, up to its closing bracket.
fn attribute(tokens: &[Token]) -> Vec<&str> {
    let mut depth = 0;
    let mut inside = Vec::new();
    for token in tokens {
        inside.push(token.text.as_str());
        match token.text.as_str() {
            "[" => depth += 1,
            "]" if depth == 1 => break,
            "]" => depth -= 1,
            _ => {}
        }
    }
    inside
}

#[test]
fn nothing_is_left_unfinished() {
    hold(&Rule {
        law: "No `todo!`, `unimplemented!` or `dbg!`: what is not there is not there, and a worker does not panic on it.",
        find: |file| {
            let unfinished = file.tokens.windows(3).filter(|three| {
                let [name, bang, open] = [0, 1, 2].map(|at| three[at].text.as_str());
                matches!(name, "todo" | "unimplemented" | "dbg") && bang == "!" && matches!(open, "(" | "[" | "{")
            });
            unfinished.map(|three| Finding { line: three[0].line, what: format!("{}!", three[0].text) }).collect()
        },
        broken: &[
            ("src/cli.rs", "fn f() { todo!() }"),
            ("handlers/src/image.rs", "std::unimplemented!(\"later\")"),
            ("tests/crash.rs", "dbg!(x);"),
        ],
        kept: &[("src/cli.rs", "// todo!()\nlet s = \"todo!()\"; if todo != done {}")],
    });
}

#[test]
fn tests_wait_for_a_condition_and_not_for_time_to_pass() {
    hold(&Rule {
        law: "No `sleep(` in tests: it is too long on a fast machine and too short on a slow one. Poll until the condition \
              holds, with the helper (tests/support/poll.rs or src/testing/poll.rs). Where the passing time is what is \
              tested, say so beside it: `// tidy: sleeps, because …`.",
        find: |file| {
            let Some(from) = file.tests_from() else { return Vec::new() };
            if file.is_one_of(&["tests/support/poll.rs", "src/testing/poll.rs"]) {
                return Vec::new();
            }
            let sleeps = file
                .tokens
                .windows(2)
                .filter(|pair| pair[0].text.starts_with("sleep") && pair[1].text == "(" && pair[0].line >= from);
            let unexcused = sleeps.filter(|pair| !file.is_excused(pair[0].line, "// tidy: sleeps, because "));
            unexcused.map(|pair| Finding { line: pair[0].line, what: format!("{}(", pair[0].text) }).collect()
        },
        broken: &[
            ("tests/crash.rs", "tokio::time::sleep(Duration::from_secs(1)).await;"),
            ("handlers/tests/demo.rs", "std::thread::sleep(d);"),
            ("src/lanes.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn t() { sleep(d); }\n}"),
            ("src/lanes/tests.rs", "fn t() { sleep(d); }"),
            ("src/testing/conformance.rs", "sleep_until(t).await;"),
            ("tests/crash.rs", "// tidy: sleeps, because \nsleep(d).await;"),
        ],
        kept: &[
            ("tests/support/poll.rs", "tokio::time::sleep(STEP).await;"),
            ("src/relay.rs", "tokio::time::sleep(d).await;\n#[cfg(test)]\nmod tests {\n}"),
            ("tests/crash.rs", "// tidy: sleeps, because the handler must pass its deadline.\nsleep(d).await;"),
        ],
    });
}

/// Files whose path begins so must not name these modules of the library, or `*`: any but their own.
const BORDERS: &[(&str, &[&str], &str)] = &[
    ("src/store/", &["transport"], "a store serves every transport, so it knows none"),
    ("src/transport/", ADAPTERS_OF_STORES, "a transport must run beside every store"),
    (
        "src/transport/rabbitmq",
        &["store"],
        "retry, dead letters and deduplication are written once, above the transports",
    ),
    ("src/transport/kafka", &["store"], "retry, dead letters and deduplication are written once, above the transports"),
    ("src/pipeline", ADAPTERS, "the walk of a message is the same on every broker and store"),
    ("src/committer", ADAPTERS, "the commit is the same on every broker and store"),
    ("src/relay", ADAPTERS, "the one door out is the same on every broker and store"),
    ("src/lanes", ADAPTERS, "order is kept above the brokers"),
    ("src/clock", &["*"], "everything may call the clock, so it calls nothing"),
    ("src/fault", &["*"], "everything may call the fault points, so they call nothing"),
    ("src/telemetry", &["*"], "everything may call the telemetry, so it calls nothing"),
];
const ADAPTERS_OF_STORES: &[&str] = &["store::postgres", "store::sqlite", "store::memory"];
const ADAPTERS: &[&str] = &[
    "store::postgres",
    "store::sqlite",
    "store::memory",
    "transport::embedded",
    "transport::rabbitmq",
    "transport::kafka",
];

#[test]
fn nobody_imports_across_a_border() {
    hold(&Rule {
        law: "Who may import whom (the table BORDERS in tests/tidy.rs): contracts are for everyone, their adapters are for \
              the one place that puts the worker together.",
        find: |file| {
            let until = file.tests_from().unwrap_or(usize::MAX);
            let mut findings = Vec::new();
            for (folder, forbidden, why) in BORDERS.iter().filter(|(folder, ..)| file.is_rust_in(&[folder])) {
                for path in paths(&file.tokens).into_iter().filter(|path| path.line < until) {
                    let Some(named) = from_root(&file.path, &path.segments).map(|path| path.join("::")) else {
                        continue;
                    };
                    let own = folder.trim_start_matches("src/");
                    let crosses = |what: &&str| match *what {
                        "*" => !named.is_empty() && !is_within(&named, own),
                        what => is_within(&named, what),
                    };
                    if forbidden.iter().any(crosses) {
                        findings.push(Finding { line: path.line, what: format!("{named}: {why}") });
                    }
                }
            }
            findings
        },
        broken: &[
            ("src/store/postgres/inbox.rs", "use crate::transport::Delivery;"),
            ("src/store/sqlite.rs", "use crate::{message::Id, transport};"),
            ("src/store/memory.rs", "fn f(d: super::super::transport::Delivery) {}"),
            ("src/transport/embedded.rs", "use crate::store::{Store, postgres::Pool};"),
            ("src/transport/embedded/adverse.rs", "let s = crate::store::memory::open();"),
            ("src/transport/rabbitmq/settle.rs", "use crate::store::Store;"),
            ("src/transport/kafka.rs", "use crate::store;"),
            ("src/pipeline/decode.rs", "use crate::transport::kafka::Offset;"),
            ("src/committer.rs", "use crate::store::sqlite;"),
            ("src/clock.rs", "use crate::message::Id;"),
            ("src/telemetry/metrics.rs", "use super::super::worker::Worker;"),
        ],
        kept: &[
            ("src/transport/embedded.rs", "use crate::store::{Store, Error};"),
            ("src/store/postgres.rs", "use crate::store::memory; use crate::message::Id;"),
            ("src/store/postgres.rs", "#[cfg(test)]\nmod tests {\n    use crate::transport::embedded;\n}"),
            ("src/relay/tests.rs", "use crate::store::memory::MemoryStore;"),
            ("src/worker.rs", "use crate::{store::postgres, transport::embedded};"),
            ("src/pipeline.rs", "use crate::store::Store; use crate::transport::{Delivery, Transport};"),
            ("src/telemetry/metrics.rs", "use super::spans; use crate::telemetry::names;"),
            ("src/store/postgres.rs", "// crate::transport\nlet transport = 1;"),
        ],
    });
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn handlers_use_public_names_only() {
    hold(&Rule {
        law: "handlers/ uses the documented names of `pitcrew` only: it is what an author copies, and what is hidden from \
              the documentation (or begins with `__`) is no promise to authors.",
        find: |file| {
            if !file.is_rust_in(&["handlers/"]) {
                return Vec::new();
            }
            let hidden = REPOSITORY.iter().find(|(path, _)| path == "src/lib.rs").map(|(_, text)| hidden_names(text));
            let hidden = hidden.unwrap_or_default();
            let reaches = |segments: &[String]| match segments {
                [library, name, ..] => library == "pitcrew" && (name.starts_with("__") || hidden.contains(name)),
                _ => false,
            };
            let reached = paths(&file.tokens).into_iter().filter(|path| reaches(&path.segments));
            reached.map(|path| Finding { line: path.line, what: path.segments.join("::") }).collect()
        },
        broken: &[
            ("handlers/src/image.rs", "use pitcrew::__private::Pool;"),
            ("handlers/tests/demo.rs", "use pitcrew::{Client, __store};"),
        ],
        kept: &[("handlers/src/image.rs", "use pitcrew::{Context, Message};"), ("tests/x.rs", "use pitcrew::__store;")],
    });
}

/// The names that the library exports and hides from its documentation.
fn hidden_names(library: &str) -> Vec<String> {
    let tokens = tokens(&code(library));
    let text: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let mut names = Vec::new();
    for at in (0..text.len()).filter(|at| text[*at..].starts_with(&["#", "[", "doc", "(", "hidden", ")", "]"])) {
        let item = &tokens[at + 7..];
        let word = |kinds: &[&str]| item.iter().take(12).position(|token| kinds.contains(&token.text.as_str()));
        if let Some(import) = word(&["use"]) {
            let end = item.iter().position(|token| token.text == ";").unwrap_or(item.len());
            let (tree, alias) = (&item[import + 1..end], item[import + 1..end].iter().rposition(|t| t.text == "as"));
            names.extend(paths(tree).into_iter().filter_map(|path| path.segments.last().cloned()));
            names.extend(alias.and_then(|alias| tree.get(alias + 1)).map(|token| token.text.clone()));
        } else if let Some(kind) = word(&["mod", "fn", "struct", "enum", "trait", "type", "const", "static"]) {
            names.extend(item.get(kind + 1).map(|token| token.text.clone()));
        }
    }
    names
}

#[test]
fn hidden_names_are_read_from_the_library() {
    let library = "pub mod store;\n#[doc(hidden)]\npub mod engine;\n#[doc(hidden)] pub use store::{Pool, raw as bare};\n\
                   #[doc(hidden)]\n#[must_use]\npub fn poke() {}\npub use store::Store;";
    let hidden = hidden_names(library);
    for name in ["engine", "Pool", "bare", "poke"] {
        assert!(hidden.iter().any(|hidden| hidden == name), "{name} is not in {hidden:?}");
    }
    assert!(!hidden.iter().any(|name| name == "Store" || name == "store"), "{hidden:?}");
}

#[test]
fn a_broker_crate_is_named_only_in_its_own_room() {
    hold(&Rule {
        law: "lapin is named only in src/transport/rabbitmq, rdkafka only in src/transport/kafka: what a broker's client \
              calls things must not become what we call things.",
        find: |file| {
            let rooms = [("lapin", "src/transport/rabbitmq"), ("rdkafka", "src/transport/kafka")];
            let strangers = file.tokens.iter().filter(|token| {
                rooms.iter().any(|(broker, room)| token.text.starts_with(broker) && !file.path.starts_with(room))
            });
            let found = strangers.map(|token| Finding { line: token.line, what: token.text.clone() });
            if file.is_rust_in(&["src/", "handlers/"]) { found.collect() } else { Vec::new() }
        },
        broken: &[
            ("src/worker.rs", "use lapin::Channel;"),
            ("src/transport/rabbitmq.rs", "use rdkafka::consumer::Consumer;"),
            ("src/store/postgres.rs", "fn f(e: rdkafka_sys::Error) {}"),
            ("handlers/src/main.rs", "lapin::connect()"),
        ],
        kept: &[
            ("src/transport/rabbitmq/settle.rs", "use lapin::Channel;"),
            ("src/transport/kafka.rs", "use rdkafka::consumer::Consumer;"),
            ("benches/bare.rs", "use lapin::Channel;"),
            ("src/worker.rs", "// lapin and rdkafka\nlet name = \"lapin\";"),
        ],
    });
}

// In pieces, so that this file keeps its own rule.
const WORKSHOP: &[&str] = &[concat!("/wo", "rk/"), concat!("../sha", "red")];

#[test]
fn no_file_names_a_place_outside_the_repository() {
    hold(&Rule {
        law: "No file names the folders in which the project happens to be written: they are on nobody else's machine.",
        find: |file| {
            let named = |line: &&str| WORKSHOP.iter().find(|place| line.contains(**place));
            let lines = file.text.lines().enumerate();
            lines.filter_map(|(at, line)| Some(Finding { line: at + 1, what: named(&line)?.to_string() })).collect()
        },
        broken: &[
            ("README.md", concat!("see `/wo", "rk/main/README.md`")),
            ("src/lib.rs", concat!("// from ../sha", "red/design.md")),
            ("tests/run", concat!("cd /wo", "rk/wt")),
        ],
        kept: &[("README.md", "a network/bridge, shared/data, work/ and ../data")],
    });
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    hold(&Rule {
        law: "A link to a file of the repository names one that exists: a reader follows it before anybody else does.",
        find: |file| {
            if !file.path.ends_with(".md") {
                return Vec::new();
            }
            let dead = |target: &String| !root().join(beside(&file.path, target)).exists();
            let links = local_links(&file.text).into_iter().filter(|(_, target)| dead(target));
            links.map(|(line, target)| Finding { line, what: target }).collect()
        },
        broken: &[
            ("README.md", "[the guide](docs/nowhere.md)"),
            ("docs/guide.md", "a `code` span and [a file](Cargo.toml) of the folder above"),
            ("README.md", "![a picture](nowhere.svg \"title\") and [one](Cargo.toml#x)"),
            ("README.md", "[the guide][1]\n\n[1]: docs/nowhere.md"),
        ],
        kept: &[
            ("docs/guide.md", "[a](../Cargo.toml) [b](https://example.com/x.md) [c](#below) [d](../src/lib.rs#L1)"),
            ("README.md", "```\n[x](nowhere.md)\n```\n`[y](nowhere.md)`"),
            ("README.md", "[a][1]\n\n[1]: Cargo.toml\n[2]: https://example.com"),
        ],
    });
}

/// The path from the root of what a file calls `target`. By its words alone: the file's own folder may be new.
fn beside(file: &str, target: &str) -> PathBuf {
    let mut path = PathBuf::from(file);
    path.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

/// The targets, without their anchors, of links that stay in the repository.
fn local_links(markdown: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every other piece between backticks is a code span.
        let prose: String = line.split('`').step_by(2).collect();
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let definition = prose.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        for target in inline.chain(definition.map(|(_, target)| target)) {
            let target = target.trim().split([' ', '#']).next().unwrap_or_default().trim_matches(['<', '>']);
            if !target.is_empty() && !target.contains(':') {
                links.push((index + 1, target.to_owned()));
            }
        }
    }
    links
}

// --- the repository ---

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file, by its path from the root. What is built and what git keeps is left out.
static REPOSITORY: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut files = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("failed to list {folder:?}: {error}")) {
            let path: PathBuf = entry.expect("an entry of a folder").path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if let Some(text) = text_of(&path) {
                let path = path.strip_prefix(root()).expect("found below the root");
                files.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(files.iter().any(|(path, _)| path == "src/lib.rs"), "the repository was not found in {:?}", root());
    files.sort();
    files
});

/// Nothing for what is not text, or went away meanwhile.
fn text_of(path: &Path) -> Option<String> {
    // A worktree's `.git` is a file that names a folder of the machine.
    let is_git = path.file_name().is_some_and(|name| name == ".git");
    std::fs::read_to_string(path).ok().filter(|text| !is_git && !text.contains('\0'))
}
