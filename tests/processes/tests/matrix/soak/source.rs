//! Where the commands of a soak come from: a bare client of the broker (lapin, rdkafka), which says the same again until it is
//! confirmed, so that a broker that is away costs no command; and a buyer who asks twice.

use crate::{bare::properties, generator::Sent};
use car_workers::{
    demo::commands::{commands, is_poison},
    recommendation::contract::GenerateRecommendationBrief,
};
use futures::future::join_all;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use pitcrew::Message;
use processes::seed::Dice;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);
/// One in so many bodies is no JSON.
const GARBAGE: u64 = 80;
/// Some are sent twice, one in so many.
const TWICE: u64 = 5;

/// A command as it goes out.
struct Sending {
    id: String,
    body: Vec<u8>,
}

pub(crate) struct Source {
    way: Way,
    channel: String,
    buyers: Box<dyn Iterator<Item = GenerateRecommendationBrief> + Send>,
    dice: Dice,
    next: u32,
    pub(crate) sent: Sent,
    /// Deliveries beyond the first of a command.
    pub(crate) again: u64,
}

enum Way {
    Rabbit { url: String, open: Option<Box<(Connection, Channel)>> },
    Kafka(FutureProducer),
}

impl Source {
    pub(crate) fn to(url: &str, prefix: &str, seed: u64) -> Self {
        let way = match url.strip_prefix("kafka://") {
            Some(brokers) => {
                let producer = ClientConfig::new()
                    .set("bootstrap.servers", brokers)
                    .set("acks", "all")
                    .set("message.timeout.ms", "8000")
                    .create();
                Way::Kafka(producer.expect("a producer"))
            }
            None => Way::Rabbit { url: format!("{url}/%2f"), open: None },
        };
        let buyers = Box::new(commands(usize::MAX, seed));
        let channel = format!("{prefix}.commands");
        Self { way, channel, buyers, dice: Dice::of(seed), next: 0, sent: Sent::default(), again: 0 }
    }

    /// So many new commands, with what comes twice; returns when all of it is confirmed.
    pub(crate) async fn send(&mut self, count: u64) {
        let mut wave = Vec::new();
        for _ in 0..count {
            let n = self.next;
            self.next += 1;
            let mut command = self.buyers.next().expect("there is no end of them");
            command.brief_id = format!("{}-{n}", command.brief_id);
            let id = pitcrew::clock::uuid_v7().to_string();
            let garbage = self.dice.below(GARBAGE) == 0;
            if garbage || is_poison(&command) {
                self.sent.poison.insert(id.clone());
            } else {
                self.sent.good.insert(n, id.clone());
            }
            let body =
                if garbage { b"{no JSON".to_vec() } else { serde_json::to_vec(&command).expect("it is written") };
            wave.push(Sending { id, body });
        }
        self.put(&wave).await;
        let twice: Vec<Sending> = wave.into_iter().filter(|_| self.dice.below(TWICE) == 0).collect();
        self.again += twice.len() as u64;
        self.put(&twice).await;
    }

    async fn put(&mut self, wave: &[Sending]) {
        while let Err(error) = self.put_once(wave).await {
            // Some of it may have arrived: it comes again under its ID.
            self.again += wave.len() as u64;
            if let Way::Rabbit { open, .. } = &mut self.way {
                *open = None;
            }
            tracing::debug!("not confirmed: {error:#}");
            crate::cell::pass(Duration::from_millis(500)).await;
        }
    }

    async fn put_once(&mut self, wave: &[Sending]) -> anyhow::Result<()> {
        match &mut self.way {
            Way::Kafka(producer) => {
                let sent = wave.iter().map(|sending| {
                    let json = Header { key: "content-type", value: Some("application/json") };
                    let headers = attributes(&sending.id).into_iter().fold(
                        OwnedHeaders::new().insert(json),
                        |headers, (name, value)| {
                            headers.insert(Header { key: &format!("ce_{name}"), value: Some(value) })
                        },
                    );
                    let record =
                        FutureRecord::to(&self.channel).payload(&sending.body).key(&sending.id).headers(headers);
                    producer.send(record, Timeout::After(PATIENCE))
                });
                for one in join_all(sent).await {
                    one.map_err(|(error, _)| error)?;
                }
            }
            Way::Rabbit { url, open } => {
                if open.is_none() {
                    let connection =
                        timeout(PATIENCE, Connection::connect(url, ConnectionProperties::default())).await??;
                    let channel = timeout(PATIENCE, connection.create_channel()).await??;
                    timeout(PATIENCE, channel.confirm_select(ConfirmSelectOptions::default())).await??;
                    *open = Some(Box::new((connection, channel)));
                }
                let (_, channel) = &**open.as_ref().expect("it is open");
                timeout(PATIENCE, publish(channel, &self.channel, wave)).await??;
            }
        }
        Ok(())
    }
}

async fn publish(channel: &Channel, exchange: &str, wave: &[Sending]) -> anyhow::Result<()> {
    let mut confirms = Vec::new();
    for sending in wave {
        let properties = properties(attributes(&sending.id));
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let key = GenerateRecommendationBrief::TYPE.into();
        confirms.push(channel.basic_publish(exchange.into(), key, options, &sending.body, properties).await?);
    }
    for confirm in confirms {
        let confirmed = confirm.await?;
        anyhow::ensure!(confirmed.is_ack(), "not taken: {confirmed:?}");
    }
    Ok(())
}

fn attributes(id: &str) -> [(&'static str, &str); 4] {
    [("specversion", "1.0"), ("id", id), ("source", "/soak"), ("type", GenerateRecommendationBrief::TYPE)]
}
