//! Handlers that call something outside the database: what a crash leaves in doubt.

use crate::{
    bed::Bed,
    life::Life,
    work::{self, Effect},
};
use pitcrew::{Command, Context, Envelope, Handler, Handlers, Message};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

const PAYMENTS: u32 = 8;
/// The one whose worker dies after the call.
const FATAL: u32 = 3;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Pay {
    n: u32,
}
impl Message for Pay {
    type Kind = Command;
    const TYPE: &'static str = "crash.Pay";
}

/// The world outside, which no transaction takes back.
#[derive(Default)]
struct Bank {
    calls: [AtomicU32; PAYMENTS as usize],
    first_life_is_over: AtomicU32,
}

struct Payer {
    bank: Arc<Bank>,
    /// What this life does behind its call.
    then: Then,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Live,
    Die,
    Hang,
    Panic,
}

impl Handler<Pay> for Payer {
    async fn handle(&self, m: Pay, cx: &mut Context) -> pitcrew::Result {
        self.bank.calls[m.n as usize].fetch_add(1, SeqCst);
        if m.n == FATAL {
            match self.then {
                Then::Live => {}
                Then::Panic => panic!("behind the call"),
                Then::Hang => {
                    self.bank.first_life_is_over.store(1, SeqCst);
                    std::future::pending::<()>().await;
                }
                Then::Die => {
                    // The others are done: only this one is in doubt.
                    while self.bank.calls.iter().map(|calls| calls.load(SeqCst)).sum::<u32>() < PAYMENTS {
                        tokio::task::yield_now().await;
                    }
                    self.bank.first_life_is_over.store(1, SeqCst);
                    loop {
                        std::thread::park();
                    }
                }
            }
        }
        Effect::add(cx, m.n).await
    }
}

fn handlers(bank: &Arc<Bank>, then: Then, in_doubt_is_dead: bool) -> Handlers {
    let handlers = Handlers::new().handle(Payer { bank: bank.clone(), then }).external("bank");
    if in_doubt_is_dead { handlers.in_doubt_is_dead() } else { handlers }
}

async fn send(bed: &Bed, bank: &Arc<Bank>) {
    let messages = (0..PAYMENTS).map(|n| Envelope::of(&Pay { n }, "/crash").unwrap());
    work::send(bed, &handlers(bank, Then::Live, false), messages.collect()).await;
}

fn calls(bank: &Bank) -> Vec<u32> {
    bank.calls.iter().map(|calls| calls.load(SeqCst)).collect()
}

/// A life that dies behind the call, and one that finds what it left.
async fn two_lives(bed: &mut Bed, in_doubt_is_dead: bool) -> Vec<u32> {
    let bank = Arc::new(Bank::default());
    send(bed, &bank).await;
    let first = Life::begin(bed, "first", handlers(&bank, Then::Die, in_doubt_is_dead), work::config(), None);
    let name = first.name.clone();
    first.stops(|| bank.first_life_is_over.load(SeqCst) == 1).await;
    bed.bury(&name).await;
    assert!(bed.count("claim").await > 0, "it was written down that it begins, although it came for the first time");
    let second = Life::begin(bed, "second", handlers(&bank, Then::Live, in_doubt_is_dead), work::config(), None);
    bed.comes_to("outbox", 0).await;
    second.end().await;
    assert_eq!(bed.count("claim").await, 0, "what has its fate is not in doubt any more");
    calls(&bank)
}

#[tokio::test]
async fn what_a_crash_left_in_doubt_is_dead_where_the_handler_says_so_on_sqlite() {
    dead_in_doubt(Bed::sqlite().await).await;
}

#[tokio::test]
async fn what_a_crash_left_in_doubt_is_dead_where_the_handler_says_so_on_postgres() {
    let Some(bed) = Bed::postgres().await else { return };
    dead_in_doubt(bed).await;
}

async fn dead_in_doubt(mut bed: Bed) {
    let calls = two_lives(&mut bed, true).await;
    // Whose commit the crash took with it was called as well, and is in doubt like the one that killed it.
    assert!(calls.iter().all(|times| *times == 1), "nothing is called twice: {calls:?}");
    let dead = bed.rows("select reason, error from {s}dead_letter").await;
    assert!(!dead.is_empty() && dead.iter().all(|row| row[0] == "in_doubt" && row[1].contains("`bank`")), "{dead:?}");
    let effects = Effect::all(&bed).await;
    assert!(!effects.contains_key(&FATAL) && effects.values().all(|times| *times == 1), "{effects:?}");
    assert_eq!(effects.len() + dead.len(), PAYMENTS as usize, "each is done or in doubt");
    bed.drop().await;
}

#[tokio::test]
async fn what_a_crash_left_in_doubt_is_called_again_otherwise_on_sqlite() {
    let mut bed = Bed::sqlite().await;
    let calls = two_lives(&mut bed, false).await;
    assert_eq!(calls[FATAL as usize], 2, "{calls:?}");
    assert_eq!(Effect::all(&bed).await, (0..PAYMENTS).map(|n| (n, 1)).collect());
    assert_eq!(bed.count("dead_letter").await, 0);
    bed.drop().await;
}

/// A shutdown that drops a handler behind its call leaves the same doubt.
#[tokio::test]
async fn what_a_shutdown_dropped_is_in_doubt_as_well() {
    let bed = Bed::sqlite().await;
    let bank = Arc::new(Bank::default());
    send(&bed, &bank).await;
    let mut config = work::config();
    config.worker.drain_timeout = Duration::from_millis(50);
    let first = Life::begin(&bed, "first", handlers(&bank, Then::Hang, true), config, None);
    bed.comes_to("outbox", 1).await;
    assert_eq!(bank.first_life_is_over.load(SeqCst), 1);
    first.end().await;
    let second = Life::begin(&bed, "second", handlers(&bank, Then::Live, true), work::config(), None);
    bed.comes_to("outbox", 0).await;
    second.end().await;
    assert_eq!(calls(&bank), [1; PAYMENTS as usize]);
    assert_eq!(bed.rows("select reason from {s}dead_letter").await, [["in_doubt"]]);
    bed.drop().await;
}

#[tokio::test]
async fn a_panic_behind_the_call_is_in_doubt_and_not_tried_again() {
    let bed = Bed::sqlite().await;
    let bank = Arc::new(Bank::default());
    send(&bed, &bank).await;
    let only = Life::begin(&bed, "only", handlers(&bank, Then::Panic, true), work::config(), None);
    bed.comes_to("outbox", 0).await;
    only.end().await;
    assert_eq!(calls(&bank), [1; PAYMENTS as usize]);
    let dead = bed.rows("select reason, error from {s}dead_letter").await;
    assert!(dead.len() == 1 && dead[0][0] == "in_doubt" && dead[0][1].contains("behind the call"), "{dead:?}");
    bed.drop().await;
}
