//! The command line as people meet it, on the real binary. What they see is kept in `cli/*.txt`: after a change that is meant,
//! `UPDATE_SNAPSHOTS=1 cargo test -p car-workers --test cli` writes them anew.

#[path = "cli/prepared.rs"]
mod prepared;
#[path = "cli/session.rs"]
mod session;

use pitcrew::store::Reason;
use prepared::prepared;
use serde_json::Value;
use session::Session;
use std::process::Stdio;

const COMMANDS: [&[&str]; 28] = [
    &[],
    &["run"],
    &["send"],
    &["doctor"],
    &["explain"],
    &["dead"],
    &["dead", "groups"],
    &["dead", "list"],
    &["dead", "show"],
    &["dead", "replay"],
    &["dead", "replays"],
    &["dead", "edit"],
    &["dead", "discard"],
    &["audit"],
    &["audit", "list"],
    &["audit", "export"],
    &["replay"],
    &["config"],
    &["config", "check"],
    &["config", "show"],
    &["topology"],
    &["health"],
    &["migrate"],
    &["schema"],
    &["schema", "export"],
    &["schema", "check"],
    &["demo"],
    &["simulate-provider"],
];
const BRIEF: &str = "car.GenerateRecommendationBrief";
const GOOD: &str =
    r#"{"brief_id":"b-1","buyer":{"id":"1","name":"Ada"},"yearly_km":9000,"weights":{"economy":1},"top":3}"#;

// ---- a new user

