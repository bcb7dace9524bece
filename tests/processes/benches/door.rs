//! Speed of the HTTP door of a real worker on Postgres: commands accepted a second, one alone against a bare transaction, a scrape.
//!
//! `cargo bench -p processes --bench door`; wants `PITCREW_POSTGRES_URL`. The load is made on the same cores.

use processes::shop::Shop;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CLIENTS: usize = 64;
const FOR: Duration = Duration::from_secs(10);
const ALONE: usize = 1_000;

/// One connection that is kept, and as little client as possible.
struct Client(TcpStream, Vec<u8>);

impl Client {
    async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the door is open");
        stream.set_nodelay(true).expect("a socket");
        Self(stream, vec![0; 1 << 20])
    }

    /// The status and the length of the body.
    async fn ask(&mut self, request: &[u8]) -> (u16, usize) {
        self.0.write_all(request).await.expect("it is sent");
        let mut filled = 0;
        loop {
            let read = self.0.read(&mut self.1[filled..]).await.expect("it answers");
            assert!(read > 0, "it hangs up");
            filled += read;
            let Some(end) = self.1[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.1[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
            if filled >= end + 4 + length {
                return (head[9..12].parse().expect("a status"), length);
            }
        }
    }
}

fn post(n: u32) -> Vec<u8> {
    let body = format!("{{\"n\":{n}}}");
    format!(
        "POST /commands/test.Work HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn at(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let n = ((times.len() as f64 * part) as usize).min(times.len() - 1);
    times[n].as_secs_f64() * 1e3
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let own = ["ProcessListingImage", "FetchVehicleHistory", "ScoreFraudReview"];
    let channels: String =
        own.iter().map(|ty| format!("[channel.\"c.{}\"]\ntypes = [\"car.{ty}\"]\n", ty.to_lowercase())).collect();
    let binary = env!("CARGO_BIN_EXE_test-worker");
    let Some(shop) = Shop::on_postgres(binary, "embedded", &channels).await else { return };
    // What is accepted is not handled here: that is another budget.
    let mut worker = shop.start_with("\n[http]\nlisten = \"127.0.0.1:0\"\n[handlers.\"test.Work\"]\nstuck = true\n");
    let url = worker.door().await;
    worker.is_at_work().await;
    let address = url.trim_start_matches("http://").to_owned();

    let pool = shop.store.postgres_pool().expect("Postgres");
    let mut bare = Vec::new();
    let table = format!("{}.bare", shop.config.store.schema);
    let sql = pitcrew::sqlx::AssertSqlSafe(format!("create table {table} (id uuid primary key, body bytea)"));
    pitcrew::sqlx::query(sql).execute(&pool).await.expect("a table");
    let insert = format!("insert into {table} values (gen_random_uuid(), $1)");
    for _ in 0..ALONE {
        let began = Instant::now();
        let mut tx = pool.begin().await.expect("it begins");
        let insert = pitcrew::sqlx::query(pitcrew::sqlx::AssertSqlSafe(insert.clone()));
        insert.bind(&b"{\"n\":1}"[..]).execute(&mut *tx).await.expect("it is written");
        tx.commit().await.expect("it commits");
        bare.push(began.elapsed());
    }
    let mut client = Client::connect(&address).await;
    let mut alone = Vec::new();
    for n in 0..ALONE {
        let (began, request) = (Instant::now(), post(n as u32));
        assert_eq!(client.ask(&request).await.0, 202);
        alone.push(began.elapsed());
    }
    let mut scrapes = Vec::new();
    let mut bytes = 0;
    for _ in 0..200 {
        let began = Instant::now();
        let (status, length) = client.ask(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        assert_eq!(status, 200);
        bytes = length;
        scrapes.push(began.elapsed());
    }
    let began = Instant::now();
    let load = (0..CLIENTS as u32).map(|at| {
        let address = address.clone();
        tokio::spawn(async move {
            let (mut client, mut times) = (Client::connect(&address).await, Vec::new());
            for n in 0.. {
                if began.elapsed() > FOR {
                    break;
                }
                let (asked, request) = (Instant::now(), post(at * 100_000 + n));
                assert_eq!(client.ask(&request).await.0, 202);
                times.push(asked.elapsed());
            }
            times
        })
    });
    let mut all = Vec::new();
    for times in load.collect::<Vec<_>>() {
        all.extend(times.await.expect("it ends"));
    }
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    let (mut loaded, count) = (Vec::new(), all.len());
    for _ in 0..20 {
        let began = Instant::now();
        client.ask(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        loaded.push(began.elapsed());
    }
    println!(
        "accepted: {rate:.0} commands/s ({count} of {CLIENTS} clients), p50 {:.1} ms, p99 {:.1} ms",
        at(&mut all, 0.5),
        at(&mut all, 0.99)
    );
    println!(
        "one alone: p50 {:.2} ms, p99 {:.2} ms; a bare transaction: p50 {:.2} ms, p99 {:.2} ms; ratio of p99 {:.2}",
        at(&mut alone, 0.5),
        at(&mut alone, 0.99),
        at(&mut bare, 0.5),
        at(&mut bare, 0.99),
        at(&mut alone, 0.99) / at(&mut bare, 0.99)
    );
    println!(
        "/metrics, {bytes} bytes: p50 {:.2} ms, p99 {:.2} ms; with {count} rows waiting: p99 {:.2} ms",
        at(&mut scrapes, 0.5),
        at(&mut scrapes, 0.99),
        at(&mut loaded, 0.99)
    );
    worker.kill().await;
    shop.close().await;
}
