//! The page that a handler author reads: contract, handler with dependencies, list, and tests without services.

use pitcrew::{
    Command, Context, Document, Envelope, Event, Handler, Handlers, Message, OrElse, Row, Setup,
    store::{AttemptKind, Fate},
    testing::TestWorker,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

// ---- the contract

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct GenerateBrief {
    listing: String,
    budget: u32,
}
impl Message for GenerateBrief {
    type Kind = Command;
    const TYPE: &'static str = "car.GenerateBrief";
    const VERSION: u32 = 2;
    fn subject(&self) -> Option<String> {
        Some(self.listing.clone())
    }
    fn upcast(_from: u32, mut old: Value) -> Result<Value, String> {
        old["budget"] = old["price"].take(); // version 1 said `price`
        Ok(old)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct BriefGenerated {
    listing: String,
    score: u32,
}
impl Message for BriefGenerated {
    type Kind = Event;
    const TYPE: &'static str = "car.BriefGenerated";
}

#[derive(Debug, Serialize, Deserialize)]
struct Brief {
    listing: String,
    score: u32,
    runs: u32,
}
impl Document for Brief {
    const COLLECTION: &'static str = "brief";
    const VERSION: u32 = 2;
    fn id(&self) -> impl std::fmt::Display {
        &self.listing
    }
    fn upcast(_from: u32, mut old: Value) -> Result<Value, String> {
        old["runs"] = json!(0); // version 1 did not count them
        Ok(old)
    }
}

#[derive(Serialize)]
struct Pick<'a> {
    listing: &'a str,
    score: u32,
}
impl Row for Pick<'static> {
    const TABLE: &'static str = "shop.pick";
    const KEY: &'static [&'static str] = &["listing"];
    const COLUMNS: &'static [&'static str] = &["listing", "score"];
}

// ---- a handler with a dependency

