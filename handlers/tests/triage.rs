//! What operators do with many dead letters, on the real binary beside a real worker: on SQLite always, on Postgres where there is one.

#[path = "triage/house.rs"]
mod house;

use house::{House, Ran};
use pitcrew::store::{LetterState, ReplayOutcome, ReplayState, WorkerRecord};
use serde_json::Value;

/// A case on each store.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let house = super::House::on_sqlite().await;
                super::$case(&house).await;
                house.drop().await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(house) = super::House::on_postgres().await else { return };
                super::$case(&house).await;
                house.drop().await;
            })*
        }
    };
}

on_both! {
    a_dry_run_tells_each_group_and_changes_nothing
    a_canary_that_dies_stops_the_job_and_whoever_resumes_it_knows
    a_job_killed_in_the_middle_and_resumed_sends_each_letter_once
    an_interrupted_job_pauses_and_goes_on
    a_job_that_has_sent_everything_has_ended_whoever_waits_for_it
    a_job_without_a_worker_says_so_and_does_not_wait_for_ever
    what_dies_again_carries_the_replay_and_a_later_one_takes_its_place
    what_was_edited_is_sent_in_place_of_the_letter
    an_edit_that_is_wrong_is_told_whole_and_kept
    the_editor_of_the_environment_is_used
}

const ALL: [&str; 4] = ["dead", "replay", "--all", "--yes"];

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

