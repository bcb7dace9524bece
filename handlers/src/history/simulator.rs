//! Test Double: a provider of vehicle histories on this machine, for the demo and for tests, with faults on request.
//!
//! What it tells of a car follows from the VIN alone, so two runs see the same world: one car in twenty is unknown, one in ten has
//! an odometer that went back, one in twelve a branded title.

use super::vin::{Vin, check_digit};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, Response, StatusCode, header},
    routing::get,
};
use futures::stream;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// What goes wrong with one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status, with a word about it.
    Status(u16),
    /// This status, and a `Retry-After` with this text.
    Later(u16, String),
    /// 200 with a body that is not JSON.
    NotJson,
    /// 200 with the first half of a report.
    Half,
    /// 200 with the report of another car.
    AnotherCar,
    /// 200 with a body of two megabytes.
    TooLong,
    /// The right answer, after so long.
    Slow(Duration),
    /// The right answer, one byte at a time with so long between two.
    Drip(Duration),
    /// No answer at all.
    Silent,
    /// The connection breaks in the middle of the body.
    Broken,
}

/// A provider that runs until it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    state: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Script>);

#[derive(Debug, Default)]
struct Script {
    key: Option<String>,
    always: Option<Fault>,
    next: VecDeque<Fault>,
    of: HashMap<String, VecDeque<Fault>>,
    calls: HashMap<String, u64>,
    not_modified: u64,
    at_once: usize,
    most_at_once: usize,
}

impl Simulator {
    /// On a free port of this machine.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> io::Result<Self> {
        Self::listen("127.0.0.1:0").await
    }

    /// At this address.
    ///
    /// # Errors
    /// It is taken.
    pub async fn listen(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (address, state) = (listener.local_addr()?, Arc::<Shared>::default());
        let routes = Router::new().route("/v1/vehicles/{vin}/history", get(answer)).with_state(state.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the simulated provider ended");
            }
        });
        Ok(Self { address, state, server })
    }

    /// What `url` in `[handlers."car.FetchVehicleHistory"]` has to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on only who sends this key is answered; others get 401.
    pub fn require_key(&self, key: &str) {
        self.script().key = Some(key.to_owned());
    }

    /// From now on every answer is this fault, until `None`: an outage begins or ends.
    pub fn always(&self, fault: Option<Fault>) {
        self.script().always = fault;
    }

    /// The next answers, whoever asks about whatever.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script().next.extend(faults);
    }

    /// The next answers about this car.
    pub fn of(&self, vin: &str, faults: impl IntoIterator<Item = Fault>) {
        self.script().of.entry(vin.to_owned()).or_default().extend(faults);
    }

    /// How often it was asked.
    pub fn calls(&self) -> u64 {
        self.script().calls.values().sum()
    }

    /// How often it was asked about this car.
    pub fn calls_of(&self, vin: &str) -> u64 {
        self.script().calls.get(vin).copied().unwrap_or_default()
    }

    /// How often its answer was "not modified".
    pub fn not_modified(&self) -> u64 {
        self.script().not_modified
    }

    /// The most questions that were open at once.
    pub fn most_at_once(&self) -> usize {
        self.script().most_at_once
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.state.script()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong this time.
    fn turn(&self, vin: &str) -> Option<Fault> {
        let mut script = self.script();
        *script.calls.entry(vin.to_owned()).or_default() += 1;
        let of_this_car = script.of.get_mut(vin).and_then(VecDeque::pop_front);
        of_this_car.or_else(|| script.next.pop_front()).or_else(|| script.always.clone())
    }
}

/// A question that is open; dropped also when who asked hangs up.
struct Open(Arc<Shared>);

impl Open {
    fn begin(shared: &Arc<Shared>) -> Self {
        let mut script = shared.script();
        script.at_once += 1;
        script.most_at_once = script.most_at_once.max(script.at_once);
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.script().at_once -= 1;
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Path(vin): Path<String>, headers: HeaderMap) -> Response<Body> {
    let _open = Open::begin(&shared);
    let fault = shared.turn(&vin);
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let wanted = shared.script().key.as_ref().map(|key| format!("Bearer {key}"));
    if wanted.is_some_and(|wanted| given != Some(&wanted)) {
        return plain(StatusCode::UNAUTHORIZED, "who are you?");
    }
    let Ok(car) = Vin::parse(&vin) else { return plain(StatusCode::BAD_REQUEST, "that is no VIN") };
    match fault {
        None => {}
        Some(Fault::Status(status)) => return plain(code(status), "as the script says"),
        Some(Fault::Later(status, when)) => {
            let mut response = plain(code(status), "later");
            response.headers_mut().extend(when.parse().map(|when| (header::RETRY_AFTER, when)).ok());
            return response;
        }
        Some(Fault::NotJson) => return plain(StatusCode::OK, "<html>We are having a rest</html>"),
        Some(Fault::Half) => {
            let report = report(&car).unwrap_or_default().to_string();
            return plain(StatusCode::OK, &report[..report.len() / 2]);
        }
        Some(Fault::AnotherCar) => {
            let body = json!({ "vin": vin_of(u32::MAX), "entries": [] }).to_string();
            return plain(StatusCode::OK, &body);
        }
        Some(Fault::TooLong) => return plain(StatusCode::OK, &" ".repeat(2 << 20)),
        Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
        Some(Fault::Drip(wait)) => {
            let report = report(&car).unwrap_or_default().to_string().into_bytes();
            let bytes = stream::unfold(report.into_iter(), move |mut rest| async move {
                tokio::time::sleep(wait).await;
                rest.next().map(|byte| (Ok::<_, io::Error>(Bytes::from(vec![byte])), rest))
            });
            return Response::new(Body::from_stream(bytes));
        }
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Broken) => {
            let parts = [Ok(Bytes::from_static(b"{\"vin\":")), Err(io::Error::other("as the script says"))];
            return Response::new(Body::from_stream(stream::iter(parts)));
        }
    }
    right_answer(&shared, &car, &headers)
}

