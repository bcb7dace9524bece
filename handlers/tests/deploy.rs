//! What is in `deploy/` and what docs/runbook.md tells: that it fits together, and the binary.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics that a text speaks of, without what a histogram adds.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_metric =
        |word: &&str| ["pitcrew_", "messaging_", "http_server_"].iter().any(|begin| word.starts_with(begin));
    let whole = |word: &str| {
        let ends = ["_bucket", "_sum", "_count"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    // A label is no metric.
    let labels =
        ["messaging_system", "messaging_operation_name", "messaging_destination_name", "messaging_consumer_group_name"];
    words.filter(is_metric).map(whole).filter(|word| !labels.contains(&word.as_str())).collect()
}

/// Those of docs/metrics.md, which a test of the door compares with a running worker.
fn known() -> BTreeSet<String> {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_metric_of_alerts_and_board_exists() {
    let known = known();
    assert!(known.len() > 20, "{known:?}");
    for path in ["deploy/prometheus/alerts.yml", "deploy/prometheus/alerts.test.yml", "docs/runbook.md"] {
        let unknown: Vec<_> = metrics(&read(path)).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{path} speaks of {unknown:?}");
    }
    let board: Value = serde_json::from_str(&read("deploy/grafana/pitcrew.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    for panel in panels {
        let targets = panel["targets"].as_array().expect("targets");
        let used: BTreeSet<String> =
            targets.iter().flat_map(|t| metrics(t["expr"].as_str().expect("a query"))).collect();
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", panel["title"]);
        assert!(!used.is_empty() || targets[0]["expr"] == "sum(up{job=\"pitcrew\"})", "{}", panel["title"]);
    }
    assert!(panels.len() > 10);
}

/// As a heading is linked to.
fn anchor(heading: &str) -> String {
    heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-")
}

#[test]
fn every_alert_leads_to_a_heading_that_names_a_command() {
    let page = read("docs/runbook.md");
    let sections: Vec<(String, &str)> = page
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').expect("a heading and a text"))
        .map(|(heading, text)| (anchor(heading), text))
        .collect();
    let alerts = read("deploy/prometheus/alerts.yml");
    let (mut names, mut links) = (Vec::new(), Vec::new());
    for line in alerts.lines().map(str::trim) {
        names.extend(line.strip_prefix("- alert: "));
        links.extend(line.strip_prefix("runbook_url: docs/runbook.md#"));
    }
    assert_eq!(names.len(), links.len());
    assert!(names.len() > 10);
    for (name, link) in names.iter().zip(links) {
        let (_, text) = sections.iter().find(|(anchor, _)| anchor == link).unwrap_or_else(|| panic!("no #{link}"));
        assert!(text.contains("\ncar-worker "), "#{link} names no command");
        assert!(text.contains(name), "#{link} does not say that {name} leads there");
    }
}

/// As `doctor` writes them, and not as somebody thinks that it does.
#[test]
fn every_symptom_begins_with_what_doctor_says_of_it() {
    let page = read("docs/runbook.md");
    let (first, rest) = page.split_once("\n## ").expect("symptoms");
    assert!(first.contains("\ncar-worker doctor "), "it comes first");
    let says: String = ["src/cli/doctor/judge.rs", "src/cli/doctor/judge/work.rs", "src/cli/doctor/judge/queues.rs"]
        .map(read)
        .concat();
    let is_line = |line: &&str| ["ok    ", "warn  ", "bad   "].iter().any(|word| line.starts_with(word));
    for section in rest.split("\n## ") {
        let (heading, text) = section.split_once('\n').expect("a heading and a text");
        let (_, shown) =
            text.split_once("```text\n$ car-worker doctor\n").unwrap_or_else(|| panic!("{heading}: no doctor"));
        let (shown, _) = shown.split_once("```").expect("an end");
        let begins = text.find("```").map(|at| text[at..].starts_with("```text\n$ car-worker doctor\n"));
        assert_eq!(begins, Some(true), "{heading}: something else is typed first");
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines.iter().any(|line| line.starts_with("warn  ") || line.starts_with("bad   ")),
            "{heading}: all is well"
        );
        for line in lines.iter().filter(|line| is_line(line)) {
            let (of, sentence) = line[6..].split_at(10);
            assert!(says.contains(&format!("(\"{}\"", of.trim_end())), "{heading}: it says nothing of {of:?}");
            assert!(sentence.starts_with("  ") && sentence.len() > 10, "{heading}: {line}");
        }
        for line in lines.iter().filter(|line| !is_line(line)) {
            assert!(line.starts_with("                  "), "{heading}: {line}");
        }
        let (orange, commands) = (
            lines.iter().filter(|line| is_line(line) && !line.starts_with("ok")),
            lines.iter().filter(|l| l.contains("→ car-worker ")),
        );
        assert_eq!(orange.count(), commands.count(), "{heading}: each line that is not ok ends in a command");
    }
}

/// A screen that is green while somebody is woken, or the other way round, helps nobody.
#[test]
fn doctor_turns_red_where_an_alert_fires() {
    let doctor = ["src/cli/doctor/judge/work.rs", "src/cli/doctor/judge/queues.rs"].map(read).concat();
    let alerts = read("deploy/prometheus/alerts.yml");
    for (expression, constant) in [
        ("pitcrew_lag_seconds{place=\"queue\"}) > 300\n", "const QUEUE_LATE: [f64; 2] = [60.0, 300.0];"),
        ("pitcrew_outbox_oldest_age_seconds) > 60\n", "const ROWS_LATE: [f64; 2] = [10.0, 60.0];"),
        ("pitcrew_lag_messages{place=\"queue\"}) > 1000\n", "const DEEP: u64 = 1_000;"),
    ] {
        assert!(alerts.contains(expression) && doctor.contains(constant), "{expression}{constant}");
    }
}

/// The command lines of the runbook, as they would be typed.
fn commands() -> Vec<Vec<String>> {
    let page = read("docs/runbook.md");
    let (mut commands, mut in_block) = (Vec::new(), false);
    for line in page.lines().map(str::trim) {
        // A prompt, and what `doctor` says to type.
        let line = line.trim_start_matches("$ ").trim_start_matches("→ ");
        if line.starts_with("```") {
            in_block = !in_block;
        } else if let Some(line) = line.strip_prefix("car-worker ").filter(|_| in_block) {
            let line = line.split(" #").next().unwrap_or_default().split(" | ").next().unwrap_or_default();
            let mut words: Vec<String> = Vec::new();
            for (n, part) in line.split('"').enumerate() {
                match n % 2 {
                    0 => words.extend(part.split_whitespace().map(str::to_owned)),
                    _ => words.push(part.to_owned()),
                }
            }
            commands.push(words);
        }
    }
    commands
}

/// On a new database: there is nothing to be found there, but a command line that is wrong ends with 2.
#[test]
fn every_command_of_the_runbook_can_be_typed() {
    let directory = tempfile::tempdir().expect("a folder");
    let typed = |words: &[&str]| {
        let mut worker = Command::new(env!("CARGO_BIN_EXE_car-worker"));
        worker.args(words).current_dir(directory.path()).env_clear().stdin(std::process::Stdio::null());
        let run = worker.output().expect("it runs");
        (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned())
    };
    assert_eq!(typed(&["migrate"]).0, Some(0));
    let commands = commands();
    assert!(commands.len() > 20, "{commands:?}");
    for words in commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, said) = typed(&words);
        assert!(matches!(code, Some(0 | 1)), "car-worker {}: {said}", words.join(" "));
    }
    for wrong in [&["dead", "list", "--no-such"][..], &["dead", "discard", "ID"], &["explain"]] {
        assert_eq!(typed(wrong).0, Some(2), "{wrong:?}: what is wrong is not seen");
    }
}

