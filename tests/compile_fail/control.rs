//! What the other files do wrong, done right.

use pitcrew::{Command, Context, Event, Handler, Handlers, Message, committer::Committed, transport::Delivery};
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

pub async fn greet(_: Greet, cx: &mut Context) -> pitcrew::Result {
    sqlx::query("select 1").execute(cx.transaction().await?).await?;
    cx.emit(&Greeted)?;
    cx.send(&Greet)?;
    Ok(())
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
    Handlers::new().handle(greet).handle::<Greeted>(Both)
}

pub fn settle(delivery: Delivery, proof: Committed) {
    delivery.ack(proof);
}
