//! The contract with whoever sends to these workers and listens to them is `contracts.json`. A break of it fails here; what is
//! compatible is written there by `UPDATE_SNAPSHOTS=1 cargo test -p car-workers --test contracts`, which silences no break.

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn run(arguments: &[&str], file: Option<&Path>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_car-worker"));
    let ran = command.args(arguments).args(file).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ran.status.success(), text(&ran.stdout) + &text(&ran.stderr))
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts.json")
}

/// What `schema check` says against the contract of today with this change made to it.
fn against(change: impl Fn(&mut Value)) -> (bool, String) {
    let mut contracts: Value = serde_json::from_slice(&std::fs::read(kept()).unwrap()).unwrap();
    change(&mut contracts);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("contracts.json");
    std::fs::write(&file, contracts.to_string()).unwrap();
    run(&["schema", "check", "--against"], Some(&file))
}

#[test]
fn no_contract_of_the_cars_breaks() {
    let (fine, told) = run(&["schema", "check", "--against"], Some(&kept()));
    assert!(fine, "{told}\nhandlers/contracts.json is what others rely on: keep to it, or raise VERSION");
    let (_, exported) = run(&["schema", "export"], None);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        return std::fs::write(kept(), exported).unwrap();
    }
    let same = std::fs::read_to_string(kept()).unwrap() == exported;
    assert!(
        same,
        "{told}\nnothing breaks; UPDATE_SNAPSHOTS=1 cargo test -p car-workers --test contracts writes it down"
    );
}

const BRIEF: &str = "car.GenerateRecommendationBrief";

#[test]
fn a_break_ends_with_1_and_says_where_what_and_the_way_out() {
    // As if the mileage had been optional, and the buyer's name had been another.
    let (fine, told) = against(|contracts| {
        let brief = &mut contracts[BRIEF];
        let required = brief["required"].as_array_mut().unwrap();
        required.retain(|name| name != "yearly_km");
        brief["$defs"]["Buyer"]["required"] = json!(["id", "full_name"]);
        brief["$defs"]["Buyer"]["properties"]["full_name"] = json!({ "type": "string" });
    });
    assert!(!fine, "{told}");
    for line in [
        "car.GenerateRecommendationBrief (command, version 1): BROKEN",
        "  break       /properties/yearly_km: `yearly_km` was optional, is required",
        "  break       /$defs/Buyer/properties/name: `name` was optional, is required",
        "  break       /$defs/Buyer/properties/full_name: `full_name` is gone, and was required",
        "  way out     messages of version 1 could not be read: raise VERSION to 2 and let `upcast(1, old)` make a new payload \
         of an old one, or read both (`#[serde(default)]` for what may be missing)",
        "11 types: 1 broken, 10 unchanged",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\nis not in\n{told}");
    }
}

#[test]
fn a_compatible_change_is_told_and_ends_with_0() {
    let (fine, told) = against(|contracts| {
        contracts[BRIEF]["properties"].as_object_mut().unwrap().remove("top");
    });
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(
        (fine, lines),
        (
            true,
            vec![
                "car.GenerateRecommendationBrief (command, version 1): compatible",
                "  compatible  /properties/top: `top` is new",
                "11 types: 1 compatible, 10 unchanged",
            ]
        )
    );
}

/// An event is read by those who listen: what they rely on must stay, and what they do not know must not come.
#[test]
fn a_new_value_in_an_event_is_a_break_and_in_a_command_it_is_none() {
    let without = |ty: &str, definition: &str| {
        against(|contracts| {
            let definition = &mut contracts[ty]["$defs"][definition];
            let key = if definition.get("oneOf").is_some() { "oneOf" } else { "enum" };
            definition[key].as_array_mut().unwrap().pop();
        })
    };
    let (fine, told) = without(BRIEF, "Class");
    assert!(fine && told.contains("is new"), "{told}");
    let (fine, told) = without("car.VehicleHistoryFetched", "EntryKind");
    assert!(!fine && told.contains("the value \"other\" is new"), "{told}");
}

#[test]
fn a_file_that_is_no_contract_is_refused_with_the_way_to_make_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("contracts.json");
    for (text, told) in [
        ("[]", "has no schemas by type; `schema export > FILE` writes such a file"),
        (r#"{"type":"object"}"#, "has no schemas by type"),
        ("not JSON", "as JSON"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (fine, said) = run(&["schema", "check", "--against"], Some(&file));
        assert!(!fine && said.contains(told), "{text}: {said}");
    }
    let (fine, said) = run(&["schema", "check", "--against"], Some(&directory.path().join("nowhere.json")));
    assert!(!fine && said.contains("reading"), "{said}");
}
