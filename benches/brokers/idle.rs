//! The cell of the idle worker: one message at a time, from its publish to the arrival of its event.

use crate::{
    arguments::Size,
    database::Database,
    hand::{Outgoing, Tables},
    kafka,
    lives::{Doing, Effector, handlers},
    rabbitmq,
    report::{Report, Target, median},
    site::{Broker, Kind, LIMIT, Site},
    work::{Effect, FILLER, Work},
};
use pitcrew::{Message as _, Worker, clock};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

const WARM_UP: usize = 30;
/// Of each arm in one round.
const SAMPLES: usize = 200;

/// What is done with a bare client, step by step.
pub(crate) trait Steps {
    /// Sends a command and returns when the broker has confirmed it.
    async fn send(&mut self, id: &str, key: &str, body: &[u8]) -> anyhow::Result<()>;

    /// What a worker does with the next command: receive, one transaction, publish, confirm, ack. The answer: the events that it
    /// published, which stand in the outbox still.
    async fn work(&mut self, tables: &Tables) -> anyhow::Result<Vec<Outgoing>>;

    /// Returns when the next event has come, with the number in it.
    async fn hear(&mut self) -> anyhow::Result<u64>;
}

/// The worker against the same steps by hand, message by message in turn.
pub(crate) async fn cell(database: &Database, broker: &Broker, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let kind = broker.kind.name();
    report.cell(kind, "idle: one message, from its publish to the arrival of its event")?;
    let mut ratios = Vec::new();
    for round in 1..=size.rounds {
        let (of_worker, of_hands) = (Site::narrow(broker).await?, Site::narrow(broker).await?);
        let (worker, hands) = match broker.kind {
            Kind::RabbitMq => {
                let mut sender = rabbitmq::Hands::open(&of_worker, false).await?;
                let mut hands = rabbitmq::Hands::open(&of_hands, true).await?;
                turns(database, &of_worker, &mut sender, &mut hands).await?
            }
            Kind::Kafka => {
                let mut sender = kafka::Hands::open(&of_worker, false).await?;
                let mut hands = kafka::Hands::open(&of_hands, true).await?;
                let samples = turns(database, &of_worker, &mut sender, &mut hands).await?;
                sender.close().await?;
                hands.close().await?;
                samples
            }
        };
        of_worker.check_settled().await?;
        of_hands.check_settled().await?;
        of_worker.clear().await?;
        of_hands.clear().await?;
        println!("  {round:2}  p50 of {SAMPLES}: worker {worker:.2} ms, by hand {hands:.2} ms");
        ratios.push(worker / hands);
    }
    report.verdict(&format!("{kind}: one message alone, p50 / by hand"), &ratios, "", Target::AtMost(1.3));
    Ok(())
}

/// The medians of the worker and of the steps by hand, in milliseconds.
async fn turns(
    database: &Database,
    of_worker: &Site,
    sender: &mut impl Steps,
    hands: &mut impl Steps,
) -> anyhow::Result<(f64, f64)> {
    let (bed, tables) = (database.bed().await?, Tables::make(database, 1).await?);
    let handlers = handlers(Effector { doing: Doing::Saves, begun: CancellationToken::new() });
    let running = Worker::new(of_worker.config(), handlers).start(bed.store.clone(), of_worker.transport()?).await?;
    let (mut by_worker, mut by_hand) = (Vec::new(), Vec::new());
    for n in 0..(WARM_UP + SAMPLES) as u64 {
        let body = serde_json::to_vec(&Work { n, filler: "x".repeat(FILLER) })?;
        let turn = async {
            let began = Instant::now();
            sender.send(&clock::uuid_v7().to_string(), Work::TYPE, &body).await?;
            sender.hear().await?;
            by_worker.push(began.elapsed().as_secs_f64() * 1e3);
            let began = Instant::now();
            hands.send(&clock::uuid_v7().to_string(), Work::TYPE, &body).await?;
            let events = hands.work(&tables).await?;
            hands.hear().await?;
            by_hand.push(began.elapsed().as_secs_f64() * 1e3);
            tables.delete(&events).await
        };
        tokio::time::timeout(LIMIT, turn).await??;
    }
    running.shutdown().await;
    let bed = database.again(&bed).await?;
    database.check(&bed, Effect::Document, WARM_UP + SAMPLES).await?;
    database.clear(bed).await?;
    tables.check(database, WARM_UP + SAMPLES).await?;
    tables.clear(database).await?;
    Ok((median(&by_worker[WARM_UP..]), median(&by_hand[WARM_UP..])))
}
