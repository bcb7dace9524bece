//! A handler may move to another thread at any await, so what it holds there must be able to.

use pitcrew::{Command, Context, Handler, Handlers, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Greet;
impl Message for Greet {
    type Kind = Command;
    const TYPE: &'static str = "demo.Greet";
}

pub async fn holds_an_rc(_: Greet, cx: &mut Context) -> pitcrew::Result {
    let name = Rc::new(String::new());
    cx.transaction().await?;
    drop(name);
    Ok(())
}

pub struct Held;
impl Handler<Greet> for Held {
    async fn handle(&self, _: Greet, cx: &mut Context) -> pitcrew::Result { //~ - cannot be sent between threads
        let name = Rc::new(String::new());
        cx.transaction().await?;
        drop(name);
        Ok(())
    }
}

pub fn list() -> Handlers {
    Handlers::new().handle(holds_an_rc) //~ - cannot be sent between threads
}
