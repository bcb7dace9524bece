//! What handles nothing is told what is missing.

use pitcrew::{Command, Handlers, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Greet;
impl Message for Greet {
    type Kind = Command;
    const TYPE: &'static str = "demo.Greet";
}

pub struct Nothing;

pub fn list() -> Handlers {
    Handlers::new().handle::<Greet>(Nothing) //~ E0277 does not handle
}
