//! A command asks for work and is sent; an event states a fact and is emitted.

use pitcrew::{Command, Context, Event, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Greet;
impl Message for Greet {
    type Kind = Command;
    const TYPE: &'static str = "demo.Greet";
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Greeted;
impl Message for Greeted {
    type Kind = Event;
    const TYPE: &'static str = "demo.Greeted";
}

pub fn confused(cx: &mut Context) {
    let _ = cx.emit(&Greet); //~ E0271 Event
    let _ = cx.send(&Greeted); //~ E0271 Command
}
