//! The escape hatch is borrowed from the context: nothing else of it can be used meanwhile.

use pitcrew::{Context, Event, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Greeted;
impl Message for Greeted {
    type Kind = Event;
    const TYPE: &'static str = "demo.Greeted";
}

pub async fn held(cx: &mut Context) -> pitcrew::Result {
    let connection = cx.transaction().await?;
    cx.emit(&Greeted)?; //~ E0499 second mutable borrow
    sqlx::query("select 1").execute(connection).await?;
    Ok(())
}

pub async fn committed(cx: &mut Context) -> pitcrew::Result {
    cx.transaction().await?.commit().await?; //~ E0599 commit
    Ok(())
}
