//! What all telemetry costs a real worker on Postgres: the same commands with nothing measured by anybody, and with metrics scraped,
//! pushed, and spans pushed to a collector on the same cores.
//!
//! `cargo bench -p processes --bench telemetry [-- ROUNDS]`; wants `PITCREW_POSTGRES_URL`. Arms take turns; each has a database schema of its
//! own, and afterwards every command and its event must have one effect.

use pitcrew::sqlx::{self, AssertSqlSafe};
use processes::{Work, shop::Shop};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Each sends an event, which is handled too.
const COMMANDS: u32 = 20_000;
const ROUNDS: usize = 3;
const ARMS: [(&str, Option<f64>); 3] =
    [("off", None), ("metrics, one trace in ten (the default)", Some(0.1)), ("metrics, every trace", Some(1.0))];

/// Takes whatever is pushed: what a collector does with it is not ours to measure.
async fn collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take(stream));
        }
    });
    url
}

async fn take(mut stream: TcpStream) {
    let mut held = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !matches!(stream.read_buf(&mut held).await, Ok(read) if read > 0) {
                return;
            }
        };
        let head = String::from_utf8_lossy(&held[..end]).to_lowercase();
        let length = head.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.and_then(|length| length.trim().parse().ok()).expect("a length");
        while held.len() < end + length {
            if !matches!(stream.read_buf(&mut held).await, Ok(read) if read > 0) {
                return;
            }
        }
        held.drain(..end + length);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// Asks for `/metrics` as Prometheus does, three times as often as it is told to in deploy/.
async fn scrape(door: String) {
    let address = door.trim_start_matches("http://").to_owned();
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        let Ok(mut stream) = TcpStream::connect(&address).await else { return };
        let request = b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(request).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        if text.is_empty() {
            return; // the worker ends
        }
    }
}

/// Messages done a second, between the first and the last.
async fn rate(collector: &str, sample: Option<f64>) -> Option<f64> {
    let shop = Shop::on_postgres(env!("CARGO_BIN_EXE_test-worker"), "embedded", "").await?;
    let settings = sample.map_or("\n[http]\nlisten = \"\"\n".to_owned(), |sample| {
        format!(
            "\n[http]\nlisten = \"127.0.0.1:0\"\n[telemetry]\nendpoint = {collector:?}\nsample = {sample:?}\ninterval = \"5s\"\n"
        )
    });
    for wave in 0..COMMANDS / 1_000 {
        shop.send((wave * 1_000..(wave + 1) * 1_000).map(|n| Work { n, ..Work::default() })).await;
    }
    let mut worker = shop.start_with(&settings);
    let scraping = match sample {
        Some(_) => Some(tokio::spawn(scrape(worker.door().await))),
        None => None,
    };
    let (pool, schema) = (shop.store.postgres_pool().expect("Postgres"), &shop.config.store.schema);
    let sql = format!(
        "select count(*), extract(epoch from max(at) - min(at))::float8 from {schema}.inbox where fate = 'done'"
    );
    // Looked at seldom: that costs both arms, and must not hide what differs.
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let messages = 2 * i64::from(COMMANDS);
    let seconds = loop {
        every.tick().await;
        let (done, seconds): (i64, Option<f64>) =
            sqlx::query_as(AssertSqlSafe(sql.clone())).fetch_one(&pool).await.expect("the database answers");
        if done >= messages {
            break seconds.expect("some seconds");
        }
    };
    shop.each_once(COMMANDS as usize).await;
    if let Some(scraping) = scraping {
        scraping.abort();
    }
    worker.stop().await;
    shop.close().await;
    Some(messages as f64 / seconds)
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
        let (collector, mut rates) = (collector().await, vec![Vec::new(); ARMS.len()]);
        for _ in 0..rounds {
            for ((_, sample), rates) in ARMS.iter().zip(&mut rates) {
                let Some(rate) = rate(&collector, *sample).await else { return };
                rates.push(rate);
            }
        }
        let off = median(&rates[0]);
        for ((name, _), rates) in ARMS.iter().zip(&rates) {
            let (least, most) =
                (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
            let median = median(rates);
            println!("{median:>7.0} messages/s ({least:.0}–{most:.0}), {:.3} of off: {name}", median / off);
        }
    });
}
