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

/// By worker: the name of its runtime's threads.
static PLANS: Mutex<Option<HashMap<String, Armed>>> = Mutex::new(None);

fn with<T>(work: impl FnOnce(&mut HashMap<String, Armed>) -> T) -> T {
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    work(plans.get_or_insert_default())
}

/// The worker whose runtime's threads have this name dies by `plan`. In this process its tasks stop; a process of its own is
/// armed by the environment (`PITCREW_FAULT=after-commit:3`) and kills itself with SIGKILL.
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
        std::future::pending::<()>().await;
    }
}

static PASSED: Mutex<u32> = Mutex::new(0);

fn from_environment() -> Option<Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    *PLAN.get_or_init(|| {
        let text = std::env::var("PITCREW_FAULT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        let point = Point::ALL.into_iter().find(|p| p.name() == name)?;
        Some(Plan { point, nth: nth.parse().ok()? })
    })
}

/// SIGKILL, as an operator or the kernel would: no destructor, no flush.
fn kill_this_process() -> ! {
    let me = std::process::id().to_string();
    let _ = std::process::Command::new("kill").args(["-KILL", &me]).status();
    std::process::abort();
}
