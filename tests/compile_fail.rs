//! What must not compile, does not, and for the reason that is meant. Each file of `compile_fail/` marks the lines that are
//! wrong with `//~ CODE words` (`-` for an error without a code): there, and nowhere else, the compiler must give an error of
//! that code which says these words. Not its whole text, which changes from release to release.
//!
//! The compiler is called as cargo calls it for this very test, against the libraries that are there already: a second build
//! of everything, as the usual tools need it, would take minutes.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// The libraries that a case may name.
const NAMED: [&str; 4] = ["pitcrew", "schemars", "serde", "sqlx"];

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_must_not_compile_does_not() {
    let compiler = Compiler::of_this_build();
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let (expected, found) = (marks(&case), compiler.errors(&case));
        // The control shows that the others fail of what is in them.
        assert_eq!(expected.is_empty(), name == "control.rs", "{name} marks nothing");
        refused += expected.len();
        for (line, code, words) in &expected {
            let said =
                |error: &&Error| error.line == *line && error.code == *code && error.text.contains(words.as_str());
            if found.iter().find(said).is_none() {
                wrong.push(format!("{name}:{line}: no {code} that says `{words}`"));
            }
        }
        for error in found.iter().filter(|error| expected.iter().all(|(line, ..)| error.line != *line)) {
            wrong.push(format!("{name}:{}: {} {}", error.line, error.code, error.text));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(refused >= 10, "only {refused} lines are refused");
}

/// Line, code and words of each mark.
fn marks(case: &Path) -> Vec<(u64, String, String)> {
    let text = std::fs::read_to_string(case).unwrap();
    let mark = |(n, line): (usize, &str)| {
        let (code, words) = line.split_once("//~ ")?.1.split_once(' ').expect("a code and words");
        Some((n as u64 + 1, code.to_owned(), words.trim().to_owned()))
    };
    text.lines().enumerate().filter_map(mark).collect()
}

struct Error {
    line: u64,
    code: String,
    /// Message, labels and notes.
    text: String,
}

struct Compiler {
    /// Where each named library is.
    libraries: BTreeMap<&'static str, PathBuf>,
    output: tempfile::TempDir,
}

impl Compiler {
    /// Cargo is asked which libraries this test was built of. It has built them, so it answers at once.
    fn of_this_build() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo sets for a test would make build scripts run again, and with them half of the build.
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| ours.iter().any(|o| name.to_string_lossy().starts_with(o)))
        {
            cargo.env_remove(name);
        }
        let cargo = cargo
            .args(["build", "--workspace", "--test", "compile_fail", "--offline", "--quiet", "--message-format=json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
        let messages: Vec<Value> =
            cargo.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let library = |name: &'static str| {
            let of_name = messages.iter().filter(|message| message["target"]["name"] == name);
            // What runs inside the compiler is built apart, without debug information.
            let ours = of_name.filter(|message| message["profile"]["debuginfo"] == "line-tables-only");
            let files = ours.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
            let mut rlib = files.filter_map(|file| Some(PathBuf::from(file.as_str()?)));
            let rlib = rlib.find(|file| file.extension().is_some_and(|extension| extension == "rlib"));
            (name, rlib.unwrap_or_else(|| panic!("cargo names no library {name}")))
        };
        Self { libraries: NAMED.map(library).into(), output: tempfile::tempdir().unwrap() }
    }

    fn errors(&self, case: &Path) -> Vec<Error> {
        let mut rustc = Command::new(Path::new(env!("CARGO")).with_file_name("rustc"));
        rustc.args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--error-format=json",
            "--cap-lints=allow",
        ]);
        rustc.arg("--out-dir").arg(self.output.path()).arg(case);
        for (name, library) in &self.libraries {
            rustc.arg("--extern").arg(format!("{name}={}", library.display()));
            rustc.arg("-L").arg(format!("dependency={}", library.parent().unwrap().display()));
        }
        let told = rustc.output().unwrap();
        let text = String::from_utf8_lossy(&told.stderr);
        let messages =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{text}")));
        messages
            .filter(|message| message["level"] == "error" && !message["spans"][0].is_null())
            .map(Error::of)
            .collect()
    }
}

impl Error {
    fn of(message: Value) -> Self {
        let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spans = all(&message["spans"]);
        let primary = spans.iter().find(|span| span["is_primary"] == true).unwrap_or(&Value::Null);
        let notes = all(&message["children"]);
        let said = notes.iter().map(|note| word(&note["message"])).chain(spans.iter().map(|span| word(&span["label"])));
        let text = said.fold(word(&message["message"]), |text, said| text + "\n" + &said);
        let code = message["code"]["code"].as_str().unwrap_or("-").to_owned();
        Self { line: primary["line_start"].as_u64().unwrap_or_default(), code, text }
    }
}
