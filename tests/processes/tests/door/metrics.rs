//! Metrics: what happened can be read, under the names that docs/metrics.md lists, and strangers make no series.

use super::client::{House, value};
use serde_json::json;
use std::collections::BTreeSet;

const LISTED: &str = include_str!("../../../../docs/metrics.md");

#[tokio::test]
async fn what_became_of_messages_can_be_read_from_metrics() {
    let mut houses = vec![House::small("").await];
    houses.extend(House::on_postgres("").await);
    for house in houses {
        let done = house.post("/commands/test.Work?wait=20s", &json!({ "n": 1 }), &[]).await;
        assert_eq!(done.body["state"], "done");
        let retried = house.post("/commands/test.Work?wait=20s", &json!({ "n": 2, "failing": 1 }), &[]).await;
        assert_eq!(retried.body["state"], "done");
        let dead = house.post("/commands/test.Work?wait=20s", &json!({ "n": 3, "refused": true }), &[]).await;
        assert_eq!(dead.body["state"], "dead");
        let later = house.post("/commands/test.Work", &json!({ "n": 4, "takes": 60_000 }), &[]).await;
        assert_eq!(later.status, 202);
        let work = ["type=\"test.Work\""];
        let found = async || {
            let text = house.metrics().await;
            // Gathered at an interval.
            (value(&text, "pitcrew_dead_letters", &work) == Some(1.0)
                && value(&text, "pitcrew_handlers_running", &[]) == Some(1.0))
            .then_some(text)
        };
        let text = house.shop.until("gauges", found).await;
        let count = |name: &str, label: &str| value(&text, name, &[work[0], label]);
        assert_eq!(count("pitcrew_deliveries_total", "fate=\"done\""), Some(2.0), "{text}");
        assert_eq!(count("pitcrew_deliveries_total", "fate=\"retry\""), Some(1.0));
        assert_eq!(count("pitcrew_deliveries_total", "fate=\"dead\""), Some(1.0));
        assert_eq!(count("pitcrew_deliveries_total", "reason=\"permanent\""), Some(1.0));
        assert_eq!(count("pitcrew_attempts_total", "kind=\"failure\""), Some(2.0));
        assert_eq!(count("messaging_process_duration_seconds_count", "le"), None);
        assert_eq!(count("messaging_process_duration_seconds_count", "error_type=\"failure\""), Some(2.0));
        assert!(value(&text, "messaging_client_consumed_messages_total", &[]) >= Some(5.0));
        assert!(
            value(&text, "messaging_client_sent_messages_total", &[".commands\",messaging"]) >= Some(5.0),
            "{text}"
        );
        assert!(value(&text, "pitcrew_commit_batch_size_count", &[]) > Some(0.0));
        assert!(value(&text, "pitcrew_commit_duration_seconds_count", &["outcome=\"stored\""]) > Some(0.0));
        assert_eq!(value(&text, "pitcrew_in_flight", &[]), Some(1.0));
        assert_eq!(value(&text, "pitcrew_connection_up", &["to=\"store\""]), Some(1.0));
        assert_eq!(value(&text, "pitcrew_connection_up", &["to=\"broker\""]), Some(1.0));
        assert_eq!(value(&text, "pitcrew_build_info", &["service=\"shop\""]), Some(1.0));
        assert!(value(&text, "pitcrew_lag_seconds", &["place=\"queue\""]).is_some());
        assert!(value(&text, "http_server_request_duration_seconds_count", &["/commands/{of}"]) >= Some(4.0));
        // Each series once, or Prometheus refuses the whole.
        let series: Vec<&str> =
            text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.rsplit_once(' ')?.0)).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len());
        // Both ways: what is there is listed, and what is listed is there or comes with its cause.
        let names: BTreeSet<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        for name in &names {
            assert!(LISTED.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
        }
        let rare = [
            "pitcrew_handler_storm_limit",
            "pitcrew_breaker_reopens_seconds",
            "pitcrew_breaker_open",
            "pitcrew_queue_depth",
            "pitcrew_queue_consumers",
        ];
        for line in LISTED.lines().filter(|line| line.starts_with("| `")) {
            let name = line.split('`').nth(1).unwrap();
            assert!(names.contains(name) || rare.contains(&name), "{name} is listed and not there: {text}");
        }
        house.worker.signal("KILL");
        house.shop.close().await;
    }
}

#[tokio::test]
async fn strangers_make_no_series() {
    let house = House::small("").await;
    let series = async || {
        let text = house.metrics().await;
        text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("http_server")).count()
    };
    house.post("/commands/test.Work?wait=20s", &json!({ "n": 1 }), &[]).await;
    let before = series().await;
    for n in 0..200 {
        assert_eq!(house.post(&format!("/commands/stranger.{n}"), &json!({}), &[]).await.status, 404);
        assert_eq!(house.get(&format!("/stranger/{n}")).await.status, 404);
    }
    assert_eq!(series().await, before);
    let text = house.metrics().await;
    assert!(!text.contains("stranger"), "{text}");
    house.close().await;
}
