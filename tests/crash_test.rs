//! What authors of handlers test with (`testing::crash_everywhere`) finds what is wrong with a handler, and nothing else.

use chrono::{DateTime, Utc};
use pitcrew::{
    Command, Context, Document, Event, Handler, Handlers, Message,
    testing::{CrashReport, External, Harm, crash_everywhere},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Pay {
    order: String,
}
impl Message for Pay {
    type Kind = Command;
    const TYPE: &'static str = "shop.Pay";
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Paid {
    order: String,
}
impl Message for Paid {
    type Kind = Event;
    const TYPE: &'static str = "shop.Paid";
}

/// How often it was written, and when last: the one must not change by a crash, the other must.
#[derive(Serialize, Deserialize)]
struct Receipt {
    order: String,
    writes: u32,
    at: DateTime<Utc>,
}
impl Document for Receipt {
    const COLLECTION: &'static str = "receipt";
    fn id(&self) -> impl std::fmt::Display {
        &self.order
    }
}

/// What a worker does wrong, or not.
#[derive(Clone)]
enum Way {
    /// The key is the message's.
    Sound,
    /// The key is new in each run.
    NewKey,
    /// The key follows from the attempt: what a redelivery does not change, and a failure does.
    KeyOfAttempt,
    NoKey,
    Harmless,
    /// A mark outside says that it was done, before it is.
    Forgets(Arc<Mutex<HashSet<String>>>),
    /// The first run of the process says something else.
    Differs(Arc<Mutex<u32>>),
    /// It fails at first.
    FailsAtFirst,
    /// From a task that is not the handler's.
    InATask,
}

struct Payer {
    bank: External,
    way: Way,
}

impl Handler<Pay> for Payer {
    async fn handle(&self, m: Pay, cx: &mut Context) -> pitcrew::Result {
        let id = cx.meta().id.clone();
        let mut order = m.order.clone();
        match &self.way {
            Way::Sound => self.bank.call("charge", id).await,
            Way::NewKey => self.bank.call("charge", pitcrew::clock::uuid_v7()).await,
            Way::KeyOfAttempt => self.bank.call("charge", format!("{id}/{}", cx.attempt())).await,
            Way::NoKey => self.bank.call_without_key("charge").await,
            Way::Harmless => self.bank.call_harmless("charge").await,
            Way::Forgets(done) => {
                if !done.lock().unwrap().insert(id.clone()) {
                    return Ok(());
                }
                self.bank.call("charge", id).await;
            }
            Way::Differs(runs) => {
                let mut runs = runs.lock().unwrap();
                *runs += 1;
                order = format!("{order} in run {runs}");
            }
            Way::FailsAtFirst => {
                self.bank.call("charge", id).await;
                if cx.attempt() == 1 {
                    return Err(anyhow::anyhow!("not at first").into());
                }
            }
            Way::InATask => {
                let bank = self.bank.clone();
                tokio::spawn(async move { bank.call("charge", id).await }).await?;
            }
        }
        let at = cx.now();
        let next = |old: Option<Receipt>| Receipt { order: m.order, writes: old.map_or(0, |o| o.writes) + 1, at };
        cx.update(&m_order(&order), next).await?;
        cx.emit(&Paid { order })?;
        Ok(())
    }
}

fn m_order(order: &str) -> String {
    order.split(' ').next().unwrap_or_default().to_owned()
}

/// Another handler behind it, so that points are passed more than once.
async fn hear(m: Paid, cx: &mut Context) -> pitcrew::Result {
    let id = format!("heard-{}", m_order(&m.order));
    let at = cx.now();
    cx.update(&id.clone(), |old: Option<Receipt>| Receipt { order: id, writes: old.map_or(0, |o| o.writes) + 1, at })
        .await?;
    Ok(())
}

fn handlers(way: Way, bank: &External) -> Handlers {
    let payer = Payer { bank: bank.clone(), way };
    Handlers::new().handle(payer).handle(hear).emits::<Paid>()
}

fn killed(way: &Way) -> CrashReport {
    let bank = External::new();
    let report = crash_everywhere(|| handlers(way.clone(), &bank)).watching(&bank).deliver(&pay("o-1")).run();
    println!("{report}");
    report
}

fn pay(order: &str) -> Pay {
    Pay { order: order.into() }
}

fn harms(report: &CrashReport) -> HashSet<Harm> {
    report.findings().iter().map(|finding| finding.harm).collect()
}

#[test]
fn a_sound_handler_survives_a_crash_at_every_point_and_each_of_them_strikes() {
    let report = killed(&Way::Sound);
    report.assert_survived();
    for point in pitcrew::fault::Point::ALL {
        assert!(report.fired(point.name()) > 0, "{} never struck", point.name());
    }
    assert!(report.fired("before-handle") >= 2, "the second handler's passing is another one");
    for place in ["before `charge`", "behind `charge`", "no answer to `charge`"] {
        assert_eq!(report.fired(place), 1, "{place}");
    }
    let text = report.to_string();
    let behind = text.lines().find(|line| line.starts_with("behind `charge`")).unwrap();
    assert!(behind.ends_with("5 of 5         0  charge 2 (1 key)"), "{behind}");
}

#[test]
fn a_key_that_is_new_in_each_run_is_reported() {
    let report = killed(&Way::NewKey);
    assert_eq!(harms(&report), [Harm::NewKey].into());
    let [finding] = report.findings() else { panic!("one finding, seen in many places") };
    assert_eq!(finding.what, "`charge` was called for shop.Pay (message 1) with 2 keys");
    for place in ["after-handle", "before-commit", "behind `charge`"] {
        assert!(finding.places.iter().any(|p| p == place), "{place} is not among {:?}", finding.places);
    }
    let refused = std::panic::catch_unwind(|| report.assert_survived()).unwrap_err();
    let text = refused.downcast_ref::<String>().unwrap();
    assert!(text.contains("cx.meta().id"), "it teaches: {text}");
}

#[test]
fn a_key_that_follows_from_the_attempt_is_reported() {
    let report = killed(&Way::KeyOfAttempt);
    assert_eq!(harms(&report), [Harm::NewKey].into());
    assert_eq!(report.findings()[0].places, ["no answer to `charge`"], "a redelivery is the same attempt");
}

#[test]
fn a_call_without_a_key_is_reported_unless_a_person_decides() {
    let report = killed(&Way::NoKey);
    assert_eq!(harms(&report), [Harm::NoKey].into());
    let bank = External::new();
    let decided = crash_everywhere(|| {
        let payer = Payer { bank: bank.clone(), way: Way::NoKey };
        Handlers::new().handle(payer).external("bank").in_doubt_is_dead().handle(hear).emits::<Paid>()
    });
    let report = decided.watching(&bank).deliver(&pay("o-1")).run();
    println!("{report}");
    report.assert_survived();
    let text = report.to_string();
    let behind = text.lines().find(|line| line.starts_with("behind `charge`")).unwrap();
    assert!(behind.ends_with("1  charge 1"), "in doubt, and not called again: {behind}");
    killed(&Way::Harmless).assert_survived();
}

#[test]
fn a_handler_that_forgets_is_reported() {
    let (done, bank) = (Arc::<Mutex<HashSet<String>>>::default(), External::new());
    let report = crash_everywhere(|| handlers(Way::Forgets(done.clone()), &bank)).watching(&bank);
    let clear = done.clone();
    let report = report.before_each(move || clear.lock().unwrap().clear()).deliver(&pay("o-1")).run();
    println!("{report}");
    assert_eq!(harms(&report), [Harm::Lost].into(), "{report}");
    let finding = |what: &str| report.findings().iter().find(|finding| finding.what.contains(what));
    let event = finding("the message shop.Paid of shop.Pay (message 1) is missing").expect("the event");
    assert!(event.places.contains(&"after-handle".into()), "{event}");
    assert!(!event.places.contains(&"received".into()) && !event.places.contains(&"after-commit".into()), "{event}");
    assert!(finding("the document receipt `o-1` is missing").is_some());
    let call = finding("is done, and `charge` was called 0 times instead of 1").expect("the call");
    assert_eq!(call.places, ["before `charge`"]);
}

#[test]
fn another_result_after_a_crash_is_reported() {
    let (runs, bank) = (Arc::<Mutex<u32>>::default(), External::new());
    let clear = runs.clone();
    let report = crash_everywhere(|| handlers(Way::Differs(runs.clone()), &bank)).deliver(&pay("o-1"));
    let report = report.before_each(move || *clear.lock().unwrap() = 0).run();
    println!("{report}");
    assert_eq!(harms(&report), [Harm::Differs].into());
    let [finding] = report.findings() else { panic!("one finding") };
    let said =
        "the message shop.Paid of shop.Pay (message 1) at /order is \"o-1 in run 2\" instead of \"o-1 in run 1\"";
    assert_eq!(finding.what, said);
}

#[test]
fn a_failure_beside_the_crashes_changes_nothing() {
    killed(&Way::FailsAtFirst).assert_survived();
}

#[test]
fn a_call_from_another_task_is_known_while_one_handler_is_at_work() {
    let report = killed(&Way::InATask);
    report.assert_survived();
    assert_eq!(report.fired("behind `charge`"), 1);
}

async fn refuse(_: Pay, _: &mut Context) -> pitcrew::Result {
    Err(pitcrew::HandlerError::permanent(anyhow::anyhow!("no such order")))
}

#[test]
fn a_message_that_dies_anyway_proves_nothing() {
    let report = crash_everywhere(|| Handlers::new().handle(refuse)).deliver(&pay("o-1")).run();
    assert_eq!(harms(&report), [Harm::Dead].into());
    assert!(report.to_string().contains("no such order"), "{report}");
}

async fn waits_long(m: Pay, cx: &mut Context) -> pitcrew::Result {
    if cx.meta().hop.attempt == 1 {
        return Err(pitcrew::HandlerError::retry_after(Duration::from_secs(30), anyhow::anyhow!("later")));
    }
    cx.emit(&Paid { order: m.order })?;
    Ok(())
}

#[test]
fn waiting_takes_no_time() {
    let handlers = || Handlers::new().handle(waits_long).handle(hear).emits::<Paid>();
    crash_everywhere(handlers).deliver(&pay("o-1")).deliver(&pay("o-2")).run().assert_survived();
}

/// The handler of docs/handlers.md.
struct OfThePage(External);

impl Handler<Pay> for OfThePage {
    async fn handle(&self, m: Pay, cx: &mut Context) -> pitcrew::Result {
        self.0.call("charge", &cx.meta().id).await;
        cx.emit(&Paid { order: m.order })?;
        Ok(())
    }
}

#[test]
fn the_report_of_the_page_is_what_comes_out() {
    let bank = External::new();
    let handlers = || Handlers::new().handle(OfThePage(bank.clone())).emits::<Paid>();
    let report = crash_everywhere(handlers).watching(&bank).deliver(&pay("o-1")).run();
    report.assert_survived();
    assert!(include_str!("../docs/handlers.md").contains(&report.to_string()), "{report}");
}
