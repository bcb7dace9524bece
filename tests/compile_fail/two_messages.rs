//! A handler of two messages is registered once for each, by name.

use pitcrew::{Command, Context, Event, Handler, Handlers, Message};
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

pub struct Both;
impl Handler<Greet> for Both {
    async fn handle(&self, _: Greet, _: &mut Context) -> pitcrew::Result {
        Ok(())
    }
}
impl Handler<Greeted> for Both {
    async fn handle(&self, _: Greeted, _: &mut Context) -> pitcrew::Result {
        Ok(())
    }
}

pub fn list() -> Handlers {
    Handlers::new().handle(Both) //~ E0283 type annotations needed
}
