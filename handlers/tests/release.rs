//! What is shipped has no fault points: only a build with tests turns them on.

use std::process::Command;

/// The features of pitcrew in a build of everything, as cargo resolves them.
fn features(edges: &str) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--workspace", "--depth", "1", "--prefix", "none", "--edges", edges])
        .args(["--format", "{p} [{f}]"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("pitcrew v")).collect();
    assert!(!lines.is_empty(), "pitcrew is not in {text}");
    lines.join("\n")
}

/// A feature by its whole name: `default` ends like it.
fn has_fault(features: &str) -> bool {
    features.split(['[', ']', ',', ' ']).any(|feature| feature == "fault")
}

#[test]
fn no_build_without_tests_has_fault_points() {
    assert!(has_fault(&features("all")), "the tests of this package have them, or this check sees nothing");
    let shipped = features("no-dev");
    assert!(!has_fault(&shipped), "{shipped}");
}
