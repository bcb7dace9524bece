//! Canonical Data Model: what the messages look like on the wire, and what may be left out.

use car_workers::recommendation::contract::{
    Brief, Class, Drive, Fuel, GenerateRecommendationBrief, RecommendationBriefGenerated, Weights, Years,
};
use pitcrew::{Document, Message};
use serde_json::json;

#[test]
fn a_command_needs_a_buyer_and_a_distance_only() {
    let command: GenerateRecommendationBrief = serde_json::from_value(json!({
        "brief_id": "b-1", "buyer": { "id": "ada", "name": "Ada" }, "yearly_km": 15_000, "something_newer": true
    }))
    .unwrap();
    assert_eq!((command.top, command.years, command.weights), (3, Years::default(), Weights::default()));
    assert_eq!(command.subject().as_deref(), Some("b-1"));
    assert_eq!(GenerateRecommendationBrief::TYPE, "car.GenerateRecommendationBrief");
    assert_eq!(RecommendationBriefGenerated::TYPE, "car.RecommendationBriefGenerated");
}

#[test]
fn a_command_may_say_everything() {
    let wire = json!({
        "brief_id": "b-1", "buyer": { "id": "ada", "name": "Ada" }, "yearly_km": 15_000,
        "yearly_fuel_budget": { "amount": 1_500, "currency": "EUR" },
        "classes": ["suv", "station_wagon"], "drives": ["all"], "fuels": ["plug_in_hybrid", "electric"],
        "years": { "from": 2012, "to": 2014 }, "makes": ["Volvo"], "avoid_makes": ["BMW"],
        "weights": { "economy": 2.0, "recency": 0.0, "room": 1.0, "performance": 0.0 }, "top": 5
    });
    let command: GenerateRecommendationBrief = serde_json::from_value(wire.clone()).unwrap();
    assert_eq!(command.classes, [Class::Suv, Class::StationWagon]);
    assert_eq!(
        (&command.drives[..], &command.fuels[..]),
        (&[Drive::All][..], &[Fuel::PlugInHybrid, Fuel::Electric][..])
    );
    assert_eq!(serde_json::to_value(&command).unwrap(), wire);
}

#[test]
fn a_weight_that_is_left_out_is_nothing() {
    let weights: Weights = serde_json::from_value(json!({ "economy": 1 })).unwrap();
    assert_eq!(weights, Weights { economy: 1.0, recency: 0.0, room: 0.0, performance: 0.0 });
}

#[test]
fn an_unknown_class_is_refused_with_the_known_ones() {
    let wire = json!({ "brief_id": "b", "buyer": { "id": "a", "name": "A" }, "yearly_km": 1, "classes": ["rocket"] });
    let refused = serde_json::from_value::<GenerateRecommendationBrief>(wire).unwrap_err().to_string();
    assert!(refused.starts_with("unknown variant `rocket`, expected one of `two_seater`, `minicompact`"), "{refused}");
}

#[test]
fn a_brief_counts_its_writes() {
    let brief: Brief = serde_json::from_value(json!({
        "id": "b-1", "buyer": { "id": "ada", "name": "Ada" }, "headline": "", "picks": [], "considered": 0, "fitting": 0,
        "excluded": [], "notes": [], "writes": 0
    }))
    .unwrap();
    assert_eq!(brief.id().to_string(), "b-1");
    let once = brief.clone().written_over(None);
    assert_eq!(once.writes, 1);
    assert_eq!(brief.written_over(Some(once)).writes, 2);
}
