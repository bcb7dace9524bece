//! Where a line turns yellow, and where red.

use super::{
    queues::{Known, Queue, channel},
    *,
};
use crate::{
    cli::{Globals, doctor::judge::Standing},
    worker::Lag,
};

fn told(place: &'static str, messages: u64, seconds: Option<f64>, consumers: Option<u64>) -> Line {
    let known = Known { consumers, queue: Queue::Counted, keeps_rows: false, stuck: None };
    channel("c", &[(place, Lag { messages, seconds })], &known, &Advice::of(&Globals::default()))
}

#[test]
fn a_queue_is_red_by_its_age_and_where_nobody_tells_it_by_its_depth() {
    let queue = |messages, seconds| told("queue", messages, seconds, Some(2)).standing;
    assert_eq!(queue(9_999, Some(59.0)), Standing::Ok, "many that are young are no harm");
    assert_eq!(queue(1, Some(60.0)), Standing::Warn);
    assert_eq!(queue(1, Some(300.0)), Standing::Bad);
    assert_eq!(queue(0, Some(300.0)), Standing::Ok, "nothing is never late");
    assert_eq!(queue(1_000, None), Standing::Ok);
    assert_eq!(queue(1_001, None), Standing::Bad);
}

#[test]
fn rows_that_could_leave_are_late_sooner_unless_they_are_the_queue() {
    let row = |seconds| told("outbox", 3, Some(seconds), None).standing;
    assert_eq!([9.0, 10.0, 60.0].map(row), [Standing::Ok, Standing::Warn, Standing::Bad]);
    let known = Known { consumers: None, queue: Queue::Counted, keeps_rows: true, stuck: None };
    let retry = [("retry", Lag { messages: 3, seconds: Some(59.0) })];
    assert_eq!(channel("c", &retry, &known, &Advice::of(&Globals::default())).standing, Standing::Ok);
}

#[test]
fn a_queue_that_nobody_listens_to_is_said_to_be_one() {
    let line = told("queue", 1, None, Some(0));
    assert_eq!(line.standing, Standing::Warn);
    assert_eq!(line.says, "c: 1 in queue, for how long the broker does not tell; nobody listens");
    assert_eq!(told("queue", 0, Some(0.0), Some(0)).standing, Standing::Ok, "before the first start nobody does");
}

#[test]
fn builds_side_by_side_and_workers_that_are_gone_are_told() {
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
    let alive = |build: &str, silent| Alive {
        worker: crate::store::WorkerRecord {
            id: clock::uuid_v7(),
            service: "shop".into(),
            place: "host:1".into(),
            build: build.into(),
        },
        started: now - TimeDelta::hours(3),
        silent: std::time::Duration::from_secs(silent),
    };
    let told = |all: Vec<Alive>, waits: bool| {
        let line = workers(&Ok(all), Some(waits), "config check", now, &Advice::of(&Globals::default())).remove(0);
        (line.standing, line.says)
    };
    assert_eq!(told(vec![alive("1", 2)], true), (Standing::Ok, "1 alive: host:1 (build 1, for 3h)".into()));
    let (standing, says) = told(vec![alive("1", 2), alive("2", 2)], false);
    assert!(standing == Standing::Warn && says.contains("builds differ"), "{says}");
    let (standing, says) = told(vec![alive("1", 2), alive("1", 700)], false);
    assert!(standing == Standing::Warn && says.contains("host:1 was last seen 11m ago"), "{says}");
    assert_eq!(told(vec![], false).0, Standing::Warn);
    assert_eq!(told(vec![], true).0, Standing::Bad);
    assert_eq!(told(vec![alive("1", 10)], false).0, Standing::Bad, "it did not end in peace");
    let many = (0..8).map(|_| alive("1", 1)).collect();
    assert!(told(many, false).1.ends_with(", 3 more"));
}
