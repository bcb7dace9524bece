//! A Python with the brokers' clients in it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

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
    let maker = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/python-clients");
    let made = Command::new(maker).output().expect("bash runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().last().unwrap_or_default().to_owned();
    if made.status.success() { Ok(said(&made.stdout).into()) } else { Err(said(&made.stderr)) }
}

/// Runs a script to its end, which must be a good one: what it prints.
pub(crate) async fn script(python: &'static Path, name: &str, arguments: Vec<String>) -> String {
    let mut command = Command::new(python);
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");
    command.arg(format!("{scripts}/{name}")).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it is waited for");
    let output = output.expect("Python runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}