async fn a_dry_run_tells_each_group_and_changes_nothing(house: &House) {
    let good = house.die(3, true).await;
    let bad = house.die(2, false).await;
    let before = house.rows().await;
    let ran = house.run(&["dead", "replay", "--all", "--dry-run", "--canary", "2", "--rate", "30/m"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("COUNT") && lines[1].starts_with('3') && lines[2].starts_with('2'), "{}", ran.out);
    assert_eq!(
        lines[3..],
        ["a dry run: nothing was done; without --dry-run: replay 5 letters, 2 of them first, at most one in 2s; \
          it stops when more than 10% failed"]
    );
    let told = json(&house.run(&["dead", "replay", "--all", "--dry-run", "--json"]).await);
    let would: Vec<&str> = told["would"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(would, good.iter().chain(&bad).collect::<Vec<_>>(), "in the order in which they died");
    assert_eq!(told["groups"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(house.rows().await, before, "nothing changed");
}

async fn a_canary_that_dies_stops_the_job_and_whoever_resumes_it_knows(house: &House) {
    let bad = house.die(1, false).await;
    let good = house.die(20, true).await;
    let worker = house.worker().await;
    let ran = house.run(&[&ALL[..], &["--canary", "1", "--json", "--note", "is it mended?"]].concat()).await;
    let told = json(&ran);
    assert_eq!((ran.code, &told["state"]), (1, &Value::from("stopped")), "{ran:?}");
    assert_eq!(told["why"], "1 of the 1 that went first died again, more than 10%");
    let id = told["replay"].as_str().unwrap().to_owned();
    assert_eq!((&told["tally"]["dead"], &told["tally"]["planned"]), (&Value::from(1), &Value::from(20)), "{told}");
    let first = &told["letters"][0];
    assert_eq!(
        (&first["id"], &first["outcome"], &first["attempt"]),
        (&bad[0].as_str().into(), &"dead".into(), &2.into())
    );
    assert_eq!(first["reason"], "invalid_payload");
    for id in &good {
        assert_eq!(house.letters(id).await[0].state, LetterState::Dead, "it was not touched");
    }
    // Whoever resumes it has seen that, so it is not held against the others; the next is a canary again.
    let ran = house.run(&["dead", "replay", "--resume", &id[..13]]).await;
    assert_eq!(ran.code, 1, "one of them is dead again: {ran:?}");
    assert!(ran.out.contains(&format!("replay {id}  ended\n21 of 21 sent: 20 done, 1 dead again\n")), "{}", ran.out);
    for id in &good {
        assert_eq!(house.attempt_of(id).await, (2, "done".into()));
    }
    // Ended is ended, and there is nothing like it left but the one that died again.
    let before = house.rows().await;
    assert_eq!(house.run(&["dead", "replay", "--resume", &id]).await.out, ran.out);
    assert_eq!(house.rows().await, before);
    let listed = house.run(&["dead", "replays"]).await.out;
    assert!(
        listed.contains(&id) && listed.contains("20 done, 1 dead again") && listed.contains("is it mended?"),
        "{listed}"
    );
    worker.terminate().await;
}

async fn a_job_killed_in_the_middle_and_resumed_sends_each_letter_once(house: &House) {
    let ids = house.die(40, true).await;
    let worker = house.worker().await;
    let mut job = house.start(&[&ALL[..], &["--rate", "20/s"]].concat());
    let replay = house
        .until("some were sent", async || {
            let replay = house.replay().await?;
            (house.tally(&replay).await.sent() >= 5).then_some(replay)
        })
        .await;
    job.signal("KILL");
    assert_eq!(job.ends().await.code, -9);
    let tally = house.tally(&replay).await;
    assert!(tally.sent() < 40 && tally.planned > 0, "it was killed in the middle: {tally:?}");
    assert_eq!(house.replay().await.map(|replay| replay.state), Some(ReplayState::Running));
    let ran = house.run(&["dead", "replay", "--resume", &replay.id.to_string()]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("40 of 40 sent: 40 done\n"), "{}", ran.out);
    for id in &ids {
        assert_eq!(house.attempt_of(id).await, (2, "done".into()), "not forgotten, and not twice");
        let history = house.history(id).await;
        assert_eq!((history.audit.len(), history.letters.len()), (1, 1), "{id}");
        assert_eq!(history.replays[0].outcome, ReplayOutcome::Done);
    }
    let again = house.run(&ALL).await;
    assert_eq!((again.code, again.out.as_str()), (0, "replayed 0 letters\n"), "twice does nothing more");
    worker.terminate().await;
}

async fn an_interrupted_job_pauses_and_goes_on(house: &House) {
    house.die(20, true).await;
    let worker = house.worker().await;
    let mut job = house.start(&[&ALL[..], &["--rate", "2/s", "--config", "pitcrew.toml"]].concat());
    let replay = house
        .until("some were sent", async || {
            let replay = house.replay().await?;
            (house.tally(&replay).await.sent() >= 2).then_some(replay)
        })
        .await;
    // Two do not run one job.
    let other = house.run(&["dead", "replay", "--resume", &replay.id.to_string()]).await;
    assert!(other.code == 1 && other.err.contains("another process runs this replay"), "{other:?}");
    job.signal("INT");
    let ended = job.ends().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    // With what was typed here: another configuration has another database.
    let again = format!("go on with: car-worker dead replay --resume {} --config pitcrew.toml\n", replay.id);
    assert!(ended.out.contains("  paused: interrupted\n") && ended.out.contains(&again), "{ended:?}");
    assert!(ended.err.contains(" of 20 sent: "), "progress is told: {ended:?}");
    let words: Vec<&str> = again.trim().split(' ').skip(4).collect();
    let ran = house.run(&words).await;
    assert!(ran.code == 0 && ran.out.contains("20 of 20 sent: 20 done\n"), "{ran:?}");
    worker.terminate().await;
}

async fn a_job_that_has_sent_everything_has_ended_whoever_waits_for_it(house: &House) {
    house.die(3, true).await;
    // Alive, as far as anybody knows, and it takes nothing.
    let worker = WorkerRecord {
        id: pitcrew::clock::uuid_v7(),
        service: "car-worker".into(),
        place: "nowhere".into(),
        build: "0".into(),
    };
    house.store.start_worker(&worker, pitcrew::clock::now()).await.unwrap();
    let mut job = house.start(&ALL);
    let replay = house
        .until("all were sent", async || {
            let replay = house.replay().await?;
            (house.tally(&replay).await.sent() == 3).then_some(replay)
        })
        .await;
    job.signal("INT");
    let ended = job.ends().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.starts_with(&format!("replay {}  ended\n3 of 3 sent: 3 waiting\n", replay.id)), "{ended:?}");
    assert!(!ended.out.contains("--resume"), "there is nothing to go on with: {ended:?}");
}

async fn a_job_without_a_worker_says_so_and_does_not_wait_for_ever(house: &House) {
    let few = house.die(2, true).await;
    let ran = house.run(&ALL).await;
    assert_eq!(ran.code, 0, "they are sent: {ran:?}");
    assert!(ran.out.contains("2 of 2 sent: 2 waiting\n"), "{}", ran.out);
    assert!(ran.out.ends_with("no worker is running: what was sent waits for one\n"), "{}", ran.out);
    house.die(15, true).await;
    let ran = house.run(&ALL).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("  paused: no worker is running\n10 of 15 sent: 10 waiting, 5 not sent\n"), "{}", ran.out);
    let ran = house.run(&[&ALL[..], &["--canary", "1"]].concat()).await;
    assert!(ran.out.contains("  paused: no worker is running\n1 of 5 sent: 1 waiting, 4 not sent\n"), "{}", ran.out);
    // What the second job had not sent the third one has: each says so of its letters.
    let worker = house.worker().await;
    let ids: Vec<String> = house.replays().await.iter().map(|replay| replay.id.to_string()).collect();
    let [third, second, _first] = &ids[..] else { panic!("{ids:?}") };
    let ran = house.run(&["dead", "replay", "--resume", third]).await;
    assert!(ran.code == 0 && ran.out.contains("5 of 5 sent: 5 done\n"), "{ran:?}");
    let ran = house.run(&["dead", "replay", "--resume", second]).await;
    assert!(ran.code == 0 && ran.out.contains("10 of 15 sent: 10 done, 5 passed over\n"), "{ran:?}");
    assert!(ran.out.contains("it is replayed already"), "{}", ran.out);
    assert_eq!(house.attempt_of(&few[0]).await, (2, "done".into()));
    worker.terminate().await;
}

async fn what_dies_again_carries_the_replay_and_a_later_one_takes_its_place(house: &House) {
    let ids = house.die(2, false).await;
    let worker = house.worker().await;
    let ran = house.run(&ALL).await;
    assert!(ran.code == 1 && ran.out.contains("2 of 2 sent: 2 dead again\n"), "{ran:?}");
    let first = house.replay().await.expect("a job").id.to_string();
    let attributes = async |attempt: u32| {
        let letters = house.letters(&ids[0]).await;
        let letter = letters.iter().find(|letter| letter.key.attempt == attempt).expect("it died again").clone();
        serde_json::from_str::<Value>(&letter.attributes).expect("JSON")
    };
    assert_eq!(attributes(2).await["pitcrew-replay"], first.as_str());
    let explained = house.run(&["explain", &ids[0]]).await.out;
    assert!(explained.contains("attempt 2 is part of a replay of many") && explained.contains(&first), "{explained}");
    let told = json(&house.run(&["explain", &ids[0], "--json"]).await);
    assert_eq!(told["replays"][0]["replay"], first.as_str(), "{told}");
    // Alone it belongs to no job.
    house.run(&["dead", "replay", &ids[0]]).await;
    house.until("it died a third time", async || (house.letters(&ids[0]).await.len() == 3).then_some(())).await;
    assert_eq!(attributes(3).await.get("pitcrew-replay"), None);
    // And a refused resume tells what there is.
    let ran = house.run(&["dead", "replay", "--resume", "nothing-like-it"]).await;
    assert!(ran.code == 1 && ran.err.contains("`dead replays` shows what there is"), "{ran:?}");
    worker.terminate().await;
}

// ---- an edit

async fn what_was_edited_is_sent_in_place_of_the_letter(house: &House) {
    let id = house.die(1, false).await.remove(0);
    let before: Value = serde_json::from_slice(&house.letters(&id).await[0].payload).unwrap();
    let mut after = before.clone();
    after["weights"]["economy"] = 1.into();
    after["note"] = "a field that old readers pass over".into();
    std::fs::write(house.directory.path().join("mended.json"), serde_json::to_vec_pretty(&after).unwrap()).unwrap();
    let rows = house.rows().await;
    let edit = ["dead", "edit", &id, "--data", "mended.json", "--as", "ada", "--note", "economy was a word"];
    let changes = "+ /note: \"a field that old readers pass over\"\n";
    let changes = format!("- /weights/economy: \"much\"\n+ /weights/economy: 1\n{changes}");
    let ran = house.run(&[&edit[..], &["--dry-run"]].concat()).await;
    assert!(ran.code == 0 && ran.out.starts_with(&changes) && ran.out.contains("nothing was done"), "{ran:?}");
    let ran = house.run(&edit).await;
    assert!(ran.code == 2 && ran.err.contains("dead edit asks before it sends"), "there is no terminal: {ran:?}");
    assert_eq!(house.rows().await, rows, "nothing was done yet");

    let ran = house.run(&[&edit[..], &["--yes"]].concat()).await;
    let new =
        ran.out.rsplit_once("sent as ").and_then(|(_, told)| told.split(';').next()).unwrap_or_default().to_owned();
    assert!(ran.code == 0 && ran.out.starts_with(&changes) && new.len() == 36, "{ran:?}");
    assert_eq!(house.letters(&id).await[0].state, LetterState::Discarded);
    let sent = house.history(&new).await.outbox.remove(0).row.envelope;
    assert_eq!((sent.causation_id.as_ref(), sent.correlation_id.as_ref()), (Some(&id), Some(&id)));
    assert_eq!((sent.hop.attempt, sent.source.as_str()), (1, "/shop"));
    let worker = house.worker().await;
    house.until("it is done", async || (house.history(&new).await.inbox.first()?.fate == "done").then_some(())).await;
    worker.terminate().await;

    let audit = json(&house.run(&["audit", "list", "--json", "--who", "ada"]).await);
    assert_eq!((&audit["action"], &audit["target"]), (&Value::from("edit"), &Value::from(id.as_str())), "{audit}");
    assert_eq!(audit["reason"], format!("replaced by {new}: economy was a word"));
    assert_eq!((&audit["before"], &audit["after"]), (&before, &after), "both payloads are kept");
    let explained = house.run(&["explain", &id]).await.out;
    assert!(explained.contains(&format!("dead: discarded by ada: replaced by {new}")), "{explained}");
    assert!(!house.run(&["explain", &id, "--json"]).await.out.contains("much"), "a payload is in the audit alone");
    let again = house.run(&[&edit[..], &["--yes"]].concat()).await;
    assert!(again.code == 1 && again.err.contains("it is discarded already"), "{again:?}");
}

async fn an_edit_that_is_wrong_is_told_whole_and_kept(house: &House) {
    let id = house.die(1, false).await.remove(0);
    let rows = house.rows().await;
    let wrong = r#"{"brief_id":7,"buyer":{"id":"1","name":"Ada"},"weights":{"economy":"much"},"top":3,"yearly_km":1}"#;
    let ran = house.with_input(wrong, &["dead", "edit", &id, "--data", "-", "--yes"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    for place in ["2 mistakes", "  /brief_id: 7 is not", "  /weights/economy: \"much\" is not"] {
        assert!(ran.err.contains(place), "{place}: {}", ran.err);
    }
    let (_, kept) = ran.err.trim().rsplit_once("--data ").expect("where it is kept");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), wrong, "nothing typed is lost");
    std::fs::remove_file(kept).unwrap();
    let told = json(&house.with_input(wrong, &["dead", "edit", &id, "--data", "-", "--yes", "--json"]).await);
    assert_eq!(told["errors"].as_array().map(Vec::len), Some(2), "{told}");
    for (wrong, why) in [("{", "is not JSON"), (r#"{"brief_id":"\u0000"}"#, "NUL")] {
        let ran = house.with_input(wrong, &["dead", "edit", &id, "--data", "-", "--yes"]).await;
        assert!(ran.code == 1 && ran.err.contains(why) && ran.err.contains("what was typed is kept"), "{ran:?}");
    }
    assert_eq!(house.rows().await, rows);
    assert_eq!(house.run(&["dead", "edit", "nothing-like-it", "--yes"]).await.code, 1);
}

async fn the_editor_of_the_environment_is_used(house: &House) {
    let id = house.die(1, false).await.remove(0);
    let rows = house.rows().await;
    let edit = async |editor: &str, more: &[&str]| {
        let mut command = house.command(&[&["dead", "edit", &id], more].concat());
        command.env("EDITOR", editor).env("TMPDIR", house.directory.path());
        Ran::from(command.output().unwrap())
    };
    let kept = || {
        let files = std::fs::read_dir(house.directory.path()).unwrap().filter_map(|entry| entry.ok());
        files.filter(|file| file.file_name().to_string_lossy().starts_with("pitcrew-edit-")).count()
    };
    let ran = edit("true", &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "nothing was changed, so nothing was done\n"), "{ran:?}");
    let ran = edit("false", &[]).await;
    assert!(
        ran.code == 1 && ran.err.contains("the editor `false` ended with exit status: 1: nothing was done\n"),
        "{ran:?}"
    );
    let ran = house.run(&["dead", "edit", &id]).await;
    assert!(ran.code == 1 && ran.err.contains("set VISUAL or EDITOR"), "{ran:?}");
    assert_eq!((house.rows().await, kept()), (rows.clone(), 0));
    // Half of it typed, and then it crashed; and what is wrong.
    let ran = edit("f() { echo half >> $1; return 3; }; f", &[]).await;
    assert!(ran.code == 1 && ran.err.contains("what was typed is kept in "), "{ran:?}");
    let ran = edit("sed -i s/much/more/", &["--yes"]).await;
    assert!(ran.code == 1 && ran.err.contains("/weights/economy: \"more\" is not"), "{ran:?}");
    assert_eq!((house.rows().await, kept()), (rows, 2));
    let ran = edit("sed -i 's/\"much\"/2/'", &["--yes"]).await;
    assert!(ran.code == 0 && ran.out.contains("+ /weights/economy: 2\nsent as "), "{ran:?}");
    assert_eq!(kept(), 2, "what was sent is not kept beside");
    assert_eq!(house.letters(&id).await[0].state, LetterState::Discarded);
}