#[test]
fn every_help_teaches_with_examples_in_80_columns() {
    let mut session = Session::new();
    for command in COMMANDS {
        let ran = session.run(&[command, &["--help"]].concat());
        let leaf = !matches!(command, ["config", "check" | "show"]);
        assert!(ran.out.contains("\nExamples:\n") || !leaf, "{command:?} has no example");
        assert!(!ran.out.contains("{bin}") && !ran.out.contains("{type}"), "{command:?} names a placeholder");
        for line in ran.out.lines() {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
    session.is("help");
}

#[test]
fn the_help_of_dead_list_names_every_reason() {
    let help = Session::new().run(&["dead", "list", "--help"]).out;
    let missing: Vec<_> = Reason::ALL.iter().map(|r| r.word()).filter(|word| !help.contains(word)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn first_steps_in_an_empty_directory() {
    let mut session = Session::new();
    for command in [
        &["explain", "019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77"][..],
        &["dead", "list"],
        &["config", "check"],
        &["config", "show"],
        &["migrate"],
        &["migrate"],
        &["dead", "list"],
        &["explain", "019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77"],
    ] {
        session.run(command);
    }
    session.with_input(GOOD, &["send", BRIEF, "--data", "-"]);
    let id = session.last_line();
    session.run(&["explain", &id]);
    session.with_input(GOOD, &["send", BRIEF, "--data", "-", "--wait", "10ms"]);
    session.is("first_steps");
}

#[test]
fn wrong_usage_ends_with_2_and_the_nearest_name() {
    let mut session = Session::new();
    session.unseen(&["migrate"]);
    for command in [
        &["rum"][..],
        &["send", "car.GenerateRecomendationBrief"],
        &["send", BRIEF, "--after", "soon"],
        &["dead", "list", "--reason", "exausted"],
        &["dead", "list", "--state", "death"],
        &["dead", "replay"],
        &["dead", "replay", "some-id", "--reason", "exhausted"],
        &["dead", "replay", "some-id", "--canary", "1"],
        &["dead", "replay", "some-id", "--resume", "another"],
        &["dead", "replay", "--resume", "another", "--yes"],
        &["dead", "replay", "--resume", "another", "--note", "it was said before"],
        &["dead", "replay", "--resume", "another", "--repeat-external"],
        &["audit", "export", "--since", "1h", "--until", "2h"],
        &["dead", "replay", "--all", "--rate", "fast"],
        &["dead", "replay", "--all", "--stop-at", "2"],
        &["dead", "discard", "some-id"],
        &["dead", "discard", "--all", "--yes", "--reason", "exhausted"],
        &["replay", "--from", "1h"],
        &["replay", "--channel", "car.commands", "--from", "yesterday"],
        &["replay", "--channel", "car.comands", "--from", "1h"],
        &["replay", "--channel", "car.commands", "--from", "1h", "--type", "car.GenerateRecomendationBrief"],
        &["replay", "--channel", "car.commands", "--from", "1h", "--resume", "12"],
    ] {
        assert_eq!(session.run(command).code, 2, "{command:?}");
    }
    // Right in itself, and not here.
    assert_eq!(session.run(&["replay", "--channel", "car.commands", "--from", "1h"]).code, 1);
    session.is("wrong_usage");
}

/// Half a list that counts as a whole one is worse than none.
#[test]
fn a_full_disk_under_the_output_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let run = |arguments: &[&str], to: std::process::Stdio| {
        let mut worker = std::process::Command::new(env!("CARGO_BIN_EXE_car-worker"));
        worker
            .args(arguments)
            .args(["--store", "sqlite:a.db"])
            .current_dir(directory.path())
            .stdout(to)
            .output()
            .unwrap()
    };
    assert!(run(&["migrate"], std::process::Stdio::null()).status.success());
    for arguments in [&["doctor"][..], &["dead", "list"], &["schema", "export"], &["config", "show"]] {
        let ran = run(arguments, full().into());
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("error: writing to standard output") && said.contains("No space left"), "{said}");
    }
}

#[test]
fn what_no_worker_could_read_is_not_sent() {
    let mut session = Session::new();
    let cases: [(&str, &[&str]); 8] = [
        ("", &[]),
        ("not JSON", &[]),
        ("{\"brief_id\":\"b\0\"}", &[]),
        (r#"{"brief_id":"b-1"}"#, &[]),
        (&GOOD.replace("b-1", r"b\u0000"), &[]),
        (&GOOD.replace("b-1", &"b".repeat(1_000_000)), &[]),
        (GOOD, &["--id", &"x".repeat(201)]),
        (GOOD, &["--id", ""]),
    ];
    for (payload, more) in cases {
        let ran = session.with_input(payload, &[&["send", BRIEF, "--data", "-"], more].concat());
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{payload:.80}");
    }
    assert_eq!(session.run(&["send", BRIEF, "--data", "nowhere.json"]).code, 1);
    session.unseen(&["migrate"]);
    assert_eq!(session.outbox(), 0, "nothing was written");
    session.is("send_refused");
}

#[test]
fn a_wrong_configuration_is_told_at_once_with_places_and_nearest_keys() {
    let mut session = Session::new();
    session.file(
        "pitcrew.toml",
        "servise = 'cars'\n\n[store]\nurl = 'mysql://db/cars'\n\n[worker]\nbatch = 'many'\npayload_limti = '1MB'\n\n\
         [channel.\"car.commands\".retry]\ntiers = ['1s', '5 parsecs']\n",
    );
    for command in [&["config", "check"][..], &["run"], &["dead", "list"], &["config", "check", "--json"]] {
        assert_eq!(session.run(command).code, 1);
    }
    session.file(
        "pitcrew.toml",
        "[channel.\"car.commands\"]\ndeadline = '0s'\nconcurrency = 3\n[handlers.\"car.Nobody\"]\ndeadline = '1h'\n",
    );
    for command in [&["config", "check"][..], &["config", "check", "--json"], &["run"]] {
        assert_eq!(session.run(command).code, 1);
    }
    session.run(&["config", "check", "--config", "nowhere.toml"]);
    session.run(&["config", "check", "--store", "foo://x"]);
    session.is("config_refused");
}

// ---- an operator

#[test]
fn explain_tells_the_state_why_and_what_comes_next() {
    let (mut session, ids) = prepared();
    for (what, id) in ids.all() {
        let code = i32::from(what == "never arrived");
        assert_eq!(session.run(&["explain", id]).code, code, "{what}");
    }
    session.is("explain");
}

#[test]
fn letters_are_listed_shown_replayed_and_discarded() {
    let (mut session, ids) = prepared();
    for command in [
        &["dead", "list"][..],
        &["dead", "list", "--reason", "permanent"],
        &["dead", "list", "--because", "exhausted"],
        &["dead", "list", "--type", "car.GenerateRecommendationBrieff"],
        &["dead", "list", "--channel", "car.comands"],
        &["dead", "list", "--state", "discarded"],
        &["dead", "list", "--older-than", "1h"],
        &["dead", "list", "--newer-than", "1h", "--limit", "1"],
        &["dead", "groups"],
        &["dead", "groups", "--reason", "too_old"],
        &["dead", "list", "--like", &ids.exhausted],
        &["dead", "list", "--like", "nothing-like-it"],
        &["dead", "replay", "--all", "--like", &ids.dead, "--limit", "1", "--dry-run"],
        &["dead", "show", &ids.dead],
        &["dead", "show", "nothing-like-it"],
        &["dead", "replay", &ids.dead],
        &["dead", "replay", &ids.dead],
        &["explain", &ids.dead],
        &["dead", "discard", &ids.dead, "--reason", "too late"],
        &["dead", "replay", &ids.discarded],
        &["dead", "discard", &ids.exhausted, "--reason", "the buyer cancelled", "--as", "ada"],
        &["explain", &ids.exhausted],
        &["dead", "replay", "nothing-like-it"],
        &["dead", "replay", "--all"],
        &["dead", "replay", "--all", "--type", "car.Unheard"],
        &["dead", "replays"],
        &["dead", "replay", "--all", "--yes", "--note", "the bug is mended"],
        &["dead", "replays"],
        &["dead", "list"],
    ] {
        session.run(command);
    }
    session.is("dead");
    assert_eq!(session.outbox_of("replay"), 2, "each letter once");
}

#[test]
fn every_action_of_an_operator_is_in_the_audit() {
    let (mut session, ids) = prepared();
    for command in [
        &["audit", "list", "--who", "nobody"][..],
        &["dead", "replay", &ids.dead, "--as", "ada", "--note", "the colour is one now"],
        &["dead", "discard", &ids.exhausted, "--reason", "the buyer\ncancelled"],
        &["audit", "list"],
        &["audit", "list", "--who", "ada"],
        &["audit", "list", "--limit", "1"],
        &["audit", "list", "--since", "1h", "--who", "tester"],
        &["audit", "list", "--since", "2999-01-01T00:00:00Z"],
        &["audit", "list", "--who", "ada", "--json"],
        &["audit", "list", "--since", "then"],
    ] {
        session.run(command);
    }
    session.is("audit");
    let told = session.run(&["audit", "list", "--json"]).out;
    let actions: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|audit| format!("{} {}", audit["actor"].as_str().unwrap(), audit["action"].as_str().unwrap()))
        .collect();
    assert_eq!(actions, ["tester discard", "ada replay", "tester discard"]);
    // A schema that changes is somebody's doing; one that is there already is not.
    let mut session = Session::new();
    session.unseen(&["migrate", "--as", "release 7"]);
    session.unseen(&["migrate", "--as", "release 7"]);
    let told = session.run(&["audit", "list", "--json"]).out;
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("release 7") && told.contains("schema version 0 to 3"), "{told}");
}

/// Both formats tell the same, in whole files, and a cell is a cell whatever senders write into it.
#[test]
fn what_became_of_every_message_can_be_exported() {
    let (mut session, ids) = prepared();
    let strange = "=1+1, \"quoted\"\nand \u{1b}[31mŠkoda";
    session.sqlite(&format!("update inbox set actor = '{strange}' where id = '{}'", ids.done));
    let lines: Vec<Value> = session
        .run(&["audit", "export", "--since", "1h"])
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let fate = |id: &str| lines.iter().find(|line| line["id"] == *id).map(|line| line["fate"].as_str().unwrap());
    assert_eq!([&ids.done, &ids.dead, &ids.retrying].map(|id| fate(id)), [Some("done"), Some("dead"), Some("retry")]);
    assert_eq!(fate(&ids.waiting), None, "it was not handled yet");
    let reason = |id: &str| lines.iter().find(|line| line["id"] == *id).unwrap()["reason"].clone();
    assert_eq!((reason(&ids.dead), reason(&ids.done)), ("permanent".into(), Value::Null));

    let told = session.run(&["audit", "export", "--since", "1h", "--format", "csv", "--out", "all.csv"]);
    assert_eq!((told.code, told.out), (0, format!("{} lines in all.csv\n", lines.len())));
    let mut csv = csv::Reader::from_path(session.directory.path().join("all.csv")).unwrap();
    let names = csv.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(&lines) {
        let fields = line.as_object().unwrap();
        assert_eq!(names.iter().collect::<Vec<_>>().len(), fields.len());
        for (name, cell) in names.iter().zip(row) {
            match &fields[name] {
                Value::Null => assert_eq!(cell, "", "{name}"),
                Value::String(text) => assert_eq!(cell, text, "{name}"),
                Value::Number(number) => assert_eq!(cell.parse::<f64>().unwrap(), number.as_f64().unwrap(), "{name}"),
                other => panic!("{name}: {other}"),
            }
        }
    }
    assert!(rows.iter().any(|row| row.iter().any(|cell| cell == strange)));
    let left: Vec<_> = std::fs::read_dir(session.directory.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");

    // Nothing of that time; no place to write to; a terminal, which would obey what senders wrote.
    let none = session.run(&["audit", "export", "--since", "2h", "--until", "1h"]);
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    assert_eq!(session.run(&["audit", "export", "--since", "1h", "--out", "no/where.csv"]).code, 1);
    assert_eq!(session.run(&["audit", "export"]).code, 2);
    assert_eq!(session.on_terminal(&["audit", "export", "--since", "1h", "--format", "csv"], "").code, 2);
}

/// What it says of the sink is what it would do.
#[test]
fn the_volume_of_a_rate_is_told_with_what_retention_makes_of_it() {
    let mut session = Session::new();
    session.run(&["config", "check", "--rate", "500"]);
    session.run(&["config", "check", "--rate", "0"]);
    std::fs::create_dir(session.directory.path().join("audit")).unwrap();
    session.file("pitcrew.toml", "[store.retention]\ninbox = \"30d\"\n[audit]\nsink = \"audit\"\n");
    session.run(&["config", "check", "--rate", "500"]);
    session.file("pitcrew.toml", "[audit]\nsink = \"s3://bucket/audit\"\n");
    assert_eq!(session.run(&["config", "check"]).code, 1);
    session.file("pitcrew.toml", "[audit]\nsink = \"nowhere\"\n");
    assert_eq!(session.run(&["config", "check"]).code, 1);
    session.is("volume");
}

#[test]
fn the_beginning_of_an_id_is_enough_where_it_is_unmistakable() {
    let (mut session, ids) = prepared();
    assert_eq!(session.run(&["dead", "show", &ids.dead[..30]]).code, 0);
    assert!(session.run(&["explain", &ids.dead[..30]]).out.starts_with(&ids.dead));
    let shared = ids.dead.bytes().zip(ids.exhausted.bytes()).take_while(|(one, other)| one == other).count();
    assert_eq!(session.run(&["dead", "show", &ids.dead[..shared]]).code, 1, "two begin so");
    assert_eq!(session.run(&["dead", "replay", &ids.dead[..shared]]).code, 1);
    assert_eq!(session.outbox_of("replay"), 0);
}

#[test]
fn replay_of_all_asks_first_on_a_terminal() {
    let (session, _) = prepared();
    let asked = session.on_terminal(&["dead", "replay", "--all"], "n\n");
    assert!(asked.out.contains("letters? [y/N]") && asked.out.contains("nothing was done"), "{}", asked.out);
    assert_eq!((asked.code, session.outbox_of("replay")), (1, 0));
    let asked = session.on_terminal(&["dead", "replay", "--all"], "y\n");
    assert_eq!((asked.code, session.outbox_of("replay")), (0, 3), "{}", asked.out);
}

#[test]
fn an_edit_asks_first_on_a_terminal() {
    let (session, ids) = prepared();
    session.file("mended.json", GOOD);
    let edit = ["dead", "edit", &ids.dead, "--data", "mended.json"];
    let asked = session.on_terminal(&edit, "n\n");
    assert!(asked.out.contains("- /say: \"permanent\"") && asked.out.contains("+ /brief_id: \"b-1\""), "{}", asked.out);
    let question = format!("send this in place of {}? [y/N]", ids.dead);
    assert!(asked.out.contains(&question) && asked.out.contains("nothing was done"), "{}", asked.out);
    let before = session.outbox_of("message");
    assert_eq!(asked.code, 1);
    let asked = session.on_terminal(&edit, "y\n");
    assert_eq!((asked.code, session.outbox_of("message")), (0, before + 1), "{}", asked.out);
}

// ---- programs

/// One document a line, or one over several lines for `schema export`; the same each time.
#[test]
fn everything_that_prints_has_stable_json() {
    let (mut session, ids) = prepared();
    let schema = session.run(&["schema", "export"]).out;
    let schema: Value = serde_json::from_str(&schema).expect("one document");
    assert_eq!(schema.as_object().map(|all| all.len()), Some(11));
    let mut lines = 0;
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["config", "check"],
        vec!["config", "show"],
        vec!["migrate"],
        vec!["schema", "export"],
        vec!["dead", "list"],
        vec!["dead", "groups"],
        vec!["audit", "list"],
        vec!["dead", "replay", "--all", "--dry-run"],
        vec!["dead", "show", &ids.dead],
        vec!["dead", "replay", &ids.discarded],
        vec!["dead", "discard", &ids.discarded, "--reason", "again"],
    ];
    let all = ids.all();
    commands.extend(all.iter().map(|(_, id)| vec!["explain", *id]));
    for mut command in commands {
        command.push("--json");
        let once = session.run(&command).out;
        for line in documents(&once) {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{command:?}: {error}: {line}"));
            lines += 1;
        }
        assert!(!once.is_empty(), "{command:?}");
        // `next` tells how far away a time is, and that is another distance by now.
        let steady = |text: &str| documents(text).into_iter().map(without_distance).collect::<Vec<_>>();
        assert_eq!(steady(&once), steady(&session.run(&command).out), "{command:?}");
    }
    assert!(lines > 15, "{lines}");
    let ended: Value = serde_json::from_str(&session.run(&["dead", "replay", "--all", "--yes", "--json"]).out).unwrap();
    let jobs = session.run(&["dead", "replays", "--json"]).out;
    let job: Value = serde_json::from_str(&jobs).unwrap();
    for field in ["replay", "state", "tally", "stop_at", "actor", "note"] {
        assert_eq!(job[field], ended[field], "{field}: {jobs}");
    }
    let told: Value =
        serde_json::from_str(&session.run(&["dead", "replays", job["replay"].as_str().unwrap(), "--json"]).out)
            .unwrap();
    assert_eq!(told["letters"], ended["letters"]);
    assert_eq!(told["letters"].as_array().map(Vec::len), Some(3), "{told}");
    let words = ["done", "retrying", "dead", "waiting", "unknown"];
    for (what, id) in &all {
        let told: Value = serde_json::from_str(&session.run(&["explain", id, "--json"]).out).unwrap();
        assert!(words.contains(&told["state"].as_str().unwrap()), "{what}: {told}");
        assert!(!told["reason"].as_str().unwrap().is_empty(), "{what}: {told}");
    }
}

fn documents(text: &str) -> Vec<&str> {
    if serde_json::from_str::<Value>(text).is_ok() { vec![text] } else { text.lines().collect() }
}

fn without_distance(line: &str) -> Value {
    let mut value: Value = serde_json::from_str(line).unwrap();
    if let Some(object) = value.as_object_mut() {
        object.remove("next");
        object.remove("reason");
    }
    value
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let (session, ids) = prepared();
    for command in
        [&["schema", "export"][..], &["dead", "list", "--json"], &["explain", &ids.dead], &["config", "show"]]
    {
        let mut child = session.command(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()),
            (Some(0), ""),
            "{command:?}"
        );
    }
}

