//! Each kind of change, as an author would make it: on the schemas of real Rust types, and by hand where schemars writes none.

use super::{
    judge::{Writer, compare},
    verdict::{self, Verdict},
};
use crate::{Command, Context, Event, Handlers, Message};
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The breaks in one direction, one line each.
#[track_caller]
fn breaks(old: &Value, new: &Value, writer: Writer) -> Vec<String> {
    let found = compare(old, new, writer).unwrap();
    found.breaks.into_iter().map(|change| format!("{}: {}", change.at, change.what)).collect()
}

const NONE: [&str; 0] = [];

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

fn closed(mut schema: Value) -> Value {
    schema["additionalProperties"] = json!(false);
    schema
}

/// What it is for the reader of the old, and for the writer of the new; `""`: nothing.
#[track_caller]
fn is(old: &Value, new: &Value, read: &str, written: &str) {
    let found = [Writer::Old, Writer::New].map(|writer| breaks(old, new, writer).join("; "));
    assert_eq!(found, [read, written], "{old} to {new}");
    for writer in [Writer::Old, Writer::New] {
        assert_eq!(breaks(old, old, writer), NONE, "{old} to itself");
        assert_eq!(breaks(new, new, writer), NONE, "{new} to itself");
    }
}

#[test]
fn a_property_that_comes() {
    let (old, text) = (object(json!({ "a": {} }), &["a"]), json!({ "type": "string" }));
    let optional = object(json!({ "a": {}, "b": text }), &["a"]);
    is(&old, &optional, "", "");
    is(&old, &object(json!({ "a": {}, "b": text }), &["a", "b"]), "/properties/b: `b` is new and required", "");
    let refused = "/properties/b: `b` is new, and what was not known was refused";
    is(&closed(old), &closed(optional), "", refused);
}

#[test]
fn a_property_that_goes() {
    let old = object(json!({ "a": {}, "b": {} }), &["a"]);
    let gone = "/properties/a: `a` is gone, and was required";
    is(&old, &object(json!({ "b": {} }), &[]), gone, gone);
    is(&old, &object(json!({ "a": {} }), &["a"]), "", "");
    let refused = "/properties/b: `b` is gone, and what is not known is refused";
    is(&closed(old), &closed(object(json!({ "a": {} }), &["a"])), refused, "");
    // A new name is one that goes and one that comes.
    let old = object(json!({ "yearly_km": {} }), &["yearly_km"]);
    let renamed = object(json!({ "km_a_year": {} }), &["km_a_year"]);
    assert_eq!(breaks(&old, &renamed, Writer::Old).len(), 2);
}

#[test]
fn a_property_that_becomes_required_or_optional() {
    let (free, bound) = (object(json!({ "a": {} }), &[]), object(json!({ "a": {} }), &["a"]));
    is(&free, &bound, "/properties/a: `a` was optional, is required", "");
    is(&bound, &free, "", "/properties/a: `a` was required, is optional");
}

#[test]
fn what_is_not_named() {
    let open = object(json!({}), &[]);
    is(&open, &closed(open.clone()), ": properties that are not named were allowed, are refused", "");
    let map = |ty: &str| json!({ "type": "object", "additionalProperties": { "type": ty } });
    is(&map("integer"), &map("number"), "", "/additionalProperties: type was integer, is number");
}

/// Who may send any other property as a number may send a number under the name that comes.
#[test]
fn a_property_that_comes_where_others_had_a_type() {
    let others = json!({ "type": "object", "additionalProperties": { "type": "integer" } });
    let with = |ty: &str| {
        let mut schema = others.clone();
        schema["properties"] = json!({ "a": { "type": ty } });
        schema
    };
    assert_eq!(breaks(&others, &with("string"), Writer::Old), ["/properties/a: type was integer, is string"]);
    assert_eq!(breaks(&others, &with("integer"), Writer::Old), NONE);
}

#[test]
fn at_least_nothing_is_no_bound() {
    let text = json!({ "type": "string" });
    is(&text, &json!({ "type": "string", "minLength": 0 }), "", "");
    assert_eq!(breaks(&text, &json!({ "type": "string", "minLength": 1 }), Writer::Old).len(), 1);
}

#[test]
fn types() {
    let of = |schema: Value| object(json!({ "a": schema }), &["a"]);
    let ty = |ty: Value| of(json!({ "type": ty }));
    let (was, is_now) = ("/properties/a: type was string, is integer", "/properties/a: type was string, is integer");
    is(&ty(json!("string")), &ty(json!("integer")), was, is_now);
    is(&ty(json!("string")), &ty(json!(["string", "null"])), "", "/properties/a: null is new");
    is(&ty(json!(["string", "null"])), &ty(json!("string")), "/properties/a: null is no longer allowed", "");
    is(&of(json!({})), &ty(json!("string")), "/properties/a: type was anything, is string", "");
}

