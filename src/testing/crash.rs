//! Test Support: a handler is killed everywhere, and what the world then looks like is compared with what it should look like.
//!
//! The parts: `external.rs` (what the world outside saw), `life.rs` (one worker, on a thread that can stop for good), `world.rs` (what
//! a run left behind, and how two of them differ), `calls.rs` (which repeats do harm), `report.rs` (what the author reads).

mod calls;
mod external;
mod life;
mod report;
mod world;

pub use external::External;
pub use report::{CrashReport, Finding, Harm};

use crate::{
    Envelope, Handlers, Message, clock,
    config::Config,
    fault::{Plan, Point},
};
use chrono::{DateTime, TimeDelta, Utc};
use external::{Call, Side};
use life::{Cell, End};
use report::Row;
use std::{collections::HashMap, sync::Arc};
use world::{Expected, World};

/// Killed at so many passings of one point; messages that pass it more often are enough.
const MOST: u32 = 32;

/// Kills the worker of these handlers at every fault point and around every call outside, one after another; another worker goes on
/// with what that left, and the messages that were not acked come again.
///
/// `handlers` makes the list anew for each worker. A whole test, for a crate that has nothing but
/// `pitcrew = { …, features = ["fault"] }` among its `dev-dependencies`:
///
/// ```
/// # use pitcrew::{Command, Context, Handler, Handlers, Message};
/// use pitcrew::testing::{External, crash_everywhere};
/// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)] struct Pay { order: String }
/// # impl Message for Pay { type Kind = Command; const TYPE: &'static str = "shop.Pay"; }
/// struct Payer { bank: External }   // the client that the test gives it
/// impl Handler<Pay> for Payer {
///     async fn handle(&self, m: Pay, cx: &mut Context) -> pitcrew::Result {
///         self.bank.call("charge", &cx.meta().id).await;
///         Ok(())
///     }
/// }
///
/// let bank = External::new();
/// crash_everywhere(|| Handlers::new().handle(Payer { bank: bank.clone() }).external("bank"))
///     .watching(&bank)
///     .deliver(&Pay { order: "o-1".into() })
///     .run()
///     .assert_survived();
/// ```
pub fn crash_everywhere<B: Fn() -> Handlers>(handlers: B) -> CrashTest<B> {
    CrashTest {
        handlers,
        config: Config::default(),
        external: External::new(),
        given: Vec::new(),
        messages: Vec::new(),
        before_each: Box::new(|| ()),
        real_time: false,
    }
}

/// What [`crash_everywhere`] is about to do.
pub struct CrashTest<B> {
    handlers: B,
    config: Config,
    external: External,
    given: Vec<Arc<Envelope>>,
    messages: Vec<Arc<Envelope>>,
    before_each: Box<dyn Fn()>,
    real_time: bool,
}

impl<B> std::fmt::Debug for CrashTest<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashTest").field("messages", &self.messages).finish_non_exhaustive()
    }
}

/// Where the first worker dies.
#[derive(Clone, Copy, Debug)]
enum Kill {
    Nowhere,
    /// Nobody dies, and each message is delivered once more.
    SentTwice,
    At(Plan),
    /// On what another worker has left, which died at this point.
    Later(Point, Plan),
    /// At its how-manieth call outside, counted from 1.
    Around(u32, Side),
}

/// What came of it.
struct Ran {
    /// Where it struck; `None`: it never came so far.
    fired: Option<String>,
    world: World,
    calls: Vec<Call>,
    /// How often a worker that was not killed passed each point.
    passed: HashMap<Point, u32>,
}

impl<B: Fn() -> Handlers> CrashTest<B> {
    /// With this config in place of the default one.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The calls that this one is told of are watched, and the worker is killed around each of them.
    #[must_use]
    pub fn watching(mut self, external: &External) -> Self {
        self.external = external.clone();
        self
    }

    /// Handled before anybody is killed.
    ///
    /// # Panics
    /// `message` cannot be written as JSON.
    #[must_use]
    pub fn given<M: Message>(mut self, message: &M) -> Self {
        self.given.push(envelope(message));
        self
    }

    /// One of the messages on which the worker dies. They are delivered one after another, each when the one before, and all that
    /// its handler sent, is done.
    ///
    /// # Panics
    /// `message` cannot be written as JSON.
    #[must_use]
    pub fn deliver<M: Message>(mut self, message: &M) -> Self {
        self.messages.push(envelope(message));
        self
    }

    /// Called before the first worker of each run: it makes what is outside as new as the store and the broker are.
    #[must_use]
    pub fn before_each(mut self, make_new: impl Fn() + 'static) -> Self {
        self.before_each = Box::new(make_new);
        self
    }

    /// Time passes as it does. Needed by handlers that call over a network or work on threads of their own. Without it nobody waits:
    /// a minute until a retry, or until a deadline, takes some milliseconds.
    #[must_use]
    pub fn in_real_time(mut self) -> Self {
        self.real_time = true;
        self
    }

