//! The audit sink of a real worker: it takes what retention has passed at once, and what it does not take is kept and counted.

use super::{
    WORKER,
    client::{House, value},
};
use chrono::TimeDelta;
use pitcrew::{
    Envelope, clock,
    store::{Audit, AuditFilter, Batch, Effects, Fate, Finished, Span},
};
use processes::shop::Shop;
use std::{path::Path, sync::Arc, time::Duration};

/// What retention has passed: a message, and an action.
async fn leave_something_old(shop: &Shop) {
    let now = clock::now();
    let mut envelope = Envelope::new("test.Work", "/test", "{}");
    envelope.id = "order-1".into();
    let message = Finished {
        consumer: "test.Work".into(),
        subscription: shop.commands().as_str().into(),
        payload_hash: envelope.payload_hash(),
        envelope: Arc::new(envelope),
        fate: Fate::Done,
        fenced: true,
        operation: None,
        effects: Effects::default(),
        attempt: None,
        letter: None,
        row: None,
        claimed: false,
        duration: Duration::from_millis(3),
        at: now - TimeDelta::days(40),
    };
    let messages = [message];
    let batch = Batch { worker: clock::uuid_v7(), messages: &messages, confirmed: &[] };
    shop.store.commit(&batch).await.expect("it is stored");
    let action = Audit {
        actor: "ada".into(),
        action: "declare".into(),
        target: "mq/cars".into(),
        reason: "topology apply".into(),
        at: now - TimeDelta::days(500),
        bodies: None,
    };
    shop.store.record_action(&action).await.expect("it is recorded");
}

/// Old messages and actions that the store still has.
async fn left(shop: &Shop) -> (usize, usize) {
    let old = clock::now() - TimeDelta::days(30);
    let span = Span { since: chrono::DateTime::UNIX_EPOCH, until: old };
    let rows = shop.store.handled(&span, None, 10).await.expect("it answers");
    let trail = shop.store.audit_trail(&AuditFilter::default(), 10).await.expect("it answers");
    (rows.len(), trail.iter().filter(|audit| audit.at < old).count())
}

fn lines(folder: &Path) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for file in std::fs::read_dir(folder).expect("the folder is read") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("it is read");
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn what_the_sink_does_not_take_is_counted_and_what_it_takes_leaves() {
    let mut shops = vec![Shop::on_sqlite(WORKER, "embedded", "").await];
    shops.extend(Shop::on_postgres(WORKER, "embedded", "").await);
    for shop in shops {
        leave_something_old(&shop).await;
        // A folder in which nobody can make a file.
        let house = House::of(shop, "[audit]\nsink = \"/proc\"\n").await;
        let unexported = async |wanted: f64| {
            let counted = value(&house.metrics().await, "pitcrew_audit_unexported", &[]);
            (counted == Some(wanted)).then_some(())
        };
        house.shop.until("the count", async || unexported(2.0).await).await;
        assert_eq!(left(&house.shop).await, (1, 1));
        let House { shop, worker, .. } = house;
        worker.stop().await;

        let folder = tempfile::tempdir().expect("a folder");
        let house = House::of(shop, &format!("[audit]\nsink = {:?}\n", folder.path())).await;
        house.shop.until("the end", async || (left(&house.shop).await == (0, 0)).then_some(())).await;
        let lines = lines(folder.path());
        let [action, message] = &lines[..] else { panic!("{lines:?}") };
        assert!(action.contains("\"topology apply\"") && message.contains("\"order-1\""), "{lines:?}");
        assert_eq!(value(&house.metrics().await, "pitcrew_audit_unexported", &[]), Some(0.0));
        house.close().await;
    }
}
