//! A worker with a door, and a client in front of it.

use super::WORKER;
use processes::shop::{Process, Shop};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Any free port of this machine.
pub(crate) const DOOR: &str = "\n[http]\nlisten = \"127.0.0.1:0\"\n";

pub(crate) struct House {
    pub(crate) shop: Shop,
    pub(crate) worker: Process,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl House {
    /// On SQLite and the embedded broker.
    pub(crate) async fn small(sections: &str) -> Self {
        Self::of(Shop::on_sqlite(WORKER, "embedded", "").await, sections).await
    }

    /// On Postgres and the embedded broker. `None`, said so: there is no Postgres.
    pub(crate) async fn on_postgres(sections: &str) -> Option<Self> {
        let shop = Shop::on_postgres(WORKER, "embedded", "").await?;
        Some(Self::of(shop, sections).await)
    }

    pub(crate) async fn of(shop: Shop, sections: &str) -> Self {
        let mut worker = shop.start_with(&format!("{DOOR}{sections}"));
        let url = worker.door().await;
        worker.is_at_work().await;
        car_workers::http::use_ring();
        let http = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
        let house = Self { shop, worker, url, http };
        // At work is said before the first subscription stands.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let ready = house.get("/readyz").await;
            if ready.status == 200 {
                return house;
            }
            assert!(std::time::Instant::now() < until, "{}", ready.body);
            pitcrew::testing::poll_pause().await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(self.http.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.url)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request).await
    }

    pub(crate) async fn ask(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the door answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, headers, body }
    }

    /// The metrics, as lines.
    pub(crate) async fn metrics(&self) -> String {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200);
        answer.body.as_str().expect("text").to_owned()
    }

    pub(crate) async fn close(self) {
        self.worker.stop().await;
        self.shop.close().await;
    }
}

/// The value of the first series whose name and labels hold all of these.
pub(crate) fn value(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let lines = metrics.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|l| line.contains(l))
    });
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).reduce(|sum: f64, one: f64| sum + one)
}

pub(crate) fn sha256(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
