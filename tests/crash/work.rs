//! The work of the matrix, which counts its own effects by writes that are not idempotent, and the checker that adds them up.

use super::bed::Bed;
use pitcrew::{
    Client, Command, Context, Document, Envelope, Event, Handlers, Message,
    config::{Config, RetryPolicy},
    transport::embedded::Embedded,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, time::Duration};

/// Commands of one ordering key.
const TRACKS: u32 = 10;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Count {
    n: u32,
    /// Its ordering key.
    track: Option<u32>,
    fails_at_first: bool,
}
impl Message for Count {
    type Kind = Command;
    const TYPE: &'static str = "crash.Count";
    fn subject(&self) -> Option<String> {
        self.track.map(|track| format!("track-{track}"))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counted {
    n: u32,
}
impl Message for Counted {
    type Kind = Event;
    const TYPE: &'static str = "crash.Counted";
}

/// How often a command had its effect.
#[derive(Serialize, Deserialize)]
pub(crate) struct Effect {
    n: u32,
    times: u32,
}
impl Document for Effect {
    const COLLECTION: &'static str = "effect";
    fn id(&self) -> impl std::fmt::Display {
        self.n
    }
}
impl Effect {
    /// Once more.
    pub(crate) async fn add(cx: &mut Context, n: u32) -> pitcrew::Result {
        cx.update(n, |old: Option<Self>| Self { n, times: old.map_or(0, |o| o.times) + 1 }).await?;
        Ok(())
    }

    pub(crate) async fn all(bed: &Bed) -> BTreeMap<u32, u32> {
        documents::<Self>(bed).await.into_iter().map(|effect| (effect.n, effect.times)).collect()
    }
}

/// How often an event was heard.
#[derive(Serialize, Deserialize)]
struct Heard {
    n: u32,
    times: u32,
}
impl Document for Heard {
    const COLLECTION: &'static str = "heard";
    fn id(&self) -> impl std::fmt::Display {
        self.n
    }
}

/// The commands of one ordering key in the order in which they had their effect.
#[derive(Serialize, Deserialize)]
struct Track {
    track: u32,
    numbers: Vec<u32>,
}
impl Document for Track {
    const COLLECTION: &'static str = "track";
    fn id(&self) -> impl std::fmt::Display {
        self.track
    }
}

async fn count(m: Count, cx: &mut Context) -> pitcrew::Result {
    if m.fails_at_first && cx.attempt() == 1 {
        cx.emit(&Counted { n: m.n })?; // goes with the failure
        return Err(anyhow::anyhow!("not at first").into());
    }
    Effect::add(cx, m.n).await?;
    if let Some(track) = m.track {
        cx.update(track, |old: Option<Track>| {
            let mut numbers = old.map(|o| o.numbers).unwrap_or_default();
            numbers.push(m.n);
            Track { track, numbers }
        })
        .await?;
    }
    cx.emit(&Counted { n: m.n })?;
    Ok(())
}

async fn hear(m: Counted, cx: &mut Context) -> pitcrew::Result {
    cx.update(m.n, |old: Option<Heard>| Heard { n: m.n, times: old.map_or(0, |o| o.times) + 1 }).await?;
    Ok(())
}

pub(crate) fn handlers() -> Handlers {
    Handlers::new().handle(count).handle(hear).emits::<Counted>()
}

/// Small batches, so that there are many of them, and a quick ladder.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.worker.batch = 16;
    config.worker.finished = 32;
    for channel in ["crash.commands", "crash.events"] {
        let name = channel.parse().expect("a name");
        let mut channel = config.channel(&name);
        channel.concurrency = 16;
        let ms = Duration::from_millis;
        channel.retry = RetryPolicy {
            first: ms(100),
            max: ms(400),
            tiers: [20, 50, 100, 400].map(ms).into(),
            ..RetryPolicy::default()
        };
        config.channel.insert(name, channel);
    }
    config
}

fn command(n: u32) -> Count {
    // The plain, the keyed, and those that fail at first and hence have no place in an order.
    let fails_at_first = n % 7 == 3;
    Count { n, track: (n.is_multiple_of(3) && !fails_at_first).then_some(n / 3 % TRACKS), fails_at_first }
}

/// Commands of these numbers; every fifth is sent twice, every ninth has an ID that is no UUID.
pub(crate) fn envelopes(numbers: std::ops::Range<u32>) -> Vec<Envelope> {
    let mut envelopes = Vec::new();
    for n in numbers {
        let mut envelope = Envelope::of(&command(n), "/crash").expect("it serialises");
        if n % 9 == 4 {
            envelope.id = format!("number {n}");
        }
        if n % 5 == 2 {
            envelopes.push(envelope.clone());
        }
        envelopes.push(envelope);
    }
    envelopes
}

/// The account of the commands `0..sent`, from the database alone: everything that is wrong.
pub(crate) async fn wrong(bed: &Bed, sent: u32) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, found: String, expected: String| {
        if found != expected {
            wrong.push(format!("{what}: {found} instead of {expected}"));
        }
    };
    let once = histogram(sent, &(0..sent).map(|n| (n, 1)).collect());
    expect("effects", histogram(sent, &Effect::all(bed).await), once.clone());
    let heard = documents::<Heard>(bed).await.into_iter().map(|heard| (heard.n, heard.times)).collect();
    expect("events heard", histogram(sent, &heard), once);
    for Track { track, numbers } in documents(bed).await {
        let of_track: Vec<u32> = (0..sent).filter(|n| command(*n).track == Some(track)).collect();
        expect(&format!("track {track}"), format!("{numbers:?}"), format!("{of_track:?}"));
    }
    let fates = "select consumer || ' ' || fate, cast(count(*) as text) from {s}inbox group by 1 order by 1";
    expect("fates", words(bed, fates).await, format!("crash.Count done {sent}, crash.Counted done {sent}"));
    let failing = (0..sent).filter(|n| command(*n).fails_at_first).count();
    let attempts = "select consumer || ' ' || kind, cast(count(*) as text) from {s}attempt group by 1 order by 1";
    expect("attempts that did not end done", words(bed, attempts).await, format!("crash.Count failure {failing}"));
    for table in ["outbox", "claim", "dead_letter"] {
        expect(table, bed.count(table).await.to_string(), "0".into());
    }
    wrong
}

