//! The guide for handler authors is true: its worker is the example `reservations`, which is built, tested and run, and what the page
//! shows of a terminal is what comes out.

use pitcrew::testing::poll_pause;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

const PAGE: &str = include_str!("../docs/handlers.md");
const EXAMPLE: &str = include_str!("../examples/reservations.rs");
const MANIFEST: &str = include_str!("../Cargo.toml");
const PATIENCE: Duration = Duration::from_secs(60);

/// The blocks of the page in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    PAGE.split(&begin).skip(1).map(|rest| rest.split("\n```").next().expect("an end")).collect()
}

/// Where cargo has put the example. It is built already where all tests are, and then this answers at once.
fn built() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours.iter().any(|o| name.to_string_lossy().starts_with(o)))
    {
        cargo.env_remove(name);
    }
    let arguments = ["build", "--workspace", "--example", "reservations", "--offline", "--quiet"];
    let output = cargo.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples") // beside `deps`, where this test is
}

/// A terminal in a folder, with the example in its `PATH`.
fn typed(line: &str, folder: &Path, examples: &Path) -> Command {
    let mut shell = Command::new("sh");
    let path = format!("{}:{}", examples.display(), std::env::var("PATH").unwrap());
    shell.args(["-c", line]).current_dir(folder).env("PATH", path).env("COLUMNS", "80");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PITCREW_")) {
        shell.env_remove(name);
    }
    shell
}

fn said(line: &str, folder: &Path, examples: &Path) -> String {
    let output = typed(&format!("{line} 2>&1"), folder, examples).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Without what varies: days, times, durations, and the end of a worker's ID.
fn steady(text: &str) -> String {
    let word = |word: &str| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        let (is_day, is_time) = (digits == 8 && word.contains('-'), digits == 9 && word.contains(':'));
        let is_span = digits > 0 && word.parse::<f64>().is_ok() && word.contains('.');
        let is_worker = word.starts_with('…') && word.ends_with(')');
        if is_day || is_time || is_span || is_worker { "*".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// It does not outlive a test that fails.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_worker_of_the_page_is_the_example() {
    let shown = blocks("rust,no_run");
    assert!(shown.contains(&EXAMPLE.trim_end()), "docs/handlers.md shows another worker than examples/reservations.rs");
}

#[test]
fn the_crates_of_the_page_are_ours() {
    let shown: toml_edit::DocumentMut = blocks("toml")[0].parse().unwrap();
    let ours: toml_edit::DocumentMut = MANIFEST.parse().unwrap();
    let version = |item: &toml_edit::Item| item.as_str().or_else(|| item.get("version")?.as_str()).map(str::to_owned);
    for table in ["dependencies", "dev-dependencies"] {
        for (name, item) in shown[table].as_table().unwrap().iter().filter(|(name, _)| *name != "pitcrew") {
            assert_eq!(version(item), version(&ours["workspace"]["dependencies"][name]), "{name}");
        }
    }
}

#[tokio::test]
async fn the_terminal_of_the_page_shows_what_comes_out() {
    let (folder, examples) = (tempfile::tempdir().unwrap(), built());
    let folder = folder.path();
    let log = folder.join("worker.log");
    let mut run = typed("exec reservations run", folder, &examples);
    let _worker = Worker(run.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap());
    let until = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&log).unwrap().contains("at work") {
        assert!(Instant::now() < until, "{}", std::fs::read_to_string(&log).unwrap());
        poll_pause().await;
    }
    let [terminal] = blocks("console")[..] else { panic!("one terminal") };
    let steps: Vec<&str> = terminal.strip_prefix("$ ").expect("a prompt").split("\n$ ").collect();
    assert_eq!(steps.len(), 4);
    for step in steps {
        let (line, shown) = step.split_once('\n').unwrap();
        assert_eq!(steady(&said(line, folder, &examples)), steady(shown), "{line}");
    }
}

#[test]
fn the_settings_of_the_page_are_fine() {
    let (folder, examples) = (tempfile::tempdir().unwrap(), built());
    let settings = blocks("toml").into_iter().find(|block| block.contains("[store]")).expect("settings");
    std::fs::write(folder.path().join("pitcrew.toml"), settings).unwrap();
    let told = said("reservations config check", folder.path(), &examples);
    assert!(told.contains("the configuration is fine"), "{told}");
}