// ---- a worker beside it

#[test]
fn a_message_is_sent_awaited_and_explained_beside_a_running_worker() {
    let mut session = Session::new();
    let worker = session.worker();
    let ran = session.with_input(GOOD, &["send", BRIEF, "--data", "-", "--wait", "20s"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let bad = GOOD.replace(r#""economy":1"#, r#""economy":-1"#);
    assert_eq!(session.with_input(&bad, &["send", BRIEF, "--data", "-", "--wait", "20s", "--actor", "ada"]).code, 1);
    let unread = session.with_input("{}", &["send", BRIEF, "--data", "-", "--wait", "20s", "--unchecked"]);
    assert_eq!(unread.code, 1);
    assert_eq!(session.run(&["run"]).code, 1, "one worker a file");
    session.is("beside_a_worker");
    assert_eq!(worker.terminate(), Some(0), "SIGTERM is an ordered end");
}

// ---- the demo

#[test]
fn what_the_demo_says_to_try_next_works_line_by_line() {
    let mut session = Session::new();
    let report = session.run(&["demo", "--commands", "300", "--dir", "demo"]).out;
    assert!(report.contains("\nIt adds up: "), "{report}");
    let (told, next) = report.split_once("\nTry next:\n").expect("what to try next");
    for line in told.lines().filter(|line| !line.contains("notifications.log")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(told.lines().count() <= 50, "it is read on one screen:\n{report}");
    let lines: Vec<&str> =
        next.lines().map(|line| line.strip_prefix("  cargo run --release -- ").expect(line)).collect();
    assert_eq!(lines.len(), 3, "{next}");
    for line in lines {
        let ran = session.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        assert!(ran.out.lines().count() >= 2, "{line}: {}", ran.out);
    }
    // And the letter that was replayed is taken by the next worker.
    let worker = session.worker_at("demo/pitcrew.toml");
    session.until(&["dead", "list", "--state", "replayed", "--config", "demo/pitcrew.toml"], |out| {
        out.contains("permanent")
    });
    assert_eq!(worker.terminate(), Some(0));
}

#[test]
fn a_demo_that_cannot_be_is_refused_with_the_line() {
    let mut session = Session::new();
    let event = |id: &str, ty: &str, data: &str| {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/mine","type":"{ty}","data":{data}}}"#)
    };
    for file in [
        String::new(),
        format!("{}\nnot JSON\n", event("1", BRIEF, GOOD)),
        format!("{}\n\n{}\n", event("1", BRIEF, GOOD), event("2", "car.FetchVehicleHistory", "{}")),
        format!("{}\n{}\n", event("1", BRIEF, GOOD), event("2", BRIEF, GOOD)),
        r#"{"specversion":"1.0","source":"/mine","type":"t"}"#.to_owned(),
    ] {
        session.file("mine.ndjson", &file);
        assert_eq!(session.run(&["demo", "--input", "mine.ndjson"]).code, 1);
    }
    session.run(&["demo", "--input", "nowhere.ndjson"]);
    session.run(&["demo", "--config", "pitcrew.toml"]);
    session.run(&["demo", "--commands", "0"]);
    session.is("demo_refused");
}