#[test]
fn prometheus_takes_rules_and_config_and_each_alert_fires_when_it_should() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: no promtool (apt-get install prometheus)");
        return;
    }
    for arguments in [
        &["check", "rules", "alerts.yml"][..],
        &["test", "rules", "alerts.test.yml"],
        &["check", "config", "prometheus.yml"],
    ] {
        let run = Command::new("promtool").args(arguments).current_dir(root().join("deploy/prometheus")).output();
        let run = run.expect("promtool runs");
        let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{arguments:?}: {said}");
    }
    let (alerts, tests) = (read("deploy/prometheus/alerts.yml"), read("deploy/prometheus/alerts.test.yml"));
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} is not tested");
    }
}

/// What the manifests of a folder are told by Kubernetes' own schemas and those of KEDA; `None`: there is no Python to ask.
fn kubernetes(folder: &Path) -> Option<Result<String, String>> {
    let made = Command::new(root().join("tests/services/python-clients")).output().expect("bash runs");
    if !made.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default());
        return None;
    }
    let python = String::from_utf8(made.stdout).expect("a path").trim().to_owned();
    let script = root().join("handlers/tests/deploy/kubernetes.py");
    let ran = Command::new(python).arg(script).arg(folder).output().expect("Python runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if ran.status.success() { Ok(said(&ran.stdout)) } else { Err(said(&ran.stderr)) })
}

#[test]
fn the_manifests_are_what_kubernetes_and_keda_take() {
    let ours = root().join("deploy/k8s");
    let Some(told) = kubernetes(&ours) else { return };
    assert_eq!(told.expect("all of them").lines().count(), 8, "every document is looked at");
    // The same with a slip of the pen in one of them.
    for (file, right, wrong, says) in [
        ("worker.yaml", "replicas:", "replica:", "Deployment car-worker"),
        ("worker.yaml", "containerPort: 9464", "containerPort: http", "Deployment car-worker"),
        ("network.yaml", "podSelector:", "podSelect:", "NetworkPolicy car-worker"),
        ("scale-kafka.yaml", "minReplicaCount: 2", "minReplicaCount: two", "ScaledObject car-worker"),
        ("scale-rabbitmq.yaml", "secretTargetRef", "secretRef", "TriggerAuthentication car-worker"),
        ("kustomization.yaml", "- network.yaml", "- networks.yaml", "networks.yaml"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("crd")).expect("a folder");
        for name in ["", "crd"] {
            for entry in std::fs::read_dir(ours.join(name)).expect("it is read").flatten() {
                if entry.path().is_file() {
                    let copy = folder.path().join(name).join(entry.file_name());
                    std::fs::copy(entry.path(), copy).expect("a copy");
                }
            }
        }
        let text = std::fs::read_to_string(ours.join(file)).expect("it is read");
        assert!(text.contains(right), "{file} has no `{right}`");
        std::fs::write(folder.path().join(file), text.replace(right, wrong)).expect("it is written");
        let told = kubernetes(folder.path()).expect("Python was there").expect_err(wrong);
        assert!(told.contains(says), "{wrong}: {told}");
    }
}