/// How many have happened how often, and the first of those that did not happen once.
fn histogram(sent: u32, times: &BTreeMap<u32, u32>) -> String {
    let of = |n| times.get(&n).copied().unwrap_or_default();
    let mut histogram: BTreeMap<u32, u32> = BTreeMap::new();
    (0..sent).for_each(|n| *histogram.entry(of(n)).or_default() += 1);
    let odd = (0..sent).find(|n| of(*n) != 1).map_or(String::new(), |n| format!(", first {n}"));
    let parts: Vec<String> = histogram.iter().map(|(times, count)| format!("{count} × {times}")).collect();
    format!("{}{odd}, {} in all", parts.join(" + "), times.len())
}

async fn documents<D: Document + DeserializeOwned>(bed: &Bed) -> Vec<D> {
    let sql = format!("select cast(body as text) from {{s}}document where collection = '{}'", D::COLLECTION);
    let rows = bed.rows(&sql).await;
    rows.iter().map(|row| serde_json::from_str(&row[0]).expect("its own document")).collect()
}

/// Puts messages into the outbox, for whoever sweeps them.
pub(crate) async fn send(bed: &Bed, handlers: &Handlers, messages: Vec<Envelope>) {
    let store = bed.place.open("sender").await;
    let client = Client::new(store.clone(), &Embedded::default(), handlers, &config()).expect("routes");
    client.send_envelopes(messages, None).await.expect("sent");
    store.close().await;
}

async fn words(bed: &Bed, sql: &str) -> String {
    let rows: Vec<String> = bed.rows(sql).await.iter().map(|row| row.join(" ")).collect();
    rows.join(", ")
}
