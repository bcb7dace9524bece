//! The armed half of the fault points: which worker dies where.

use super::Point;
use std::{
    collections::HashMap,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Where a worker dies.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The point.
    pub point: Point,
    /// At its how-manieth passing, counted from 1.
    pub nth: u32,
}

#[derive(Debug)]
struct Armed {
    plan: Plan,
    passed: u32,
    dead: bool,
}

/// Whether anybody was ever armed here: if not, a point costs one load, so that a bench measures the worker and not its points.
static ARMED: AtomicBool = AtomicBool::new(false);

/// By worker: the name of its runtime's thread.
static PLANS: Mutex<Option<HashMap<String, Armed>>> = Mutex::new(None);

fn with<T>(work: impl FnOnce(&mut HashMap<String, Armed>) -> T) -> T {
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    work(plans.get_or_insert_default())
}

/// The worker on the thread of this name dies by `plan`: the thread stops for good. Its runtime must be a single-threaded one, or
/// its other threads would go on. A process is armed by its environment (`PITCREW_FAULT=after-commit:3`) and kills itself.
pub fn arm(worker: &str, plan: Plan) {
    with(|plans| plans.insert(worker.to_owned(), Armed { plan, passed: 0, dead: false }));
    ARMED.store(true, Relaxed);
}

/// Whether the worker has died at its point.
pub fn fired(worker: &str) -> bool {
    with(|plans| plans.get(worker).is_some_and(|armed| armed.dead))
}

pub(crate) async fn at(point: Point) {
    if let Some(plan) = from_environment() {
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        *passed += u32::from(plan.point == point);
        if *passed >= plan.nth && plan.point == point {
            kill_this_process();
        }
        return;
    }
    if !ARMED.load(Relaxed) {
        return;
    }
    let dead = with(|plans| {
        let thread = std::thread::current();
        let Some(armed) = thread.name().and_then(|name| plans.get_mut(name)) else { return false };
        armed.passed += u32::from(armed.plan.point == point);
        armed.dead |= armed.plan.point == point && armed.passed >= armed.plan.nth;
        armed.dead
    });
    if dead {
        loop {
            std::thread::park();
        }
    }
}

static PASSED: Mutex<u32> = Mutex::new(0);

fn from_environment() -> Option<Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    *PLAN.get_or_init(|| {
        let text = std::env::var("PITCREW_FAULT").ok()?;
        let plan = parse(&text);
        if plan.is_none() {
            // A worker that nobody kills would look like one that survived.
            eprintln!("PITCREW_FAULT={text} names no fault point: write POINT or POINT:N, e.g. after-commit:3");
            std::process::exit(2);
        }
        plan
    })
}

fn parse(text: &str) -> Option<Plan> {
    let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
    let point = Point::ALL.into_iter().find(|point| point.name() == name)?;
    Some(Plan { point, nth: nth.parse().ok().filter(|nth| *nth > 0)? })
}

/// SIGKILL, as an operator or the kernel would: no destructor, no flush.
fn kill_this_process() -> ! {
    // Every shell knows `kill`; not every machine has a program of that name.
    let _ = std::process::Command::new("sh").args(["-c", "kill -KILL $PPID"]).status();
    std::process::abort();
}
