//! Message Dispatcher: the workers fit the runtime, and their contract can be exported without a connection.

use car_workers::notification::Notifier;
use car_workers::recommendation::{Recommender, contract::RecommendationBriefGenerated};
use pitcrew::Handlers;

#[test]
fn the_contract_of_both_workers_is_exported() {
    let handlers = Handlers::new()
        .handle_with(Recommender::build)
        .handle_with(Notifier::<RecommendationBriefGenerated>::build)
        .emits::<RecommendationBriefGenerated>();
    let schemas = handlers.schemas();
    let types: Vec<_> = schemas.keys().map(ToString::to_string).collect();
    assert_eq!(types, ["car.GenerateRecommendationBrief", "car.RecommendationBriefGenerated"]);
    let command = serde_json::to_value(&schemas["car.GenerateRecommendationBrief"]).unwrap();
    assert_eq!(command["required"], serde_json::json!(["brief_id", "buyer", "yearly_km"]));
    assert!(command["description"].as_str().unwrap().starts_with("\"Which cars should this buyer look at?\""));
}
