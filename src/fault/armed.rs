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

/// Told of a death, on the dying thread.
type Tell = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Armed {
    plan: Option<Plan>,
    passed: HashMap<Point, u32>,
    dead: bool,
    tell: Option<Tell>,
}

impl Armed {
    fn die(&mut self) {
        self.dead = true;
        if let Some(tell) = self.tell.take() {
            tell();
        }
    }
}

/// Whether anybody was ever armed here: if not, a point costs one load, so that a bench measures the worker and not its points.
pub(super) static ARMED: AtomicBool = AtomicBool::new(false);

/// By worker: the name of its runtime's thread.
static PLANS: Mutex<Option<HashMap<String, Armed>>> = Mutex::new(None);

fn with<T>(work: impl FnOnce(&mut HashMap<String, Armed>) -> T) -> T {
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    work(plans.get_or_insert_default())
}

/// The worker on the thread of this name dies by `plan`: the thread stops for good. Its runtime must be a single-threaded one, or
/// its other threads would go on. A process is armed by its environment (`PITCREW_FAULT=after-commit:3`) and kills itself.
pub fn arm(worker: &str, plan: Plan) {
    put(worker, Armed { plan: Some(plan), ..Armed::default() });
}

/// As [`arm`]; without a plan it dies by [`kill`]. Its death is told.
pub(crate) fn arm_and_tell(worker: &str, plan: Option<Plan>, tell: impl FnOnce() + Send + 'static) {
    put(worker, Armed { plan, tell: Some(Box::new(tell)), ..Armed::default() });
}

fn put(worker: &str, armed: Armed) {
    with(|plans| plans.insert(worker.to_owned(), armed));
    ARMED.store(true, Relaxed);
}

/// The worker is dead: its thread stops at its next fault point or call of the memory store. Called on that thread, it never returns.
pub(crate) fn kill(worker: &str) {
    with(|plans| plans.get_mut(worker).map(Armed::die));
    stop_if_dead();
}

/// It has ended by itself: how often it passed each point.
pub(crate) fn disarm(worker: &str) -> HashMap<Point, u32> {
    with(|plans| plans.remove(worker)).map(|armed| armed.passed).unwrap_or_default()
}

/// Never returns on the thread of a worker that is dead.
pub(crate) fn stop_if_dead() {
    if ARMED.load(Relaxed) && with(|plans| mine(plans).is_some_and(|armed| armed.dead)) {
        stop();
    }
}

fn mine(plans: &mut HashMap<String, Armed>) -> Option<&mut Armed> {
    plans.get_mut(std::thread::current().name()?)
}

fn stop() -> ! {
    loop {
        std::thread::park();
    }
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
        let Some(armed) = mine(plans) else { return false };
        let passed = armed.passed.entry(point).or_default();
        *passed += 1;
        if armed.plan.is_some_and(|plan| plan.point == point && plan.nth <= *passed) {
            armed.die();
        }
        armed.dead
    });
    if dead {
        stop();
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