/// A queue without a trigger may grow for ever while KEDA sees nothing to do.
#[test]
fn every_queue_and_group_that_the_deployed_worker_reads_has_a_trigger() {
    let manifest = read("deploy/k8s/worker.yaml");
    let (_, config) = manifest.split_once("pitcrew.toml: |\n").expect("its configuration");
    let config: String =
        config.lines().take_while(|line| *line != "---").map(|line| format!("{}\n", line.trim())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("pitcrew.toml"), config).expect("it is written");
    let mut worker = Command::new(env!("CARGO_BIN_EXE_car-worker"));
    let told = worker.args(["config", "check", "--json"]).current_dir(folder.path()).output().expect("it runs");
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let read_by_worker: BTreeSet<&str> =
        told["subscriptions"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(read_by_worker.len() > 1, "{told}");
    let values = |text: &str, key: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.trim().strip_prefix(key).map(str::to_owned)).collect()
    };
    for (file, key) in [("scale-rabbitmq.yaml", "queueName: "), ("scale-kafka.yaml", "consumerGroup: ")] {
        let text = read(&format!("deploy/k8s/{file}"));
        let triggers = values(&text, key);
        assert_eq!(triggers.iter().map(String::as_str).collect::<BTreeSet<_>>(), read_by_worker, "{file}");
        assert_eq!(values(&text, "- type: ").len(), read_by_worker.len(), "{file}: one trigger each");
        // A group reads the topic that it is called after.
        for (group, topic) in triggers.iter().zip(values(&text, "topic: ")) {
            let rest = group.strip_prefix(&topic);
            assert!(rest.is_some_and(|rest| rest.is_empty() || rest == ".car-worker"), "{group} of {topic}");
        }
    }
}

/// The steps of the image are those that run without an engine.
#[test]
fn the_dockerfile_and_the_script_build_the_same() {
    let (dockerfile, script) = (read("deploy/Dockerfile"), read("deploy/build-natively"));
    for step in [
        "cargo build --locked --profile dist --package car-workers --bin car-worker --features pitcrew/kafka-tls",
        "install -D --strip --mode 755 target/dist/car-worker",
        "install -D --mode 644 deploy/worker.toml",
    ] {
        assert!(dockerfile.contains(step) && script.contains(step), "{step}");
    }
    let toolchain = read("Cargo.toml");
    let version = toolchain.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("a version");
    assert!(
        dockerfile.contains(&format!("FROM rust:{}-", version.trim_end_matches('"'))),
        "the toolchain of Cargo.toml"
    );
    for line in ["USER nonroot", "HEALTHCHECK", "\"health\"", "STOPSIGNAL SIGTERM"] {
        assert!(dockerfile.contains(line), "{line}");
    }
}

/// The configuration of the containers is one that a worker takes.
#[test]
fn the_containers_configuration_is_taken() {
    let directory = tempfile::tempdir().expect("a folder");
    std::fs::copy(root().join("deploy/worker.toml"), directory.path().join("pitcrew.toml")).expect("a copy");
    std::fs::copy(root().join("deploy/laptop.toml"), directory.path().join("pitcrew.laptop.toml")).expect("a copy");
    for (profile, listens) in [(None, "127.0.0.1:9464"), (Some("laptop"), "0.0.0.0:9464")] {
        let worker = |arguments: &[&str]| {
            let mut worker = Command::new(env!("CARGO_BIN_EXE_car-worker"));
            worker.args(arguments).env_clear().env("PITCREW_CONFIG", directory.path().join("pitcrew.toml"));
            worker.env("PITCREW_STORE__URL", "postgres://postgres:pitcrew@postgres:5432/postgres");
            worker.env("PITCREW_TRANSPORT__DEFAULT__URL", "amqp://pitcrew:pitcrew@rabbitmq:5672");
            worker.env("PITCREW_TRANSPORT__LOG__URL", "kafka://kafka:19092");
            worker.env("PITCREW_HANDLERS__car.FetchVehicleHistory__URL", "http://provider:7070");
            if let Some(profile) = profile {
                worker.env("PITCREW_PROFILE", profile);
            }
            worker.output().expect("it runs")
        };
        let check = worker(&["config", "check"]);
        assert!(check.status.success(), "{profile:?}: {}", String::from_utf8_lossy(&check.stderr));
        let shown = worker(&["config", "show"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(&format!("listen = \"{listens}\"")), "{shown}");
    }
}
