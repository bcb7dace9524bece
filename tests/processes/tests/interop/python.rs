//! A Python with the clients in it, made once in the cache folder of the tests.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// The folder of the scripts.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");

/// `None`, said so: there is no Python, or the clients cannot be had.
pub(crate) fn python() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match MADE.get_or_init(make) {
        Ok(python) => Some(python),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

fn make() -> Result<PathBuf, String> {
    let wanted = std::fs::read_to_string(format!("{SCRIPTS}/requirements.txt")).expect("it is in the repository");
    let cache = std::env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|_| std::env::var("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let cache = cache.map_err(|_| "no folder to keep a Python in (HOME)".to_owned())?.join("pitcrew");
    // The name says what is in it: other versions are another folder.
    let name = wanted.split_whitespace().collect::<Vec<_>>().join("_").replace("==", "-");
    let (place, making) = (cache.join(format!("python_{name}")), cache.join(format!("python.{}", std::process::id())));
    let python = |place: &Path| place.join("bin/python");
    if !python(&place).exists() {
        std::fs::create_dir_all(&cache).map_err(|error| format!("no folder {}: {error}", cache.display()))?;
        let _ = std::fs::remove_dir_all(&making);
        run(Command::new("python3").args(["-m", "venv"]).arg(&making))
            .map_err(|why| format!("no Python with venv (apt-get install python3-venv): {why}"))?;
        let mut install = Command::new(python(&making));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
        install.args(["--retries", "1", "--timeout", "20", "--requirement"]).arg(format!("{SCRIPTS}/requirements.txt"));
        run(&mut install).map_err(|why| format!("no clients for Python from PyPI: {why}"))?;
        // Whole or not there. Another process may have been faster, with the same thing.
        if std::fs::rename(&making, &place).is_err() {
            let _ = std::fs::remove_dir_all(&making);
        }
    }
    Ok(python(&place))
}

/// The end of what it says on its errors is the reason, on one line.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(output);
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Err(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed in silence").to_owned())
}

/// Runs a script to its end, which must be a good one: what it prints.
pub(crate) async fn script(python: &'static Path, name: &str, arguments: Vec<String>) -> String {
    let mut command = Command::new(python);
    command.arg(format!("{SCRIPTS}/{name}")).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it is waited for");
    let output = output.expect("Python runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}