    /// Does it: some milliseconds a crash, of which there are a dozen and more for each message. It blocks, and needs no runtime; in a
    /// test that has one, whose servers must go on meanwhile, call it by `tokio::task::spawn_blocking`. Each crash leaves a sleeping
    /// thread behind, until the process of the test ends.
    ///
    /// # Panics
    /// The worker refuses to start, or has something to do that does not end within a minute.
    pub fn run(&self) -> CrashReport {
        let began = clock::now();
        // Twice, an hour apart: what differs between them (times, new IDs) may differ in all others, too.
        let sound = self.cell(Kill::Nowhere, began);
        let later = self.cell(Kill::Nowhere, began + TimeDelta::milliseconds(3_661_500));
        let expected = Expected::of(sound.world, later.world, &sound.calls);
        let mut report = CrashReport::new(&expected, &sound.calls);
        self.judge(&mut report, &expected, "sent twice", Kill::SentTwice, began);
        for point in Point::ALL {
            let times = sound.passed.get(&point).copied().unwrap_or_default();
            // There may be nothing to claim and nothing to sweep but what another dead worker has left.
            let earlier = match point {
                Point::AfterClaim => Some(Point::AfterHandle),
                Point::AfterSweep => Some(Point::AfterCommit),
                _ => None,
            };
            let mut strike = |nth| {
                let plan = Plan { point, nth };
                let kill = earlier.filter(|_| times == 0).map_or(Kill::At(plan), |earlier| Kill::Later(earlier, plan));
                self.judge(&mut report, &expected, point.name(), kill, began)
            };
            let struck = match earlier {
                Some(_) if times == 0 => (1..=MOST).take_while(|nth| strike(*nth)).count(),
                _ => (1..=times.min(MOST)).filter(|nth| strike(*nth)).count(),
            };
            if struck == 0 {
                report.never(point.name());
            }
        }
        let calls = u32::try_from(sound.calls.len()).unwrap_or(MOST).min(MOST);
        for side in [Side::Before, Side::Behind, Side::Unanswered] {
            // Real deadlines are long.
            if side != Side::Unanswered || !self.real_time {
                for nth in 1..=calls {
                    self.judge(&mut report, &expected, "", Kill::Around(nth, side), began);
                }
            }
        }
        report
    }

    /// Whether it struck.
    fn judge(&self, report: &mut CrashReport, expected: &Expected, place: &str, kill: Kill, at: DateTime<Utc>) -> bool {
        let Ran { fired, world, calls, .. } = self.cell(kill, at);
        let Some(struck) = fired else { return false };
        let place = if place.is_empty() { struck } else { place.to_owned() };
        // An attempt that failed is another attempt: what is stored may say so.
        let contents = !matches!(kill, Kill::Around(_, Side::Unanswered));
        let (mut findings, kept, in_doubt) = expected.compare(&world, contents);
        findings.extend(calls::judge(&calls, expected, &world));
        report.add(Row::new(place, kept, in_doubt, &calls), findings);
        true
    }

    /// A world of its own, from its beginning to its end.
    fn cell(&self, kill: Kill, at: DateTime<Utc>) -> Ran {
        let again = matches!(kill, Kill::SentTwice);
        let cell = Cell::new(at, self.real_time, again);
        let live = |messages: &[Arc<Envelope>], plan| {
            cell.live((self.handlers)(), &self.config, messages, &self.external, plan)
        };
        (self.before_each)();
        self.external.watch(None);
        if !self.given.is_empty() {
            live(&self.given, None);
        }
        let before = cell.begin_messages();
        self.external.watch(match kill {
            Kill::Around(nth, side) => Some((nth, side)),
            _ => None,
        });
        let (earlier, plan) = match kill {
            Kill::At(plan) => (None, Some(plan)),
            Kill::Later(earlier, plan) => (Some(earlier), Some(plan)),
            Kill::Nowhere | Kill::SentTwice | Kill::Around(..) => (None, None),
        };
        if let Some(point) = earlier {
            live(&self.messages, Some(Plan { point, nth: 1 }));
        }
        let (died, passed) = match live(&self.messages, plan) {
            End::Died => (true, HashMap::new()),
            End::Idle(passed) => (false, passed),
        };
        if died {
            live(&self.messages, None);
        }
        let struck = match kill {
            Kill::Nowhere | Kill::SentTwice => Some(String::new()),
            Kill::At(_) | Kill::Later(..) => died.then(String::new),
            Kill::Around(..) => self.external.struck(),
        };
        let calls = self.external.take_calls();
        Ran { fired: struck, world: World::of(cell.store(), before, &self.messages), calls, passed }
    }
}

fn envelope<M: Message>(message: &M) -> Arc<Envelope> {
    match Envelope::of(message, "/crash-test") {
        Ok(envelope) => Arc::new(envelope),
        Err(error) => panic!("{} cannot be written as JSON: {error}", M::TYPE),
    }
}