struct Ranker {
    bonus: u32,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RankerConfig {
    bonus: u32,
}

impl Ranker {
    async fn build(setup: Setup) -> anyhow::Result<Self> {
        Ok(Self { bonus: setup.config::<RankerConfig>()?.bonus })
    }
}

impl Handler<GenerateBrief> for Ranker {
    async fn handle(&self, m: GenerateBrief, cx: &mut Context) -> pitcrew::Result {
        match m.budget {
            0 => Err(anyhow::anyhow!("a budget of nothing buys nothing")).permanent()?,
            429 => Err(anyhow::anyhow!("the provider is busy")).retry_after(Duration::from_secs(7))?,
            500 if cx.attempt() < 3 => return Err(anyhow::anyhow!("the provider is down").into()),
            666 => panic!("a bug"),
            // tidy: sleeps, because it must outlast its deadline.
            999 => tokio::time::sleep(Duration::from_secs(3_600)).await,
            _ => {}
        }
        let score = 7 + self.bonus;
        cx.update(&m.listing, |old: Option<Brief>| Brief {
            listing: m.listing.clone(),
            score,
            runs: old.map_or(0, |brief| brief.runs) + 1,
        })
        .await?;
        cx.emit(&BriefGenerated { listing: m.listing, score })?;
        Ok(())
    }
}

/// A second listener, under a name of its own.
async fn pick(m: BriefGenerated, cx: &mut Context) -> pitcrew::Result {
    let listing: &'static str = Box::leak(m.listing.into_boxed_str());
    cx.put(&Pick { listing, score: m.score })?;
    Ok(())
}

// ---- the escape hatch

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct ReserveCar {
    vin: String,
}
impl Message for ReserveCar {
    type Kind = Command;
    const TYPE: &'static str = "car.Reserve";
}

async fn reserve(m: ReserveCar, cx: &mut Context) -> pitcrew::Result {
    let tx = cx.transaction().await?;
    sqlx::query("update car set reserved = true where vin = $1").bind(&m.vin).execute(&mut *tx).await?;
    cx.emit(&BriefGenerated { listing: m.vin, score: 0 })?; // the borrow of `tx` has ended
    Ok(())
}

fn handlers() -> Handlers {
    Handlers::new()
        .handle_with::<GenerateBrief, _, _, _>(Ranker::build)
        .handle(reserve)
        .named("picks")
        .handle(pick)
        .emits::<BriefGenerated>()
        .writes::<Pick>()
}

fn brief(budget: u32) -> GenerateBrief {
    GenerateBrief { listing: "a".into(), budget }
}

// ---- the tests

#[tokio::test(start_paused = true)]
async fn a_brief_is_written_and_announced() {
    let worker = TestWorker::with_sections(handlers(), json!({ "car.GenerateBrief": { "bonus": 3 } })).await;
    let outcome = worker.deliver(&brief(9)).await;
    outcome.assert_done();
    assert_eq!(outcome.emitted::<BriefGenerated>(), [BriefGenerated { listing: "a".into(), score: 10 }]);
    assert_eq!(worker.document::<Brief>("a").await.unwrap().runs, 1);
    worker.idle().await;
    assert_eq!(worker.rows("shop.pick"), [json!({ "listing": "a", "score": 10 })], "its event was heard");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_changes_nothing() {
    let worker = TestWorker::new(handlers()).await;
    let envelope = Envelope::of(&brief(9), "/shop").unwrap();
    worker.deliver_envelope(envelope.clone()).await.assert_done();
    worker.deliver_envelope(envelope).await.assert_duplicate();
    assert_eq!(worker.document::<Brief>("a").await.unwrap().runs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_comes_again_with_a_higher_attempt_until_it_is_done() {
    let worker = TestWorker::new(handlers()).await;
    let first = worker.deliver(&brief(500)).await;
    first.assert_retry();
    assert_eq!(first.attempt.as_ref().unwrap().kind, AttemptKind::Failure);
    let second = worker.next_attempt(&first).await;
    assert_eq!(second.error(), "the provider is down");
    let third = worker.next_attempt(&second).await;
    third.assert_done();
    assert_eq!((third.envelope.hop.attempt, third.envelope.hop.failures), (3, 2));
    assert_eq!(worker.document::<Brief>("a").await.unwrap().runs, 1, "what failed left nothing behind");
}

#[tokio::test(start_paused = true)]
async fn every_end_has_its_fate() {
    let worker = TestWorker::new(handlers()).await;
    worker.deliver(&brief(0)).await.assert_dead("buys nothing");
    worker.deliver(&brief(0)).await.assert_dead("permanent");

    let later = worker.deliver(&brief(429)).await;
    let (Fate::Retry(at), Some(attempt)) = (&later.fate, &later.attempt) else { panic!("{later:?}") };
    // Asked for 7 s; the next tier of the ladder is 10 s, and earlier than asked it never comes.
    assert_eq!((attempt.kind, (*at - attempt.at).num_seconds()), (AttemptKind::Later, 10));

    let panicked = worker.deliver(&brief(666)).await;
    assert_eq!(panicked.attempt.as_ref().unwrap().kind, AttemptKind::Panic);
    assert!(panicked.error().contains("a bug"), "{}", panicked.error());

    let late = worker.deliver(&brief(999)).await;
    assert_eq!(late.attempt.as_ref().unwrap().kind, AttemptKind::Timeout);

    worker.deliver(&ReserveCar { vin: "x".into() }).await.assert_dead("transaction");
}

#[tokio::test(start_paused = true)]
async fn an_old_version_is_upcast_and_a_newer_one_waits_for_its_build() {
    let worker = TestWorker::new(handlers()).await;
    let mut old = Envelope::of(&brief(0), "/shop").unwrap();
    (old.version, old.data) = (1, r#"{"listing":"a","price":9}"#.into());
    worker.deliver_envelope(old).await.assert_done();

    let mut newer = Envelope::of(&brief(9), "/shop").unwrap();
    newer.version = 3;
    let outcome = worker.deliver_envelope(newer).await;
    assert_eq!(outcome.fate, Fate::Quarantined);
    assert!(outcome.error().contains("version 3 is newer than 2"), "{}", outcome.error());
}

#[tokio::test(start_paused = true)]
async fn an_old_document_is_upcast_when_it_is_read() {
    #[derive(Serialize, Deserialize)]
    struct Brief1 {
        listing: String,
        score: u32,
    }
    impl Document for Brief1 {
        const COLLECTION: &'static str = "brief";
        fn id(&self) -> impl std::fmt::Display {
            &self.listing
        }
    }
    let before =
        TestWorker::new(Handlers::new().handle(async |m: GenerateBrief, cx: &mut Context| -> pitcrew::Result {
            cx.save(&Brief1 { listing: m.listing, score: 1 })?;
            Ok(())
        }))
        .await;
    before.deliver(&brief(9)).await.assert_done();
    let store = before.store().clone();
    before.shutdown().await;

    let now = TestWorker::on(store, handlers(), Default::default()).await;
    now.deliver(&brief(9)).await.assert_done();
    assert_eq!(now.document::<Brief>("a").await.unwrap().runs, 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_list_does_not_declare_is_a_permanent_failure_with_the_fix() {
    let mute = Handlers::new().handle_with::<GenerateBrief, _, _, _>(Ranker::build);
    let worker = TestWorker::new(mute).await;
    worker.deliver(&brief(9)).await.assert_dead(".emits::<");
    assert!(worker.document::<Brief>("a").await.is_none(), "its other writes are gone, too");
}

#[tokio::test]
#[should_panic(expected = "has two handlers")]
async fn one_type_has_one_handler() {
    TestWorker::new(Handlers::new().handle(reserve).handle(reserve)).await;
}

#[tokio::test]
#[should_panic(expected = "[handlers.\"car.GenerateBrief\"]: unknown field `bonsu`")]
async fn a_wrong_key_of_a_handler_is_refused_at_start() {
    TestWorker::with_sections(handlers(), json!({ "car.GenerateBrief": { "bonsu": 3 } })).await;
}

#[tokio::test]
#[should_panic(expected = "start with --store postgres://")]
async fn a_handler_that_needs_postgres_says_so_at_start() {
    TestWorker::new(
        handlers().handle(async |_: Other, _: &mut Context| -> pitcrew::Result { Ok(()) }).needs_postgres(),
    )
    .await;
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Other {}
impl Message for Other {
    type Kind = Command;
    const TYPE: &'static str = "car.Other";
}