#[test]
fn values() {
    let of = |values: &[&str]| json!({ "type": "string", "enum": values });
    is(&of(&["a", "b"]), &of(&["a"]), ": the value \"b\" is no longer allowed", "");
    is(&of(&["a"]), &of(&["a", "b"]), "", ": the value \"b\" is new");
    is(&json!({ "type": "string" }), &of(&["a"]), ": any string is no longer allowed", "");
    // With a word of documentation schemars writes the same values in another way.
    let documented = json!({ "oneOf": [
        { "const": "a", "type": "string", "description": "The first." }, { "enum": ["b"], "type": "string" } ] });
    is(&of(&["a", "b"]), &documented, "", "");
}

#[test]
fn bounds_patterns_and_formats() {
    let of = |keyword: &str, value: Value| json!({ "type": "integer", keyword: value });
    let text = |keyword: &str, value: Value| json!({ "type": "string", keyword: value });
    let free = json!({ "type": "integer" });
    is(&of("minimum", json!(0)), &of("minimum", json!(5)), ": the range was 0 to none, is 5 to none", "");
    is(&of("maximum", json!(9)), &free, "", ": the range was none to 9, is none to none");
    is(
        &of("minimum", json!(5)),
        &of("exclusiveMinimum", json!(5)),
        ": the range was 5 to none, is 5 (excluded) to none",
        "",
    );
    is(&text("maxLength", json!(9)), &text("maxLength", json!(5)), ": maxLength was 9, is 5", "");
    is(
        &text("pattern", json!("^a")),
        &text("pattern", json!("^b")),
        ": pattern was \"^a\", is \"^b\"",
        ": pattern was \"^a\", is \"^b\"",
    );
    is(&json!({ "type": "string" }), &text("format", json!("uuid")), ": format was none, is \"uuid\"", "");
    is(&of("multipleOf", json!(6)), &of("multipleOf", json!(3)), "", ": multipleOf was 6, is 3");
    let list = |most: u32| json!({ "type": "array", "items": { "type": "string" }, "maxItems": most });
    is(&list(3), &list(2), ": maxItems was 3, is 2", "");
    // What nobody here understands may not change at all.
    let other = |n: u32| json!({ "type": "array", "contains": { "const": n } });
    assert_eq!(breaks(&other(1), &other(2), Writer::Old).len(), 1);
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema counts")]
struct Car {
    doors: u8,
    year: u32,
    owner: Option<Owner>,
    before: Vec<Owner>,
    state: State,
}
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema counts")]
struct Owner {
    name: String,
    bought_of: Option<Box<Owner>>,
}
#[derive(JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema counts")]
enum State {
    New,
    Used { km: u32 },
}

mod next {
    use super::*;
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema counts")]
    pub(super) struct Car {
        doors: u32,
        year: u16,
        owner: Option<Owner>,
        before: Vec<Owner>,
        state: State,
    }
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema counts")]
    pub(super) struct Owner {
        name: String,
        born: u16,
        bought_of: Option<Box<Owner>>,
    }
    #[derive(JsonSchema)]
    #[serde(tag = "state", rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema counts")]
    pub(super) enum State {
        New,
        Used { km: u32, crashed: bool },
        Scrapped,
    }
}

/// Behind references, in lists, in itself, and in one variant of an enum: each change once, at its place.
#[test]
fn of_real_types_in_depth() {
    let [old, new] = [schema_for!(Car).to_value(), schema_for!(next::Car).to_value()];
    assert_eq!(
        breaks(&old, &new, Writer::Old),
        [
            "/$defs/Owner/properties/born: `born` is new and required",
            "/$defs/State/oneOf/1/properties/crashed: `crashed` is new and required",
            "/properties/year: the range was uint32, is uint16",
        ]
    );
    assert_eq!(
        breaks(&old, &new, Writer::New),
        ["/$defs/State/oneOf/2: `state` \"scrapped\" is new", "/properties/doors: the range was uint8, is uint32"]
    );
    for writer in [Writer::Old, Writer::New] {
        assert_eq!(breaks(&old, &old, writer), NONE);
        assert_eq!(breaks(&new, &new, writer), NONE);
    }
}

/// The file is anybody's: what has no end, or no meaning, is an error.
#[test]
fn what_cannot_be_compared_is_an_error() {
    let fine = json!({ "type": "string" });
    let many: Vec<_> = (0..70).map(|n| json!({ "const": n })).collect();
    for bad in [
        json!({ "$ref": "#" }),
        json!({ "$ref": "#/$defs/A", "$defs": { "A": { "anyOf": [{ "$ref": "#/$defs/A" }] } } }),
        json!({ "$ref": "#/nowhere" }),
        json!({ "$ref": "https://elsewhere/schema" }),
        json!({ "properties": { "a": 5 } }),
        json!({ "allOf": [{ "anyOf": many.clone() }, { "anyOf": many }] }),
        json!(5),
    ] {
        assert!(compare(&bad, &json!({ "properties": { "a": fine } }), Writer::Old).is_err(), "{bad}");
    }
    let deep = (0..100).fold(json!({}), |inner, _| json!({ "allOf": [inner] }));
    assert!(compare(&deep, &fine, Writer::Old).is_err());
}

// ---- what becomes of a type

#[derive(Serialize, Deserialize, JsonSchema)]
struct Sell {
    vin: String,
}
impl Message for Sell {
    type Kind = Command;
    const TYPE: &'static str = "car.Sell";
    const VERSION: u32 = 2;
}
#[derive(Serialize, Deserialize, JsonSchema)]
struct Sold {
    vin: String,
}
impl Message for Sold {
    type Kind = Event;
    const TYPE: &'static str = "car.Sold";
}
async fn sell(_: Sell, _: &mut Context) -> crate::Result {
    Ok(())
}
async fn count(_: Sold, _: &mut Context) -> crate::Result {
    Ok(())
}

fn handlers() -> Handlers {
    Handlers::new().handle(sell).emits::<Sold>()
}

/// The verdict on each type of `handlers`, if it was exported with `changed` in it.
fn verdicts(handlers: &Handlers, change: impl Fn(&mut Map<String, Value>)) -> Vec<(String, Verdict, Vec<String>)> {
    let new = super::exported(handlers).unwrap();
    let mut old = new.clone();
    change(&mut old);
    let judged = verdict::judge(&old, &new, &handlers.contract());
    let breaks = |judged: &verdict::Judged| judged.breaks.iter().map(|told| told.what.clone()).collect();
    judged.iter().map(|judged| (judged.ty.clone(), judged.verdict, breaks(judged))).collect()
}

#[test]
fn the_same_contract_is_unchanged() {
    let verdicts = verdicts(&handlers(), |_| {});
    assert!(
        verdicts.iter().all(|(_, verdict, breaks)| *verdict == Verdict::Unchanged && breaks.is_empty()),
        "{verdicts:?}"
    );
}

/// What senders may leave away a handler must not want; what listeners are sure of an event must have. Not the other way round.
#[test]
fn a_command_and_an_event_break_in_opposite_directions() {
    let verdict = |ty: &str, required: Value| {
        let found = verdicts(&handlers(), |old| old[ty]["required"] = required.clone());
        let index = usize::from(ty == "car.Sold");
        (found[index].1, found[index].2.join("; "))
    };
    assert_eq!(verdict("car.Sell", json!([])), (Verdict::Broken, "`vin` was optional, is required".into()));
    assert_eq!(verdict("car.Sold", json!([])), (Verdict::Compatible, String::new()));
    let more = |ty: &str| {
        let found = verdicts(&handlers(), |old| {
            old[ty]["required"] = json!(["vin"]);
            old[ty]["properties"]["vin"]["maxLength"] = json!(17);
        });
        found[usize::from(ty == "car.Sold")].1
    };
    assert_eq!(more("car.Sell"), Verdict::Compatible, "longer ones are read now, too");
    assert_eq!(more("car.Sold"), Verdict::Broken, "its listeners are sent longer ones than they know of");
    // Who hears its own event must do both.
    let both = handlers().handle(count);
    let found = verdicts(&both, |old| old["car.Sold"]["required"] = json!([]));
    assert_eq!(found[1].1, Verdict::Broken);
}

#[test]
fn a_higher_version_excuses_a_break_and_a_lower_one_is_one() {
    let with = |version: u32| {
        verdicts(&handlers(), |old| {
            old["car.Sell"]["required"] = json!([]);
            old["car.Sell"]["x-pitcrew"]["version"] = json!(version);
        })
    };
    assert_eq!([1, 2, 3].map(|version| with(version)[0].1), [Verdict::Raised, Verdict::Broken, Verdict::Broken]);
    // An export that says no version is no excuse.
    let silent = verdicts(&handlers(), |old| {
        old["car.Sell"]["required"] = json!([]);
        old["car.Sell"].as_object_mut().unwrap().remove("x-pitcrew");
    });
    assert_eq!(silent[0].1, Verdict::Broken);
}

#[test]
fn a_type_that_comes_is_new_and_one_that_goes_is_a_break() {
    let found = verdicts(&handlers(), |old| {
        let sold = old.remove("car.Sold").unwrap();
        old.insert("car.Bought".into(), sold);
    });
    let told: Vec<_> = found.iter().map(|(ty, verdict, _)| (ty.as_str(), *verdict)).collect();
    assert_eq!(told, [("car.Bought", Verdict::Broken), ("car.Sell", Verdict::Unchanged), ("car.Sold", Verdict::New)]);
    for (key, value, what) in
        [("kind", json!("event"), "was a message of kind event"), ("emitted", json!(true), "is no longer sent")]
    {
        let found = verdicts(&handlers(), |old| old["car.Sell"]["x-pitcrew"][key] = value.clone());
        assert_eq!((found[0].1, found[0].2.join("")), (Verdict::Broken, what.to_owned()));
    }
    let found = verdicts(&handlers(), |old| old["car.Sold"]["x-pitcrew"]["handled"] = json!(true));
    assert_eq!((found[1].1, found[1].2.join("")), (Verdict::Broken, "is no longer handled".into()));
}