fn right_answer(shared: &Shared, car: &Vin, headers: &HeaderMap) -> Response<Body> {
    let Some(report) = report(car) else { return plain(StatusCode::NOT_FOUND, "{\"error\": \"unknown vehicle\"}") };
    let body = report.to_string();
    let etag = format!("\"{:016x}\"", seed(&body));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(&etag);
    let mut response = if known { Response::default() } else { Response::new(Body::from(body)) };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        shared.script().not_modified += 1;
    }
    response.headers_mut().extend(etag.parse().map(|etag| (header::ETAG, etag)).ok());
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The VIN of car `n`: a right one, another for each number below ten million; beyond it they repeat.
pub fn vin_of(n: u32) -> String {
    const KINDS: [&str; 8] = ["1HGCM8A", "1FAHP2A", "5YJSA1A", "4T1BF1F", "1N4AL3A", "WBA3A5C", "WVWZZZ1", "JTDKB2A"];
    const YEARS: [char; 14] = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P'];
    let kind = KINDS[n as usize % KINDS.len()];
    let year = YEARS[n as usize / KINDS.len() % YEARS.len()];
    let vin = format!("{kind}00{year}{:07}", n % 10_000_000);
    format!("{}{}{}", &vin[..8], check_digit(&vin), &vin[9..])
}

/// What is known of a car; `None`: nothing. FNV-1a of the VIN decides.
fn report(car: &Vin) -> Option<Value> {
    let mut luck = seed(car.as_str());
    let mut one_in = |n: u64| {
        luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (luck >> 33) % n
    };
    if one_in(20) == 0 {
        return None;
    }
    let first = 2010 + one_in(12);
    let (mut miles, years) = (10 + one_in(40), 2 + one_in(8));
    let brand = ["salvage", "flood", "lemon"][one_in(3) as usize];
    let brand = if one_in(12) == 0 { brand } else { "clean" };
    let back = (one_in(10) == 0).then(|| 2 + one_in(years));
    let mut entries = vec![
        json!({ "type": "TITLE_ISSUED", "date": format!("{first}-03-0{}", 1 + one_in(9)), "odometer": miles, "unit": "mi", "brand": brand, "location": "OH" }),
    ];
    for year in 1..=years {
        miles += 6_000 + one_in(9_000);
        let shown = if Some(year) == back { miles / 2 } else { miles };
        let date = format!("{}-{:02}-1{}", first + year, 1 + one_in(12), one_in(10));
        entries.push(json!({ "type": "SERVICE", "date": date, "odometer": format!("{shown} mi"), "description": "oil and filters" }));
        if one_in(6) == 0 {
            entries.push(json!({ "type": "ACCIDENT", "date": date, "description": "minor damage, front left" }));
        }
        if one_in(9) == 0 {
            entries.push(json!({ "type": "RECALL", "date": date, "description": "airbag inflator" }));
        }
    }
    Some(json!({ "vin": car.as_str(), "entries": entries }))
}

fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn its_cars_have_right_vins_each_its_own() {
        let vins: HashSet<String> = (0..20_000).map(vin_of).collect();
        assert_eq!(vins.len(), 20_000);
        for vin in vins.iter().chain([&vin_of(u32::MAX)]) {
            Vin::parse(vin).unwrap_or_else(|error| panic!("{vin}: {error}"));
        }
    }

    #[test]
    fn its_world_is_mixed_and_always_the_same() {
        let cars: Vec<Vin> = (0..2_000).map(|n| Vin::parse(&vin_of(n)).unwrap()).collect();
        let unknown = cars.iter().filter(|car| report(car).is_none()).count();
        assert!((60..140).contains(&unknown), "{unknown} of 2,000 are unknown");
        assert_eq!(report(&cars[1]), report(&cars[1]));
    }
}
